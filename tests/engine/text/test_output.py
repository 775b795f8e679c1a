import pytest

from engine.text.vocabularies import byte_level
from inferd.engine.text.output import OutputProcessor
from inferd.types.generation import SamplingParams


def _ids(text: str) -> list[int]:
    return byte_level().encode(text, add_special_tokens=False)


def test_text_comes_as_tokens_do() -> None:
    output = OutputProcessor(byte_level(), SamplingParams())
    ids = _ids("Hello 🎉 world")
    text = "".join(output.push([token])[0] for token in ids)
    assert text + output.push([], "length")[0] == "Hello 🎉 world"
    assert output.num_tokens == len(ids)


@pytest.mark.parametrize("together", [True, False])
def test_a_stop_string_ends_the_text(together: bool) -> None:
    output = OutputProcessor(byte_level(), SamplingParams(stop=("fox",)))
    ids = _ids("The quick brown fox jumps over")
    text = ""
    for run in [ids] if together else [[token] for token in ids]:
        more, stop = output.push(run)
        text += more
    assert text == "The quick brown "
    assert output.stopped == stop == "fox"
    assert byte_level().decode(ids[: output.num_tokens]).endswith("fox")
    assert output.push(_ids(" more"), "length") == ("", "fox")


def test_a_stop_string_that_is_shown() -> None:
    params = SamplingParams(stop=("fox",), include_stop_str_in_output=True)
    assert OutputProcessor(byte_level(), params).push(_ids("a fox ran")) == ("a fox", "fox")


def test_the_first_tokens_cannot_stop() -> None:
    ids = _ids("fox and fox again")
    first = len(_ids("fox"))
    output = OutputProcessor(byte_level(), SamplingParams(stop=("fox",), min_tokens=first))
    assert output.push(ids) == ("fox and ", "fox")


def test_what_was_held_back_comes_at_the_end() -> None:
    output = OutputProcessor(byte_level(), SamplingParams(stop=("foxes",)))
    assert output.push(_ids("a fox")) == ("a ", None)
    assert output.push([], "length") == ("fox", None)


def test_a_stop_string_in_the_last_tokens() -> None:
    output = OutputProcessor(byte_level(), SamplingParams(stop=("fox",)))
    assert output.push(_ids("a fox"), "length") == ("a ", "fox")


@pytest.mark.parametrize("stop", [(), ("zzz",)])
@pytest.mark.parametrize("skip", [True, False])
@pytest.mark.parametrize("include", [True, False])
def test_an_end_token_is_shown_only_if_asked(
    stop: tuple[str, ...], skip: bool, include: bool
) -> None:
    params = SamplingParams(stop=stop, skip_special_tokens=skip, include_stop_str_in_output=include)
    output = OutputProcessor(byte_level(), params)
    ids = [*_ids("Hi"), byte_level().eos_token_ids[0]]
    assert output.push(ids, "stop") == ("Hi</s>" if include and not skip else "Hi", None)
    assert output.num_tokens == len(ids)


def test_half_a_character_comes_at_the_end() -> None:
    output = OutputProcessor(byte_level(), SamplingParams(stop=("zzz",)))
    assert output.push(_ids("a🎉")[:-1]) == ("a", None)
    assert output.push([], "abort") == ("\ufffd", None)


def test_text_continues_the_prompt() -> None:
    ids = _ids("🎉")
    output = OutputProcessor(byte_level(), SamplingParams(), ids[:2])
    assert output.push(ids[2:], "length") == ("🎉", None)
