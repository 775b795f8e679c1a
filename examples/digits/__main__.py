"""Train a classifier of handwritten digits, serve it with inferd, ask it over HTTP.

Serves on until Ctrl-C, unless DEMO_ONCE=1. Ends with 1 when a request failed, when inferd and
scikit-learn disagree about an image, or when too many answers were wrong.
"""

import os
import shlex
import signal
import sys
from pathlib import Path

import numpy as np
from rich.columns import Columns
from rich.console import Console
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from examples.digits.client import PATH, Answers, ask, request_body
from examples.digits.model import EPOCHS, Array, Digits, export, load_images, train
from examples.server import HOST, ServerFailed, choose_port, running, serve_on

FOLDER = Path(".demo")
LEAST_ACCURACY = 0.9
THREADS = 8
ROUNDS = 10
BATCH = 32
SHOWN = 6
INK = " .:-=+*#%@"


def main() -> int:
    """The exit status."""
    signal.signal(signal.SIGTERM, _interrupt)
    console = Console()
    try:
        return run(console, once=os.environ.get("DEMO_ONCE", "") not in ("", "0"))
    except ServerFailed as error:
        console.print(f"[red]failed[/]: {error}", highlight=False)
        return 1
    except KeyboardInterrupt:
        console.print("stopped")
        return 130


def run(console: Console, once: bool) -> int:
    """The whole demo."""
    digits = load_images()
    with _progress(console) as progress:
        task = progress.add_task("train", total=EPOCHS)
        classifier = train(digits, lambda: progress.advance(task))
    model = FOLDER / "models" / "digits" / "1" / "model.onnx"
    export(classifier, model)
    console.print(f"wrote {model}, {model.stat().st_size:,} bytes")

    port, log = choose_port(8000), FOLDER / "server.log"
    console.print(f"starting: inferd serve {FOLDER / 'models'} --http-port {port}")
    with running(FOLDER / "models", port, log) as process:
        console.print(f"ready at http://{HOST}:{port} (log: {log})")
        with _progress(console) as progress:
            single = _ask(progress, "one image a request", port, digits.test_images, 1)
            batched = _ask(progress, f"{BATCH} images a request", port, digits.test_images, BATCH)
        expected = classifier.predict(digits.test_images)
        status = report(console, digits, expected, {"single": single, "batched": batched})
        if once:
            return status
        console.print("\ntry it:", curl_line(port, digits.test_images[0]), soft_wrap=True,
                      markup=False, highlight=False)  # fmt: skip
        console.print(f"pages: http://{HOST}:{port}/docs and http://{HOST}:{port}/metrics")
        console.print("serving; Ctrl-C stops")
        serve_on(process, log)
    console.print("stopped")
    return status


def report(console: Console, digits: Digits, expected: Array, asked: dict[str, Answers]) -> int:
    """Show what was answered; 1 when anything was not as it should be."""
    truth, failed = digits.test_labels, False
    console.print(f"\nscikit-learn itself: accuracy {np.mean(expected == truth):.4f}")
    for name, answers in asked.items():
        got = np.array([answers.labels.get(index, -1) for index in range(len(truth))])
        accuracy = float(np.mean(got == truth))
        differ = int(np.sum(got != expected))
        console.print(
            f"inferd, {name} images: accuracy {accuracy:.4f}, {differ} answered otherwise; "
            f"{answers.requests} requests, {len(answers.failures)} failed, "
            f"{answers.requests / answers.seconds:,.0f} requests/s",
            soft_wrap=True,
        )
        for failure in answers.failures[:3]:
            console.print(f"  {failure}", markup=False)
        failed = failed or bool(answers.failures) or differ > 0 or accuracy < LEAST_ACCURACY
    console.print(f"(one Python client with {THREADS} threads asks: it, too, needs its time)")
    labels = asked["single"].labels
    shown = [
        Panel(ascii_art(digits.test_images[index]), expand=False,
              title=f"says {labels.get(index, '?')}, is {truth[index]}")
        for index in range(SHOWN)
    ]  # fmt: skip
    console.print(Columns(shown))
    console.print("[red]not as it should be[/]" if failed else "[green]all as it should be[/]")
    return 1 if failed else 0


def ascii_art(image: Array) -> str:
    """Eight lines of sixteen characters, darker for more ink."""
    levels = (image.reshape(8, 8) / 16 * (len(INK) - 1)).round().astype(int)
    return "\n".join("".join(INK[level] * 2 for level in row) for row in levels.tolist())


def curl_line(port: int, image: Array) -> str:
    """A command that asks for one image."""
    body = shlex.quote(request_body(image.astype(int).reshape(1, 64)).decode().replace(" ", ""))
    return f"curl -s http://{HOST}:{port}{PATH} -d {body}"


def _ask(progress: Progress, text: str, port: int, images: Array, batch: int) -> Answers:
    task = progress.add_task(text, total=ROUNDS * -(-len(images) // batch))
    return ask(port, images, batch, ROUNDS, THREADS, lambda: progress.advance(task))


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description:20}"), BarColumn(), MofNCompleteColumn(),
        TimeElapsedColumn(), console=console,
    )  # fmt: skip


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
