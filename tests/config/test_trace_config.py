import pytest

from inferd.config.trace_config import read_trace_config
from inferd.errors import ConfigError


def test_settings_have_the_names_of_the_trace_extension() -> None:
    found = read_trace_config(
        ["triton,file=/tmp/t.json", "triton,log-frequency=50", "level=TIMESTAMPS", "rate=10",
         "count=-1", "mode=triton"]
    )  # fmt: skip
    assert found.file == "/tmp/t.json"
    assert found.settings == {
        "log_frequency": ["50"], "trace_level": ["TIMESTAMPS"], "trace_rate": ["10"],
        "trace_count": ["-1"], "trace_mode": ["triton"],
    }  # fmt: skip
    assert found.ignored == ()


def test_levels_may_be_several() -> None:
    found = read_trace_config(["level=TIMESTAMPS", "level=TENSORS"])
    assert found.settings == {"trace_level": ["TIMESTAMPS", "TENSORS"]}


@pytest.mark.parametrize(
    ("said", "level"),
    [("MAX", "TIMESTAMPS"), ("min", "TIMESTAMPS"), ("on", "TIMESTAMPS"), ("Off", "OFF"),
     ("tensors", "TENSORS"), ("foo", "foo")],
)  # fmt: skip
def test_levels_may_be_said_in_all_words_of_tritonservers(said: str, level: str) -> None:
    assert read_trace_config([f"level={said}"]).settings == {"trace_level": [level]}
    assert read_trace_config(["mode=TRITON"]).settings == {"trace_mode": ["triton"]}


def test_nothing_is_traced_for_opentelemetry_and_that_is_told() -> None:
    found = read_trace_config(
        ["mode=opentelemetry", "opentelemetry,url=localhost:4318", "level=TIMESTAMPS"]
    )
    assert (found.file, found.settings) == ("", {})
    assert [said.partition(":")[0] for said in found.ignored] == [
        "opentelemetry,url=localhost", "mode=opentelemetry",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("levle=OFF", "did you mean level?"), ("triton,fil=x", "did you mean file?"),
        ("tritn,file=x", "did you mean triton?"), ("level", "expected SETTING=VALUE"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(entry: str, message: str) -> None:
    with pytest.raises(ConfigError, match="trace_config") as caught:
        read_trace_config([entry])
    assert message in str(caught.value)
