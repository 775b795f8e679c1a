"""Estimators of scikit-learn, from skops files, and from pickles where the server trusts them.

What is served is predict, beside it predict_proba where the estimator has it, and transform of one
that has no predict; a configuration that names some outputs has only those computed. Inputs are
`input` FP64 [-1, features], as scikit-learn computes; of an estimator that was fitted on a pandas
frame with texts in it, an input for each column, BYTES or FP64 [-1], and of one that reads texts,
`input` BYTES [-1]. Classes that are texts are BYTES; a missing number is NaN, and a text is never
missing.

It holds Python's lock while it computes, and so runs in a worker process unless told otherwise.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import skops.io
from scipy.sparse import issparse

from inferd.backends.base import ModelDescription, ModelInstance, OpenOptions
from inferd.backends.completion import DEFAULT_MAX_BATCH_SIZE, complete
from inferd.backends.python_warnings import kept_warnings
from inferd.backends.results import as_described
from inferd.backends.rows import INPUT, OUTPUT, refuse_gpu, unreadable
from inferd.backends.sklearn_columns import Columns, columns_of
from inferd.backends.sklearn_trees import TREE, broken_tree
from inferd.config.model import ModelConfig
from inferd.errors import BackendError, ConfigError, InferdError, InvalidRequest, Unsupported
from inferd.types.datatype import BYTES, DATATYPES, DataType
from inferd.types.tensor import Array, TensorSpec

PROBA, TRANSFORM = "predict_proba", "transform"
FP64 = DATATYPES["FP64"]

_DATATYPES = {kind.dtype: kind for kind in DATATYPES.values() if kind.name not in ("BF16", "BYTES")}


class SklearnInstance:
    """A ModelInstance; all of a model share the estimator."""

    def __init__(self, estimator: Any, columns: Columns, inputs: tuple[str, ...],
                 outputs: tuple[TensorSpec, ...]) -> None:  # fmt: skip
        self._estimator = estimator
        self._columns = columns
        self._inputs = inputs
        self._outputs = outputs

    def run(self, inputs: list[Array]) -> list[Array]:
        """Run one batch; see ModelInstance. What scikit-learn says of values is InvalidRequest."""
        table = _table(self._columns, dict(zip(self._inputs, inputs, strict=True)))
        found: dict[str, Array] = {}
        for method in dict.fromkeys(spec.name.partition(".")[0] for spec in self._outputs):
            found |= _named(method, _call(getattr(self._estimator, method), table))
        return [as_described(spec, found[spec.name]) for spec in self._outputs]

    def close(self) -> None:
        """Let go of the estimator."""
        self._estimator = None


class SklearnModel:
    """A Model: an estimator, asked once for a made-up row to see what it gives."""

    def __init__(
        self, estimator: Any, columns: Columns, config: ModelConfig, notes: list[str]
    ) -> None:
        refuse_gpu(SklearnBackend.name, config)
        if columns.count < 0 and config.input and config.input[0].dims:
            columns = replace(columns, count=config.input[0].dims[-1])
        self._estimator = estimator
        self._columns = columns
        inputs = _input_specs(columns)
        outputs = self._probe([spec.name for spec in inputs])
        size = config.max_batch_size
        self.description: ModelDescription = complete(
            config, SklearnBackend.platform, SklearnBackend.name, inputs, outputs,
            DEFAULT_MAX_BATCH_SIZE if size is None else size, notes,
        )  # fmt: skip

    def create_instance(self) -> SklearnInstance:
        """One more that asks the same estimator."""
        inputs = tuple(spec.name for spec in self.description.inputs)
        return SklearnInstance(self._estimator, self._columns, inputs, self.description.outputs)

    def create_lanes(self) -> list[ModelInstance]:
        """None: they would wait for each other."""
        return []

    def close(self) -> None:
        """Let go of the estimator."""
        self._estimator = None

    def _probe(self, inputs: list[str]) -> list[TensorSpec]:
        """What each method gives for a row of values that the estimator may have seen."""
        estimator, columns = self._estimator, self._columns
        methods = [name for name in (OUTPUT, PROBA) if hasattr(estimator, name)]
        methods = methods or [name for name in (TRANSFORM,) if hasattr(estimator, name)]
        if not methods:
            raise BackendError(
                f"a {type(estimator).__name__} has neither predict nor transform, so it cannot be "
                "asked about new rows"
            )
        row = _table(columns, {name: _sample(columns, name) for name in inputs})
        unknown = columns.count < 0
        specs = []
        for method in methods:
            try:
                results = _named(method, _call(getattr(estimator, method), row))
            except InferdError as error:
                hint = "; name the number of its features in input.dims" if unknown else ""
                raise BackendError(
                    f"a row to try it with failed in {method}: {error}{hint}"
                ) from error
            labels = _labels(estimator, len(results)) if method == PROBA else None
            for index, (name, array) in enumerate(results.items()):
                named = labels[index] if labels else ()
                if len(named) != array.shape[-1]:
                    named = ()
                shape = (-1, *array.shape[1:])
                specs.append(TensorSpec(name, _datatype(name, array), shape, labels=named))
        return specs


class SklearnBackend:
    """Opens `.skops`, and with trust `.joblib`, `.pkl` and `.pickle`."""

    name = "sklearn"
    platform = "sklearn"

    def open(self, path: Path, config: ModelConfig, options: OpenOptions) -> SklearnModel:
        """Open a model file; see Backend. Raises ConfigError for one that needs trust."""
        with kept_warnings() as caught:
            estimator = _load(path, options.trust)
        notes = list(dict.fromkeys(_first_line(str(warning.message)) for warning in caught))
        if notes:
            notes[0] = f"warned when it was read: {notes[0]}"
        try:
            columns = columns_of(_alone(estimator))
        except InferdError:
            raise
        except Exception as error:  # what a pickle holds may be anything
            raise unreadable("scikit-learn", path, error) from error
        return SklearnModel(estimator, columns, config, notes)


def _load(path: Path, trust: bool) -> Any:
    if path.suffix != ".skops":
        if not trust:
            raise ConfigError(
                f"{path.name} is a pickle, which can run any code when it is read: start the "
                "server with --trust if you trust whoever made it, or save the model as .skops "
                "(skops.io.dump), which needs no trust"
            )
        return _read(path, lambda: joblib.load(path))
    unknown = _read(path, lambda: skops.io.get_untrusted_types(file=path))
    foreign = [name for name in unknown if name != TREE]
    if foreign and not trust:
        raise ConfigError(
            f"{path.name} needs types that skops does not know to be safe: {', '.join(foreign)}; "
            "start the server with --trust if you trust whoever made it"
        )
    estimator = _read(path, lambda: skops.io.load(path, trusted=unknown))
    wrong = _read(path, lambda: broken_tree(estimator)) if TREE in unknown else ""
    if wrong:
        raise BackendError(f"{path.name} holds a tree that is damaged: {wrong}")
    return estimator


def _read(path: Path, read: Callable[[], Any]) -> Any:
    try:
        return read()
    except ImportError as error:
        raise BackendError(
            f"{path.name} needs the package '{error.name}', which is not installed"
        ) from error
    except Exception as error:
        raise unreadable("scikit-learn", path, error) from error


def _alone(estimator: Any) -> Any:
    """The same, to compute on the thread that asks: to start others for a few rows takes longer
    than the rows."""
    if hasattr(estimator, "get_params"):
        options = estimator.get_params()
        jobs = [name for name in options if name.rpartition("__")[2] == "n_jobs"]
        if changed := {name: 1 for name in jobs if options[name] is not None}:
            estimator.set_params(**changed)
    if hasattr(estimator, "best_estimator_"):
        _alone(estimator.best_estimator_)
    return estimator


def _input_specs(columns: Columns) -> list[TensorSpec]:
    if columns.plain_text:
        return [TensorSpec(INPUT, BYTES, (-1,))]
    if columns.texts and not columns.names:
        return [TensorSpec(INPUT, BYTES, (-1, columns.count))]
    if columns.texts:
        return [
            TensorSpec(name, BYTES if name in columns.texts else FP64, (-1,))
            for name in columns.names
        ]
    return [TensorSpec(INPUT, FP64, (-1, columns.count))]


def _sample(columns: Columns, name: str) -> Array:
    """A made-up row for an input: a value that it has seen, where that is known."""
    seen = columns.samples or {}
    if columns.plain_text:
        return np.array([b"text"], object)
    if not columns.texts or not columns.names:
        names = columns.names or tuple(map(str, range(max(columns.count, 1))))
        row = [seen.get(column, 0.0) for column in names]
        if columns.texts:
            return np.array([[str(value).encode() for value in row]], object)
        return np.array([row], np.float64)
    value = seen.get(name, 0.0)
    return np.array([value.encode()], object) if isinstance(value, str) else np.array([value], "f8")


def _table(columns: Columns, inputs: dict[str, Array]) -> Any:
    """What scikit-learn is given: an array, a list of texts, or a frame."""
    if columns.plain_text:
        return _texts(INPUT, inputs[INPUT])
    if not columns.names and columns.texts:
        array = inputs[INPUT]
        return np.array(_texts(INPUT, array.ravel()), object).reshape(array.shape)
    if not columns.names:
        return inputs[INPUT]
    import pandas as pd  # without it, nobody has fitted on a frame

    if not columns.texts:
        return pd.DataFrame(inputs[INPUT], columns=list(columns.names), copy=False)
    data = {
        name: np.array(_texts(name, inputs[name]), object) if name in columns.texts
        else inputs[name]
        for name in columns.names
    }  # fmt: skip
    return pd.DataFrame(data)


def _texts(name: str, array: Array) -> list[str]:
    try:
        return [value.decode() for value in array.tolist()]
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"input '{name}' has an element that is not UTF-8: {error}") from error


def _call(method: Callable[[Any], Any], table: Any) -> Any:
    try:
        result = method(table)
        return result.copy() if result is table else result
    except InferdError:
        raise
    except ValueError as error:  # what scikit-learn has checked is about the values
        raise InvalidRequest(f"scikit-learn: {_first_line(str(error))}") from error
    except Exception as error:
        raise BackendError(f"scikit-learn: {type(error).__name__}: {error}") from error


def _named(method: str, result: Any) -> dict[str, Array]:
    """A method's results by output. That of several outputs gives a list of probabilities."""
    if isinstance(result, list):
        return {f"{method}.{index}": _array(part) for index, part in enumerate(result)}
    return {method: _array(result)}


def _array(result: Any) -> Array:
    """A result in memory of its own, texts as bytes."""
    array = result.toarray() if issparse(result) else np.asarray(result)
    if array.dtype.kind in "OUS":
        flat = [v if isinstance(v, bytes) else str(v).encode() for v in array.ravel().tolist()]
        encoded: Array = np.empty(array.shape, object)
        encoded.ravel()[:] = flat
        return encoded
    return array.copy() if array.base is not None or not array.flags.c_contiguous else array


def _datatype(name: str, array: Array) -> DataType:
    if array.dtype.kind == "O":
        return BYTES
    found = _DATATYPES.get(array.dtype)
    if found is None or not array.ndim:
        raise Unsupported(f"{name} gives {array.dtype} of shape {array.shape}, which is no tensor")
    return found


def _labels(estimator: Any, results: int) -> list[tuple[str, ...]]:
    """The names of the classes, for each result."""
    classes = getattr(estimator, "classes_", ())
    each = [classes] if results == 1 else list(classes)
    labels = [tuple(str(name) for name in names) for names in each]
    return labels + [()] * (results - len(labels))


def _first_line(text: str) -> str:
    return next(iter(text.strip().splitlines()), "")
