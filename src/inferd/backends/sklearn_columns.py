"""What a fitted scikit-learn estimator takes: one table of numbers, a column of texts, or named
columns of numbers and texts, found out from what it was fitted on.

It reads fitted attributes, and refuses to load or to run a model.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import FeatureUnion, Pipeline

from inferd.errors import Unsupported

_VECTORIZERS = (CountVectorizer, HashingVectorizer)
_TEXT_KINDS = "OUS"
"""numpy kinds of columns that hold texts."""


@dataclass(frozen=True, slots=True)
class Columns:
    """What goes in. `names` are those of a pandas frame, () for an array of `count` columns, -1
    any. `texts` are the columns that hold text, by name or, without names, by position; `samples`
    a value that each column has seen, where that is known. `plain_text` is a model of one text a
    row, without a table."""

    count: int
    names: tuple[str, ...] = ()
    texts: frozenset[str] = frozenset()
    samples: dict[str, object] | None = None
    plain_text: bool = False


def columns_of(estimator: Any) -> Columns:
    """What an estimator was fitted on; raises Unsupported for what tensors cannot hold."""
    if isinstance(_first(estimator), _VECTORIZERS):
        return Columns(1, plain_text=True)
    names = tuple(str(name) for name in getattr(estimator, "feature_names_in_", ()))
    count = int(getattr(estimator, "n_features_in_", None) or -1)
    if count <= 0:  # CatBoost has another name, and forgets this one
        count = len(getattr(estimator, "feature_names_", ())) or -1
    known_as = names or tuple(map(str, range(count)))
    seen = dict(_samples(estimator, known_as))
    texts = frozenset(name for name, value in seen.items() if isinstance(value, str))
    if texts and not names and len(texts) != count:
        raise Unsupported(
            "it was fitted on an array of numbers and texts, which no tensor holds; fit it on a "
            "pandas frame, so that its columns have names"
        )
    return Columns(len(known_as) or count, names, texts, seen)


def _first(estimator: Any) -> Any:
    """What the input reaches first."""
    while isinstance(estimator, Pipeline | FeatureUnion):
        steps = estimator.steps if isinstance(estimator, Pipeline) else estimator.transformer_list
        estimator = next((step for _, step in steps if step not in ("passthrough", "drop")), None)
    return getattr(estimator, "best_estimator_", estimator)


def _samples(estimator: Any, names: Sequence[str]) -> Iterator[tuple[str, object]]:
    """Columns of which a part of the estimator remembers values, each with one."""
    inner = getattr(estimator, "best_estimator_", getattr(estimator, "_preprocessor", None))
    if inner is not None:  # a search; boosting by histograms, which encodes categories itself
        yield from _samples(inner, names)
    elif isinstance(estimator, Pipeline):
        for _, step in estimator.steps:
            yield from _samples(step, names)
            if not isinstance(step, SimpleImputer) and step != "passthrough":
                return  # behind it, columns are others
    elif isinstance(estimator, FeatureUnion):
        for _, step in estimator.transformer_list:
            yield from _samples(step, names)
    elif isinstance(estimator, ColumnTransformer):
        for _, part, columns in estimator.transformers_:
            yield from _samples(part, _chosen(columns, names))
    elif isinstance(estimator, _VECTORIZERS):
        yield from ((name, "text") for name in names)
    elif isinstance(estimator, SimpleImputer):
        yield from _known(names, [[value] for value in estimator.statistics_])
    else:
        yield from _known(names, getattr(estimator, "categories_", ()))


def _known(
    names: Sequence[str], values: Sequence[Sequence[object]]
) -> Iterator[tuple[str, object]]:
    for name, seen in zip(names, values, strict=False):
        found = next((v for v in seen if v is not None and v == v), None)  # NaN is not itself
        if found is not None:
            yield name, found.item() if isinstance(found, np.generic) else found


def _chosen(columns: Any, names: Sequence[str]) -> tuple[str, ...]:
    """The names that a ColumnTransformer's part was given, however it was told them."""
    if isinstance(columns, str):
        return (columns,)
    if isinstance(columns, slice):
        start, stop = (
            names.index(end) if isinstance(end, str) else end
            for end in (columns.start, columns.stop)
        )
        if isinstance(columns.stop, str):
            stop += 1  # a slice of names has its end
        return tuple(names[start : stop : columns.step])
    listed = np.atleast_1d(np.asarray(columns))
    if listed.dtype.kind in _TEXT_KINDS:
        return tuple(str(name) for name in listed)
    if listed.dtype.kind == "b":
        listed = np.flatnonzero(listed)
    return tuple(names[int(index)] for index in listed)
