"""Small tokenizers of each kind, trained in a moment on text that ships with Python."""

import json
from functools import cache
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as Core
from tokenizers.trainers import BpeTrainer

from inferd.engine.text.tokenizer import Tokenizer

SPECIAL = ["<s>", "</s>", "<|im_start|>", "<|im_end|>"]
NAMES = {"bos_token": "<s>", "eos_token": "</s>"}


def _text() -> list[str]:
    code = Path(json.__file__).read_text()
    return [*code.splitlines(), "Hello, world. The quick brown fox; 'quoted' words, and so on."] * 3


def _train(core: Core, **options: Any) -> Core:
    core.train_from_iterator(_text(), BpeTrainer(vocab_size=500, show_progress=False, **options))
    return core


@cache
def byte_level_core() -> Core:
    """As GPT-2, Llama 3 and Qwen have it."""
    core = Core(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    _train(core, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=SPECIAL)
    core.add_tokens(["<tool call>", "naïve"])
    core.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 0)])
    return core


@cache
def byte_fallback_core() -> Core:
    """As Llama 2 and Phi-3 have it: words begin with ▁, unknown characters become bytes."""
    core = Core(models.BPE())
    core.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    model = json.loads(_train(core).to_str())["model"]
    vocab = {token: place for place, token in enumerate(["<unk>", *SPECIAL])}
    vocab |= {f"<0x{byte:02X}>": len(vocab) + byte for byte in range(256)}
    vocab |= {token: len(vocab) + place for token, place in model["vocab"].items()}
    merges = [tuple(pair) for pair in model["merges"]]
    full = Core(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    full.normalizer = core.normalizer
    full.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    full.add_special_tokens([AddedToken(text, normalized=False) for text in ["<unk>", *SPECIAL]])
    full.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 1)])
    return full


@cache
def metaspace_core() -> Core:
    """As T5 and its like have it; unknown characters are lost."""
    core = Core(models.BPE(unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Metaspace()
    core.decoder = decoders.Metaspace()
    return _train(core, special_tokens=["<unk>", *SPECIAL])


@cache
def byte_level() -> Tokenizer:
    return Tokenizer(byte_level_core(), NAMES)


@cache
def byte_fallback() -> Tokenizer:
    return Tokenizer(byte_fallback_core(), NAMES)


@cache
def metaspace() -> Tokenizer:
    return Tokenizer(metaspace_core(), NAMES)


ALL = [byte_level, byte_fallback, metaspace]
