"""Reads a file of trees and asks it for made-up rows, in a process of its own, whose end is the
answer: 0, or 3 and why. Run as `python tree_reader.py FRAMEWORK LIBRARY FILE`.

It is started often, so it speaks to the framework's library itself where that has a C interface,
and imports nothing else, not even of inferd. `tree_trial.py` starts it.
"""

import ctypes
import os
import random
import resource
import sys
from collections.abc import Callable, Sequence
from ctypes import byref, c_char_p, c_double, c_float, c_int, c_int64, c_uint64, c_void_p
from typing import Any

MOST_VALUES = 50_000
MOST_ROWS = 64
FAILED = 3

_SPAN = 8 << 30
_SPAN_FOR_EACH_BYTE = 64


class Refused(Exception):
    """What a framework said of the file."""


def made_up(features: int) -> tuple[int, list[float]]:
    """Rows of values of every size, missing ones among them, so that many branches are walked."""
    rows = max(1, min(MOST_ROWS, MOST_VALUES // max(features, 1)))
    dice = random.Random(0)
    scales = (0.0, 0.01, 1.0, 10.0, 1000.0, float("nan"))
    return rows, [dice.gauss(0.0, 1.0) * dice.choice(scales) for _ in range(rows * features)]


def checked(library: Any, last_error: str) -> Callable[[int], None]:
    """What to give a call's status to, so that it raises the library's words."""
    told = getattr(library, last_error)
    told.restype = c_char_p

    def check(status: int) -> None:
        if status:
            raise Refused(told().decode(errors="replace"))

    return check


def read_xgboost(library: Any, path: bytes) -> None:
    check = checked(library, "XGBGetLastError")
    booster, matrix, features = c_void_p(), c_void_p(), c_uint64()
    check(library.XGBoosterCreate(None, c_uint64(0), byref(booster)))
    check(library.XGBoosterLoadModel(booster, c_char_p(path)))
    check(library.XGBoosterGetNumFeature(booster, byref(features)))
    rows, values = made_up(features.value)
    data = (c_float * len(values))(*values)
    shape = c_uint64(rows), features
    check(library.XGDMatrixCreateFromMat(data, *shape, c_float(float("nan")), byref(matrix)))
    options = (
        b'{"type": 0, "training": false, "strict_shape": false, '
        b'"iteration_begin": 0, "iteration_end": 0}'
    )
    dims, size, found = c_void_p(), c_uint64(), c_void_p()
    check(
        library.XGBoosterPredictFromDMatrix(
            booster, matrix, c_char_p(options), byref(dims), byref(size), byref(found)
        )
    )


def read_lightgbm(library: Any, path: bytes) -> None:
    check = checked(library, "LGBM_GetLastError")
    booster, rounds, features, size = c_void_p(), c_int(), c_int(), c_int64()
    check(library.LGBM_BoosterCreateFromModelfile(c_char_p(path), byref(rounds), byref(booster)))
    told = ctypes.create_string_buffer(1 << 20)
    check(library.LGBM_BoosterGetLoadedParam(booster, c_int64(len(told)), byref(size), told))
    check(library.LGBM_BoosterGetNumFeature(booster, byref(features)))
    rows, values = made_up(features.value)
    kind = c_int(0), c_int(0), c_int(-1)  # an ordinary prediction, from the first round to the last
    check(library.LGBM_BoosterCalcNumPredict(booster, c_int(rows), *kind, byref(size)))
    data, found = (c_double * len(values))(*values), (c_double * size.value)()
    check(
        library.LGBM_BoosterPredictForMat(
            booster, data, c_int(1), c_int(rows), features, c_int(1), *kind,
            c_char_p(b"num_threads=1"), byref(size), found,
        )
    )  # fmt: skip


def read_catboost(path: str) -> None:
    import catboost  # it has no C interface in its package
    import numpy as np

    model = catboost.CatBoost()
    model.load_model(path, format="cbm")
    features = len(model.feature_names_)
    if not (model.get_cat_feature_indices() or model.get_text_feature_indices()):
        rows, values = made_up(features)
        model.predict(np.reshape(values, (rows, features)), thread_count=1)


def main(arguments: Sequence[str]) -> int:
    framework, library, path = arguments
    most = _SPAN + _SPAN_FOR_EACH_BYTE * os.path.getsize(path)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    try:
        if framework == "catboost":
            read_catboost(path)
        else:
            read = {"xgboost": read_xgboost, "lightgbm": read_lightgbm}[framework]
            read(ctypes.CDLL(library), os.fsencode(path))
    except Exception as error:
        print(str(error) or repr(error))
        return FAILED
    return 0


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(code)  # a library that was told nonsense may not survive its own end
