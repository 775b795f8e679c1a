"""Small random encoders of every task, saved by transformers with a tokenizer of their own: made in
a moment, each once in a run of the tests. It refuses to know inferd."""

import atexit
import functools
import json
import shutil
import string
import tempfile
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

torch.set_num_threads(1)  # these models are too small for more

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
WORDS = [
    "the",
    "cat",
    "sat",
    "on",
    "a",
    "mat",
    "my",
    "name",
    "is",
    "paris",
    "berlin",
    "lives",
    "in",
    "who",
    "where",
    "what",
    "anna",
]
LETTERS = [*string.ascii_lowercase, *(f"##{c}" for c in string.ascii_lowercase), ".", "?", ","]
VOCABULARY = {
    token: index for index, token in enumerate(dict.fromkeys((*SPECIAL, *LETTERS, *WORDS)))
}
MAX_LEN = 64
SMALL: dict[str, Any] = {
    "vocab_size": len(VOCABULARY), "hidden_size": 32, "num_hidden_layers": 2,
    "num_attention_heads": 4, "intermediate_size": 48, "max_position_embeddings": MAX_LEN,
    "pad_token_id": 0, "initializer_range": 0.5,
}  # fmt: skip
NAMES = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]


def tokenizer() -> transformers.PreTrainedTokenizerFast:
    """Word pieces as BERT's, letters for what it has no word for."""
    core = Tokenizer(models.WordPiece(VOCABULARY, unk_token="[UNK]"))
    core.normalizer = normalizers.BertNormalizer()
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(t, VOCABULARY[t]) for t in ("[CLS]", "[SEP]")],
    )  # fmt: skip
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]",
        sep_token="[SEP]", mask_token="[MASK]", model_max_length=MAX_LEN,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )  # fmt: skip


def labels(*names: str) -> dict[str, Any]:
    """A configuration's labels."""
    return {"id2label": dict(enumerate(names)), "label2id": {n: i for i, n in enumerate(names)}}


@functools.cache
def _root() -> Path:
    root = Path(tempfile.mkdtemp(prefix="encoders-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    return root


@functools.cache
def saved(architecture: str, **more: Any) -> Path:
    """The folder of a BERT with that head; `more` goes into its configuration, labels as the names
    of `labels`, joined by spaces."""
    names = more.pop("names", "")
    config = transformers.BertConfig(**SMALL | more | (labels(*names.split()) if names else {}))
    return save(architecture, config, f"{architecture}-{abs(hash((names, *more.items())))}")


def save(architecture: str, config: transformers.PretrainedConfig, name: str) -> Path:
    """Make and save a model of any kind."""
    torch.manual_seed(11)
    folder = _root() / name
    getattr(transformers, architecture)(config).eval().save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def copy_of(folder: Path, to: Path) -> Path:
    """A folder that a test may spoil."""
    return Path(shutil.copytree(folder, to))


def edit(file: Path, **fields: Any) -> None:
    """Set fields of a JSON file."""
    said = json.loads(file.read_text()) if file.is_file() else {}
    file.write_text(json.dumps(said | fields))


def add_modules(folder: Path, *kinds: str, **configs: dict[str, Any]) -> Path:
    """Make a folder of sentence-transformers of one of transformers: `kinds` come behind the
    transformer; `configs` are theirs by kind."""
    listed = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}
    ]
    for index, kind in enumerate(kinds, 1):
        path = f"{index}_{kind}"
        kind_type = f"sentence_transformers.models.{kind}"
        listed.append({"idx": index, "name": str(index), "path": path, "type": kind_type})
        (folder / path).mkdir()
        if kind in configs:
            (folder / path / "config.json").write_text(json.dumps(configs[kind]))
    (folder / "modules.json").write_text(json.dumps(listed))
    return folder
