"""Model folders with a tokenizer: what `LLM` and the server load."""

import json
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from engine.checkpoints import copied


def with_tokenizer(name: str, to: Path) -> Path:
    """A copy of model `name` with a byte-level tokenizer: ids 0 to 255 are bytes, 256 ends."""
    path = copied(name, to)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE({char: n for n, char in enumerate(alphabet)}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([AddedToken("<|end|>", special=True)])
    core.save(str(path / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|end|>"}
    (path / "tokenizer_config.json").write_text(json.dumps(settings))
    return path
