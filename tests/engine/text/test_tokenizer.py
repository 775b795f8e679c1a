import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer as Core
from transformers import PreTrainedTokenizerFast

from engine.text.vocabularies import (
    ALL,
    byte_fallback,
    byte_fallback_core,
    byte_level,
    byte_level_core,
)
from inferd.engine.text.tokenizer import Tokenizer
from inferd.errors import ConfigError, InvalidRequest

BOS, EOS = {"bos_token": "<s>"}, {"eos_token": "</s>"}


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    """Writes a model folder: tokenizer.json and the JSON files named by keyword."""

    def write(core: Core | None = None, **files: Any) -> Path:
        (core or byte_level_core()).save(str(tmp_path / "tokenizer.json"))
        for name, content in files.items():
            (tmp_path / f"{name}.json").write_text(json.dumps(content))
        return tmp_path

    return write


def test_tokenizer_json_alone(folder: Callable[..., Path]) -> None:
    tokenizer = Tokenizer.load(folder())
    assert tokenizer.decode(tokenizer.encode("Hello 🎉")) == "Hello 🎉"
    assert tokenizer.special_tokens == {}
    assert tokenizer.eos_token_ids == ()
    assert tokenizer.chat_templates == {}
    assert tokenizer.vocab_size == byte_level().vocab_size


@pytest.mark.parametrize(
    "files",
    [
        {"tokenizer_config": BOS | EOS | {"additional_special_tokens": ["<|im_end|>"]}},
        {"tokenizer_config": BOS | EOS | {"extra_special_tokens": ["<|im_end|>"]}},
        {
            "tokenizer_config": {
                "bos_token": {"content": "<s>", "lstrip": False, "special": True},
                "eos_token": {"content": "</s>"},
                "unk_token": None,
            }
        },
        {"special_tokens_map": BOS | EOS | {"additional_special_tokens": [{"content": "<a>"}]}},
        {"special_tokens_map": BOS | {"eos_token": "<s>"}, "tokenizer_config": EOS},
        {"special_tokens_map": BOS | EOS, "tokenizer_config": {"bos_token": None}},
    ],
)
def test_special_tokens_of_every_layout(folder: Callable[..., Path], files: dict[str, Any]) -> None:
    tokenizer = Tokenizer.load(folder(**files))
    assert tokenizer.special_tokens == BOS | EOS
    assert tokenizer.bos_token_id == tokenizer.token_id("<s>")
    assert tokenizer.eos_token_id == tokenizer.token_id("</s>")


def test_special_tokens_with_names_of_their_own(folder: Callable[..., Path]) -> None:
    config = BOS | {"extra_special_tokens": {"image_token": "<|image|>"}}
    tokenizer = Tokenizer.load(folder(tokenizer_config=config))
    assert tokenizer.special_tokens == BOS | {"image_token": "<|image|>"}
    assert tokenizer.token_id("<|image|>") in tokenizer.special_ids


def test_tokens_that_only_the_configuration_knows(folder: Callable[..., Path]) -> None:
    added = {
        "1001": {"content": "<think>", "special": False, "lstrip": False, "normalized": False},
        "1000": {"content": "<pad>", "special": True},
    }
    config = {"added_tokens_decoder": added, "extra_special_tokens": ["<|extra|>", "<tool call>"]}
    tokenizer = Tokenizer.load(folder(tokenizer_config=config))
    size = byte_level().vocab_size
    names = ["<pad>", "<think>", "<|extra|>"]
    assert [tokenizer.token_id(name) for name in names] == [size, size + 1, size + 2]
    ids = tokenizer.encode("<think>a<pad><|extra|><tool call>", add_special_tokens=False)
    assert tokenizer.decode(ids) == "<think>a"
    assert tokenizer.decode(ids, False) == "<think>a<pad><|extra|><tool call>"


@pytest.mark.parametrize(
    ("eos", "names"),
    [
        (None, ["</s>"]),
        ("<|im_end|>", ["</s>", "<|im_end|>"]),
        (["<|im_end|>", "</s>", "<s>"], ["</s>", "<|im_end|>", "<s>"]),
    ],
)
def test_all_end_tokens(folder: Callable[..., Path], eos: Any, names: list[str]) -> None:
    find = byte_level().token_id
    ids = [find(name) for name in eos] if isinstance(eos, list) else eos and find(eos)
    config = {"eos_token_id": ids}
    tokenizer = Tokenizer.load(folder(tokenizer_config=EOS, generation_config=config))
    assert tokenizer.eos_token_ids == tuple(find(name) for name in names)


@pytest.mark.parametrize("make", [byte_level_core, byte_fallback_core])
@pytest.mark.parametrize("opens", [True, False])
@pytest.mark.parametrize(
    "config",
    [
        {},
        {"add_bos_token": True},
        {"add_bos_token": False, "add_eos_token": True},
        {"additional_special_tokens": ["<|new|>", "the"]},
        {"extra_special_tokens": {"image_token": "<|new|>"}},
        {"added_tokens_decoder": {"900": {"content": "<|new|>", "special": True}}},
        {"added_tokens_decoder": {"900": {"content": "<|new|>", "special": False}}},
    ],
)
def test_tokens_are_those_of_transformers(
    folder: Callable[..., Path], make: Callable[[], Core], opens: bool, config: dict[str, Any]
) -> None:
    core = Core.from_str(make().to_str())
    if not opens:
        core.post_processor = None
    path = folder(core, tokenizer_config=BOS | EOS | config)
    theirs, ours = PreTrainedTokenizerFast.from_pretrained(path), Tokenizer.load(path)
    for text in ["", "Hello the world", "<s>the<|new|> 🎉 </s>", "  naïve\n<tool call>"]:
        for special in (True, False):
            ids = ours.encode(text, special)
            assert ids == theirs.encode(text, add_special_tokens=special)
            decoded = theirs.decode(
                ids, skip_special_tokens=special, clean_up_tokenization_spaces=False
            )
            assert ours.decode(ids, special) == decoded
    assert ours.vocab_size == len(theirs)
    assert ours.eos_token_id == theirs.eos_token_id


def test_settings_of_training_do_not_cut_prompts(folder: Callable[..., Path]) -> None:
    core = Core.from_str(byte_level_core().to_str())
    core.enable_truncation(4)
    core.enable_padding(length=8)
    tokenizer = Tokenizer.load(folder(core))
    assert tokenizer.decode(tokenizer.encode("a much longer text")) == "a much longer text"
    assert len(tokenizer.encode("a", add_special_tokens=False)) == 1


@pytest.mark.parametrize(
    ("config", "templates"),
    [
        ({"chat_template": "A"}, {"default": "A"}),
        (
            {
                "chat_template": [
                    {"name": "default", "template": "A"},
                    {"name": "tool_use", "template": "B"},
                ]
            },
            {"default": "A", "tool_use": "B"},
        ),
        ({"chat_template": {"default": "A", "rag": "B"}}, {"default": "A", "rag": "B"}),
        ({}, {}),
    ],
)
def test_chat_templates_of_the_configuration(
    folder: Callable[..., Path], config: dict[str, Any], templates: dict[str, str]
) -> None:
    assert Tokenizer.load(folder(tokenizer_config=config)).chat_templates == templates


def test_chat_templates_in_files(folder: Callable[..., Path]) -> None:
    path = folder(tokenizer_config={"chat_template": "old"})
    (path / "chat_template.jinja").write_text("new ✓", encoding="utf-8")
    (path / "additional_chat_templates").mkdir()
    (path / "additional_chat_templates" / "tool_use.jinja").write_text("tools")
    assert Tokenizer.load(path).chat_templates == {"default": "new ✓", "tool_use": "tools"}


def test_no_tokenizer_json(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"tokenizer\.json: .*save_pretrained"):
        Tokenizer.load(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "{}", '{"model": {"type": "Future"}}'])
def test_a_broken_tokenizer_json(tmp_path: Path, content: str) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(ConfigError, match=r"tokenizer\.json: not a tokenizer"):
        Tokenizer.load(tmp_path)


def test_a_broken_configuration(folder: Callable[..., Path]) -> None:
    path = folder()
    (path / "tokenizer_config.json").write_text("{")
    with pytest.raises(ConfigError, match=r"tokenizer_config\.json: not valid JSON"):
        Tokenizer.load(path)


def test_half_a_surrogate_pair_is_no_text() -> None:
    with pytest.raises(InvalidRequest, match="not valid Unicode"):
        byte_level().encode("ab\ud83d")


def test_special_tokens_in_the_text() -> None:
    tokenizer = byte_level()
    assert tokenizer.encode("</s>", add_special_tokens=False) == [tokenizer.eos_token_id]


@pytest.mark.parametrize("make", ALL)
def test_tokens_and_ids(make: Callable[[], Tokenizer]) -> None:
    tokenizer = make()
    for token_id in range(tokenizer.vocab_size):
        token = tokenizer.token(token_id)
        assert token is not None
        assert tokenizer.token_id(token) == token_id
    assert [tokenizer.token(i) for i in (-1, tokenizer.vocab_size, 2**40)] == [None] * 3
    assert tokenizer.decode([tokenizer.vocab_size]) == ""


@pytest.mark.parametrize("make", [byte_level, byte_fallback])
def test_bytes_of_tokens_are_the_text(make: Callable[[], Tokenizer]) -> None:
    tokenizer = make()
    ids = tokenizer.encode("so a 🎉 and 你好", add_special_tokens=False)
    assert b"".join(map(tokenizer.token_bytes, ids)).decode().lstrip() == "so a 🎉 and 你好"
    assert tokenizer.token_bytes(2**31) == b""


def test_bytes_stand_for_themselves(folder: Callable[..., Path]) -> None:
    tokenizer = Tokenizer.load(folder(byte_fallback_core()))
    byte, word = tokenizer.token_id("<0xE4>"), tokenizer.token_id("a")
    assert byte is not None
    assert word is not None
    assert (tokenizer.byte(byte), tokenizer.byte(word), tokenizer.byte(-1)) == (0xE4, None, None)
    assert tokenizer.token_bytes(byte) == b"\xe4"
