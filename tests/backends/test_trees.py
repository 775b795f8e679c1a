"""Gradient-boosted trees on scikit-learn's bundled data: what is served is what the framework
says, for every kind of objective."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import catboost
import lightgbm
import numpy as np
import pytest
import xgboost
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris

from inferd.backends.base import OpenOptions
from inferd.backends.registry import create_backend
from inferd.config.model import ModelConfig, ModelInput, ModelOutput
from inferd.config.scheduling import ModelInstanceGroup
from inferd.errors import BackendError, ConfigError, Unsupported
from inferd.repository.formats import recognise
from inferd.types.tensor import Array

DATA = {"binary": load_breast_cancer, "several": load_iris, "number": load_diabetes}
XGBOOST = {
    "binary": {"objective": "binary:logistic"},
    "several": {"objective": "multi:softprob", "num_class": 3},
    "number": {"objective": "reg:squarederror"},
}
LIGHTGBM = {
    "binary": {"objective": "binary"},
    "several": {"objective": "multiclass", "num_class": 3},
    "number": {"objective": "regression"},
}


def data(kind: str) -> tuple[Array, Array]:
    x, y = DATA[kind](return_X_y=True)
    x = x.copy()
    x[::7, 1] = np.nan  # a missing feature
    return x, y


def make_xgboost(kind: str, folder: Path, suffix: str = ".json") -> tuple[Path, Array, Array]:
    x, y = data(kind)
    x = x.astype(np.float32)
    booster = xgboost.train(XGBOOST[kind], xgboost.DMatrix(x, y), num_boost_round=12)
    path = folder / f"model{suffix}"
    booster.save_model(path)
    return path, x, booster.predict(xgboost.DMatrix(x))


def make_ubj(kind: str, folder: Path) -> tuple[Path, Array, Array]:
    return make_xgboost(kind, folder, ".ubj")


def make_lightgbm(kind: str, folder: Path) -> tuple[Path, Array, Array]:
    x, y = data(kind)
    options = LIGHTGBM[kind] | {"verbose": -1, "num_threads": 1}
    booster = lightgbm.train(options, lightgbm.Dataset(x, y), num_boost_round=12)
    path = folder / "model.txt"
    booster.save_model(path)
    return path, x, booster.predict(x)


def make_catboost(kind: str, folder: Path) -> tuple[Path, Array, Array]:
    x, y = data(kind)
    options = {"iterations": 12, "verbose": False, "allow_writing_files": False, "thread_count": 1}
    path = folder / "model.cbm"
    if kind == "number":
        regressor = catboost.CatBoostRegressor(**options).fit(x, y)
        regressor.save_model(str(path))
        return path, x, regressor.predict(x)
    classifier = catboost.CatBoostClassifier(**options).fit(x, y)
    classifier.save_model(str(path))
    return path, x, classifier.predict_proba(x)


Make = Callable[[str, Path], tuple[Path, Array, Array]]
MAKERS: dict[str, Make] = {
    "xgboost": make_xgboost, "xgboost-ubj": make_ubj, "lightgbm": make_lightgbm,
    "catboost": make_catboost,
}  # fmt: skip


def opened(path: Path, config: ModelConfig | None = None) -> Any:
    kind = recognise(path)
    assert kind is not None
    return create_backend(kind.backend).open(path, config or ModelConfig(), OpenOptions(2))


def test_as_tritons_backend_of_trees_has_it_each_row_gives_a_list(tmp_path: Path) -> None:
    path, x, wanted = make_xgboost("number", tmp_path)
    config = ModelConfig(
        backend="fil",
        input=(ModelInput(name="input__0", data_type="TYPE_FP32", dims=(x.shape[1],)),),
        output=(ModelOutput(name="output__0", data_type="TYPE_FP32", dims=(1,)),),
    )
    model = opened(path, config)
    (found,) = model.create_instance().run([x.astype(np.float32)])
    np.testing.assert_allclose(found, wanted[:, None], rtol=1e-6)
    model.close()


@pytest.mark.parametrize("kind", DATA)
@pytest.mark.parametrize("maker", MAKERS)
def test_predictions_are_the_frameworks_own(maker: str, kind: str, tmp_path: Path) -> None:
    path, x, wanted = MAKERS[maker](kind, tmp_path)
    model = opened(path)
    (given,), (told,) = model.description.inputs, model.description.outputs
    assert given.shape == (-1, x.shape[1])
    assert told.shape == (-1, *wanted.shape[1:])
    assert model.description.max_batch_size > 0
    instance = model.create_instance()
    rows = x.astype(given.datatype.dtype)
    (found,) = instance.run([rows])
    assert found.dtype == told.datatype.dtype
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
    alone = np.concatenate([instance.run([rows[n : n + 1]])[0] for n in range(10)])
    np.testing.assert_allclose(alone, wanted[:10], rtol=1e-6)
    instance.close()
    model.close()


@pytest.mark.parametrize("maker", MAKERS)
def test_a_damaged_file_is_told_in_the_frameworks_words(maker: str, tmp_path: Path) -> None:
    path, _, _ = MAKERS[maker]("number", tmp_path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(BackendError, match=rf"cannot load {path.name}"):
        opened(path)


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda whole: whole[: len(whole) * 9 // 10],
    "hole": lambda whole: whole[: len(whole) // 3] + whole[len(whole) // 3 + 100 :],
    "numbers": lambda whole: whole[:500] + whole[500:].replace(b"3", b"8"),
    "tail": lambda whole: whole[: len(whole) // 2] + b"\xff" * (len(whole) - len(whole) // 2),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("maker", MAKERS)
def test_no_damage_ends_the_server(
    maker: str, damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Readers that abort, or walk in circles, do so elsewhere; what none of them notices may be
    served."""
    monkeypatch.setattr("inferd.backends.tree_trial.SECONDS", 5.0)
    path, _, _ = MAKERS[maker]("several", tmp_path)
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    told = ""
    try:
        opened(path).close()
    except BackendError as error:
        told = str(error)
    known = f"cannot load {path.name}" in told or f"has read {path.name}" in told
    assert known or maker == "catboost"


@pytest.mark.parametrize("maker", MAKERS)
def test_a_file_that_is_another_is_told(maker: str, tmp_path: Path) -> None:
    path, _, _ = MAKERS[maker]("number", tmp_path)
    path.write_bytes(b"nothing of the kind")
    backend = create_backend(maker.partition("-")[0])
    with pytest.raises(BackendError, match=f"cannot load {path.name}"):
        backend.open(path, ModelConfig(), OpenOptions())


def test_a_reader_that_never_ends_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, _, _ = make_lightgbm("number", tmp_path)
    monkeypatch.setattr("inferd.backends.tree_trial.SECONDS", 0.001)
    monkeypatch.setattr("inferd.backends.tree_trial.SECONDS_FOR_EACH_MB", 0.0)
    with pytest.raises(BackendError, match=r"without an end; is it damaged\?"):
        opened(path)


def test_one_block_of_rows_has_one_thread(tmp_path: Path) -> None:
    path, x, wanted = make_xgboost("number", tmp_path)
    assert opened(path).description.notes == ("one thread for a batch",)
    model = opened(path, ModelConfig(max_batch_size=1000))
    assert model.description.notes == ("2 threads for a batch",)
    (found,) = model.create_instance().run([x])
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_no_gpu_is_promised(tmp_path: Path) -> None:
    path, _, _ = make_xgboost("number", tmp_path)
    with pytest.raises(ConfigError, match="runs on the CPU"):
        opened(path, ModelConfig(instance_group=(ModelInstanceGroup(kind="KIND_GPU"),)))


def test_catboost_names_its_classes(tmp_path: Path) -> None:
    path, _, _ = make_catboost("several", tmp_path)
    assert opened(path).description.outputs[0].labels == ("0", "1", "2")


def test_catboosts_categories_are_refused(tmp_path: Path) -> None:
    rows = [["a", 1.0], ["b", 2.0], ["a", 3.0], ["c", 4.0]]
    options = {"iterations": 2, "verbose": False, "allow_writing_files": False}
    model = catboost.CatBoostRegressor(**options).fit(rows, [1, 2, 3, 4], cat_features=[0])
    path = tmp_path / "model.cbm"
    model.save_model(str(path))
    with pytest.raises(Unsupported, match=r"columns \[0\]"):
        opened(path)


@pytest.mark.parametrize("booster", ["gblinear", "dart", "gbtree"])
def test_boosters_of_xgboost_of_every_kind(booster: str, tmp_path: Path) -> None:
    x = load_diabetes().data.astype(np.float32)
    y = np.stack([x.sum(axis=1), x[:, 0]], axis=1) if booster == "gbtree" else x.sum(axis=1)
    trained = xgboost.train({"booster": booster}, xgboost.DMatrix(x, y), num_boost_round=5)
    path = tmp_path / "model.json"
    trained.save_model(path)
    wanted = trained.predict(xgboost.DMatrix(x))
    model = create_backend("xgboost").open(path, ModelConfig(), OpenOptions())
    assert model.description.outputs[0].shape == (-1, *y.shape[1:])
    instances = [model.create_instance() for _ in range(4)]
    found: list[Array] = [np.empty(0)] * 4

    def ask(number: int) -> None:
        for rows in (1, 7, len(x)):
            (found[number],) = instances[number].run([x[:rows]])
            np.testing.assert_allclose(found[number], wanted[:rows], rtol=1e-6)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(ask, range(4)))
    assert all(np.array_equal(found[0], each) for each in found)
    model.close()
