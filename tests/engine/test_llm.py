"""The whole engine offline: whatever happens around a sequence, its tokens stay the same."""

from pathlib import Path

import pytest

from engine.checkpoints import greedy, prompt
from engine.folders import with_tokenizer
from inferd.engine import LLM, SamplingParams
from inferd.errors import ConfigError, InvalidRequest

NEW = 48
PARAMS = SamplingParams(temperature=0, max_tokens=NEW, ignore_eos=True)
NAMES = ["llama", "gemma3", "qwen2"]


@pytest.fixture(scope="module", params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def folder(name: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_tokenizer(name, tmp_path_factory.mktemp(name))


@pytest.fixture
def prompts() -> list[list[int]]:
    """32 prompts of mixed lengths; some begin alike."""
    common = prompt(70, seed=99)
    return [
        (common if seed % 4 == 0 else []) + prompt(3 + 5 * (seed % 13), seed) for seed in range(32)
    ]


def opened(folder: Path, **options: object) -> LLM:
    return LLM(folder, dtype="float32", packed_cache=False, **options)


def tokens(llm: LLM, prompts: list[list[int]]) -> list[list[int]]:
    return [out.generations[0].token_ids for out in llm.generate(prompts, PARAMS)]


@pytest.fixture(scope="module")
def expected(name: str) -> dict[tuple[int, ...], list[int]]:
    return {}


def alone(
    name: str, prompts: list[list[int]], known: dict[tuple[int, ...], list[int]]
) -> list[list[int]]:
    for ids in prompts:
        if tuple(ids) not in known:
            known[tuple(ids)] = greedy(name, ids, NEW)
    return [known[tuple(ids)] for ids in prompts]


def test_a_batch_of_32_mixed_lengths_is_transformers(
    name: str, folder: Path, prompts: list[list[int]], expected: dict[tuple[int, ...], list[int]]
) -> None:
    llm = opened(folder)
    assert tokens(llm, prompts) == alone(name, prompts, expected)
    llm.close()


@pytest.mark.parametrize("chunk", [8, 33])
def test_small_steps_give_the_same(
    name: str, folder: Path, prompts: list[list[int]], chunk: int,
    expected: dict[tuple[int, ...], list[int]],
) -> None:  # fmt: skip
    """Prompts in chunks, since a step takes few tokens."""
    llm = opened(folder, max_num_batched_tokens=chunk, max_num_seqs=8)
    assert tokens(llm, prompts) == alone(name, prompts, expected)
    llm.close()


def test_prefix_hits_give_the_same(
    name: str, folder: Path, prompts: list[list[int]], expected: dict[tuple[int, ...], list[int]]
) -> None:
    llm = opened(folder)
    first, second = tokens(llm, prompts), llm.generate(prompts, PARAMS)
    assert first == alone(name, prompts, expected)
    assert [out.generations[0].token_ids for out in second] == first
    assert sum(out.num_cached_tokens for out in second) > 8 * 64
    llm.close()


def test_preemption_gives_the_same(
    name: str, folder: Path, prompts: list[list[int]], expected: dict[tuple[int, ...], list[int]]
) -> None:
    """A cache of a few blocks: sequences lose theirs and are computed again."""
    probe = opened(folder)
    block_bytes = probe.core.runner.describe()["kv_bytes"] // probe.core.runner.num_blocks
    probe.close()
    llm = opened(folder, kv_cache_memory_bytes=12 * block_bytes, max_num_seqs=16)
    assert tokens(llm, prompts) == alone(name, prompts, expected)
    assert llm.core.scheduler.num_preemptions > 0
    assert llm.core.kv_cache.usage == 0.0
    llm.close()


def test_several_sequences_of_a_prompt_share_it_and_differ_by_seed(folder: Path) -> None:
    llm = opened(folder)
    params = SamplingParams(n=3, temperature=1.5, seed=5, max_tokens=12, ignore_eos=True)
    (first,), (second,) = llm.generate(prompt(70), params), llm.generate(prompt(70), params)
    texts = [generation.token_ids for generation in first.generations]
    assert texts == [generation.token_ids for generation in second.generations]
    assert len({tuple(ids) for ids in texts}) == 3
    llm.close()


def test_prompt_logprobs_are_of_each_token_after_the_first(folder: Path) -> None:
    llm = opened(folder, max_num_batched_tokens=16, max_num_seqs=4)
    ids = prompt(50)
    params = SamplingParams(temperature=0, max_tokens=1, prompt_logprobs=2, logprobs=1)
    (out,) = llm.generate(ids, params)
    assert out.prompt_logprobs is not None
    assert out.prompt_logprobs[0] is None
    assert [entry.token_id for entry in out.prompt_logprobs[1:] if entry] == ids[1:]
    assert len(out.generations[0].logprobs or []) == 1
    llm.close()


def test_a_stop_string_ends_a_sequence_and_frees_its_blocks(folder: Path) -> None:
    llm = opened(folder)
    (whole,) = llm.generate(prompt(20), PARAMS)
    text = whole.generations[0].text
    stop = text[6:8]
    params = SamplingParams(temperature=0, max_tokens=NEW, ignore_eos=True, stop=(stop,))
    (cut,) = llm.generate(prompt(20), params)
    generation = cut.generations[0]
    assert generation.finish_reason == "stop"
    assert generation.stop_reason == stop
    assert generation.text == text[: text.index(stop)]
    assert llm.core.scheduler.num_unfinished == 0
    llm.close()


def test_what_is_wrong_is_told(folder: Path) -> None:
    with pytest.raises(ConfigError, match="isolation"):
        LLM(folder, isolation="process")
    with pytest.raises(ConfigError, match="did you mean max_num_seqs"):
        LLM(folder, max_num_seq=3)
    llm = opened(folder, max_model_len=64)
    with pytest.raises(InvalidRequest, match="maximum context length is 64 tokens"):
        llm.generate(prompt(80), PARAMS)
    with pytest.raises(InvalidRequest, match="token id 300"):
        llm.generate([1, 300], SamplingParams(max_tokens=2))
    llm.close()
