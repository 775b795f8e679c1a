"""ONNX models through whichever of ONNX Runtime and OpenVINO runs them faster here: both open the
model, and are measured for a moment on the same made-up rows. It refuses to know either: they are
backends like any other, and this one chooses.

A configuration that names `onnxruntime` or `openvino` never comes here.
"""

import importlib.util
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np

from inferd.backends.base import Model, ModelDescription, ModelInstance, OpenOptions
from inferd.backends.bounds import Bound, BoundedInstance, find_bounds
from inferd.backends.completion import PROBE_DIM
from inferd.backends.registry import create_backend
from inferd.backends.trial import FREE_DIM, asked_precision, difference, medians, trial_rows
from inferd.config.model import ModelConfig
from inferd.errors import BackendError, ConfigError, InferdError
from inferd.types.tensor import Array

USUAL, OTHER = "onnxruntime", "openvino"

TINY_S = 0.0003
"""A model whose row takes ONNX Runtime less stays there without a trial: a call of OpenVINO costs
some 40 microseconds more, and importing it 0.3 seconds of every start."""

MANY_ROWS = 8
BUDGET_S = 0.6
"""For one row and for many rows each."""

GAIN = 1.1
"""OpenVINO has to be so much faster; what is nearer counts as equal, and stays."""

TOLERANCE = {"bf16": 0.03, "f16": 0.01}
TOLERANCE_F32 = 0.001
"""Largest difference between the two that counts as agreement, as a part of the largest value of
an output: what rounding to that precision may do to a model of some tens of layers."""

_BEYOND_32_BITS = {"INT64": 1 << 40, "UINT64": 1 << 40, "UINT32": 3 << 30}
_TUNING = ("intra_op_thread_count", "inter_op_thread_count")


class ChosenModel:
    """The model that was chosen; the instance that it was tried with is the first that it makes."""

    def __init__(
        self, model: Model, first: ModelInstance | None, notes: tuple[str, ...],
        bounds: Sequence[Bound] = (),
    ) -> None:  # fmt: skip
        self._model = model
        self._first = first
        self._bounds = bounds
        found = model.description
        self.description: ModelDescription = replace(found, notes=(*notes, *found.notes))

    def create_instance(self) -> ModelInstance:
        """See Model."""
        first, self._first = self._first, None
        return self._bounded(first or self._model.create_instance())

    def create_lanes(self) -> list[ModelInstance]:
        """See Model."""
        return [self._bounded(lane) for lane in self._model.create_lanes()]

    def _bounded(self, instance: ModelInstance) -> ModelInstance:
        return BoundedInstance(instance, self._bounds) if self._bounds else instance

    def close(self) -> None:
        """Give back the model, and the instance if nobody took it."""
        if self._first:
            self._first.close()
        self._model.close()


@dataclass
class Candidate:
    """A model with an instance to try it with."""

    model: Model
    instance: ModelInstance
    runs_in: str = "f32"

    def close(self) -> None:
        """Drop a model that was not chosen."""
        self.instance.close()
        self.model.close()


class OnnxBackend:
    """Opens `.onnx` files."""

    name = "onnx"
    platform = "onnx"

    def open(self, path: Path, config: ModelConfig, options: OpenOptions) -> Model:
        """Open a model file with both, keep one; see Backend. What only the other can open, it
        opens; where neither can, the error is ONNX Runtime's."""
        asked_precision(config)  # also where there is no trial, a wrong one is told
        try:
            usual = create_backend(USUAL).open(path, config, options)
        except (BackendError, ConfigError) as error:
            return _other_alone(path, config, options, error)
        reason = _no_trial(config)
        if reason:
            return ChosenModel(usual, None, (f"ONNX Runtime: {reason}",))
        candidate = Candidate(usual, usual.create_instance())
        try:
            return _faster(candidate, path, config, options)
        except BaseException:
            candidate.close()
            raise


def _other_alone(
    path: Path, config: ModelConfig, options: OpenOptions, error: InferdError
) -> ChosenModel:
    """OpenVINO where ONNX Runtime is missing or cannot open the model; else the error."""
    contradiction = isinstance(error, ConfigError) and not isinstance(error.__cause__, ImportError)
    if contradiction or not _installed(OTHER):
        raise error
    try:
        model = create_backend(OTHER).open(path, config, options)
    except InferdError:
        raise error from None
    return ChosenModel(model, None, (f"OpenVINO, since ONNX Runtime cannot open it: {error}",))


def _no_trial(config: ModelConfig) -> str:
    """Why ONNX Runtime runs the model without a trial; '' where there is to be one."""
    if not _installed(OTHER):
        return "OpenVINO is not installed"
    if any(group.on_gpu for group in config.instance_group):
        return "a GPU is asked for"
    if config.batch_input or any(entry.allow_ragged_batch for entry in config.input):
        return "rows of ragged batches cannot be made up"
    if any(entry.optional for entry in config.input):
        return "it has inputs that may be left out"
    for name in _TUNING:
        if name in config.parameters:
            return f"parameters.{name} is its own"
    return ""


def _installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def _faster(usual: Candidate, path: Path, config: ModelConfig, options: OpenOptions) -> ChosenModel:
    """The trial; the candidate that is not kept is closed."""
    wanted = usual.model.description
    if {spec.datatype.name for spec in (*wanted.inputs, *wanted.outputs)} & {"FP64", "BYTES"}:
        return _kept(usual, "OpenVINO does not compute with FP64, nor with strings")
    try:
        row, free = _first_row(usual)
    except InferdError as error:
        return _kept(usual, f"made-up rows are not for this model, so there was no trial ({error})")
    (alone,) = medians([usual.instance.run], row, BUDGET_S / 4)
    if alone < TINY_S:
        return _kept(usual, f"a row takes {alone * 1e3:.2f} ms, too little to be worth a trial")
    config = msgspec.structs.replace(config, max_batch_size=wanted.max_batch_size)
    doubts: list[str] = []
    for precision in _precisions(config):
        other = None
        try:
            other = _other(path, config, options, precision)
            doubt, apart = _disagreement(usual, other, row)
            if not doubt:
                return _race(usual, other, free, apart, doubts)
        except InferdError as error:
            doubt = f"OpenVINO cannot run it ({error})"
        if other:
            other.close()
        doubts.append(doubt)
        if other and other.runs_in == "f32":
            break
    return _kept(usual, "; ".join(dict.fromkeys(doubts)))


def _precisions(config: ModelConfig) -> tuple[str, ...]:
    """What to try in turn: where rounding costs too much, exact float32 may still be faster."""
    asked = asked_precision(config)
    return (asked, "f32") if asked == "auto" else (asked,)


def _first_row(usual: Candidate) -> tuple[list[Array], int]:
    """A made-up row that the model takes, and the size of its free dimensions."""
    try:
        row = trial_rows(usual.model.description, 1, FREE_DIM)
        usual.instance.run(row)
        return row, FREE_DIM
    except InferdError:
        row = trial_rows(usual.model.description, 1, PROBE_DIM)
        usual.instance.run(row)
        return row, PROBE_DIM


def _other(path: Path, config: ModelConfig, options: OpenOptions, precision: str) -> Candidate:
    try:
        from inferd.backends.openvino import OpenVinoModel
    except ImportError as error:
        raise BackendError(f"it cannot be imported: {error}") from error
    parameters = {**config.parameters, "precision": precision}
    config = msgspec.structs.replace(config, parameters=parameters)
    model = OpenVinoModel(path, config, options.threads)
    try:
        return Candidate(model, model.create_instance(), model.runs_in)
    except BaseException:
        model.close()
        raise


def _disagreement(usual: Candidate, other: Candidate, row: list[Array]) -> tuple[str, float]:
    """Why the two are not the same model, '' where they are; the largest difference."""
    wanted, found = usual.model.description, other.model.description
    for ours, theirs in ((wanted.inputs, found.inputs), (wanted.outputs, found.outputs)):
        if [(s.name, s.datatype) for s in ours] != [(s.name, s.datatype) for s in theirs]:
            return "OpenVINO reads other tensors from it", math.inf
    if not found.steady and any(spec.datatype.kind == "int" for spec in wanted.inputs):
        # Which are beyond it is found out with huge ones: it might run, or grow, without an end.
        return "integers may decide how long it runs, so which it takes was not tried", math.inf
    expected = usual.instance.run(row)
    apart = difference(expected, other.instance.run(row), wanted.outputs)
    tolerance = TOLERANCE.get(other.runs_in, TOLERANCE_F32)
    if apart > tolerance:
        return (
            f"OpenVINO in {other.runs_in} differs by {apart * 100:.2g} % of an output's largest "
            f"value, more than {tolerance * 100:g} %"
        ), apart
    wide = _beyond_32_bits(wanted, row)
    if wide:
        try:
            expected = usual.instance.run(wide)
        except InferdError:
            return "", apart  # such numbers are not for this model: they are indices of a table
        if difference(expected, other.instance.run(wide), wanted.outputs) > tolerance:
            return "OpenVINO holds its integers in 32 bits", math.inf
    return "", apart


def _beyond_32_bits(description: ModelDescription, row: list[Array]) -> list[Array]:
    """The row with integers that need more than 32 bits; empty where no input could hold any."""
    if not any(spec.datatype.name in _BEYOND_32_BITS for spec in description.inputs):
        return []
    return [
        array + np.array(_BEYOND_32_BITS.get(spec.datatype.name, 0), array.dtype)
        if spec.datatype.name in _BEYOND_32_BITS
        else array
        for spec, array in zip(description.inputs, row, strict=True)
    ]


def _race(
    usual: Candidate, other: Candidate, free: int, apart: float, doubts: list[str]
) -> ChosenModel:
    """Both measured; the faster is kept."""
    description = usual.model.description
    rows = [1, min(MANY_ROWS, description.max_batch_size)]
    figures, gains = [], []
    for count in rows if rows[1] > 1 else rows[:1]:
        inputs = trial_rows(description, count, free)
        ours, theirs = medians([usual.instance.run, other.instance.run], inputs, BUDGET_S)
        gains.append(ours / theirs)
        figures.append(f"batch {count} {ours * 1e3:.2f} ms against {theirs * 1e3:.2f} ms")
    told = (
        f"ONNX Runtime against OpenVINO in {other.runs_in}: {', '.join(figures)}; outputs differ "
        f"by up to {apart * 100:.2g} % of the largest value on made-up rows"
    )
    if math.prod(gains) ** (1 / len(gains)) < GAIN:
        other.close()
        return _kept(usual, "; ".join([*doubts, f"as fast or faster. {told}"]))
    bounds = find_bounds(usual.instance.run, description.inputs, trial_rows(description, 1, free))
    if bounds is None:
        other.close()
        doubts.append("it refuses numbers that OpenVINO would take")
        return _kept(usual, "; ".join([*doubts, told]))
    usual.close()
    switch = "" if other.runs_in == "f32" else " (parameter precision: f32 for exact)"
    notes = (*doubts, f"OpenVINO: faster{switch}. {told}")
    return ChosenModel(other.model, other.instance, notes, bounds)


def _kept(usual: Candidate, reason: str) -> ChosenModel:
    return ChosenModel(usual.model, usual.instance, (f"ONNX Runtime: {reason}",))
