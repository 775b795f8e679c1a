"""What the backend says of a folder, and what it refuses. What tasks give: `encoders/tasks/`."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from backends.encoders import tiny
from backends.encoders.opened import ask, opened, texts
from inferd.backends.base import OpenOptions
from inferd.backends.transformers import TransformersBackend
from inferd.config.model import ModelConfig, ModelOutput
from inferd.config.scheduling import ModelInstanceGroup
from inferd.errors import BackendError, ConfigError, InvalidRequest, Unsupported

CLASSIFIER, BASE = "BertForSequenceClassification", "BertModel"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An encoder that a test may spoil."""
    return tiny.copy_of(tiny.saved(BASE), tmp_path / "m")


def test_a_classifier_describes_itself() -> None:
    described = opened(tiny.saved(CLASSIFIER, names="bad good")).description
    assert (described.platform, described.backend) == ("transformers", "transformers")
    assert (described.max_batch_size, described.steady) == (32, False)
    shapes = {s.name: (s.datatype.name, s.shape, s.optional) for s in described.inputs}
    assert shapes == {"text": ("BYTES", (-1,), False), "text_pair": ("BYTES", (-1,), True)}
    assert [(s.name, s.datatype.name, s.shape) for s in described.outputs] == [
        ("scores", "FP32", (-1, 2)), ("label", "BYTES", (-1,)), ("tokens", "INT32", (-1,)),
        ("truncated", "BOOL", (-1,)),
    ]  # fmt: skip
    assert "BertForSequenceClassification on cpu in float32" in described.notes
    signature = described.signature
    assert signature is not None
    assert [(a.name, a.form, a.default) for a in signature.inputs] == [
        ("text", "value", None), ("text_pair", "value", '""')
    ]  # fmt: skip
    assert [a.form for a in signature.outputs] == ["tensor", "value", "value", "value"]


def test_outputs_may_be_chosen_by_the_configuration() -> None:
    tokens = ModelOutput(name="tokens", data_type="TYPE_INT32", dims=())
    label = ModelOutput(name="label", data_type="TYPE_STRING", dims=())
    config = ModelConfig(output=(tokens, label), max_batch_size=4)
    path = tiny.saved(CLASSIFIER, names="bad good")
    model = TransformersBackend().open(path, config, OpenOptions())
    assert model.description.max_batch_size == 4
    assert list(ask(model, text=["cat"])) == ["tokens", "label"]
    assert model.description.signature is not None
    assert [a.name for a in model.description.signature.outputs] == ["tokens", "label"]


def test_an_encoder_has_a_batch_dimension() -> None:
    config = ModelConfig(max_batch_size=0)
    with pytest.raises(ConfigError, match="1 or more") as caught:
        TransformersBackend().open(tiny.saved(BASE), config, OpenOptions())
    assert caught.value.field == "max_batch_size"


def test_a_file_of_the_folder_stands_for_it(folder: Path) -> None:
    found = ask(opened(folder / "config.json"), text=["cat"])["embedding"]
    np.testing.assert_array_equal(found, ask(opened(folder), text=["cat"])["embedding"])


def test_instances_share_weights_and_answer_alike() -> None:
    config = ModelConfig(instance_group=(ModelInstanceGroup(kind="KIND_CPU", count=2),))
    model = TransformersBackend().open(tiny.saved(BASE), config, OpenOptions())
    first, second = model.create_instance(), model.create_instance()
    given = [texts("the cat", "who")]
    np.testing.assert_array_equal(first.run(given)[0], second.run(given)[0])
    assert model.create_lanes() == []
    first.close()
    second.close()
    model.close()


def test_an_instance_keeps_to_its_threads_where_other_models_run() -> None:
    model = TransformersBackend().open(tiny.saved(BASE), ModelConfig(), OpenOptions(2))
    runner = model.create_instance()
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # as a model of torch does that runs on the same thread
    try:
        runner.run([texts("the cat")])
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_told() -> None:
    config = ModelConfig(instance_group=(ModelInstanceGroup(kind="KIND_GPU"),))
    with pytest.raises(ConfigError, match="use KIND_CPU") as caught:
        TransformersBackend().open(tiny.saved(BASE), config, OpenOptions())
    assert caught.value.field == "instance_group.kind"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_gpu_says_what_the_processor_says() -> None:
    config = ModelConfig(instance_group=(ModelInstanceGroup(kind="KIND_GPU"),))
    model = TransformersBackend().open(tiny.saved(BASE), config, OpenOptions())
    wanted = ask(opened(tiny.saved(BASE)), text=["the cat", "who"])["embedding"]
    found = ask(model, text=["the cat", "who"])["embedding"]
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-3)


# -- values ------------------------------------------------------------------------------------


def test_a_long_text_is_cut_or_refused() -> None:
    long = "the cat " * 40
    cut = ask(opened(tiny.saved(BASE), max_length=10), text=[long, "cat"])
    assert cut["tokens"].tolist() == [10, 3]
    assert cut["truncated"].tolist() == [True, False]
    strict = opened(tiny.saved(BASE), truncation="refuse")
    with pytest.raises(InvalidRequest, match=r"maximum context length is 64 tokens.*'the cat the"):
        ask(strict, text=["cat", long])
    assert ask(strict, text=["cat"])["tokens"].tolist() == [3]


def test_what_is_no_text_is_refused() -> None:
    array = np.array([b"\xff\xfe"], np.object_)
    with pytest.raises(InvalidRequest, match="text must be UTF-8 text"):
        opened(tiny.saved(BASE)).create_instance().run([array])


# -- folders that are refused --------------------------------------------------------------------


def as_pickle(folder: Path) -> Path:
    from safetensors.torch import load_file

    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    return folder


def test_a_pickle_needs_trust(folder: Path) -> None:
    wanted = ask(opened(folder), text=["the cat"])["embedding"]
    as_pickle(folder)
    with pytest.raises(
        BackendError, match=r"pytorch_model.bin is a pickle.*save_pretrained.*--trust"
    ):
        opened(folder)
    trusted = ask(opened(folder, trust=True), text=["the cat"])["embedding"]
    np.testing.assert_array_equal(trusted, wanted)


def test_code_that_comes_with_a_folder_is_never_run(folder: Path, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    (folder / "mine.py").write_text(f"open({str(ran)!r}, 'w')\n")
    auto = {"AutoConfig": "mine.Config", "AutoModel": "mine.Model"}
    tiny.edit(folder / "config.json", model_type="mine", auto_map=auto)
    for trust in (False, True):
        with pytest.raises(BackendError, match=r"needs code that comes with it.*never run"):
            opened(folder, trust=trust)
    assert not ran.exists()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "model.safetensors").unlink(), "no weights.*save_pretrained"),
        (lambda f: (f / "config.json").unlink(), "no config.json"),
        (lambda f: (f / "config.json").write_text("{"), "cannot be read as JSON"),
        (lambda f: (f / "config.json").write_text("[]"), "must hold a JSON object"),
        (lambda f: (f / "config.json").write_text("{}"), "does not name an architecture"),
        (lambda f: tiny.edit(f / "config.json", architectures=["GPT2LMHeadModelX"]),
         "none of the encoders"),
        (lambda f: tiny.edit(f / "config.json", architectures=["BertForQuestionAnswering"]),
         "no weights for qa_outputs.*holds a BertForQuestionAnswering"),
        (lambda f: tiny.edit(f / "config.json", hidden_size=64), "cannot load"),
        (lambda f: (f / "model.safetensors").write_bytes(b"nothing"), "cannot load"),
        (lambda f: (f / "tokenizer.json").write_text("{}"), "cannot load"),
        (lambda f: tiny.add_modules(f, "WordWeights"), "'WordWeights', which inferd does not know"),
        (lambda f: tiny.add_modules(f, "Pooling", Pooling={"pooling_mode": "best"}),
         "pooling 'best' is none of"),
        (lambda f: tiny.add_modules(f, "Pooling", "Dense", Dense={"in_features": 32}),
         "no model.safetensors"),
        (lambda f: (f / "modules.json").write_text("[1]"), "must list modules"),
        (lambda f: (f / "modules.json").write_text(
            '[{"type": "x.Transformer", "path": "../other"}]'), "outside its folder"),
        (lambda f: tiny.edit(f / "config.json", matryoshka_dimensions="8"), "a list of sizes"),
    ],
)  # fmt: skip
def test_a_folder_that_is_no_model_is_told(folder: Path, spoil: Any, message: str) -> None:
    spoil(folder)
    with pytest.raises((BackendError, Unsupported, ConfigError), match=f"(?s){message}"):
        opened(folder)


@pytest.mark.parametrize(
    ("parameters", "field"),
    [
        ({"task": "chat"}, "parameters.task"),
        ({"truncation": "maybe"}, "parameters.truncation"),
        ({"max_length": 65}, "parameters.max_length"),
        ({"max_length": 2}, "parameters.max_length"),
        ({"max_lenght": 20}, "parameters.max_lenght"),
        ({"dtype": "int4"}, "parameters.dtype"),
        ({"pooling": "best"}, "parameters.pooling"),
        ({"top_k": "many"}, "parameters.top_k"),
    ],
)
def test_a_wrong_parameter_is_told(parameters: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        opened(tiny.saved(BASE), **parameters)
    assert caught.value.field == field


def test_a_task_may_be_named() -> None:
    folder = tiny.saved("BertForMaskedLM")
    found = ask(opened(folder, task="embeddings", pooling="cls"), text=["the cat"])
    assert found["embedding"].shape == (1, 32)
