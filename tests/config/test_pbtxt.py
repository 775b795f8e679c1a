from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from inferd.config.model import ModelConfig
from inferd.config.pbtxt import format_pbtxt, parse_pbtxt, read_pbtxt
from inferd.errors import ConfigError
from inferd.repository.model_config import decode_model_config

FILE = "config.pbtxt"

WHOLE = """
# as Triton's documentation has it
name: "m"
platform: "onnxruntime_onnx"
max_batch_size: 8
input [
  { name: "x", data_type: TYPE_FP32, format: FORMAT_NCHW, dims: [ 3, -1, 9223372036854775807 ] },
  { name: "mask" data_type: 1 dims: 4 dims: 5 }
]
output { name: "y" data_type: TYPE_STRING dims: [ 1 ] label_filename: 'labels.txt' }
version_policy: { specific: { versions: [ 1, 3 ] } }
instance_group [ { kind: KIND_CPU count: 2 }, { name: "more" } ]
dynamic_batching {
  preferred_batch_size: [ 4, 8 ]
  max_queue_delay_microseconds: 100
}
parameters { key: "intra_op_thread_count" value: { string_value: "2" } };
parameters: { key: "b" value: { string_value: "x" "y" } }
model_warmup {
  name: "w"
  batch_size: 1
  inputs { key: "x" value { data_type: TYPE_FP32 dims: [ 3, 1, 1 ] zero_data: true } }
}
optimization { graph { level: -1 } cuda { graphs: true graph_spec { batch_size: 1 } } }
metric_tags { key: "Team" value: "a" }
cc_model_filenames { key: "7.0" value: "model.onnx" }
"""


def read(text: str) -> ModelConfig:
    return decode_model_config(parse_pbtxt(text, FILE), file=FILE, strict=False)


def refusal(text: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        read(text)
    assert caught.value.file == FILE
    return caught.value


# -- reading --------------------------------------------------------------------------------------


def test_a_whole_file_is_read() -> None:
    config = read(WHOLE)
    assert (config.name, config.platform, config.max_batch_size) == ("m", "onnxruntime_onnx", 8)
    assert [(i.name, i.data_type, i.dims, i.format) for i in config.input] == [
        ("x", "TYPE_FP32", (3, -1, 2**63 - 1), "FORMAT_NCHW"),
        ("mask", "TYPE_BOOL", (4, 5), "FORMAT_NONE"),
    ]
    assert config.output[0].label_filename == "labels.txt"
    assert config.version_policy.specific is not None
    assert config.version_policy.specific.versions == (1, 3)
    assert config.instance_count == 3
    assert config.dynamic_batching is not None
    assert config.dynamic_batching.preferred_batch_size == (4, 8)
    assert config.dynamic_batching.max_queue_delay_microseconds == 100
    assert (config.parameter("intra_op_thread_count"), config.parameter("b")) == ("2", "xy")
    assert config.model_warmup[0].inputs["x"].zero_data
    assert config.optimization is not None
    assert config.optimization.graph is not None
    assert config.optimization.graph.level == -1
    assert config.metric_tags == {"Team": "a"}
    assert config.cc_model_filenames == {"7.0": "model.onnx"}


def test_an_empty_file_says_nothing_but_what_triton_takes_for_granted() -> None:
    config = read("")
    assert config.max_batch_size is None
    assert config.dynamic_batching is not None
    assert not config.dynamic_batching.default_queue_policy.allow_timeout_override


@pytest.mark.parametrize("tensors", ["input", "output"])
def test_dimensions_that_are_written_out_hold_the_batch_where_none_is_said(tensors: str) -> None:
    tensor = f'{tensors} {{ name: "x" data_type: TYPE_FP32 dims: [ -1, 4 ] }}'
    assert read(tensor).max_batch_size == 0
    assert read(f"max_batch_size: 3 {tensor}").max_batch_size == 3


def test_a_policy_that_says_otherwise_lets_requests_shorten_their_wait() -> None:
    config = read("dynamic_batching { default_queue_policy { allow_timeout_override: true } }")
    assert config.dynamic_batching is not None
    assert config.dynamic_batching.default_queue_policy.allow_timeout_override


def test_a_warm_up_without_a_batch_size_has_no_batch() -> None:
    text = 'model_warmup { inputs { key: "x" value { data_type: TYPE_FP32 dims: 1 } } }'
    assert read(text).model_warmup[0].batch_size == 0


def test_what_is_nothing_in_protobuf_is_what_triton_takes_it_for() -> None:
    """A value that is an enumeration's first, or no values, is not there when it is read."""
    config = read(
        'batch_input { kind: BATCH_ELEMENT_COUNT target_name: "n" data_type: TYPE_INT32 '
        'source_input: "x" } input { name: "x" data_type: TYPE_FP32 dims: 1 } sequence_batching { '
        'state { input_name: "i" output_name: "o" data_type: TYPE_FP32 initial_state { '
        'name: "z" data_type: TYPE_FP32 zero_data: true } } }'
    )
    assert config.batch_input[0].kind == "BATCH_ELEMENT_COUNT"
    assert config.sequence_batching is not None
    state = config.sequence_batching.state[0]
    assert (state.dims, state.initial_state[0].dims) == ((), ())


def test_a_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / FILE
    path.write_bytes(b'\xef\xbb\xbfname: "m"')
    assert read_pbtxt(path)["name"] == "m"


# -- what is wrong --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "field", "message"),
    [
        ('name: "m"\nmax_batch_sise: 1', "max_batch_sise",
         "line 2, column 1: unknown field, did you mean max_batch_size?"),
        ('input { name: "x"\n  dim: 1 }', "dim",
         "line 2, column 3: unknown field, did you mean dims?"),
        ("instance_group { kind: KIND_TPU }", "", "unknown value KIND_TPU, did you mean KIND_"),
        ("input { data_type: FP32 }", "", "unknown value FP32, did you mean TYPE_FP32?"),
        ("isolation: 1", "isolation", "a field of inferd's own, which only config.yaml can have"),
        ('max_batch_size: "8"', "", "line 1, column 17: "),
        ("max_batch_size: 8 max_batch_size: 9", "", 'multiple "max_batch_size" fields'),
        ("version_policy { latest {} all {} }", "", "another member of oneof"),
        ("dynamic_batching {} sequence_batching {}", "", "another member of oneof"),
        ("input {", "", "line 1, column 7"),
        ("max_batch_size: -1", "max_batch_size", "expected `int` >= 0"),
        ('input { name: "x" data_type: 99 dims: 1 }', "input[0].data_type", "got 99"),
        ("input { data_type: TYPE_FP32 dims: 1 }", "input[0].name", "is required and missing"),
        ('metric_tags { key: "version" value: "1" }', "metric_tags", "a key"),
        ('model_operations { op_library_filename: "x.so" }', "model_operations",
         "libraries of operators are not loaded"),
        ('model_repository_agents { agents { name: "checksum" } }', "model_repository_agents",
         "nobody looks at the files"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_place(text: str, field: str, message: str) -> None:
    error = refusal(text)
    assert error.field.startswith(field)
    assert message in str(error)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b'name: "m"\n\xff', "line 2: is not UTF-8 text"), (b"#" * (1 << 20) + b"\n", "the limit")],
)
def test_a_file_that_is_no_text_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / FILE
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        read_pbtxt(path)


def test_comments_may_be_in_any_encoding(tmp_path: Path) -> None:
    path = tmp_path / FILE
    text = b"# \xc4\xe3\nname: \"a#b\" # \xff \"\nparameters { key: '#\\'#' value {} } # \xff"
    path.write_bytes(text)
    assert read_pbtxt(path)["name"] == "a#b"
    assert read_pbtxt(path)["parameters"] == {"#'#": {}}


def test_a_sign_may_stand_apart_from_its_number(tmp_path: Path) -> None:
    path = tmp_path / FILE
    path.write_text('input { name: "- 1" dims: [ - 1, -\t2, -3 ] }')
    assert read_pbtxt(path)["input"] == [{"name": "- 1", "dims": ["-1", "-2", "-3"]}]


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_pbtxt(tmp_path / FILE)


# -- writing --------------------------------------------------------------------------------------


def test_what_is_written_is_read_by_tritons_own_message_and_by_us() -> None:
    document: dict[str, Any] = {
        "name": 'm"\n', "max_batch_size": 4, "metric_tags": {"camelCase": "1"},
        "input": [{"name": "x", "data_type": "TYPE_BF16", "dims": [-1, 2**40]}],
        "version_policy": {"all": {}},
        "dynamic_batching": {"default_queue_policy": {"allow_timeout_override": True},
                             "priority_queue_policy": {"1": {"max_queue_size": 3}}},
        "parameters": {"p": {"string_value": "v"}},
    }  # fmt: skip
    text = format_pbtxt(document)
    theirs = text_format.Parse(text, model_config_pb2.ModelConfig())
    assert (theirs.name, list(theirs.input[0].dims)) == ('m"\n', [-1, 2**40])
    assert theirs.dynamic_batching.priority_queue_policy[1].max_queue_size == 3
    assert theirs.metric_tags["camelCase"] == "1"
    back = parse_pbtxt(text, FILE)
    assert back["dynamic_batching"]["priority_queue_policy"] == {"1": {"max_queue_size": 3}}
    assert format_pbtxt(back) == text
