"""An OutputProcessor: one sequence's tokens in, the text that a caller may see out.

It joins detokenizer and stop strings. It refuses to know the engine, and does not end a sequence:
it says that a stop string was found, and the caller stops.
"""

from collections.abc import Sequence

from inferd.engine.text.detokenizer import create_detokenizer
from inferd.engine.text.stop import StopMatcher
from inferd.engine.text.tokenizer import Tokenizer
from inferd.types.generation import FinishReason, SamplingParams


class OutputProcessor:
    """The text of one sequence of a request.

    `num_tokens` counts the tokens that belong to the output: those after the one that completed a
    stop string do not.
    """

    def __init__(
        self, tokenizer: Tokenizer, params: SamplingParams, prompt_token_ids: Sequence[int] = ()
    ) -> None:
        """`prompt_token_ids` as for `create_detokenizer`."""
        self.num_tokens = 0
        self.stopped: str | None = None
        """The stop string that was found."""
        self._detokenizer = create_detokenizer(
            tokenizer, params.skip_special_tokens, prompt_token_ids
        )
        self._stops = StopMatcher(params.stop, params.include_stop_str_in_output)
        self._has_stops = bool(params.stop)
        self._min_tokens = params.min_tokens
        self._shows_stop_token = params.include_stop_str_in_output

    def push(
        self, token_ids: Sequence[int], finish_reason: FinishReason | None = None
    ) -> tuple[str, str | None]:
        """The text that became certain, and the stop string that ended it, if one did.

        `finish_reason` comes with the last tokens, and what was held back comes out. "stop" means
        that the last token is an end or stop token: it is shown only where stop strings are. Once
        a stop string was found, more tokens give no more text.
        """
        if self.stopped is not None:
            return "", self.stopped
        hidden = finish_reason == "stop" and not self._shows_stop_token
        shown = token_ids[:-1] if hidden else token_ids
        text, stop = self._push_each(shown) if self._has_stops else self._push_all(shown)
        if stop is None:
            self.num_tokens += len(token_ids) - len(shown)
            if finish_reason is not None:
                rest, stop = self._match(self._detokenizer.flush())
                text += rest if stop is not None else rest + self._stops.flush()
        self.stopped = stop
        return text, stop

    def _push_all(self, token_ids: Sequence[int]) -> tuple[str, None]:
        self.num_tokens += len(token_ids)
        return self._detokenizer.push(token_ids), None

    def _push_each(self, token_ids: Sequence[int]) -> tuple[str, str | None]:
        """One by one, to know at which token a stop string was complete."""
        parts = []
        for token_id in token_ids:
            self.num_tokens += 1
            text, stop = self._match(self._detokenizer.push([token_id]))
            parts.append(text)
            if stop is not None:
                return "".join(parts), stop
        return "".join(parts), None

    def _match(self, text: str) -> tuple[str, str | None]:
        if self.num_tokens <= self._min_tokens:
            return text, None  # what the first tokens say cannot stop
        return self._stops.push(text)
