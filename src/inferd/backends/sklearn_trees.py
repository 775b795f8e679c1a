"""Whether the decision trees inside an estimator are whole. scikit-learn walks them natively and
believes what they say, so a wrong index in a file would read beyond their memory.

skops, which leaves this to its caller, asks for trust in every tree; those that pass need none.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

TREE = "sklearn.tree._tree.Tree"
"""The type as skops names it."""


def broken_tree(estimator: Any) -> str:
    """What is wrong with a tree of the estimator's; '' when all are whole."""
    for owner in _owners(estimator, set()):
        tree = owner.tree_
        index = np.arange(tree.node_count)
        left, right = tree.children_left, tree.children_right
        inner = left != -1
        if not all(len(array) == tree.node_count for array in (left, right, tree.value)):
            return "it has not as many nodes as it says"
        for children in (left[inner], right[inner]):
            if ((children <= index[inner]) | (children >= tree.node_count)).any():
                return "a node's child is not behind it"
        features = tree.feature[inner]
        if ((features < 0) | (features >= getattr(owner, "n_features_in_", 0))).any():
            return "a node asks for a feature that there is not"
    return ""


def _owners(thing: Any, seen: set[int]) -> Iterator[Any]:
    """Everything in an estimator that has a tree."""
    if id(thing) in seen or isinstance(thing, str | bytes | int | float | type(None)):
        return
    seen.add(id(thing))
    if hasattr(thing, "tree_") and hasattr(thing.tree_, "node_count"):
        yield thing
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
        yield from _owners(part, seen)
