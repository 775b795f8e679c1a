"""Log probabilities in the API's three forms: of a chat, of a completion, and of a prompt as vLLM
has it. No number in them is infinite, which JSON could not say. Pure.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from inferd.types.generation import TokenLogprobs

LEAST = -9999.0
"""What stands for minus infinity."""

_KEPT = 1 << 16


class _Tokens(Protocol):
    def token_bytes(self, token_id: int) -> bytes: ...


class TokenTexts:
    """The text of single tokens, remembered; incomplete characters show as U+FFFD.

    With `as_ids` a token is written as `token_id:N`.
    """

    def __init__(self, tokens: _Tokens, as_ids: bool = False) -> None:
        self._tokens = tokens
        self._as_ids = as_ids
        self._known: dict[int, tuple[str, bytes]] = {}

    def __getitem__(self, token_id: int) -> str:
        return self.both(token_id)[0]

    def both(self, token_id: int) -> tuple[str, bytes]:
        """A token's text, and its bytes."""
        found = self._known.get(token_id)
        if found is None:
            raw = self._tokens.token_bytes(token_id)
            text = f"token_id:{token_id}" if self._as_ids else raw.decode("utf-8", "replace")
            if len(self._known) >= _KEPT:
                self._known.clear()
            found = self._known[token_id] = text, raw
        return found


def chat_logprobs(found: Sequence[TokenLogprobs], texts: TokenTexts, top: int) -> dict[str, Any]:
    """`choices[].logprobs` of a chat."""
    content = []
    for one in found:
        entry = _chat_entry(one.token_id, one.logprob, texts)
        likeliest = one.top if top == -1 else one.top[:top]
        entry["top_logprobs"] = [_chat_entry(i, score, texts) for i, score in likeliest]
        content.append(entry)
    return {"content": content}


def completion_logprobs(
    found: Sequence[TokenLogprobs | None], first_token_id: int, texts: TokenTexts, offset: int
) -> tuple[dict[str, Any], int]:
    """`choices[].logprobs` of a completion, and where its text ends; `offset` is where it starts.

    None stands for the first token of a prompt, `first_token_id`, which nothing came before.
    """
    tokens: list[str] = []
    scores: list[float | None] = []
    likeliest: list[Mapping[str, float] | None] = []
    offsets: list[int] = []
    for one in found:
        text = texts[first_token_id if one is None else one.token_id]
        tokens.append(text)
        offsets.append(offset)
        offset += len(text)
        if one is None:
            scores.append(None)
            likeliest.append(None)
            continue
        top: dict[str, float] = {}
        for token_id, score in one.top:
            top.setdefault(texts[token_id], finite(score))
        top.setdefault(text, finite(one.logprob))
        scores.append(finite(one.logprob))
        likeliest.append(top)
    listed = {
        "text_offset": offsets,
        "token_logprobs": scores,
        "tokens": tokens,
        "top_logprobs": likeliest,
    }
    return listed, offset


def prompt_logprobs(
    found: Sequence[TokenLogprobs | None], texts: TokenTexts
) -> list[dict[str, Any] | None]:
    """`prompt_logprobs` as vLLM writes them: of each token, and of the likeliest, by id."""
    return [None if one is None else _by_id(one, texts) for one in found]


def finite(score: float) -> float:
    """A log probability that JSON can write."""
    return score if score > LEAST else LEAST


def _by_id(one: TokenLogprobs, texts: TokenTexts) -> dict[str, Any]:
    entries = {str(one.token_id): (one.logprob, one.rank)}
    for rank, (token_id, score) in enumerate(one.top, 1):
        entries.setdefault(str(token_id), (score, rank))
    return {
        key: {"logprob": finite(score), "rank": rank, "decoded_token": texts[int(key)]}
        for key, (score, rank) in entries.items()
    }


def _chat_entry(token_id: int, score: float, texts: TokenTexts) -> dict[str, Any]:
    text, raw = texts.both(token_id)
    return {"token": text, "logprob": finite(score), "bytes": list(raw)}
