import pytest

from inferd.config.backend_config import read_backend_config
from inferd.config.model import ModelConfig
from inferd.errors import ConfigError


def completed(*entries: str, backend: str = "onnxruntime", **config: object) -> ModelConfig:
    given = ModelConfig(**config)  # type: ignore[arg-type]
    return read_backend_config(entries).completed(given, backend)


def test_settings_become_parameters_of_the_backends_models() -> None:
    entry = "onnxruntime,intra_op_thread_count=2"
    assert completed(entry).parameter("intra_op_thread_count") == "2"
    assert completed(entry, backend="onnx").parameter("intra_op_thread_count") == "2"
    assert completed(entry, backend="torch") == ModelConfig()


@pytest.mark.parametrize("entry", ["pytorch,default-max-batch-size=3", "default-max-batch-size=3"])
def test_a_model_is_told_how_large_its_batches_are(entry: str) -> None:
    assert completed(entry, backend="torch").parameter("default-max-batch-size") == "3"


def test_the_nearer_setting_and_the_models_own_go_before() -> None:
    entries = "default-max-batch-size=3", "onnxruntime,default-max-batch-size=5"
    assert completed(*entries).parameter("default-max-batch-size") == "5"
    own = {"intra_op_thread_count": "1"}
    assert completed("onnxruntime,intra_op_thread_count=2", parameters=own).parameters == own


def test_a_size_of_zero_is_no_batches_where_the_model_does_not_say() -> None:
    assert completed("default-max-batch-size=0").max_batch_size == 0
    assert completed("default-max-batch-size=0", max_batch_size=4).max_batch_size == 4


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ("tensorrt,coalesce-request-input=true", "no model has settings for backend 'tensorrt'"),
        ("python,shm-default-byte-size=1048576", "workers share memory as they need it"),
        ("tensorflow,version=2", "the version that is installed runs"),
    ],
)
def test_what_changes_nothing_is_told(entry: str, why: str) -> None:
    found = read_backend_config([entry])
    assert found.settings == {}
    assert found.ignored == (f"{entry}: {why}",)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("onnxruntime,intra_op_thread_cout=2", "did you mean intra_op_thread_count?"),
        ("onnxruntime,intra_op_thread_count=two", "expected a whole number"),
        ("default-max-batch-size=-1", "expected a whole number"),
        ("onnxruntime", "expected BACKEND,SETTING=VALUE"),
        ("=3", "expected BACKEND,SETTING=VALUE"),
    ],
)
def test_what_is_wrong_is_named(entry: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_backend_config([entry])
    assert caught.value.field == "backend_config"
    assert message in str(caught.value)
