import itertools
import json
import random
import sys
from pathlib import Path

import pytest
import tokenizers
import torch
import transformers
from examples.tiny_llama import __main__ as demo
from examples.tiny_llama.chat import TEMPLATE, answer, conversation, question, render, spellings
from examples.tiny_llama.corpus import Entry, beginning, reference, reference_entries
from examples.tiny_llama.model import Llama, LlamaConfig, save_model
from examples.tiny_llama.tokenizer import save_tokenizer, train_tokenizer
from examples.tiny_llama.training import measure, train
from rich.console import Console

from inferd.engine.text.chat_template import ChatTemplate
from inferd.engine.text.tokenizer import Tokenizer

MODEL = demo.MODEL
MOST_BYTES = 10_000_000
SMALL = LlamaConfig(
    vocab_size=320, hidden_size=64, intermediate_size=96, num_hidden_layers=2,
    num_attention_heads=4, num_key_value_heads=2, head_dim=16, max_position_embeddings=64,
)  # fmt: skip
WITH = Entry("the `with` statement", "topic", "Wraps the execution of a block.")


# -- the text ----------------------------------------------------------------------------------


def test_the_reference_has_chapters_sections_and_methods() -> None:
    found = {entry.name: entry for entry in reference_entries()}
    assert found["the `with` statement"].kind == "topic"
    assert found["str.join"].text.startswith("Return a string which is the concatenation")
    assert "section" in {entry.kind for entry in found.values()}
    assert len(reference()) > 70


def test_an_answer_ends_with_a_paragraph_or_a_sentence() -> None:
    assert beginning("One.\n\n" + "two " * 200) == "One."
    assert beginning("One. " * 200).endswith("One.")
    assert len(beginning("One. " * 200)) <= 320


def test_questions_name_what_they_ask_for() -> None:
    rng = random.Random(0)
    asked = {question(WITH, rng) for _ in range(200)}
    assert {"What is `with`?", "Explain the with statement."} <= asked
    assert spellings(Entry("str.join", "method", "Joins.")) == ("`str.join`",)
    assert answer(Entry("str.join", "method", "Joins.")) == "`str.join`: Joins."
    assert answer(WITH) == "The `with` statement: Wraps the execution of a block."


def test_a_chat_is_written_as_the_template_writes_it() -> None:
    messages = conversation([WITH, WITH], random.Random(1))
    template = ChatTemplate(TEMPLATE, {"bos_token": "<|begin|>"})
    assert template.render(messages, add_generation_prompt=False) == render(messages)
    assert template.render(messages[:1]).endswith("<|end|>\n<|assistant|>\n")


# -- training ----------------------------------------------------------------------------------


def trained(text: str) -> tuple[tokenizers.Tokenizer, Llama, list[float]]:
    """A few steps on one text over and over, and the losses."""
    torch.manual_seed(0)
    torch.set_num_threads(1)  # several would wait for each other beside other tests
    tokenizer, model = train_tokenizer([text], SMALL.vocab_size), Llama(SMALL)
    losses: list[float] = []
    train(model, tokenizer, lambda _: text, 4, lambda _, loss, __: losses.append(loss))
    return tokenizer, model, losses


def test_a_training_makes_a_folder_that_transformers_reads_alike(tmp_path: Path) -> None:
    """The same seed makes the same model, it learns, and transformers computes the same."""
    text = render(conversation([WITH], random.Random(0)))
    tokenizer, model, losses = trained(text)
    assert losses == trained(text)[2]
    assert losses[-1] < losses[0]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.to(torch.bfloat16))
    save_model(model, tmp_path, {"bos_token_id": 0, "eos_token_id": 1})
    save_tokenizer(tokenizer, tmp_path, 64)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    ids = torch.tensor([tokenizer.encode(text).ids[:60]])
    with torch.no_grad():
        torch.testing.assert_close(theirs(ids).logits, model(ids), rtol=1e-4, atol=1e-5)
    assert measure(model, tokenizer, [text]).perplexity < SMALL.vocab_size


# -- the model in the repository ---------------------------------------------------------------


def test_the_folder_is_small_and_says_what_it_is() -> None:
    assert sum(file.stat().st_size for file in MODEL.iterdir()) < MOST_BYTES
    config = json.loads((MODEL / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    card = (MODEL / "README.md").read_text()
    assert "Python Software Foundation" in card
    assert "| perplexity on them |" in card


def test_the_tokenizer_begins_texts_and_leaves_chats_alone() -> None:
    tokenizer = Tokenizer.load(MODEL)
    template = ChatTemplate(tokenizer.chat_templates, tokenizer.special_tokens)
    prompt = template.render([{"role": "user", "content": "What is `len`? ✓"}])
    ids = tokenizer.encode(prompt, add_special_tokens=False)
    assert ids[0] == tokenizer.bos_token_id == 0
    assert tokenizer.eos_token_ids == (1,)
    assert tokenizer.decode(ids, skip_special_tokens=False) == prompt
    assert tokenizer.encode("len") == [0, *tokenizer.encode("len", add_special_tokens=False)]


def test_what_was_held_out_is_as_perplexing_as_the_card_says() -> None:
    """A few of the held-out texts, through transformers, near what the card has for all."""
    model = transformers.AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32)
    tokenizer = Tokenizer.load(MODEL)
    nats, count = 0.0, 0
    for text in itertools.islice(json.loads((MODEL / "held_out.json").read_text()), 40):
        ids = torch.tensor([tokenizer.encode(text, add_special_tokens=False)])
        with torch.no_grad():
            nats += model(ids, labels=ids).loss.item() * (ids.shape[1] - 1)
        count += ids.shape[1] - 1
    row = (MODEL / "README.md").read_text().split("| perplexity on them | ")[1]
    stated = float(row.split()[0])
    assert torch.exp(torch.tensor(nats / count)).item() == pytest.approx(stated, rel=0.5)


# -- the demo ----------------------------------------------------------------------------------


def test_the_demo_asks_and_is_content(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "LOG", tmp_path / "server.log")
    assert demo.run(Console(file=sys.stdout, width=200), once=True) == 0
    said = capsys.readouterr().out
    assert "all as it should be" in said
    assert said.count(" tokens, the first after ") == len(demo.QUESTIONS)
