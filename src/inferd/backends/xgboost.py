"""Trees of XGBoost, from `.json` and `.ubj`.

What Booster.predict gives: probabilities, classes, margins or values as the objective has it. NaN
is a missing feature. Features are float32, as XGBoost holds them.
"""

import ctypes
import threading
from pathlib import Path
from typing import Any

import numpy as np
import xgboost
from xgboost.libpath import find_lib_path

from inferd.backends.base import OpenOptions
from inferd.backends.rows import Predict, RowModel, unreadable
from inferd.backends.tree_trial import try_reading
from inferd.config.model import ModelConfig
from inferd.errors import BackendError
from inferd.types.datatype import DATATYPES
from inferd.types.tensor import Array

BLOCK_ROWS = 64


class XGBoostBackend:
    """Opens `.json` and `.ubj` files."""

    name = "xgboost"
    platform = "xgboost"

    def open(self, path: Path, config: ModelConfig, options: OpenOptions) -> RowModel:
        """Open a model file; see Backend."""
        library = find_lib_path()[0]
        try_reading("XGBoost", self.name, library, path)
        booster = xgboost.Booster()
        try:
            booster.load_model(path)
        except Exception as error:
            raise unreadable("XGBoost", path, error) from error
        # XGBoost gives each thread a block of rows: with one block, others would only wait.
        threads = options.threads if (config.max_batch_size or 0) > BLOCK_ROWS else 1
        booster.set_param({"nthread": threads})
        features = booster.num_features()
        predict = _predictor(booster, library, np.zeros((1, features), np.float32))
        return RowModel(self.name, predict, features, DATATYPES["FP32"], config, threads)


def _predictor(booster: xgboost.Booster, library: str, row: Array) -> Predict:
    """What predicts soonest: trees do in place, linear boosters only by a matrix."""
    in_place = InPlace(booster, library)
    try:
        in_place(row)
    except BackendError:
        lock = threading.Lock()

        def predict(rows: Array) -> Array:
            with lock:
                found: Array = booster.predict(xgboost.DMatrix(rows, nthread=1))
            return found

        return predict
    return in_place


class InPlace:
    """Booster.inplace_predict through XGBoost's C interface: what its Python looks at before each
    call takes as long as the trees for a few rows."""

    _CONFIG = (
        b'{"type":0,"training":false,"iteration_begin":0,"iteration_end":0,"missing":NaN,'
        b'"strict_shape":false,"cache_id":0}'
    )

    def __init__(self, booster: xgboost.Booster, library: str) -> None:
        self._booster = booster  # what owns the handle
        self._library: Any = ctypes.CDLL(library)
        self._library.XGBGetLastError.restype = ctypes.c_char_p
        self._of_thread = threading.local()

    def __call__(self, rows: Array) -> Array:
        """Predict float32 rows [N, features]; called from any thread."""
        rows = np.ascontiguousarray(rows, np.float32)
        described = b'{"data":[%d,true],"shape":[%d,%d],"typestr":"<f4","version":3}' % (
            rows.ctypes.data, *rows.shape,
        )  # fmt: skip
        shape = ctypes.POINTER(ctypes.c_uint64)()
        rank = ctypes.c_uint64()
        numbers = ctypes.POINTER(ctypes.c_float)()
        self._check(
            self._library.XGBoosterPredictFromDense(
                self._booster.handle, described, self._CONFIG, self._proxy(), ctypes.byref(shape),
                ctypes.byref(rank), ctypes.byref(numbers),
            )
        )  # fmt: skip
        found = np.empty(tuple(shape[: rank.value]), np.float32)
        # They are the booster's, until this thread asks again.
        ctypes.memmove(found.ctypes.data, numbers, found.nbytes)
        return found

    def _proxy(self) -> ctypes.c_void_p:
        """A matrix that stands for rows elsewhere, which each thread has of its own."""
        made: _Proxy | None = getattr(self._of_thread, "proxy", None)
        if made is None:
            made = self._of_thread.proxy = _Proxy(self._library, self._check)
        return made.handle

    def _check(self, status: int) -> None:
        if status:
            told = self._library.XGBGetLastError().decode(errors="replace").strip()
            raise BackendError(told.partition("\n")[0] or "XGBoost failed")


class _Proxy:
    """XGBoost's own, given back with the thread."""

    def __init__(self, library: Any, check: Any) -> None:
        self._library = library
        self.handle = ctypes.c_void_p()
        check(library.XGProxyDMatrixCreate(ctypes.byref(self.handle)))

    def __del__(self) -> None:
        self._library.XGDMatrixFree(self.handle)
