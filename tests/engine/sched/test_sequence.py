from engine.sched.sequences import make, siblings


def test_siblings_have_tokens_of_their_own() -> None:
    first, second = siblings([1, 2, 3], n=2, request_id="r", priority=4, tenant="t", cache_salt="s")
    first.tokens.append(9)
    assert second.tokens == [1, 2, 3]
    assert (first.index, second.index) == (0, 1)
    assert first.id != second.id
    assert (second.request_id, second.priority, second.tenant, second.cache_salt) == (
        "r", 4, "t", "s",
    )  # fmt: skip
    assert first.has_siblings
    assert not make().has_siblings


def test_counts_follow_the_tokens() -> None:
    sequence = make([1, 2, 3])
    sequence.tokens.append(4)
    sequence.num_computed_tokens = 3
    assert sequence.num_prompt_tokens == 3
    assert sequence.num_output_tokens == 1
    assert sequence.output_token_ids == [4]
    assert sequence.num_left == 1


def test_prompt_logprobs_want_every_prompt_token_of_the_first_sequence_once() -> None:
    first, second = siblings([1, 2, 3], n=2, prompt_logprobs=0)
    assert first.skips_cache
    assert not second.skips_cache
    first.tokens.append(4)
    assert not first.skips_cache
    assert not make().skips_cache
