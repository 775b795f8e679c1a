import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import yaml

from backends.onnx_models import write
from inferd.config.model import ModelConfig
from inferd.config.scheduling import ModelDynamicBatching, ModelQueuePolicy
from inferd.errors import ConfigError
from inferd.repository.layout import Reading, scan
from inferd.repository.model_config import decode_model_config
from inferd.repository.model_folder import with_config
from inferd.repository.source import ModelSource

OUTPUT = "output: [{name: y, data_type: TYPE_FP32, dims: [3], label_filename: %s}]\n"


def found(*paths: Path) -> dict[str, ModelSource]:
    return scan(paths)


def only(*paths: Path) -> ModelSource:
    (source,) = scan(paths).values()
    return source


def configured(folder: Path, config: str) -> ModelSource:
    """The source of a model with this configuration."""
    write(folder, "m", b"model", 1, config)
    return only(folder)


@contextmanager
def kept_from_us(name: str) -> Iterator[Path]:
    """A repository with a model `m` and a folder of that name that this process, even if it is
    root's, may not read."""
    with TemporaryDirectory() as folder:
        repository = Path(folder)
        repository.chmod(0o755)
        write(repository, "m", b"x")
        (repository / name).mkdir(parents=True)
        (repository / name).chmod(0)
        us = os.geteuid()
        try:
            if us == 0:
                os.seteuid(65534)
            yield repository
        finally:
            os.seteuid(us)
            (repository / name).chmod(0o755)


# -- layouts --------------------------------------------------------------------------------------


def test_a_file_is_one_model_of_version_one(tmp_path: Path) -> None:
    path = tmp_path / "some.model.onnx"
    path.write_bytes(b"x")
    source = only(path)
    assert (source.name, source.backend, source.error) == ("some.model", "onnx", "")
    assert [(v, s.path) for v, s in source.versions.items()] == [(1, path)]


def test_a_folder_of_files_is_several_models(tmp_path: Path) -> None:
    for name in ("b.onnx", "a.onnx", "readme.txt", "c.ONNX.bak"):
        (tmp_path / name).write_bytes(b"x")
    assert list(found(tmp_path)) == ["a", "b"]


def test_a_repository_holds_models_in_versions(tmp_path: Path) -> None:
    for version in (1, 3, 12):
        write(tmp_path, "m", b"x", version)
    write(tmp_path, "other", b"x")
    sources = found(tmp_path)
    assert list(sources) == ["m", "other"]
    assert sorted(sources["m"].versions) == [1, 3, 12]
    assert sources["m"].versions[12].path == tmp_path / "m" / "12" / "model.onnx"
    assert sources["m"].backend == "onnx"


def test_the_folder_of_one_model_is_that_model(tmp_path: Path) -> None:
    folder = write(tmp_path, "m", b"x", 2)
    source = only(folder)
    assert (source.name, list(source.versions)) == ("m", [2])


def test_a_folder_is_named_after_itself_however_its_path_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path, "m", b"x")
    for here, path in ((folder, "."), (folder / "1", ".."), (tmp_path, "m/"), (tmp_path, "m/../m")):
        monkeypatch.chdir(here)
        assert only(Path(path)).name == "m"


def test_files_and_folders_may_stand_side_by_side(tmp_path: Path) -> None:
    write(tmp_path, "m", b"x")
    (tmp_path / "file.onnx").write_bytes(b"x")
    assert set(found(tmp_path)) == {"m", "file"}


def test_several_paths_are_looked_at(tmp_path: Path) -> None:
    write(tmp_path / "one", "a", b"x")
    write(tmp_path / "two", "b", b"x")
    assert set(found(tmp_path / "one", tmp_path / "two")) == {"a", "b"}


@pytest.mark.parametrize("name", ["0", "01", "1.0", "-1", "v1", "²", "1a", " 1"])
def test_folders_that_are_no_versions_are_ignored(name: str, tmp_path: Path) -> None:
    folder = write(tmp_path, "m", b"x")
    (folder / name).mkdir()
    (folder / name / "model.onnx").write_bytes(b"x")
    assert list(only(tmp_path).versions) == [1]


def test_a_file_named_like_a_version_is_ignored(tmp_path: Path) -> None:
    folder = write(tmp_path, "m", b"x")
    (folder / "2").write_bytes(b"x")
    assert list(only(tmp_path).versions) == [1]


def test_folders_that_hold_no_model_are_ignored(tmp_path: Path) -> None:
    for path in (".git", "docs/notes", "empty"):
        (tmp_path / path).mkdir(parents=True)
    assert found(tmp_path) == {}


@pytest.mark.parametrize("name", ["shut", "shut/1"])
def test_a_folder_that_cannot_be_read_is_told_and_its_neighbours_are_served(name: str) -> None:
    with kept_from_us(name) as repository:
        sources = found(repository)
        with pytest.raises(ConfigError, match=r"shut.* cannot be read: Permission denied"):
            found(repository / "shut" / "1")
    assert "cannot be read: Permission denied" in sources["shut"].error
    assert sources["m"].error == ""


def test_what_a_file_system_has_of_its_own_is_no_model() -> None:
    with kept_from_us("lost+found") as repository:
        assert list(found(repository)) == ["m"]


def test_a_path_that_holds_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        found(tmp_path / "missing")
    (tmp_path / "model.weights").write_bytes(b"x")
    with pytest.raises(ConfigError, match=r"not a model file that inferd knows \(\.onnx, "):
        found(tmp_path / "model.weights")


def test_two_models_of_one_name_are_served_neither(tmp_path: Path) -> None:
    write(tmp_path, "m", b"x")
    (tmp_path / "m.onnx").write_bytes(b"x")
    (tmp_path / "fine.onnx").write_bytes(b"x")
    sources = found(tmp_path)
    assert "'m' is found twice" in sources["m"].error
    assert sources["m"].versions == {}
    assert sources["fine"].error == ""


# -- configurations -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("config.yaml", "max_batch_size: 3"), ("config.yml", "max_batch_size: 3"),
        ("config.json", '{"max_batch_size": 3}'),
    ],
)  # fmt: skip
def test_a_configuration_is_read(name: str, text: str, tmp_path: Path) -> None:
    folder = write(tmp_path, "m", b"x")
    (folder / name).write_text(text)
    assert only(tmp_path).config.max_batch_size == 3


def test_an_empty_configuration_is_the_default(tmp_path: Path) -> None:
    folder = write(tmp_path, "m", b"x")
    (folder / "config.yaml").write_text("# nothing yet\n")
    source = only(tmp_path)
    assert source.error == ""
    assert source.config.max_batch_size is None


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ("max_batch_sise: 3", "did you mean max_batch_size?"),
        ("max_batch_size: many", "max_batch_size"),
        ("max_batch_size: -1", "max_batch_size"),
        ("name: other", "is 'other', the model is named 'm'"),
        ("sequence_batching: {}\ninput: [", "config.yaml"),
        ("sequence_batching: {max_sequence_idle_microseconds: -5}", "sequence_batching"),
        (
            "platform: tensorrt_plan",
            "'tensorrt_plan': engines of TensorRT do not run",
        ),
        ("backend: tensorrt", "tensorrt"),
        ("- a list", "config.yaml"),
        ("default_model_filename: ../../secret.onnx", "default_model_filename"),
        ("default_model_filename: /etc/passwd", "default_model_filename"),
        ("default_model_filename: sub/../../../secret.onnx", "default_model_filename"),
        ("default_model_filename: '..'", "default_model_filename"),
        ("default_model_filename: '.'", "default_model_filename"),
        (OUTPUT % "../labels.txt", "output.label_filename"),
        (OUTPUT % "1/../../labels.txt", "output.label_filename"),
        (OUTPUT % "/etc/passwd", "output.label_filename"),
        (OUTPUT % "missing.txt", "output.label_filename"),
        (OUTPUT % "'.'", "output.label_filename"),
        (OUTPUT % "binary.txt", "binary.txt"),
    ],
)
def test_a_bad_configuration_is_told_and_its_neighbours_are_served(
    config: str, named: str, tmp_path: Path
) -> None:
    folder = write(tmp_path, "m", b"x", 1, config)
    (tmp_path / "labels.txt").write_text("secret")
    (folder / "binary.txt").write_bytes(b"\xff\xfe")
    write(tmp_path, "fine", b"x")
    sources = found(tmp_path)
    assert named in sources["m"].error
    assert sources["fine"].error == ""


def test_a_model_without_a_file_or_a_version_is_told(tmp_path: Path) -> None:
    folder = write(tmp_path, "nameless", b"x")
    (folder / "1" / "model.onnx").rename(folder / "1" / "other.bin")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "config.yaml").write_text("max_batch_size: 1\nbackend: onnxruntime\n")
    sources = found(tmp_path)
    assert "expected one named model.onnx" in sources["nameless"].error
    assert "no version of the model" in sources["empty"].error


def test_tritons_text_format_is_read(tmp_path: Path) -> None:
    folder = write(tmp_path, "m", b"x")
    (folder / "config.pbtxt").write_text('name: "m" platform: "onnxruntime_onnx" max_batch_size: 3')
    source = only(tmp_path)
    assert (source.error, source.backend, source.config.max_batch_size) == ("", "onnxruntime", 3)
    assert "config.pbtxt" in str(source.versions[1].fingerprint)


@pytest.mark.parametrize("beside", ["config.yaml", "config.json"])
def test_two_configurations_are_refused_by_both_names(beside: str, tmp_path: Path) -> None:
    folder = write(tmp_path, "m", b"x")
    (folder / "config.pbtxt").write_text("max_batch_size: 3")
    (folder / beside).write_text("{}")
    assert f"{beside}: stands beside config.pbtxt" in only(tmp_path).error


@pytest.mark.parametrize(("name", "size"), [("", 1), ("big", 2), ("yaml", 3), ("missing", 1)])
def test_a_configuration_of_another_name_is_preferred(name: str, size: int, tmp_path: Path) -> None:
    folder = write(tmp_path, "m", b"x")
    (folder / "config.pbtxt").write_text("max_batch_size: 1")
    (folder / "configs").mkdir()
    (folder / "configs" / "big.pbtxt").write_text("max_batch_size: 2")
    (folder / "configs" / "yaml.yaml").write_text("max_batch_size: 3")
    (source,) = scan([tmp_path], Reading(name)).values()
    assert (source.error, source.config.max_batch_size) == ("", size)


def test_two_configurations_of_one_name_are_refused(tmp_path: Path) -> None:
    folder = write(tmp_path, "m", b"x")
    (folder / "configs").mkdir()
    for suffix in ("pbtxt", "yaml"):
        (folder / "configs" / f"a.{suffix}").touch()
    (source,) = scan([tmp_path], Reading("a")).values()
    assert "a.yaml: stands beside a.pbtxt" in source.error


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ("", "input: is needed where configurations are not completed"),
        ('input { name: "x" data_type: TYPE_FP32 dims: 1 }', "output: is needed"),
        ('input { name: "x" data_type: TYPE_FP32 dims: 1 } output { name: "y" data_type: TYPE_FP32 '
         "dims: 1 }", ""),
    ],
)  # fmt: skip
def test_without_completion_a_configuration_says_inputs_and_outputs(
    config: str, named: str, tmp_path: Path
) -> None:
    folder = write(tmp_path, "m", b"x")
    (folder / "config.pbtxt").write_text(config)
    (source,) = scan([tmp_path], Reading(auto_complete=False)).values()
    assert named in source.error
    assert bool(named) is bool(source.error)


@pytest.mark.parametrize(
    ("config", "backend"),
    [
        ('backend: "onnxruntime"', "onnxruntime"), ('platform: "onnxruntime_onnx"', "onnxruntime"),
        ('backend: "pytorch"', "torch"), ('platform: "pytorch_libtorch"', "torch"),
        ('platform: "tensorflow_savedmodel"', "tensorflow"), ('backend: "openvino"', "openvino"),
        ('backend: "tensorflow"', "tensorflow"),
        ('backend: "fil" parameters { key: "model_type" value { string_value: "lightgbm" } }',
         "lightgbm"),
        ('backend: "fil" parameters { key: "model_type" value { string_value: "xgboost_json" } }',
         "xgboost"),
    ],
)  # fmt: skip
def test_tritons_words_for_backends_are_known(config: str, backend: str, tmp_path: Path) -> None:
    folder = write(tmp_path, "m", b"x")
    (folder / "config.pbtxt").write_text(config)
    assert (only(tmp_path).error, only(tmp_path).backend) == ("", backend)


@pytest.mark.parametrize(
    ("parameter", "value", "message"),
    [
        ("model_type", "treelite_checkpoint", "parameters.model_type: 'treelite_checkpoint' is"),
        ("output_class", "true", "parameters.output_class: is not done"),
        ("predict_proba", "True", "parameters.predict_proba: is not done"),
    ],
)
def test_what_tritons_trees_would_answer_otherwise_is_refused(
    parameter: str, value: str, message: str, tmp_path: Path
) -> None:
    folder = write(tmp_path, "m", b"x")
    said = f'{{ key: "{parameter}" value {{ string_value: "{value}" }} }}'
    (folder / "config.pbtxt").write_text(f'backend: "fil" parameters {said}')
    assert message in only(tmp_path).error


@pytest.mark.parametrize(
    ("config", "backend"),
    [
        ("backend: onnxruntime", "onnxruntime"),
        ("platform: onnxruntime_onnx", "onnxruntime"),
        ("backend: openvino", "openvino"),
        ("", "onnx"),
    ],
)
def test_the_backend_may_be_named_or_found(config: str, backend: str, tmp_path: Path) -> None:
    assert configured(tmp_path, config).backend == backend


def test_another_file_name_may_be_given(tmp_path: Path) -> None:
    source = configured(tmp_path, "default_model_filename: other.onnx")
    assert source.versions[1].path.name == "other.onnx"


def test_a_model_may_lie_deeper_in_the_folder_of_its_version(tmp_path: Path) -> None:
    source = configured(tmp_path, "{backend: onnxruntime, default_model_filename: sub/net.onnx}")
    assert source.versions[1].path == tmp_path / "m" / "1" / "sub" / "net.onnx"


@pytest.mark.parametrize("text", ["cat\ndog\n", "cat\r\ndog", "cat\ndog"])
def test_labels_are_read_beside_the_configuration(text: str, tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "labels.txt").write_text(text, newline="")
    assert configured(tmp_path, OUTPUT % "labels.txt").labels == {"y": ("cat", "dog")}


def test_labels_may_lie_anywhere_in_the_models_folder(tmp_path: Path) -> None:
    write(tmp_path, "m", b"x")
    (tmp_path / "m" / "1" / "labels.txt").write_text("cat\ndog")
    assert configured(tmp_path, OUTPUT % "1/labels.txt").labels == {"y": ("cat", "dog")}


# -- fingerprints ---------------------------------------------------------------------------------


def older(path: Path) -> None:
    stat = path.stat()
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns - 10**9))


def test_what_has_not_changed_looks_the_same(tmp_path: Path) -> None:
    assert configured(tmp_path, "max_batch_size: 1").versions == only(tmp_path).versions


@pytest.mark.parametrize("change", ["size", "time", "new", "gone", "deep", "config", "labels"])
def test_whatever_is_served_differently_looks_different(change: str, tmp_path: Path) -> None:
    folder = write(tmp_path, "m", b"model", 1, OUTPUT % "labels.txt")
    (folder / "labels.txt").write_text("cat")
    (folder / "1" / "weights.bin").write_bytes(b"w")
    (folder / "1" / "deep").mkdir()
    (folder / "1" / "deep" / "more.bin").write_bytes(b"w")
    before = only(tmp_path)
    assert before.error == ""
    {
        "size": lambda: (folder / "1" / "model.onnx").write_bytes(b"model, longer"),
        "time": lambda: older(folder / "1" / "model.onnx"),
        "new": lambda: (folder / "1" / "another.bin").write_bytes(b""),
        "gone": lambda: (folder / "1" / "weights.bin").unlink(),
        "deep": lambda: older(folder / "1" / "deep" / "more.bin"),
        "config": lambda: older(folder / "config.yaml"),
        "labels": lambda: (folder / "labels.txt").write_text("dog, longer"),
    }[change]()
    assert only(tmp_path).versions[1].fingerprint != before.versions[1].fingerprint


@pytest.mark.parametrize(
    "name", ["initial_state/zeros", "warmup/row", "README.md", "1/weights.npz", "env.tar.gz"]
)
def test_as_in_triton_a_change_of_any_file_in_the_folder_is_one(name: str, tmp_path: Path) -> None:
    folder = write(tmp_path, "m", b"x")
    (folder / "1" / "model.onnx").rename(folder / "1" / "model.py")
    (folder / "1" / "model.py").write_text("class TritonPythonModel: ...")
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"1")
    before = only(tmp_path).versions[1]
    assert only(tmp_path).versions[1] == before
    older(folder / name)
    assert only(tmp_path).versions[1].fingerprint != before.fingerprint


def test_what_python_keeps_of_sources_is_no_change(tmp_path: Path) -> None:
    write(tmp_path, "m", b"x")
    before = only(tmp_path).versions[1]
    (tmp_path / "m" / "1" / "__pycache__").mkdir()
    (tmp_path / "m" / "1" / "__pycache__" / "model.pyc").write_bytes(b"")
    assert only(tmp_path).versions[1] == before


def test_another_version_leaves_a_version_as_it_is(tmp_path: Path) -> None:
    write(tmp_path, "m", b"x")
    before = only(tmp_path).versions[1]
    write(tmp_path, "m", b"y", 2)
    assert only(tmp_path).versions[1] == before


# -- the load API's form --------------------------------------------------------------------------


def test_protobufs_json_is_read_where_it_may_come() -> None:
    config = decode_model_config(
        {"maxBatchSize": "4", "dynamicBatching": {"maxQueueDelayMicroseconds": "100"}},
        file="parameters.config",
        strict=False,
    )
    assert config.max_batch_size == 4
    policy = ModelQueuePolicy(allow_timeout_override=False)
    assert config.dynamic_batching == ModelDynamicBatching(
        max_queue_delay_microseconds=100, default_queue_policy=policy
    )


def test_what_is_left_out_there_is_what_triton_takes_it_for() -> None:
    """As in config.pbtxt; null says nothing, nor does a count of 0, which Triton prints."""
    config = decode_model_config(
        {
            "input": [{"name": "x", "data_type": "TYPE_FP32", "dims": ["2"]}], "parameters": None,
            "dynamic_batching": {"default_queue_policy": None}, "version_policy": None,
            "model_warmup": [{"count": 0}], "instance_group": [{"count": 0}],
        },
        file="parameters.config", strict=False,
    )  # fmt: skip
    assert (config.max_batch_size, config.model_warmup[0].batch_size) == (0, 0)
    assert config.dynamic_batching is not None
    assert not config.dynamic_batching.default_queue_policy.allow_timeout_override
    assert config.instance_count == 1


@pytest.mark.parametrize(
    "wrong", [5, [], {"default_queue_policy": 5}, {"priority_queue_policy": []}]
)
def test_what_is_no_message_there_is_named(wrong: object) -> None:
    with pytest.raises(ConfigError) as refused:
        decode_model_config({"dynamic_batching": wrong}, file="parameters.config", strict=False)
    assert refused.value.field.startswith("dynamic_batching")


# -- another configuration than its own -----------------------------------------------------------


def test_another_configuration_may_choose_another_file_and_other_labels(tmp_path: Path) -> None:
    folder = write(tmp_path, "m", b"x")
    (folder / "labels.txt").write_text("cat")
    (folder / "1" / "net.py").write_text("class TritonPythonModel: ...")
    text = "default_model_filename: net.py\n" + OUTPUT % "labels.txt"
    other = decode_model_config(yaml.safe_load(text), file="")
    source = with_config(only(tmp_path), other)
    assert (source.backend, source.labels) == ("python", {"y": ("cat",)})
    assert source.versions[1].path.name == "net.py:TritonPythonModel"


def test_another_configuration_mends_one_that_is_wrong(tmp_path: Path) -> None:
    write(tmp_path, "m", b"x", 1, "nonsense: 1")
    source = with_config(only(tmp_path), ModelConfig())
    assert (source.error, source.backend, [*source.versions]) == ("", "onnx", [1])


def test_another_configuration_of_a_model_that_is_its_folder_has_to_fit_it(tmp_path: Path) -> None:
    source = only(language_model(tmp_path / "m"))
    assert with_config(source, ModelConfig(max_batch_size=3)).config.max_batch_size == 3
    for wrong in (ModelConfig(backend="onnx"), ModelConfig(name="n")):
        with pytest.raises(ConfigError):
            with_config(source, wrong)


@pytest.mark.parametrize("document", [{"maxBatchSize": 4}, {"max_batch_size": "4"}])
def test_a_file_is_read_strictly(document: object) -> None:
    with pytest.raises(ConfigError):
        decode_model_config(document, file="config.yaml")


# -- language models ------------------------------------------------------------------------------


def language_model(folder: Path, architectures: object = ("LlamaForCausalLM",)) -> Path:
    """A folder as transformers saves it, with nothing in its weights."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"architectures": architectures}))
    (folder / "model.safetensors").write_bytes(b"x")
    return folder


def test_a_language_models_folder_is_a_model(tmp_path: Path) -> None:
    folder = language_model(tmp_path / "Llama-1B")
    source = only(folder)
    assert (source.name, source.backend, source.error) == ("Llama-1B", "llm", "")
    assert [(v, s.path) for v, s in source.versions.items()] == [(1, folder)]


def test_a_folder_may_hold_several_beside_others(tmp_path: Path) -> None:
    language_model(tmp_path / "a")
    language_model(tmp_path / "b")
    write(tmp_path, "m", b"x")
    sources = found(tmp_path)
    assert {name: source.backend for name, source in sources.items()} == {
        "a": "llm", "b": "llm", "m": "onnx",
    }  # fmt: skip


def test_a_version_may_be_a_language_model(tmp_path: Path) -> None:
    for version in (1, 4):
        language_model(tmp_path / "m" / str(version))
    (tmp_path / "m" / "config.yaml").write_text("engine: {dtype: float32}\n")
    for source in (only(tmp_path), only(tmp_path / "m")):
        assert (source.name, source.backend, source.error) == ("m", "llm", "")
        assert source.versions[4].path == tmp_path / "m" / "4"
        assert source.config.engine == {"dtype": "float32"}


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ("engine: {quantisation: int8}", "did you mean quantization?"),
        ("engine: {max_num_seqs: 0}", "engine.max_num_seqs"),
        ("engine: [1]", "engine"),
        ("name: other", "the model is named 'm'"),
        ("backend: onnxruntime", "a language model needs 'llm'"),
        ("max_batch_sise: 3", "did you mean max_batch_size?"),
    ],
)
def test_a_language_models_configuration_is_read_beside_it(
    config: str, named: str, tmp_path: Path
) -> None:
    folder = language_model(tmp_path / "m")
    (folder / "config.yaml").write_text("backend: llm\nengine: {max_num_seqs: 3}\n")
    assert only(folder).config.engine == {"max_num_seqs": 3}
    (folder / "config.yaml").write_text(config)
    assert named in only(folder).error


def test_without_weights_it_is_told(tmp_path: Path) -> None:
    folder = language_model(tmp_path / "m")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert "no *.safetensors" in only(folder).error


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"architectures": []}', "\xff"])
def test_what_names_no_architecture_is_no_language_model(text: str, tmp_path: Path) -> None:
    folder = language_model(tmp_path / "models" / "m")
    (folder / "config.json").write_text(text, encoding="latin-1")
    assert found(folder) == {}


def test_a_model_of_tensors_that_came_with_a_configuration_stays_one(tmp_path: Path) -> None:
    folder = language_model(tmp_path / "m")
    (folder / "model.safetensors").rename(folder / "model.onnx")
    assert only(folder).backend == "onnx"


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.yaml"])
def test_a_language_model_that_changes_looks_different(name: str, tmp_path: Path) -> None:
    folder = language_model(tmp_path / "m")
    before = only(folder).versions[1]
    assert only(folder).versions[1] == before
    (folder / name).write_text("seed: 1" if name == "tokenizer.json" else "engine: {seed: 1}")
    assert only(folder).versions[1].fingerprint != before.fingerprint
