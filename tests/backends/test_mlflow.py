"""MLflow folders on scikit-learn's iris: served as MLflow says, or by the flavour's own backend."""

import os
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xgboost
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import mlflow
    import mlflow.onnx
    import mlflow.pyfunc
    import mlflow.xgboost
import onnx

from backends.onnx_models import add
from inferd.backends import registry
from inferd.backends.base import OpenOptions
from inferd.backends.registry import create_backend
from inferd.config.model import ModelConfig, ModelInput
from inferd.config.scheduling import ModelInstanceGroup
from inferd.errors import BackendError, ConfigError, Unsupported

IRIS = load_iris(as_frame=True)
COLUMNS = tuple(IRIS.data.columns)


class Labels(mlflow.pyfunc.PythonModel):
    """Several columns out, of text and of numbers, from text and numbers."""

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        label = model_input["name"] + "!"
        return pd.DataFrame({"label": label, "twice": model_input["size"] * 2})


class Scale(mlflow.pyfunc.PythonModel):
    """An array for an array."""

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        return {"scaled": np.asarray(model_input) * 2}


class Whole(mlflow.pyfunc.PythonModel):
    """Integers where it can."""

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        sizes = model_input["size"].to_numpy()
        return sizes.astype(int) if (sizes == sizes.astype(int)).all() else sizes


class Broken(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        raise ValueError("no rows are good enough")


@pytest.fixture(autouse=True)
def _mlflows_own_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.fixture(scope="module")
def regression() -> LogisticRegression:
    return LogisticRegression(max_iter=300).fit(IRIS.data, IRIS.target)


def saved(folder: Path, model: Any, given: Any = None, returned: Any = None) -> Path:
    signature = None if given is None else mlflow.models.infer_signature(given, returned)
    mlflow.pyfunc.save_model(
        str(folder), python_model=model, signature=signature, pip_requirements=[]
    )
    return folder


def opened(path: Path, trust: bool = True, **config: Any) -> Any:
    options = OpenOptions(1, trust)
    return create_backend("mlflow").open(path, ModelConfig(**config), options)


def sklearn_folder(model: LogisticRegression, folder: Path) -> Path:
    class Wrapped(mlflow.pyfunc.PythonModel):
        def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
            return model.predict_proba(model_input)

    return saved(folder, Wrapped(), IRIS.data, model.predict_proba(IRIS.data))


def test_columns_become_inputs_and_predictions_are_the_models(
    regression: LogisticRegression, tmp_path: Path
) -> None:
    model = opened(sklearn_folder(regression, tmp_path / "m"))
    found = model.description
    assert tuple(spec.name for spec in found.inputs) == COLUMNS
    assert {(spec.datatype.name, spec.shape) for spec in found.inputs} == {("FP64", (-1,))}
    (told,) = found.outputs
    assert (told.name, told.datatype.name, told.shape) == ("predict", "FP64", (-1, 3))
    assert found.max_batch_size == 64
    instances = [model.create_instance(), model.create_instance()]
    columns = [IRIS.data[name].to_numpy() for name in COLUMNS]
    for instance in instances:
        (probabilities,) = instance.run(columns)
        np.testing.assert_allclose(probabilities, regression.predict_proba(IRIS.data))
        instance.close()
    model.close()


def test_columns_may_be_configured_in_another_order(
    regression: LogisticRegression, tmp_path: Path
) -> None:
    names = COLUMNS[::-1]
    entries = tuple(ModelInput(name=name, data_type="TYPE_FP64", dims=()) for name in names)
    instance = opened(sklearn_folder(regression, tmp_path / "m"), input=entries).create_instance()
    (found,) = instance.run([IRIS.data[name].to_numpy() for name in names])
    np.testing.assert_allclose(found, regression.predict_proba(IRIS.data))


def test_text_in_and_out(tmp_path: Path) -> None:
    frame = pd.DataFrame({"name": ["a", "é"], "size": np.array([1, 2], np.int64)})
    model = opened(saved(tmp_path / "m", Labels(), frame))
    described = [(s.name, s.datatype.name, s.shape) for s in model.description.outputs]
    assert described == [("label", "BYTES", (-1,)), ("twice", "INT64", (-1,))]
    instance = model.create_instance()
    label, twice = instance.run([np.array(["é".encode(), b""], object), np.array([4, 5])])
    assert (label.tolist(), twice.tolist()) == ([b"\xc3\xa9!", b"!"], [8, 10])
    with pytest.raises(BackendError, match="can't decode byte 0xff"):
        instance.run([np.array([b"\xff"], object), np.array([4])])


def test_results_keep_to_the_type_that_was_described(tmp_path: Path) -> None:
    model = opened(saved(tmp_path / "m", Whole(), pd.DataFrame({"size": [0.5]})))
    assert [spec.datatype.name for spec in model.description.outputs] == ["FP64"]
    (found,) = model.create_instance().run([np.array([4.0, 5.0])])
    assert (found.dtype, found.tolist()) == (np.float64, [4.0, 5.0])


def test_a_tensor_signature(tmp_path: Path) -> None:
    rows = np.ones((2, 3), np.float32)
    model = opened(saved(tmp_path / "m", Scale(), rows))
    (given,), (told,) = model.description.inputs, model.description.outputs
    assert (given.name, given.datatype.name, given.shape) == ("input", "FP32", (-1, 3))
    assert (told.name, told.datatype.name, told.shape) == ("scaled", "FP32", (-1, 3))
    assert model.create_instance().run([rows])[0].tolist() == [[2, 2, 2]] * 2


def test_without_a_signature_the_inputs_are_configured(tmp_path: Path) -> None:
    folder = saved(tmp_path / "m", Scale())
    with pytest.raises(ConfigError, match=r"was logged without a signature") as caught:
        opened(folder)
    assert caught.value.field == "input"
    entry = ModelInput(name="rows", data_type="TYPE_FP32", dims=(2,))
    instance = opened(folder, input=(entry,)).create_instance()
    assert instance.run([np.ones((1, 2), np.float32)])[0].tolist() == [[2, 2]]


# -- the flavour's own backend --------------------------------------------------------------------


def xgboost_folder(folder: Path) -> tuple[Path, xgboost.Booster]:
    rows = xgboost.DMatrix(IRIS.data.to_numpy(), IRIS.target)
    options = {"objective": "multi:softprob", "num_class": 3, "nthread": 1}
    booster = xgboost.train(options, rows, 5)
    mlflow.xgboost.save_model(booster, str(folder), pip_requirements=[])
    return folder, booster


def test_a_flavour_with_a_backend_needs_no_trust(tmp_path: Path) -> None:
    folder, booster = xgboost_folder(tmp_path / "m")
    model = opened(folder, trust=False)
    assert model.description.backend == "xgboost"
    assert model.description.notes[0].startswith("MLflow's flavour xgboost, model.")
    rows = IRIS.data.to_numpy(np.float32)
    (found,) = model.create_instance().run([rows])
    np.testing.assert_allclose(found, booster.predict(xgboost.DMatrix(rows)), rtol=1e-6)
    with pytest.raises(Unsupported, match="served as a Python function"):
        opened(folder, trust=False, parameters={"flavor": "python_function"})


def test_onnx_inside(tmp_path: Path) -> None:
    model = onnx.load_from_string(add(1))
    mlflow.onnx.save_model(model, str(tmp_path / "m"), pip_requirements=[])
    found = opened(tmp_path / "m" / "MLmodel", trust=False)
    assert found.create_instance().run([np.zeros((1, 2), np.float32)])[0].tolist() == [[1, 1]]


def test_a_flavour_that_is_not_installed_names_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = xgboost_folder(tmp_path / "m")
    monkeypatch.setitem(registry.BACKENDS, "xgboost", "inferd_has_no_such_module:Backend")
    with pytest.raises(ConfigError, match=r"pip install 'inferd\[xgboost\]'"):
        opened(folder)


# -- what goes wrong ------------------------------------------------------------------------------


def test_code_takes_trust(tmp_path: Path) -> None:
    folder = saved(tmp_path / "m", Scale(), np.ones((2, 3)))
    with pytest.raises(Unsupported, match="runs code of the folder; serve it with --trust"):
        opened(folder, trust=False)


def test_a_model_that_raises_is_told_in_its_words(tmp_path: Path) -> None:
    folder = saved(tmp_path / "m", Broken(), np.ones((2, 3)))
    with pytest.raises(BackendError, match="ValueError: no rows are good enough"):
        opened(folder)


@pytest.mark.parametrize("text", ["", "flavors: 3", "{", "\x00"])
def test_a_description_that_is_none_is_a_backend_error(text: str, tmp_path: Path) -> None:
    with pytest.raises(BackendError, match=r"MLmodel in .* cannot be read"):
        opened(tmp_path)
    (tmp_path / "MLmodel").write_text(text)
    with pytest.raises(BackendError, match=r"MLmodel in .* cannot be read"):
        opened(tmp_path)


def test_a_folder_that_lacks_its_files_is_a_backend_error(tmp_path: Path) -> None:
    folder = saved(tmp_path / "m", Scale(), np.ones((2, 3)))
    (folder / "python_model.pkl").write_bytes(b"damaged")
    with pytest.raises(BackendError, match="MLflow cannot load m:"):
        opened(folder)


def test_a_flavour_stays_in_its_folder(tmp_path: Path) -> None:
    folder, _ = xgboost_folder(tmp_path / "m")
    shutil.move(folder / "model.ubj", tmp_path / "model.ubj")
    text = (folder / "MLmodel").read_text().replace("data: model.ubj", "data: ../model.ubj")
    (folder / "MLmodel").write_text(text)
    with pytest.raises(BackendError, match="points out of the folder"):
        opened(folder)


def test_flavours_that_nothing_serves(tmp_path: Path) -> None:
    (tmp_path / "MLmodel").write_text("flavors: {spark: {model_data: sparkml}}")
    with pytest.raises(Unsupported, match="no flavour that can be served; it has: spark"):
        opened(tmp_path)
    with pytest.raises(ConfigError, match="no flavour 'onnx'; there are: spark"):
        opened(tmp_path, parameters={"flavor": "onnx"})


def test_a_configuration_that_contradicts_the_signature_names_its_field(tmp_path: Path) -> None:
    folder = saved(tmp_path / "m", Scale(), np.ones((2, 3)))
    wrong = (ModelInput(name="input", data_type="TYPE_INT8", dims=(3,)),)
    with pytest.raises(ConfigError, match="the model has TYPE_FP64"):
        opened(folder, input=wrong)
    with pytest.raises(ConfigError, match="chooses its device itself"):
        opened(folder, instance_group=(ModelInstanceGroup(kind="KIND_GPU"),))
