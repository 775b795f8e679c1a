from collections.abc import Callable, Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from engine.text.vocabularies import ALL, SPECIAL, byte_fallback, byte_level
from inferd.engine.text.detokenizer import create_detokenizer
from inferd.engine.text.tokenizer import Tokenizer

Make = Callable[[], Tokenizer]

pieces = st.one_of(
    st.sampled_from(
        [
            " ",
            "  ",
            "\n",
            "the",
            " word",
            "def f():",
            "🎉",
            "👩‍👩‍👧‍👦",
            "你好",
            "é",
            "e\u0301",
            "نص",
            "\ufffd",
            *SPECIAL,
            "<tool call>",
            "naïve",
            "<0xE4>",
        ]
    ),
    st.text(max_size=4),
)
texts = st.lists(pieces, max_size=12).map("".join)
cuts = st.lists(st.integers(1, 5), min_size=1, max_size=30)


def _split(ids: list[int], sizes: list[int]) -> list[list[int]]:
    """`ids` in runs of `sizes`, over and over."""
    runs = []
    place = 0
    while place < len(ids):
        size = sizes[len(runs) % len(sizes)]
        runs.append(ids[place : place + size])
        place += size
    return runs


def _stream(
    tokenizer: Tokenizer, runs: Sequence[Sequence[int]], skip: bool, prompt: Sequence[int] = ()
) -> list[str]:
    detokenizer = create_detokenizer(tokenizer, skip, prompt)
    return [*(detokenizer.push(run) for run in runs), detokenizer.flush()]


@pytest.mark.parametrize("make", ALL)
@given(texts, cuts, st.booleans())
@example("🎉🎉你好 and e\u0301", [1], True)
@example(" leading", [1], True)
@example("<s>  two<|im_end|> spaces", [1], True)
@settings(derandomize=True, deadline=None)
def test_joined_pieces_are_the_whole_text(
    make: Make, text: str, sizes: list[int], skip: bool
) -> None:
    tokenizer = make()
    ids = tokenizer.encode(text)
    assert "".join(_stream(tokenizer, _split(ids, sizes), skip)) == tokenizer.decode(ids, skip)


@pytest.mark.parametrize("make", ALL)
@given(texts, texts, cuts)
@example("Once upon", " a time", [1])
@example("🎉", "🎉", [1])
@settings(derandomize=True, deadline=None)
def test_text_continues_a_prompt(make: Make, first: str, second: str, sizes: list[int]) -> None:
    tokenizer = make()
    prompt = tokenizer.encode(first)
    ids = tokenizer.encode(second, add_special_tokens=False)
    before = tokenizer.decode(prompt)
    whole = tokenizer.decode(prompt + ids)
    assert before + "".join(_stream(tokenizer, _split(ids, sizes), True, prompt)) == whole


@given(st.lists(st.integers(0, 700), max_size=40), cuts, st.booleans())
@settings(derandomize=True, deadline=None, max_examples=300)
def test_any_tokens_of_a_byte_level_vocabulary(
    ids: list[int], sizes: list[int], skip: bool
) -> None:
    """Bytes that are no text, and ids that are no tokens."""
    tokenizer = byte_level()
    assert "".join(_stream(tokenizer, _split(ids, sizes), skip)) == tokenizer.decode(ids, skip)


@pytest.mark.parametrize("make", [byte_level, byte_fallback])
def test_no_part_of_a_character_is_shown(make: Make) -> None:
    tokenizer = make()
    ids = tokenizer.encode("a🎉é你 end", add_special_tokens=False)
    assert len(ids) > 6
    shown = _stream(tokenizer, [[token] for token in ids], True)
    assert "".join(shown) == "a🎉é你 end"
    assert not any("\ufffd" in piece for piece in shown)
    assert shown[-1] == ""


@pytest.mark.parametrize("make", [byte_level, byte_fallback])
def test_what_never_becomes_a_character_comes_at_the_end(make: Make) -> None:
    tokenizer = make()
    ids = tokenizer.encode("ok🎉", add_special_tokens=False)[:-1]
    shown = _stream(tokenizer, [[token] for token in ids], True)
    assert "".join(shown[:-1]) == "ok"
    assert set(shown[-1]) == {"\ufffd"}


def test_bytes_that_are_no_text_do_not_spoil_the_characters_before_them() -> None:
    tokenizer = byte_fallback()
    ids = [*tokenizer.encode("你", False), tokenizer.token_id("<0xFF>"), tokenizer.token_id("a")]
    known = [token for token in ids if token is not None]
    assert "".join(_stream(tokenizer, [[token] for token in known], True)) == "你\ufffda"


@pytest.mark.parametrize("make", [byte_level, byte_fallback])
def test_a_character_that_began_in_the_prompt(make: Make) -> None:
    tokenizer = make()
    ids = tokenizer.encode("so 🎉!", add_special_tokens=False)
    cut = len(ids) - 3
    shown = _stream(tokenizer, [[token] for token in ids[cut:]], True, ids[:cut])
    assert "".join(shown) == "🎉!"


def test_bytes_that_are_no_text_are_not_held() -> None:
    tokenizer = byte_fallback()
    token = tokenizer.token_id("<0xFF>")
    assert token is not None
    detokenizer = create_detokenizer(tokenizer)
    shown = [detokenizer.push([token]) for _ in range(100)]
    assert shown == ["\ufffd"] * 100


def test_a_prompt_of_many_bytes() -> None:
    tokenizer = byte_fallback()
    prompt = tokenizer.encode("你好世界🎉🎉🎉")
    ids = tokenizer.encode("界", add_special_tokens=False)[1:]
    assert all(tokenizer.byte(token) is not None for token in prompt[-20:])
    assert "".join(_stream(tokenizer, [[token] for token in ids], True, prompt)) == "界"


@pytest.mark.parametrize("make", ALL)
def test_nothing_in_nothing_out(make: Make) -> None:
    detokenizer = create_detokenizer(make())
    assert [detokenizer.push([]), detokenizer.flush(), detokenizer.flush()] == ["", "", ""]


@given(st.lists(st.integers(0, 700), max_size=30), cuts, st.booleans())
@settings(derandomize=True, deadline=None, max_examples=300)
def test_any_tokens_of_a_vocabulary_with_bytes(
    ids: list[int], sizes: list[int], skip: bool
) -> None:
    """Where bytes are no text, only how many U+FFFD there are may differ from `decode`."""
    tokenizer = byte_fallback()
    text = "".join(_stream(tokenizer, _split(ids, sizes), skip))
    whole = tokenizer.decode(ids, skip)
    if "\ufffd" not in whole:
        assert text == whole
    assert text == "".join(_stream(tokenizer, [ids], skip))
