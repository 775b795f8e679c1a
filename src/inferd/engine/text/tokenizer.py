"""A Tokenizer: a model folder's own text-to-token rules, whichever version of transformers wrote
them.

`tokenizer.json` is what counts, as for transformers 5; the files beside it say which tokens are
special and what they are for. It refuses to know the model, and guesses nothing from its name.
"""

import json
import re
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inferd.engine.text.byte_level import BytePieces
from inferd.engine.text.extra import needs_extra
from inferd.errors import ConfigError, InvalidRequest

if TYPE_CHECKING:
    import tokenizers

Json = dict[str, Any]

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_ROLES = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")


class Tokenizer:
    """Encodes and decodes. Safe to use from several threads; holds nothing of a request.

    `special_tokens` maps names as chat templates know them ("bos_token") to text. `chat_templates`
    maps a template's name ("default", "tool_use") to its text; empty where the model has none.
    `eos_token_ids` are all tokens that end a text, those of generation_config.json included.
    """

    def __init__(
        self,
        core: "tokenizers.Tokenizer",
        special_tokens: dict[str, str] | None = None,
        *,
        eos_token_ids: tuple[int, ...] = (),
        chat_templates: dict[str, str] | None = None,
    ) -> None:
        self.core = core
        self.special_tokens = special_tokens or {}
        self.chat_templates = chat_templates or {}
        self.bos_token_id = self._special_id("bos_token")
        self.eos_token_id = self._special_id("eos_token")
        own = () if self.eos_token_id is None else (self.eos_token_id,)
        self.eos_token_ids = tuple(dict.fromkeys((*own, *eos_token_ids)))

    @classmethod
    def load(cls, model_dir: str | Path) -> "Tokenizer":
        """Read a model folder; raises ConfigError when it has no usable tokenizer.json."""
        folder = Path(model_dir)
        with needs_extra("tokenizers"):
            import tokenizers
        config = _read_json(folder / "tokenizer_config.json")
        special = _read_json(folder / "special_tokens_map.json")
        special |= {name: value for name, value in config.items() if value is not None}
        core = _load_core(folder / "tokenizer.json", tokenizers)
        names = {
            f"{role}_token": text
            for role in _ROLES
            if (text := _text(special.get(f"{role}_token"))) is not None
        }
        named, unnamed = _extra(special)
        _add_tokens(core, config, [*names.values(), *named.values(), *unnamed])
        return cls(
            core,
            names | named,
            eos_token_ids=_ids(_read_json(folder / "generation_config.json").get("eos_token_id")),
            chat_templates=_chat_templates(folder, config),
        )

    @property
    def vocab_size(self) -> int:
        """How many tokens there are, added ones included; a model may have logits for more."""
        return self.core.get_vocab_size(with_added_tokens=True)

    @cached_property
    def special_ids(self) -> frozenset[int]:
        """The tokens that `skip_special_tokens` leaves out."""
        added = self.core.get_added_tokens_decoder()
        return frozenset(token_id for token_id, token in added.items() if token.special)

    @cached_property
    def byte_pieces(self) -> BytePieces | None:
        """The bytes of each token, where the tokenizer is byte-level and text is just those bytes
        in a row; None where a token's text depends on its neighbours."""
        with needs_extra("tokenizers"):
            from tokenizers.decoders import ByteLevel
        return BytePieces(self.token) if isinstance(self.core.decoder, ByteLevel) else None

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """Token ids of `text`. Special tokens written in it become themselves; those that open and
        close a text are added where `add_special_tokens` says so and tokenizer.json has a rule for
        it. (`add_bos_token` in tokenizer_config.json says the same once more, or is out of date.)

        Raises InvalidRequest for text with half a surrogate pair, which is no text.
        """
        try:
            return self.core.encode(text, add_special_tokens=add_special_tokens).ids
        except (TypeError, UnicodeEncodeError) as error:
            raise InvalidRequest(
                "the text is not valid Unicode (it has half of a surrogate pair); correct it"
            ) from error

    def decode(self, ids: list[int], skip_special_tokens: bool = True) -> str:
        """The text of `ids`; ids that are no tokens are left out."""
        return self.core.decode(ids, skip_special_tokens=skip_special_tokens)

    def token(self, token_id: int) -> str | None:
        """A token as the vocabulary writes it ("Ġthe", "▁the"); None for an id that is none."""
        return self.core.id_to_token(token_id) if 0 <= token_id < 2**32 else None

    def byte(self, token_id: int) -> int | None:
        """The byte that a token stands for, of a character without a token of its own; None for
        all other tokens, and for all tokens of tokenizers that do not fall back to bytes."""
        token = self.token(token_id) if self._falls_back_to_bytes else None
        match = None if token is None else _BYTE.fullmatch(token)
        return None if match is None else int(match[1], 16)

    @cached_property
    def _falls_back_to_bytes(self) -> bool:
        decoder = self.core.decoder
        return decoder is not None and decoder.decode(["<0x41>"]) == "A"

    def token_bytes(self, token_id: int) -> bytes:
        """What a token adds in the middle of a text, as UTF-8, perhaps part of a character."""
        if self.byte_pieces is not None:
            return self.byte_pieces[token_id]
        byte = self.byte(token_id)
        if byte is not None:
            return bytes([byte])
        # Decoders drop the space before the first word, so the second of two is looked at.
        once, twice = (self.decode([token_id] * times, False) for times in (1, 2))
        return twice[len(once) :].encode()

    def token_id(self, token: str) -> int | None:
        """The id of a token as the vocabulary writes it; None when there is no such token."""
        return self.core.token_to_id(token)

    def _special_id(self, name: str) -> int | None:
        text = self.special_tokens.get(name)
        return None if text is None else self.core.token_to_id(text)


def _load_core(file: Path, library: Any) -> "tokenizers.Tokenizer":
    if not file.is_file():
        raise ConfigError(
            "the model has no tokenizer.json; make one with transformers: "
            "AutoTokenizer.from_pretrained(FOLDER, use_fast=True).save_pretrained(FOLDER)",
            file=str(file),
        )
    try:
        core: tokenizers.Tokenizer = library.Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises bare Exception
        raise ConfigError(
            f"not a tokenizer that this version of tokenizers reads ({error}); download the file "
            "again or upgrade: pip install --upgrade tokenizers",
            file=str(file),
        ) from error
    # Some files keep the settings of a training run, which would cut and fill prompts silently.
    core.no_truncation()
    core.no_padding()
    return core


def _add_tokens(core: "tokenizers.Tokenizer", config: Json, special: list[str]) -> None:
    """Add what tokenizer_config.json knows and tokenizer.json lacks, and mark special tokens."""
    with needs_extra("tokenizers"):
        from tokenizers import AddedToken
    known = {token.content: token for token in core.get_added_tokens_decoder().values()}
    fields = ("single_word", "lstrip", "rstrip", "normalized", "special")
    listed = config.get("added_tokens_decoder") or {}
    for _, token in sorted(listed.items(), key=lambda item: int(item[0])):
        if token["content"] not in known:
            flags = {name: bool(token[name]) for name in fields if name in token}
            added = AddedToken(token["content"], **flags)
            known[added.content] = added
            (core.add_special_tokens if added.special else core.add_tokens)([added])
    for text in special:
        if text not in known or not known[text].special:
            core.add_special_tokens([AddedToken(text, normalized=False, special=True)])


def _extra(special: Json) -> tuple[dict[str, str], list[str]]:
    """Special tokens without a common role, those with a name and those without: transformers 4
    and 5 list them under names that differ, and models that name theirs write an object."""
    named: dict[str, str] = {}
    unnamed: list[str] = []
    for field in ("additional_special_tokens", "extra_special_tokens"):
        tokens = special.get(field) or []
        if isinstance(tokens, dict):
            named |= {name: text for name, token in tokens.items() if (text := _text(token))}
        else:
            unnamed += [text for token in tokens if (text := _text(token))]
    return named, unnamed


def _chat_templates(folder: Path, config: Json) -> dict[str, str]:
    """A file of its own goes before tokenizer_config.json; further ones lie in a folder."""
    written = config.get("chat_template")
    templates: dict[str, str] = {}
    if isinstance(written, str):
        templates["default"] = written
    elif isinstance(written, dict):
        templates.update(written)
    elif isinstance(written, list):
        templates.update({entry["name"]: entry["template"] for entry in written})
    for file in [
        folder / "chat_template.jinja",
        *sorted(folder.glob("additional_chat_templates/*.jinja")),
    ]:
        if file.is_file():
            name = "default" if file.parent == folder else file.stem
            templates[name] = file.read_text(encoding="utf-8")
    return templates


def _read_json(file: Path) -> Json:
    if not file.is_file():
        return {}
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(
            f"not valid JSON ({error}); download the file again", file=str(file)
        ) from error
    return content if isinstance(content, dict) else {}


def _text(token: Any) -> str | None:
    """A token written as text or as an object with flags."""
    content = token.get("content") if isinstance(token, dict) else token
    return content if isinstance(content, str) and content else None


def _ids(value: Any) -> tuple[int, ...]:
    values = value if isinstance(value, list) else [value]
    return tuple(token_id for token_id in values if isinstance(token_id, int))
