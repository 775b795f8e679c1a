"""Train the model and write its folder: `python -m examples.tiny_llama.train`.

It needs torch, tokenizers and rich, and takes some minutes on two cores. Seeds are fixed: the same
Python, torch and machine make the same model.
"""

import argparse
import json
import time
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from tokenizers import Tokenizer

from examples.tiny_llama.card import Making, card
from examples.tiny_llama.chat import BEGIN, END
from examples.tiny_llama.model import Llama, LlamaConfig, save_model
from examples.tiny_llama.texts import Texts
from examples.tiny_llama.tokenizer import save_tokenizer, train_tokenizer
from examples.tiny_llama.training import measure, train

HERE = Path(__file__).parent
STEPS = 1500


def main() -> None:
    """Train, measure, write."""
    arguments = _arguments()
    torch.manual_seed(arguments.seed)
    torch.set_num_threads(arguments.threads)
    console, texts = Console(), Texts(arguments.seed)
    config = LlamaConfig()
    tokenizer = train_tokenizer(texts.each(), config.vocab_size)
    model = Llama(config)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    console.print(f"{parameters:,} parameters, {tokenizer.get_vocab_size():,} tokens")
    seconds = _train(model, tokenizer, texts, arguments.steps, console)
    with torch.no_grad():  # what is measured is what is written
        for parameter in model.parameters():
            parameter.copy_(parameter.to(torch.bfloat16))
    held_out = texts.held_out_chats()
    quality = measure(model, tokenizer, held_out)
    console.print(
        f"held-out perplexity {quality.perplexity:.2f}, {quality.bits_a_byte:.3f} bits a byte"
    )
    arguments.out.mkdir(parents=True, exist_ok=True)
    ids = {"bos_token_id": tokenizer.token_to_id(BEGIN), "eos_token_id": tokenizer.token_to_id(END)}
    save_model(model, arguments.out, ids)
    save_tokenizer(tokenizer, arguments.out, config.max_position_embeddings)
    kept = json.dumps(held_out, indent=0, ensure_ascii=False)
    (arguments.out / "held_out.json").write_text(kept + "\n")
    making = Making(parameters, arguments.steps, seconds, arguments.threads, len(held_out), quality)
    (arguments.out / "README.md").write_text(card(making))
    console.print(f"wrote {arguments.out}")


def _train(model: Llama, tokenizer: Tokenizer, texts: Texts, steps: int, console: Console) -> float:
    """Seconds that it took."""
    columns = (
        TextColumn("train"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[said]}"),
        TimeRemainingColumn(),
    )  # fmt: skip
    start_s = time.perf_counter()
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("train", total=steps, said="")

        def told(step: int, loss: float, speed: float) -> None:
            said = f"loss {loss:.3f}, {speed:,.0f} tokens/s"
            progress.update(task, completed=step, said=said)
            if not console.is_terminal and step % 100 == 0:
                console.print(f"step {step} of {steps}: {said}")

        train(model, tokenizer, texts.next, steps, told)
    return time.perf_counter() - start_s


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m examples.tiny_llama.train", description=__doc__
    )
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=HERE / "model", help="the model's folder")
    return parser.parse_args()


if __name__ == "__main__":
    main()
