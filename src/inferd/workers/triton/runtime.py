"""A TritonPythonModel, as a Runtime: its file, its configuration, its life."""

import asyncio
import importlib.util
import inspect
import json
import logging
import sys
from collections.abc import AsyncGenerator, Generator
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import msgspec

from inferd.config.model import ModelConfig, ModelInput, ModelOutput
from inferd.config.sequence_tensors import with_own_tensors
from inferd.config.tensors import check_tensors
from inferd.errors import BackendError, ConfigError, InferdError, Unsupported
from inferd.types.datatype import CONFIG_DATATYPES, DATATYPES
from inferd.types.signature import Signature, tensor_signature
from inferd.types.tensor import TensorSpec
from inferd.workers.asking import Asking
from inferd.workers.messages import Loaded, Run, Start, TensorLine, WorkerTerms
from inferd.workers.runtime import TRITON_CLASS, Job, Result
from inferd.workers.triton.call import Call
from inferd.workers.triton.error import to_inferd
from inferd.workers.triton.flow import Flow
from inferd.workers.triton.model_config import ModelConfig as Completing
from inferd.workers.triton.model_config import completed, triton_config
from inferd.workers.triton.module import install
from inferd.workers.triton.request import InferenceRequest
from inferd.workers.triton.response import InferenceResponse
from inferd.workers.triton.streamed_call import StreamedCall
from inferd.workers.triton.terms import terms_of
from inferd.workers.triton.towards import Towards

MOST_STREAMS: Final = 512
"""Requests that a decoupled instance has at a time; more wait in the queue."""


class TritonRuntime:
    """One instance; `together` is how many rows of a decoupled model's requests go to one
    `execute`, 1 for each by itself. Making one runs the file and the model's `initialize`."""

    is_async = False
    loop: asyncio.AbstractEventLoop | None = None

    def __init__(self, start: Start, asking: Asking) -> None:
        file = Path(start.path.rpartition(":")[0] or start.path)
        self._name = start.model
        self._log = logging.getLogger(f"inferd.model.{start.model}")
        self.towards = Towards(asking)
        install(start.model, file.parent, asking, self.towards)
        model_class = _class_of(file)
        config = start.config
        said = triton_config(config, start.model, file.name)
        if hasattr(model_class, "auto_complete_config"):
            config, said = self._completed(model_class, config, said)
        check_tensors(config)
        for field in ("input", "output"):
            if not getattr(config, field):
                raise ConfigError(
                    f"model '{start.model}' says nothing of its {field}s: write them into its "
                    "configuration, or give the class auto_complete_config",
                    field=field,
                )
        self._config = config = with_own_tensors(config)
        self.streams = config.model_transaction_policy.decoupled
        batch = config.max_batch_size or 0
        self.together = batch if "dynamic_batching" in said and batch else 1
        self._ragged = frozenset(
            place for place, entry in enumerate(config.input) if batch and entry.allow_ragged_batch
        )
        self.terms = terms_of(start.model, start.version, config)
        group = said["instance_group"][0]  # the one that this instance is of
        self._instance = f"{group['name']}_{start.number}"
        self._model = model_class()
        if not hasattr(self._model, "execute"):
            raise BackendError(f"Python model {file} does not implement `execute` method.")
        if hasattr(self._model, "initialize"):
            self._model.initialize(
                {
                    "model_config": json.dumps(said),
                    "model_instance_kind": group["kind"].removeprefix("KIND_"),
                    "model_instance_name": self._instance,
                    "model_instance_device_id": str(next(iter(group.get("gpus") or ()), 0)),
                    "model_repository": start.folder or str(file.parent.parent),
                    "model_version": str(start.version),
                    "model_name": start.model,
                }
            )

    def _completed(
        self, model_class: Any, config: ModelConfig, said: dict[str, Any]
    ) -> tuple[ModelConfig, dict[str, Any]]:
        given = model_class.auto_complete_config(Completing(json.dumps(said)))
        if not isinstance(given, Completing):
            raise BackendError(
                f"auto_complete_config function in model '{self._name}' must return a valid "
                "pb.ModelConfig object."
            )
        told = completed(config, given.as_dict())
        return told, {
            **given.as_dict(),
            "input": triton_config(told, self._name, "")["input"],
            "output": triton_config(told, self._name, "")["output"],
        }

    def loaded(self) -> Loaded:
        """What the model is."""
        config, batch = self._config, self._config.max_batch_size or 0
        inputs = tuple(_line(entry, batch > 0) for entry in config.input)
        outputs = tuple(_line(entry, batch > 0) for entry in config.output)
        terms = WorkerTerms(concurrency=MOST_STREAMS if self.streams else 1, requests=True)
        notes = tuple(
            f"{field} is not made: a {TRITON_CLASS} sees requests, in Triton as well"
            for field in ("batch_input", "batch_output")
            if getattr(config, field)
        )
        return Loaded(
            "python", "python", batch, inputs, outputs, notes, False, terms,
            _streaming(inputs, outputs, batch) if self.streams else None,
            ragged=self._ragged,
        )  # fmt: skip

    def says_ready(self) -> bool:
        """What the model says of itself; one that raises is not ready."""
        try:
            return bool(self._model.is_ready())
        except Exception:
            self._log.exception("is_ready raised")
            return False

    @property
    def may_be_unready(self) -> bool:
        """Whether it has anything to say of that."""
        return hasattr(self._model, "is_ready")

    # -- execute -----------------------------------------------------------------------------------

    def execute(self, requests: list[InferenceRequest]) -> Any:
        """Whatever the model's own returns, perhaps a coroutine."""
        return self._model.execute(requests)

    def fits(self, runs: list[Run], run: Run) -> bool:
        """Whether a job may share an `execute` with others: there is room, and its inputs have the
        shapes of theirs, apart from ragged ones, which may differ."""
        rows = sum(sum(one.rows) for one in (*runs, run))
        return rows <= self.together and self._shapes(run) == self._shapes(runs[0])

    def _shapes(self, run: Run) -> list[object]:
        return [
            packed and packed.shape[1:]
            for place, packed in enumerate(run.inputs)
            if place not in self._ragged
        ]

    def failure(self, error: BaseException) -> InferdError:
        """What requests are told of what was raised, without the arrays that a traceback holds."""
        if isinstance(error, InferdError):
            failure: InferdError = error
        else:
            self._log.error("execute raised", exc_info=error)
            failure = self._failed(f"{type(error).__name__}: {error}")
        failure.__traceback__ = failure.__cause__ = failure.__context__ = None
        return failure

    def check_list(self, responses: Any, requests: int) -> None:
        """Raises BackendError for what is no list of a response each."""
        if not isinstance(responses, list | tuple):
            raise self._failed(
                f"Expected a list in the execute return, found type '{type(responses).__name__}'."
            )
        if len(responses) != requests:
            raise self._failed(
                "Number of InferenceResponse objects do not match the number of InferenceRequest "
                f"objects. InferenceRequest(s) size is:{requests}, and InferenceResponse(s) size "
                f"is:{len(responses)}"
            )

    def wrong_response(self, response: Any, rescheduled: bool) -> InferdError:
        """What was returned in place of a response."""
        expected = (
            "a None object in the execute function return list for a rescheduled request"
            if rescheduled
            else "an 'InferenceResponse' object in the execute function return list"
        )
        return self._failed(f"Expected {expected}, found type '{type(response).__name__}'.")

    def wrong_return(self) -> InferdError:
        """What was returned where senders answer."""
        return self._failed(
            f"Python model '{self._instance}' is using the decoupled mode and the execute function "
            "must return None."
        )

    def _failed(self, message: str) -> InferdError:
        return BackendError(
            f"Failed to process the request(s) for model '{self._instance}', message: {message}"
        )

    # -- as other runtimes do ---------------------------------------------------------------

    def run(self, job: Job) -> Result:
        """A batch by itself, to warm up: nobody waits for its answers, but errors are raised."""
        run = Run(0, 0, job.method, [], job.rows, [])
        unheard = Flow(lambda _: None)
        call: Call = (
            StreamedCall(self.terms, run, job.inputs, _unheard, unheard)
            if self.streams
            else Call(self.terms, run, job.inputs, _unheard, _unheard)
        )
        requests = call.requests()
        try:
            answers = self.execute(requests)
            if inspect.iscoroutine(answers):
                answers = asyncio.run(answers)
        except Exception as error:
            raise self.failure(error) from None
        if answers is None:
            return []
        if self.streams:
            raise self.wrong_return()
        self.check_list(answers, len(requests))
        for answer in answers:
            failed = answer.error() if isinstance(answer, InferenceResponse) else None
            if failed is not None:
                raise to_inferd(failed)
        return []

    def stream(self, job: Job) -> Generator[Any, None, None]:
        """As `run`."""
        yield from self.run(job)

    async def arun(self, job: Job) -> Result:
        """As `run`."""
        raise Unsupported("a TritonPythonModel has jobs of its own")

    def astream(self, job: Job) -> AsyncGenerator[Any, None]:
        """As `run`."""
        raise Unsupported("a TritonPythonModel has jobs of its own")

    def asgi(self) -> Any:
        """It has no routes of its own."""
        return None

    def close(self) -> None:
        """Have it finalize."""
        if hasattr(self._model, "finalize"):
            try:
                self._model.finalize()
            except Exception:
                self._log.exception("finalize raised")


def _class_of(file: Path) -> Any:
    """The class of a file, which is run with its folder, and its model's, on sys.path."""
    sys.path += [str(file.parent.parent), str(file.parent)]
    package = ModuleType(file.parent.name)
    package.__path__ = [str(file.parent)]
    sys.modules.setdefault(package.__name__, package)
    name = f"{package.__name__}.{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise BackendError(f"Python model file not found in '{file}'")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = getattr(module, TRITON_CLASS, None)
    if found is None:
        raise BackendError(f"{file} has no class {TRITON_CLASS}")
    return found


def _unheard(call: Call) -> None:
    """Nobody waits for a warm-up's answers."""


def _line(entry: ModelInput | ModelOutput, batched: bool) -> TensorLine:
    shape = (-1, *entry.dims) if batched else tuple(entry.dims)
    kind = CONFIG_DATATYPES[entry.data_type]
    return TensorLine(entry.name, kind.name, shape, getattr(entry, "optional", False))


def _streaming(
    inputs: tuple[TensorLine, ...], outputs: tuple[TensorLine, ...], batch: int
) -> Signature:
    def specs(lines: tuple[TensorLine, ...]) -> tuple[TensorSpec, ...]:
        return tuple(
            TensorSpec(line.name, DATATYPES[line.datatype], line.shape or (-1,),
                       line.optional)
            for line in lines
        )  # fmt: skip

    signature = tensor_signature(specs(inputs), specs(outputs), batch)
    return msgspec.structs.replace(signature, streams=True)
