"""TensorFlow's files on scikit-learn's digits: what is served is what TensorFlow says.

TensorFlow takes seconds to import, so it is imported once, by the backend's own way.
"""

import gc
import importlib
import shutil
import sys
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

from inferd.backends import tensorflow_runtime
from inferd.backends.base import OpenOptions
from inferd.backends.registry import create_backend
from inferd.backends.tensorflow_runtime import tensorflow, without_warnings
from inferd.config.model import ModelConfig, ModelInput, ModelOutput
from inferd.config.scheduling import ModelInstanceGroup
from inferd.errors import BackendError, ConfigError, Unsupported
from inferd.types.tensor import Array


@pytest.fixture(scope="module")
def tf() -> Any:
    return tensorflow(1)


@pytest.fixture(scope="module")
def folder(tf: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One net, trained for a moment, in every form; and a module with signatures."""
    made = tmp_path_factory.mktemp("tensorflow")
    x, y = rows(), load_digits().target
    with without_warnings():
        keras = tf.keras
        keras.utils.set_random_seed(0)
        given = keras.layers.Input((64,), name="pixels")
        hidden = keras.layers.Dense(16, "relu")(given)
        net = keras.Model(given, keras.layers.Dense(10, "softmax")(hidden))
        net.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
        net.fit(x, y, 64, 5, verbose=0)
        net.save(made / "net.keras")
        net.export(made / "net", verbose=False)
        (made / "net.tflite").write_bytes(tflite(tf, net, None))
        (made / "row.tflite").write_bytes(tflite(tf, net, 1))
        double = keras.layers.Lambda(lambda row: row * 2)
        keras.Sequential([keras.layers.Input((3,)), double]).save(made / "lambda.keras")
        module = signatures(tf)
        chosen = {"serving_default": module.both, "other": module.plus, "loop": module.steps}
        tf.saved_model.save(module, str(made / "module"), signatures=chosen)
        np.save(made / "wanted.npy", net.predict(x, verbose=0))
    return made


def rows() -> Array:
    return (load_digits().data / 16).astype(np.float32)


def tflite(tf: Any, net: Any, rows: int | None) -> bytes:
    """A TFLite file of the net for so many rows; None for any number."""
    given = tf.keras.layers.Input((64,), rows, name="pixels")
    converter = tf.lite.TFLiteConverter.from_keras_model(tf.keras.Model(given, net(given)))
    return bytes(converter.convert())


def signatures(tf: Any) -> Any:
    class Module(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            self.scale = tf.Variable([2.0])

        @tf.function(
            input_signature=[tf.TensorSpec([None, 3], name="x"), tf.TensorSpec([None], tf.string)]
        )
        def both(self, x: Any, text: Any) -> Any:
            shape = tf.shape(x)
            return {"free": tf.reshape(x * self.scale, shape), "upper": tf.strings.upper(text)}

        @tf.function(input_signature=[tf.TensorSpec([2], tf.bfloat16, name="x")])
        def plus(self, x: Any) -> Any:
            return {"y": x + 1}

        @tf.function(input_signature=[tf.TensorSpec([2], tf.int32, name="x")])
        def steps(self, x: Any) -> Any:
            while tf.reduce_sum(x) < 10:
                x = x + 1
            return {"y": x}

    return Module()


def opened(path: Path, trust: bool = False, **config: Any) -> Any:
    options = OpenOptions(1, trust)
    return create_backend("tensorflow").open(path, ModelConfig(**config), options)


@pytest.mark.parametrize("name", ["net", "net.keras", "net.tflite", "row.tflite"])
def test_predictions_are_those_of_the_network(name: str, folder: Path) -> None:
    model = opened(folder / name)
    (given,), (told,) = model.description.inputs, model.description.outputs
    assert (given.name, given.datatype.name, given.shape) == ("pixels", "FP32", (-1, 64))
    assert (told.name, told.shape, model.description.max_batch_size) == ("output_0", (-1, 10), 64)
    assert model.description.steady
    x, wanted = rows(), np.load(folder / "wanted.npy")
    instances = [model.create_instance(), model.create_instance()]
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda instance: [instance.run([x])[0] for _ in "123"], instances))
    for found in (answer for several in answers for answer in several):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)
    alone = np.concatenate([instances[0].run([x[n : n + 1]])[0] for n in range(5)])
    np.testing.assert_allclose(alone, wanted[:5], rtol=1e-4, atol=1e-6)
    with pytest.raises(BackendError):
        instances[0].run([np.zeros((1, 5), np.float32)])
    np.testing.assert_allclose(instances[0].run([x])[0], wanted, rtol=1e-4, atol=1e-6)
    for instance in instances:
        instance.close()
    model.close()


def test_a_signature_is_chosen_and_names_its_tensors(folder: Path) -> None:
    found = opened(folder / "module").description
    described = [(s.name, s.datatype.name, s.shape) for s in (*found.inputs, *found.outputs)]
    assert sorted(described) == [
        ("free", "FP32", (-1, 3)), ("text", "BYTES", (-1,)), ("upper", "BYTES", (-1,)),
        ("x", "FP32", (-1, 3)),
    ]  # fmt: skip
    output = (ModelOutput(name="upper", data_type="TYPE_STRING", dims=()),)
    inputs = (
        ModelInput(name="x", data_type="TYPE_FP32", dims=(3,)),
        ModelInput(name="text", data_type="TYPE_STRING", dims=()),
    )
    instance = opened(folder / "module", input=inputs, output=output).create_instance()
    text = np.array([b"ab", b"\xc3\xa9\x00"], object)
    (upper,) = instance.run([np.ones((2, 3), np.float32), text])
    assert upper.tolist() == [b"AB", b"\xc3\xa9\x00"]


def test_bfloat16_is_its_bits(folder: Path) -> None:
    model = opened(folder / "module", parameters={"signature": "other"})
    assert model.description.inputs[0].datatype.name == "BF16"
    (found,) = model.create_instance().run([np.array([0x3F80, 0x4000], np.uint16)])
    assert found.tolist() == [0x4000, 0x4040]


def test_a_model_whose_values_decide_how_long_it_runs_is_not_steady(folder: Path) -> None:
    assert not opened(folder / "module", parameters={"signature": "loop"}).description.steady


@pytest.mark.parametrize("name", ["module", "net.tflite"])
def test_a_signature_that_is_not_there_is_told_with_those_there_are(
    name: str, folder: Path
) -> None:
    with pytest.raises(ConfigError, match="no signature 'x'; there are:") as caught:
        opened(folder / name, parameters={"signature": "x"})
    assert caught.value.field == "parameters.signature"


def test_code_in_a_keras_file_takes_trust(folder: Path) -> None:
    with pytest.raises(Unsupported, match="holds Python code, in a Lambda layer; serve it with"):
        opened(folder / "lambda.keras")
    instance = opened(folder / "lambda.keras", trust=True).create_instance()
    assert instance.run([np.ones((1, 3), np.float32)])[0].tolist() == [[2, 2, 2]]


@pytest.mark.parametrize(
    ("source", "inside", "flavour"),
    [
        ("net.keras", "data/model.keras", "{data: data, model_type: keras}"),
        ("net", "tf2model", "{saved_model_dir: tf2model, model_type: tf2-module}"),
    ],
)
def test_inside_a_folder_of_mlflow(
    source: str, inside: str, flavour: str, folder: Path, tmp_path: Path
) -> None:
    target = tmp_path / inside
    target.parent.mkdir(exist_ok=True)
    if (folder / source).is_dir():
        shutil.copytree(folder / source, target)
    else:
        shutil.copy(folder / source, target)
    (tmp_path / "MLmodel").write_text(f"flavors: {{tensorflow: {flavour}}}")
    model = create_backend("mlflow").open(tmp_path, ModelConfig(), OpenOptions())
    (found,) = model.create_instance().run([rows()[:3]])
    wanted = np.load(folder / "wanted.npy")[:3]
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)


def test_a_configuration_that_contradicts_the_model_names_its_field(folder: Path) -> None:
    wrong = (ModelInput(name="pixels", data_type="TYPE_INT8", dims=(64,)),)
    with pytest.raises(ConfigError, match="the model has TYPE_FP32"):
        opened(folder / "net.keras", input=wrong)


@pytest.mark.parametrize("name", ["net/saved_model.pb", "net.keras", "net.tflite"])
@pytest.mark.parametrize("part", [0, 0.5, 0.95])
def test_a_damaged_file_is_a_backend_error(
    name: str, part: float, folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    whole = (folder / name).read_bytes()
    path.write_bytes(whole[: int(len(whole) * part)])
    target = path.parent if path.name.endswith(".pb") else path
    with pytest.raises(BackendError, match=rf"cannot load {target.name}"):
        opened(target)


@pytest.mark.parametrize("backend", ["tensorflow", "openvino"])
def test_a_name_in_tflite_that_is_no_text_is_a_backend_error(
    backend: str, folder: Path, tmp_path: Path
) -> None:
    whole = (folder / "net.tflite").read_bytes()
    path = tmp_path / "net.tflite"
    path.write_bytes(whole.replace(b"serving_default_pixels", b"serving_default_pixel\xff"))
    with pytest.raises(BackendError, match=r"cannot load net\.tflite: .*can't decode byte 0xff"):
        create_backend(backend).open(path, ModelConfig(), OpenOptions())


@pytest.mark.parametrize("name", ["net", "net.keras", "net.tflite"])
def test_a_gpu_that_is_not_there_names_its_field(name: str, folder: Path, tf: Any) -> None:
    if tf.config.list_physical_devices("GPU") and name != "net.tflite":
        pytest.skip("there is a GPU here")
    with pytest.raises(ConfigError) as caught:
        opened(folder / name, instance_group=(ModelInstanceGroup(kind="KIND_GPU"),))
    assert caught.value.field == "instance_group.kind"


def test_what_torch_compiles_with_lives_beside_it(tf: Any) -> None:
    assert tf.constant(1).numpy() == 1
    importlib.import_module("torch._dynamo")  # with Triton loaded behind TensorFlow, this aborts


@pytest.mark.parametrize("name", ["net", "net.keras", "net.tflite"])
def test_a_model_that_is_closed_keeps_nothing(name: str, folder: Path, tf: Any) -> None:
    model = opened(folder / name)
    instance = model.create_instance()
    function = weakref.ref(instance._function)
    instance.close()
    model.close()
    gc.collect()
    assert function() is None


def test_what_another_user_has_settled_stays_and_any_other_trouble_is_told(tf: Any) -> None:
    class Unsettled:
        """TensorFlow that is alive, and says that nobody has set its threads."""

        get_intra_op_parallelism_threads = staticmethod(lambda: 0)
        set_intra_op_parallelism_threads = staticmethod(
            tf.config.threading.set_intra_op_parallelism_threads
        )

        def __init__(self, devices: Any) -> None:
            self.config, self.threading = self, self
            self.list_physical_devices = devices

    def gone(kind: str) -> Any:
        raise RuntimeError(f"the driver of the {kind} is gone")

    assert tf.constant(1).numpy() == 1
    before = tf.config.threading.get_intra_op_parallelism_threads()
    tensorflow_runtime.settle(Unsettled(lambda kind: []), before + 1)
    assert tf.config.threading.get_intra_op_parallelism_threads() == before
    with pytest.raises(BackendError, match="cannot be set up: the driver of the GPU is gone"):
        tensorflow_runtime.settle(Unsettled(gone), 1)


def test_without_tensorflow_the_line_that_installs_it_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tensorflow_runtime._alive.cache_clear()
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(ConfigError, match=r"pip install 'inferd\[tensorflow\]'"):
        opened(tmp_path)
