"""Whether the decision trees inside an estimator are whole. scikit-learn walks them natively and
believes what they say, so a wrong index in a file would read beyond their memory.

skops, which leaves this to its caller, asks for trust in every tree; those that pass need none.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from sklearn.ensemble import GradientBoostingClassifier, GradientBoostingRegressor

TREE = "sklearn.tree._tree.Tree"
"""The type as skops names it."""


def broken_tree(estimator: Any) -> str:
    """What is wrong with a tree of the estimator's; '' when all are whole."""
    for part in _parts(estimator, set()):
        wrong = ""
        if hasattr(getattr(part, "tree_", None), "node_count"):
            wrong = _broken(part.tree_, getattr(part, "n_features_in_", 0))
        elif isinstance(part, GradientBoostingClassifier | GradientBoostingRegressor):
            wrong = "" if _fits(part) else "boosting has trees that do not fit each other"
        if wrong:
            return wrong
    return ""


def _broken(tree: Any, features: int) -> str:
    index = np.arange(tree.node_count)
    left, right = tree.children_left, tree.children_right
    inner = left != -1
    if not all(len(array) == tree.node_count for array in (left, right, tree.value)):
        return "it has not as many nodes as it says"
    for children in (left[inner], right[inner]):
        if ((children <= index[inner]) | (children >= tree.node_count)).any():
            return "a node's child is not behind it"
    asked = tree.feature[inner]
    if ((asked < 0) | (asked >= features)).any():
        return "a node asks for a feature that there is not"
    return ""


def _fits(boosting: Any) -> bool:
    """Whether all trees take what the first takes, and add to as many numbers as there are: the
    first alone looks at the rows before all are walked."""
    trees = boosting.estimators_
    features = trees[0, 0].n_features_in_
    start = boosting._raw_predict_init(np.zeros((1, features), np.float32))
    alike = all(tree.n_features_in_ == features for tree in trees.flat)
    return alike and start.shape[1:] == trees.shape[1:]


def _parts(thing: Any, seen: set[int]) -> Iterator[Any]:
    """Everything in an estimator, and then itself: what it computes with has been looked at."""
    if id(thing) in seen or isinstance(thing, str | bytes | int | float | type(None)):
        return
    seen.add(id(thing))
    inner: Any = ()
    if isinstance(thing, dict):
        inner = thing.values()
    elif isinstance(thing, list | tuple | set):
        inner = thing
    elif isinstance(thing, np.ndarray):
        inner = thing.ravel().tolist() if thing.dtype.kind == "O" else ()
    elif hasattr(thing, "__dict__") and not isinstance(thing, type):
        inner = vars(thing).values()
    for part in inner:
        yield from _parts(part, seen)
    yield thing
