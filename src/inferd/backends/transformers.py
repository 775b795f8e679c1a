"""Encoders of text that transformers or sentence-transformers saved: embeddings, classification,
reranking, token classification, question answering, fill-mask.

Texts go in, tensors come out; tokens never leave this backend. Tokenizers and torch release the GIL
while they work. A folder's own code is never run, and a pickle is read only with trust.
"""

from dataclasses import replace
from pathlib import Path

import torch

from inferd.backends.base import ModelDescription, ModelInstance, OpenOptions
from inferd.backends.completion import complete
from inferd.backends.encoders.folder import (
    EncoderFolder,
    EncoderSettings,
    read_folder,
    read_settings,
)
from inferd.backends.encoders.network import Network
from inferd.backends.encoders.tasks.answers import Answers
from inferd.backends.encoders.tasks.base import EncoderTask
from inferd.backends.encoders.tasks.classification import Classification, Reranking
from inferd.backends.encoders.tasks.embeddings import Embeddings
from inferd.backends.encoders.tasks.entities import Entities
from inferd.backends.encoders.tasks.masks import Masks
from inferd.backends.encoders.texts import texts_of
from inferd.backends.torch_threads import use_threads
from inferd.config.model import ModelConfig
from inferd.errors import BackendError, ConfigError, InferdError
from inferd.types.signature import Signature
from inferd.types.tensor import Array

DEFAULT_MAX_BATCH_SIZE = 32
"""Texts are long: more in a batch make it slower, and hardly any more a second."""


class TransformersBackend:
    """Opens folders."""

    name = "transformers"
    platform = "transformers"

    def open(self, path: Path, config: ModelConfig, options: OpenOptions) -> "EncoderModel":
        """Open a folder, or the folder of a file in it; see Backend."""
        settings = read_settings(config)
        folder = read_folder(path, settings, options.trust)
        devices = _devices(config)
        tasks = {device: _task(folder, settings, device, options) for device in set(devices)}
        return EncoderModel(tasks, devices, config, options.threads)


class EncoderModel:
    """A Model; the instances on one device share its weights."""

    def __init__(
        self, tasks: dict[str, EncoderTask], devices: list[str], config: ModelConfig, threads: int
    ) -> None:
        self._tasks = tasks
        self._waiting = list(devices)
        """Where the instances that are not made yet go."""
        self._threads = threads
        task = tasks[devices[0]]
        size = config.max_batch_size
        if size == 0:
            raise ConfigError(
                "is 0, but an encoder's tensors have a batch dimension; set it to 1 or more, or "
                "leave it out",
                field="max_batch_size",
            )
        described = complete(
            config, "transformers", "transformers", task.inputs, task.outputs,
            DEFAULT_MAX_BATCH_SIZE if size is None else size, task.notes,
        )  # fmt: skip
        self.description: ModelDescription = replace(
            described,
            signature=Signature(
                inputs=tuple(task.arguments[spec.name] for spec in described.inputs),
                outputs=tuple(task.arguments[spec.name] for spec in described.outputs),
                description=task.description,
            ),
        )

    def create_instance(self) -> "EncoderInstance":
        """One more, on the device that its group says."""
        device = self._waiting.pop(0) if self._waiting else next(iter(self._tasks))
        return EncoderInstance(self._tasks[device], self.description, self._threads)

    def create_lanes(self) -> list[ModelInstance]:
        """None: how long a run takes depends on its texts."""
        return []

    def close(self) -> None:
        """Let go of the weights."""
        self._tasks = {}
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


class EncoderInstance:
    """A ModelInstance."""

    def __init__(self, task: EncoderTask, description: ModelDescription, threads: int) -> None:
        self._task: EncoderTask | None = task
        self._inputs = [spec.name for spec in description.inputs]
        self._outputs = [spec.name for spec in description.outputs]
        self._threads = threads

    def run(self, inputs: list[Array]) -> list[Array]:
        """Run one batch; an optional input without rows was left out. See ModelInstance."""
        assert self._task is not None
        use_threads(self._threads)
        columns = {
            name: texts_of(array.reshape(-1), name)
            for name, array in zip(self._inputs, inputs, strict=True)
            if len(array)
        }
        try:
            found = self._task.run(columns)
        except InferdError:
            raise
        except Exception as error:
            raise BackendError(f"transformers: {type(error).__name__}: {error}") from error
        return [found[name] for name in self._outputs]

    def close(self) -> None:
        """Let go of the weights."""
        self._task = None


def _task(
    folder: EncoderFolder, settings: EncoderSettings, device: str, options: OpenOptions
) -> EncoderTask:
    use_threads(options.threads)
    network = Network(folder, settings, device, options.trust)
    task: EncoderTask
    if folder.task == "embeddings":
        task = Embeddings(network, folder, settings)
    elif folder.task == "token-classification":
        task = Entities(network, settings)
    elif folder.task == "question-answering":
        task = Answers(network, settings)
    elif folder.task == "fill-mask":
        task = Masks(network, settings)
    elif network.config.num_labels == 1:
        task = Reranking(network, folder, settings)
    else:
        task = Classification(network, settings)
    where = f"{folder.architecture} on {device} in {network.dtype}"
    length = f"up to {network.max_length} tokens, more are {_FATE[settings.truncation]}"
    task.notes = (where, length, *task.notes)
    return task


_FATE = {"truncate": "cut off", "refuse": "refused"}


def _devices(config: ModelConfig) -> list[str]:
    """Where each instance runs: on the CPU unless its group asks for a GPU."""
    devices = [one.device or "cpu" for one in config.instances]
    if any(group.on_gpu for group in config.instance_group) and not torch.cuda.is_available():
        raise ConfigError(
            "KIND_GPU needs a torch with CUDA and a GPU that it sees; use KIND_CPU",
            field="instance_group.kind",
        )
    for device in devices:
        number = device.partition(":")[2]
        if number and int(number) >= torch.cuda.device_count():
            raise ConfigError(
                f"there is no GPU {number}: torch finds {torch.cuda.device_count()}, counted from "
                "0",
                field="instance_group.gpus",
            )
    return devices
