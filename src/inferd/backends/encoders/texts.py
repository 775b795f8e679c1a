"""From texts to tokens: a model's tokenizer (its Rust half, which releases the GIL), set once to
what its task needs.

It refuses to know the model behind it.
"""

from collections.abc import Sequence
from typing import Any, Literal

from tokenizers import Encoding, Tokenizer

from inferd.errors import BackendError, InvalidRequest
from inferd.types.tensor import Array

Truncation = Literal["truncate", "refuse"]
Item = str | tuple[str, str]
"""A text, or two."""


class TextReader:
    """Makes tokens of texts; may be used from several threads.

    `max_length` counts special tokens. `offsets` keeps where in its text each token is; `stride` is
    for `windows`.
    """

    def __init__(
        self, tokenizer: Any, max_length: int, truncation: Truncation, *, offsets: bool = False,
        stride: int | None = None,
    ) -> None:  # fmt: skip
        if not tokenizer.is_fast:
            raise BackendError(
                "the tokenizer has no tokenizer.json; load it with AutoTokenizer and save it again "
                "with save_pretrained(folder)"
            )
        core = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        core.no_padding()
        core.no_truncation()
        self._whole = core if stride is None else Tokenizer.from_str(core.to_str())
        if stride is None:
            core.enable_truncation(max_length, strategy="longest_first")
        else:
            core.enable_truncation(max_length, stride=stride, strategy="only_second")
        # Where in a text its tokens are is much of the work, and few tasks want to know.
        self._encode = core.encode_batch if offsets else core.encode_batch_fast
        self._core = core
        self._stride = stride or 0
        self._truncation = truncation
        self.max_length = max_length

    def read(self, items: Sequence[Item]) -> list[Encoding]:
        """Tokens of each item, special tokens among them; raises InvalidRequest."""
        found: list[Encoding] = self._encode(list(items))
        if self._truncation == "refuse":
            for encoding in found:
                if encoding.overflowing:
                    raise self._too_long(encoding)
        return found

    def windows(self, questions: Sequence[str], contexts: Sequence[str]) -> list[list[Encoding]]:
        """Tokens of each question and context, in as many windows of the context as it takes, each
        `stride` tokens into the one before it; raises InvalidRequest."""
        room = self.max_length - self._core.num_special_tokens_to_add(True)
        for question in questions:
            count = len(self._whole.encode(question, add_special_tokens=False).ids)
            if count >= room - self._stride:
                raise InvalidRequest(
                    f"question has {count} tokens, which leaves too little of the "
                    f"{self.max_length} that are read at once for the context; shorten it"
                )
        found: list[Encoding] = self._encode(list(zip(questions, contexts, strict=True)))
        if self._truncation == "refuse":
            for encoding in found:
                if encoding.overflowing:
                    raise self._too_long(encoding)
        return [[encoding, *encoding.overflowing] for encoding in found]

    def _too_long(self, encoding: Encoding) -> InvalidRequest:
        return InvalidRequest(
            f"a text has more tokens than are read; the model's maximum context length is "
            f"{self.max_length} tokens. Shorten the text that begins "
            f"'{_beginning(self._core, encoding)}', or have the model's parameter truncation say "
            "truncate"
        )


def _beginning(core: Tokenizer, encoding: Encoding) -> str:
    """The first words of a text, as its tokens say them."""
    text: str = core.decode(encoding.ids[:16], skip_special_tokens=True)
    return text[:60]


def texts_of(array: Array, name: str) -> list[str]:
    """The texts of a BYTES array [N]; raises InvalidRequest for what is not UTF-8."""
    try:
        return [bytes(entry).decode() for entry in array]
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{name} must be UTF-8 text: {error.reason}") from None
