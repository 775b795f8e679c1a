"""What a framework adapter is: three nouns as in Triton, a Backend that opens models, a Model that
says what it is and makes instances, a ModelInstance that runs; and a LanguageModel, which has its
own queue and its own way of batching, and so stands beside them.

Contract: `Backend.open` and `Model.create_instance` may block for long and run off the event loop.
`ModelInstance.run` is called by one thread at a time, perhaps the event loop's, and must release
the GIL while it computes. `close` may be called from any thread, once, with no run in flight.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from inferd.batching.layout import BatchLayout
from inferd.config.model import ModelConfig
from inferd.observability.generation_statistics import EngineGauges
from inferd.types.generation import GenerationDelta, GenerationRequest, SamplingParams
from inferd.types.signature import Signature
from inferd.types.tensor import Array, TensorSpec


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """What a model is, after the backend has looked into it and the configuration has spoken.

    Shapes of `inputs` and `outputs` include the batch dimension, -1, when `max_batch_size` is 1 or
    more. `notes` are decisions worth a log line, each with its reason. `steady` promises that run
    time depends on shapes only, never on values.
    """

    platform: str
    backend: str
    max_batch_size: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    notes: tuple[str, ...] = field(default=())
    steady: bool = False
    signature: Signature | None = None
    """What the model's author says beyond tensors; None where there is no more to say."""
    has_effects: bool = False
    """Whether a run may do more than compute: then it is not warmed up with made-up rows."""
    max_queue_delay_microseconds: int = 0
    """How long its author would have a batch wait; what the configuration says goes before it."""
    layout: BatchLayout | None = None
    """What becomes of requests on the way to an instance, where that is more than joining rows; an
    instance is given what it makes of them, not what `inputs` says."""


@dataclass(frozen=True, slots=True)
class OpenOptions:
    """What the server says to a backend, as opposed to the model's own configuration.

    `threads` is how many cores each instance may use. `trust` allows a model that runs code when it
    is read, such as a pickle.
    """

    threads: int = 1
    trust: bool = False


class ModelInstance(Protocol):
    """One copy of a model on one device."""

    def run(self, inputs: list[Array]) -> list[Array]:
        """Run one batch: arrays in the order of the description's inputs, outputs likewise. An
        optional input that the requests left out has no rows.

        Raises BackendError with the framework's own words.
        """

    def close(self) -> None:
        """Give the memory back."""


class Model(Protocol):
    """One version of a model, opened."""

    description: ModelDescription

    def create_instance(self) -> ModelInstance:
        """Make one copy, ready to run; raises BackendError."""

    def create_lanes(self) -> "list[ModelInstance]":
        """Make instances that run side by side on the cores that `create_instance` gives to one.

        Where many requests wait, a core for each batch loses less than all cores on one batch.
        Empty where the framework cannot, or where its memory would not be worth it.
        """

    def close(self) -> None:
        """Give the memory back, after every instance is closed."""


class Backend(Protocol):
    """A framework."""

    name: str
    platform: str

    def open(self, path: Path, config: ModelConfig, options: OpenOptions) -> Model:
        """Open a model file or folder.

        Raises BackendError when the file is not a model, ConfigError when the configuration
        contradicts it.
        """


class TextTokenizer(Protocol):
    """Between text and token ids. May be used from several threads."""

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """Token ids of a text; raises InvalidRequest."""

    def decode(self, ids: list[int], skip_special_tokens: bool = True) -> str:
        """The text of token ids."""

    def token(self, token_id: int) -> str | None:
        """A token as the vocabulary writes it; None for an id that is none."""

    def token_bytes(self, token_id: int) -> bytes:
        """What a token adds to a text, as UTF-8, perhaps part of a character."""


class LanguageModel(Protocol):
    """A model that writes text. Making one blocks; then `start`, and all but `close`, `render` and
    `request` are called on the loop's thread.

    `defaults` are the sampling parameters that the model's makers recommend. `max_len` is the
    longest sequence in tokens, prompt and output together.
    """

    description: ModelDescription
    tokenizer: TextTokenizer
    defaults: SamplingParams
    max_len: int

    @property
    def alive(self) -> bool:
        """Whether requests are taken: False while the engine is being started again."""

    @property
    def in_flight(self) -> int:
        """Requests that have not ended."""

    async def start(self) -> None:
        """Load the weights; raises what is wrong with them."""

    def render(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] | None,
        template: str | None, variables: Mapping[str, Any],
    ) -> str:  # fmt: skip
        """The prompt that the model's chat template, or `template`, makes of messages; special
        tokens are in it. Raises InvalidRequest."""

    def checked_ids(self, ids: Sequence[int]) -> list[int]:
        """The same ids; raises InvalidRequest for one that is not in the vocabulary."""

    def request(
        self, id: str, prompt: Sequence[int], params: SamplingParams, *, priority: int,
        tenant: str, cache_salt: str,
    ) -> GenerationRequest:  # fmt: skip
        """A request that can be generated; raises InvalidRequest."""

    def generate(self, request: GenerationRequest) -> AsyncGenerator[list[GenerationDelta], None]:
        """What comes, as it comes; leaving early aborts. Raises InvalidRequest or Overloaded before
        the first delta, EngineDead at any time."""

    def gauges(self) -> EngineGauges:
        """What the engine says of itself now."""

    async def drain(self) -> None:
        """Wait until no request is left."""

    def close(self) -> None:
        """End the engine and give the memory back; blocks, off the loop."""
