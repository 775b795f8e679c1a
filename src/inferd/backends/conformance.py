"""What every backend has to do, as checks that any backend can be put to, also one that is not
inferd's: make a `Case` of it and call `check_backend`, or each of CHECKS in a test of its own.

    case = Case(MyBackend(), path, inputs=(rows,), outputs=(expected,))
    check_backend(case)

A check that fails raises NotConforming, which says what was expected. It needs no server and no
pytest, and refuses to know any framework.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import numpy as np

from inferd.backends.base import Backend, Model, ModelDescription, OpenOptions
from inferd.config.model import ModelConfig, ModelInput, ModelOutput
from inferd.errors import ConfigError, InferdError, Unsupported
from inferd.types.datatype import DATATYPES
from inferd.types.tensor import Array, TensorSpec


class NotConforming(AssertionError):
    """A backend does not do what `base.py` asks for."""


@dataclass(frozen=True)
class Case:
    """A backend, a model for it, and what the framework itself says of some inputs.

    `inputs` and `outputs` are arrays in the order of the description's, of three rows or more where
    the model batches. BYTES are object arrays of bytes. `options` has trust where the model needs
    it. `steady_rows` False says that a row's result may depend on its neighbours a little more than
    by `rtol` (as where a library rounds otherwise in batches): those are not compared. `says` are
    the description's backend and platform where those are not `backend`'s: it hands models on.
    """

    backend: Backend
    path: Path
    inputs: Sequence[Array]
    outputs: Sequence[Array]
    config: ModelConfig = field(default_factory=ModelConfig)
    options: OpenOptions = field(default_factory=OpenOptions)
    rtol: float = 1e-5
    atol: float = 1e-6
    steady_rows: bool = True
    says: tuple[str, str] | None = None

    def open(self, config: ModelConfig | None = None, path: Path | None = None) -> Model:
        """The model, or another path or another configuration for it."""
        return self.backend.open(path or self.path, config or self.config, self.options)


def check_backend(case: Case) -> None:
    """Every check; raises NotConforming at the first that fails."""
    for check in CHECKS.values():
        check(case)


def describes_itself(case: Case) -> None:
    """Names, types and shapes are complete; the first dimension is free where rows are batched."""
    model = case.open()
    told = model.description
    backend, platform = case.says or (case.backend.name, case.backend.platform)
    _expect(told.backend == backend, f"description.backend is '{told.backend}'")
    _expect(told.platform == platform, f"description.platform is '{told.platform}'")
    _expect(bool(told.inputs) and bool(told.outputs), "inputs or outputs are not described")
    for specs in (told.inputs, told.outputs):
        names = [spec.name for spec in specs]
        _expect(all(names) and len({*names}) == len(names), f"names are empty or twice: {names}")
        for spec in specs:
            _describes(spec, told.max_batch_size)
    _expect(all(isinstance(note, str) and note for note in told.notes), "a note is no text")
    model.close()


def _describes(spec: TensorSpec, max_batch_size: int) -> None:
    where = f"tensor '{spec.name}'"
    _expect(spec.datatype in DATATYPES.values(), f"{where} has no datatype of inferd's")
    _expect(all(dim >= -1 for dim in spec.shape), f"{where} has shape {spec.shape}")
    if max_batch_size:
        _expect(spec.shape[:1] == (-1,), f"{where} batches, but its shape is {spec.shape}")
    if spec.labels and spec.shape[-1] >= 0:
        _expect(len(spec.labels) == spec.shape[-1], f"{where} has {len(spec.labels)} labels")


def says_what_the_framework_says(case: Case) -> None:
    """Results have the described types and shapes, and the framework's own values."""
    model = case.open()
    instance = model.create_instance()
    found = instance.run(list(case.inputs))
    _equal(case, found, case.outputs, "the framework itself says otherwise")
    for spec, array in zip(model.description.outputs, found, strict=True):
        _fits(spec, array)
    instance.close()
    model.close()


def rows_are_independent(case: Case) -> None:
    """A row gives the same alone, among others, and in a batch as large as is allowed."""
    model = case.open()
    size = model.description.max_batch_size
    if size and case.steady_rows:
        instance = model.create_instance()
        count = len(case.inputs[0])
        _expect(count >= 3, "the case needs three rows or more")
        alone = [instance.run([a[row : row + 1] for a in case.inputs]) for row in range(count)]
        joined = [np.concatenate(parts) for parts in zip(*alone, strict=True)]
        _equal(case, joined, case.outputs, "rows give something else alone than together")
        rows = np.arange(size) % count
        found = instance.run([array[rows] for array in case.inputs])
        wanted = [array[rows] for array in case.outputs]
        _equal(case, found, wanted, f"{size} rows, the most that it allows, give something else")
        instance.close()
    model.close()


def results_are_their_own(case: Case) -> None:
    """Results stay as they are when others are computed and when all is closed; inputs are only
    read, and may be read-only."""
    model = case.open()
    instance = model.create_instance()
    inputs = [array.copy() for array in case.inputs]
    instance.run(inputs)
    _equal(case, inputs, case.inputs, "an input was written to", exact=True)
    for array in inputs:
        array.flags.writeable = False
    found = instance.run(inputs)
    _expect(not any(np.shares_memory(f, i) for f in found for i in inputs if _has_memory(f, i)),
            "a result lies in the memory of an input")  # fmt: skip
    before = [array.copy() for array in found]
    instance.run([array[::-1].copy() for array in case.inputs])
    instance.close()
    model.close()
    _equal(case, found, before, "a result has changed after it was given", exact=True)


def _has_memory(*arrays: Array) -> bool:
    return all(array.dtype != object for array in arrays)


def instances_run_side_by_side(case: Case) -> None:
    """Several, and lanes, each on a thread of its own, give the same; one that is closed leaves the
    others as they are."""
    model = case.open()
    instances = [model.create_instance(), model.create_instance(), *model.create_lanes()]
    errors: list[BaseException] = []

    def work(run: Callable[[list[Array]], list[Array]]) -> None:
        try:
            for _ in range(3):
                _equal(case, run(list(case.inputs)), case.outputs, "side by side it says otherwise")
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(instance.run,)) for instance in instances]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    instances[0].close()
    again = instances[1].run(list(case.inputs))
    _equal(case, again, case.outputs, "after another instance was closed it says otherwise")
    for instance in instances[1:]:
        closing = threading.Thread(target=instance.close)
        closing.start()
        closing.join()
    model.close()


def wrong_files_are_told(case: Case) -> None:
    """What is no model, a part of one, or not there at all is one of inferd's errors."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / case.path.name
        _refused(case, path, "a path that does not exist")
        if case.path.is_dir():
            path.mkdir()
            _refused(case, path, "an empty folder")
            return
        whole = case.path.read_bytes()
        half = whole[: len(whole) // 2]
        damage = {"an empty file": b"", "a text": b"no model\n" * 99, "half a file": half}
        for what, content in damage.items():
            path.write_bytes(content)
            _refused(case, path, what)


def _refused(case: Case, path: Path, what: str) -> None:
    try:
        case.open(path=path)
    except InferdError as error:
        _expect(bool(str(error)), f"the error for {what} says nothing")
    except Exception as error:
        raise NotConforming(
            f"{what}: expected BackendError or ConfigError, got {type(error).__name__}: {error}"
        ) from error
    else:
        raise NotConforming(f"{what} was opened as a model")


def contradictions_are_told(case: Case) -> None:
    """A configuration that contradicts the model is a ConfigError that names its field."""
    model = case.open()
    told = model.description
    model.close()
    kept = _configured(case, told)
    case.open(kept).close()  # what repeats the model is no contradiction
    first = kept.input[0]
    other = "TYPE_UINT16" if first.data_type != "TYPE_UINT16" else "TYPE_BOOL"
    for change, name in (
        (msgspec.structs.replace(first, name="inferd-no-such-input"), "input"),
        (msgspec.structs.replace(first, data_type=other), "input.data_type"),
        (msgspec.structs.replace(first, dims=(*first.dims, 7, 7)), "input.dims"),
    ):
        _contradicts(case, msgspec.structs.replace(kept, input=(change, *kept.input[1:])), name)
    unknown = msgspec.structs.replace(kept.output[0], name="inferd-no-such-output")
    _contradicts(case, msgspec.structs.replace(kept, output=(*kept.output, unknown)), "output")


def _configured(case: Case, told: ModelDescription) -> ModelConfig:
    """What the model says of itself, as its configuration would."""
    skip = 1 if told.max_batch_size else 0

    def fields(spec: TensorSpec) -> dict[str, object]:
        dims = spec.shape[skip:]
        return {"name": spec.name, "data_type": spec.datatype.config_name, "dims": dims}

    return msgspec.structs.replace(
        case.config,
        max_batch_size=told.max_batch_size,
        input=tuple(msgspec.convert(fields(spec), ModelInput) for spec in told.inputs),
        output=tuple(msgspec.convert(fields(spec), ModelOutput) for spec in told.outputs),
    )


def _contradicts(case: Case, config: ModelConfig, field: str) -> None:
    try:
        case.open(config).close()
    except ConfigError as error:
        _expect(error.field == field, f"the error names '{error.field}', expected '{field}'")
    except Exception as error:
        raise NotConforming(
            f"a wrong {field}: expected ConfigError, got {type(error).__name__}: {error}"
        ) from error
    else:
        raise NotConforming(f"a wrong {field} was not noticed")


def fewer_outputs_may_be_offered(case: Case) -> None:
    """With one output configured, that alone is described and computed."""
    model = case.open()
    kept = _configured(case, model.description)
    model.close()
    config = msgspec.structs.replace(kept, output=kept.output[-1:])
    model = case.open(config)
    names = [spec.name for spec in model.description.outputs]
    _expect(names == [kept.output[-1].name], f"the description has the outputs {names}")
    instance = model.create_instance()
    _equal(case, instance.run(list(case.inputs)), case.outputs[-1:], "one output is another")
    instance.close()
    model.close()


def trust_is_asked_for(case: Case) -> None:
    """A model that runs code when it is read is refused without trust, with the way out."""
    if not case.options.trust:
        return
    try:
        case.backend.open(case.path, case.config, OpenOptions(case.options.threads))
    except (ConfigError, Unsupported) as error:
        _expect("--trust" in str(error), f"the error does not name --trust: {error}")
    else:
        raise NotConforming("a model that needs trust was opened without")


CHECKS: dict[str, Callable[[Case], None]] = {
    check.__name__: check
    for check in (
        describes_itself, says_what_the_framework_says, rows_are_independent,
        results_are_their_own, instances_run_side_by_side, wrong_files_are_told,
        contradictions_are_told, fewer_outputs_may_be_offered, trust_is_asked_for,
    )
}  # fmt: skip
"""Every check by its name."""


def _fits(spec: TensorSpec, array: Array) -> None:
    _expect(
        array.dtype == spec.datatype.dtype,
        f"output '{spec.name}' is described as {spec.datatype.name}, and is {array.dtype}",
    )
    fitting = len(array.shape) == len(spec.shape) and all(
        said in (-1, size) for said, size in zip(spec.shape, array.shape, strict=True)
    )
    _expect(fitting, f"output '{spec.name}' is described as {spec.shape}, and is {array.shape}")


def _equal(
    case: Case, found: Sequence[Array], wanted: Sequence[Array], otherwise: str, exact: bool = False
) -> None:
    _expect(len(found) == len(wanted), f"{otherwise}: {len(found)} arrays, not {len(wanted)}")
    for index, (ours, theirs) in enumerate(zip(found, wanted, strict=True)):
        _expect(isinstance(ours, np.ndarray), f"output {index} is a {type(ours).__name__}")
        shapes = f"shape {ours.shape}, not {theirs.shape}"
        _expect(ours.shape == theirs.shape, f"{otherwise}: output {index} has {shapes}")
        if exact or ours.dtype.kind not in "fc":
            same = np.array_equal(ours, theirs, equal_nan=ours.dtype.kind == "f")
        else:
            same = np.allclose(ours, theirs, case.rtol, case.atol, equal_nan=True)
        _expect(bool(same), f"{otherwise}: output {index} is {ours!r}, not {theirs!r}")


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise NotConforming(otherwise)
