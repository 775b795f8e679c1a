from inferd.observability.generation_statistics import GenerationStatistics, RequestWatch
from inferd.types.generation import FinishReason, GenerationDelta, GenerationRequest, SamplingParams


def watch(statistics: GenerationStatistics, n: int = 1, prompt: int = 3) -> RequestWatch:
    params = SamplingParams(n=n, max_tokens=5)
    request = GenerationRequest(id="r", prompt_token_ids=[1] * prompt, params=params)
    return RequestWatch(statistics, request)


def delta(
    index: int = 0, tokens: int = 1, finish_reason: FinishReason | None = None
) -> GenerationDelta:
    return GenerationDelta(index=index, token_ids=[7] * tokens, finish_reason=finish_reason)


def test_a_request_is_counted_when_it_ends() -> None:
    statistics = GenerationStatistics()
    one = watch(statistics, n=2)
    one.saw([delta(0), delta(1)])
    one.saw([delta(0, 1, "stop"), delta(1, 2)])
    one.saw([delta(1, 0, "length")])
    one.ended()
    assert statistics.finished == {"stop": 1, "length": 1, "abort": 0, "error": 0}
    assert (statistics.prompt_tokens, statistics.generation_tokens) == (3, 5)
    assert sum(statistics.first_token.counts) == 1
    assert sum(statistics.inter_token.counts) == 2
    assert sum(statistics.request.counts) == sum(statistics.decode.counts) == 1
    assert statistics.request_generation_tokens.total == 5
    assert (statistics.request_n.total, statistics.request_max_tokens.total) == (2, 5)


def test_who_leaves_is_an_abort_and_what_fails_an_error() -> None:
    statistics = GenerationStatistics()
    left, failed, neither = (watch(statistics) for _ in range(3))
    left.saw([delta()])
    left.ended()
    failed.failed = True
    failed.ended()
    neither.ended()
    assert statistics.finished == {"stop": 0, "length": 0, "abort": 2, "error": 1}
    assert statistics.prompt_tokens == 3  # of the one that got as far as a token


def test_what_was_refused_is_not_counted() -> None:
    statistics = GenerationStatistics()
    one = watch(statistics)
    one.refused = True
    one.ended()
    assert set(statistics.finished.values()) == {0}
