"""PyTorch models that need no Python code of their own: TorchScript (`.pt`) and exported programs
(`.pt2`).

TorchScript knows the names of its arguments; what tensors they are is known of traced modules,
which keep the inputs that they were traced with, and otherwise stands in the configuration. Names
there may be Triton's, which count: INPUT__0. Results are what a run with made-up rows gives.
"""

import itertools
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from inferd.backends.base import ModelDescription, ModelInstance, OpenOptions
from inferd.backends.completion import complete, observed_shapes, probe_batching
from inferd.backends.torch_programs import Program, read_program, words
from inferd.backends.torch_tensors import datatype_of, flat, to_array, to_tensor
from inferd.backends.torch_threads import use_threads
from inferd.config.model import ModelConfig, ModelOutput
from inferd.config.sequence_tensors import with_own_tensors
from inferd.errors import BackendError, ConfigError, InferdError
from inferd.types.datatype import CONFIG_DATATYPES
from inferd.types.tensor import Array, TensorSpec

MAX_LANES = 4
MAX_LANES_BYTES = 256 << 20

Named = list[tuple[str, torch.Tensor]]


class TorchInstance:
    """One copy of a program on one device, or a lane beside others. `inputs` are the arguments of
    the program and what they hold, `outputs` places among its results."""

    def __init__(
        self, program: Program, device: torch.device, inputs: list[TensorSpec],
        outputs: list[int], threads: int,
    ) -> None:  # fmt: skip
        self._program: Program | None = program
        self._device = device
        self._inputs = inputs
        self._outputs = outputs
        self._threads = threads
        cuda: Any = torch.cuda
        self._stream = cuda.Stream(device) if device.type == "cuda" else None

    def run(self, inputs: list[Array]) -> list[Array]:
        """Run one batch; see ModelInstance."""
        found, kept = self._call(inputs)
        try:
            return [to_array(found[index][1], kept) for index in self._outputs]
        except (RuntimeError, TypeError, IndexError) as error:
            raise BackendError(f"torch: {words(error)}") from error

    def results(self, inputs: list[Array]) -> Named:
        """All that the program returns, with the names that it gives."""
        return self._call(inputs)[0]

    def _call(self, inputs: list[Array]) -> tuple[Named, frozenset[int]]:
        program = self._program
        assert program is not None
        use_threads(self._threads)
        try:
            with torch.inference_mode(), torch.cuda.stream(self._stream):
                feed = {
                    spec.name: to_tensor(array, spec.datatype, program.writes).to(self._device)
                    for spec, array in zip(self._inputs, inputs, strict=True)
                }
                found = list(flat(program.call(feed)))
                if self._stream is not None:
                    self._stream.synchronize()
        except InferdError:
            raise
        except Exception as error:
            raise BackendError(f"torch: {words(error)}") from error
        addresses = {tensor.untyped_storage().data_ptr() for tensor in feed.values()}
        return found, program.kept | addresses

    def close(self) -> None:
        """Let go of the program."""
        self._program = None


class TorchModel:
    """A file of PyTorch, the devices it is to run on, and what its tensors are."""

    def __init__(self, path: Path, config: ModelConfig, options: OpenOptions) -> None:
        self._path = path
        self._options = options
        self._devices = _devices(config)
        self._made = 0
        self._first: Program | None = read_program(path, self._devices[0], options.trust)
        self._steady = self._first.steady
        told = with_own_tensors(config)
        self._arguments = _arguments(told, self._first)
        inputs, outputs, max_batch_size, notes = self._described(told, self._first)
        if 0 < self._first.max_rows < max_batch_size:
            raise ConfigError(
                f"is {max_batch_size}, but the program was exported for {self._first.max_rows} "
                "rows at most",
                field="max_batch_size",
            )
        self._results = [spec.name for spec in outputs]
        self.description: ModelDescription = complete(
            config, self._first.platform, TorchBackend.name, inputs, outputs, max_batch_size,
            [f"{options.threads} threads an instance, on {self._devices[0].type}", *notes],
            self._steady,
        )  # fmt: skip

    def create_instance(self) -> TorchInstance:
        """The first instance takes the program that was described, later ones read theirs."""
        device = self._devices[self._made % len(self._devices)]
        self._made += 1
        program, self._first = self._first or self._read(device), None
        return self._instance(program, device, self._options.threads)

    def create_lanes(self) -> list[ModelInstance]:
        """Lanes share one program more, so the weights are in memory twice."""
        threads = self._options.threads
        count = min(threads, MAX_LANES)
        large = self._path.stat().st_size > MAX_LANES_BYTES
        if count < 2 or large or not self._steady or self._devices[0].type != "cpu":
            return []
        program = self._read(self._devices[0])
        return [self._instance(program, self._devices[0], threads // count) for _ in range(count)]

    def close(self) -> None:
        """Drop a program that no instance took."""
        self._first = None

    def _read(self, device: torch.device) -> Program:
        return read_program(self._path, device, self._options.trust)

    def _instance(self, program: Program, device: torch.device, threads: int) -> TorchInstance:
        outputs = [self._results.index(spec.name) for spec in self.description.outputs]
        return TorchInstance(program, device, self._fed(self.description.inputs), outputs, threads)

    def _fed(self, inputs: Sequence[TensorSpec]) -> list[TensorSpec]:
        """Inputs by the names of the program's arguments."""
        return [replace(spec, name=self._arguments[spec.name]) for spec in inputs]

    def _described(
        self, config: ModelConfig, program: Program
    ) -> tuple[list[TensorSpec], list[TensorSpec], int, list[str]]:
        """Inputs, outputs, largest batch and notes; whether a first dimension is a batch is tried
        out where neither the file nor the configuration says it."""
        choices = _shapes(config, program, self._arguments)
        for inputs in choices:
            last = inputs is choices[-1]
            fed, names = self._fed(inputs), [spec.name for spec in inputs]
            runner = TorchInstance(program, self._devices[0], fed, [], self._options.threads)
            try:
                outputs = _renamed(
                    config.output, program.outputs or _observed(runner, inputs, config)
                )
            except InferdError as error:
                if last:
                    _contradicts(config, program, self._arguments, error)
                    raise BackendError(f"a run with made-up {', '.join(names)} failed: {error}; "
                                       "configure input and max_batch_size") from error  # fmt: skip
                continue
            if config.max_batch_size is not None:
                return inputs, outputs, config.max_batch_size, []
            runner = TorchInstance(
                program, self._devices[0], fed, list(range(len(outputs))), self._options.threads
            )
            rows, note = probe_batching(runner.run, inputs, outputs)
            if rows or last:
                return inputs, outputs, min(rows, program.max_rows or rows), [note]
        raise AssertionError("there is always a last choice")


class TorchBackend:
    """Opens `.pt` and `.pt2` files."""

    name = "torch"
    platform = "pytorch_libtorch"

    def open(self, path: Path, config: ModelConfig, options: OpenOptions) -> TorchModel:
        """Open a model file; see Backend."""
        return TorchModel(path, config, options)


def _devices(config: ModelConfig) -> list[torch.device]:
    """Where each instance runs; those that name no GPU take turns on all."""
    on_gpu = any(group.on_gpu for group in config.instance_group)
    if on_gpu and not torch.cuda.is_available():
        raise ConfigError(
            "KIND_GPU needs a GPU and a torch that was built for it; torch finds none here, so "
            "use KIND_CPU",
            field="instance_group.kind",
        )
    return placed(config, torch.cuda.device_count() if on_gpu else 0)


def placed(config: ModelConfig, gpus: int) -> list[torch.device]:
    """The device of each instance, with so many GPUs; raises ConfigError for one beyond them."""
    turns = itertools.cycle(range(gpus))
    devices = []
    for one in config.instances:
        kind, _, number = one.device.partition(":")
        if number and int(number) >= gpus:
            raise ConfigError(
                f"there is no GPU {number}: torch finds {gpus}, counted from 0",
                field="instance_group.gpus",
            )
        if kind == "cuda":
            devices.append(torch.device("cuda", int(number) if number else next(turns)))
        else:
            devices.append(torch.device("cpu"))
    return devices


def _arguments(config: ModelConfig, program: Program) -> dict[str, str]:
    """The program's argument for each name that the model is served with, in order.

    A configured name is an argument's own, or counts, as in INPUT__0.
    """
    if not config.input:
        return {name: name for name in program.arguments}
    found = {}
    for entry in config.input:
        place = _place(entry.name, program.arguments)
        if place is None:
            raise ConfigError(
                f"forward has no argument '{entry.name}'; it has: {', '.join(program.arguments)}; "
                "or count them: INPUT__0",
                field="input",
            )
        if entry.data_type == "TYPE_STRING":
            raise ConfigError("torch has no tensors of text", field="input.data_type")
        found[entry.name] = program.arguments[place]
    return found


def _place(name: str, names: Sequence[str]) -> int | None:
    if name in names:
        return names.index(name)
    counted = re.fullmatch(r".*__(\d+)", name)
    place = int(counted[1]) if counted else len(names)
    return place if place < len(names) else None


def _shapes(
    config: ModelConfig, program: Program, arguments: dict[str, str]
) -> list[list[TensorSpec]]:
    """What the inputs may be, the likeliest first: with a free first dimension, or without."""
    if program.inputs is not None and not program.example:
        said = {spec.name: spec for spec in program.inputs}
        return [[replace(said[own], name=name) for name, own in arguments.items()]]
    if config.input:
        whole = [
            TensorSpec(entry.name, CONFIG_DATATYPES[entry.data_type], tuple(entry.dims))
            for entry in config.input
        ]
        batched = [replace(spec, shape=(-1, *spec.shape)) for spec in whole]
    elif program.inputs is not None:
        whole = list(program.inputs)
        batched = [replace(spec, shape=(-1, *spec.shape[1:])) for spec in whole if spec.shape]
    else:
        lines = [f"  - {{name: {name}, data_type: TYPE_FP32, dims: [-1, 4]}}" for name in arguments]
        raise ConfigError(
            "is needed: TorchScript that was not traced does not say what tensors its arguments "
            "are. With their own types and dims (without the batch):\n"
            + "\n".join(["input:", *lines]),
            field="input",
        )
    if config.max_batch_size == 0 or len(batched) < len(whole):
        return [whole]
    return [batched] if config.max_batch_size else [batched, whole]


def _contradicts(
    config: ModelConfig, program: Program, arguments: dict[str, str], error: InferdError
) -> None:
    """Raises ConfigError where the configuration is at fault for a run that failed: the module was
    traced with something else. What differs and runs is no contradiction."""
    examples = {spec.name: spec for spec in program.inputs or ()}
    for entry in config.input:
        example = examples.get(arguments[entry.name])
        if example is None:
            continue
        traced = f"but the module was traced with {{}}, and a run failed: {error}"
        if CONFIG_DATATYPES[entry.data_type] is not example.datatype:
            raise ConfigError(
                f"'{entry.name}' is {entry.data_type}, "
                + traced.format(example.datatype.config_name),
                field="input.data_type",
            ) from error
        rank = len(entry.dims) + (config.max_batch_size != 0)
        if rank != len(example.shape):
            raise ConfigError(
                f"'{entry.name}' has dims {list(entry.dims)}, "
                + traced.format(f"shape {list(example.shape)}"),
                field="input.dims",
            ) from error


def _observed(
    runner: TorchInstance, inputs: Sequence[TensorSpec], config: ModelConfig
) -> list[TensorSpec]:
    """What the program returns, found out by running it."""
    last: Named = []

    def shapes_of(arrays: list[Array]) -> list[tuple[int, ...]]:
        last[:] = runner.results(arrays)
        return [tuple(tensor.shape) for _, tensor in last]

    shapes = observed_shapes(shapes_of, inputs, config)
    return [
        TensorSpec(name, datatype_of(name, tensor.dtype), shape)
        for (name, tensor), shape in zip(last, shapes, strict=True)
    ]


def _renamed(configured: Sequence[ModelOutput], found: Sequence[TensorSpec]) -> list[TensorSpec]:
    """Results with the names that the program or the configuration gives them; else they count."""
    own = [spec.name or f"OUTPUT__{place}" for place, spec in enumerate(found)]
    named = list(own)
    for position, entry in enumerate(configured):
        place = _place(entry.name, own)
        if place is None and len(configured) == len(own):
            place = position
        if place is not None:
            named[place] = entry.name
    return [replace(spec, name=name) for spec, name in zip(found, named, strict=True)]
