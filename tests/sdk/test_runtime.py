"""A class brought to life: load, runs, streams, what its author's code does wrong."""

import asyncio
import logging
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

import msgspec
import numpy as np
import numpy.typing as npt
import pytest

import inferd
from inferd.errors import BackendError, InvalidRequest, ModelUnavailable, Overloaded, Unsupported
from inferd.sdk.call import Call
from inferd.sdk.card import ModelCard
from inferd.sdk.runtime import ModelRuntime
from sdk.calls import failure, loaded, outputs, run, texts

NUMBER = np.array([3])


class Greeter(inferd.Model, device="cuda"):
    """Says hello."""

    def __init__(self) -> None:
        self.made_for = self.name

    def load(self) -> None:
        self.greeting = f"Hello from {self.device}"

    def predict(self, name: str, times: int = 1) -> str:
        """Greet somebody.

        As often as you like.
        """
        return f"{self.greeting}, {name}" * times

    def explain(self, name: str) -> dict[str, int]:
        return {"length": len(name)}


def test_a_model_is_made_loaded_run_and_let_go() -> None:
    runtime = loaded(Greeter, name="hello", device="cpu")
    assert runtime.model.made_for == "hello"  # type: ignore[attr-defined]
    assert runtime.model.log.name == "inferd.model.hello"
    assert outputs(run(runtime, texts("Ada"), np.array([2]))[0]) == [
        [b"Hello from cpu, AdaHello from cpu, Ada"]
    ]
    runtime.unload()
    runtime.unload()
    assert "is not loaded" in failure(run(runtime, texts("Ada"), None)[0], ModelUnavailable)


def test_it_is_the_same_class_without_anything_around() -> None:
    model = Greeter()
    model.load()
    assert model.predict("Ada") == "Hello from cuda, Ada"


def test_the_card_tells_all_and_crosses_processes() -> None:
    card = ModelRuntime(Greeter).card
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(card), type=ModelCard) == card
    assert msgspec.json.decode(msgspec.json.encode(card), type=ModelCard) == card
    assert card.signature.description == "Greet somebody.\n\nAs often as you like."
    assert [(t.name, t.datatype, t.shape, t.optional) for t in card.inputs] == [
        ("name", "BYTES", (1,), False), ("times", "INT64", (1,), True),
    ]  # fmt: skip
    assert card.defaults["times"].array().tolist() == [1]
    assert card.explain is not None
    assert [t.name for t in card.explain_inputs] == ["name"]
    assert (card.batched, card.is_async, card.streams, card.has_asgi) == (False,) * 4


def test_explain_has_arguments_of_its_own() -> None:
    assert outputs(run(Greeter, texts("Ada"), method="explain")[0]) == [[b'{"length":3}']]
    plain = type("Plain", (inferd.Model,), {"predict": Greeter.predict})
    assert "has no method 'explain'" in failure(
        run(plain, texts("a"), method="explain")[0], Unsupported
    )


class Whole(inferd.Model):
    def preprocess(self, text: str) -> tuple[str, int]:
        return text.upper(), len(text)

    def predict(self, text, length):  # type: ignore[no-untyped-def]
        return text, length

    def postprocess(self, pair: tuple[str, int]) -> str:
        return f"{pair[0]}/{pair[1]}"


def test_preprocess_takes_and_postprocess_gives() -> None:
    assert outputs(run(Whole, texts("abc"))[0]) == [[b"ABC/3"]]


def raising(error: BaseException, where: str = "predict") -> type[inferd.Model]:
    class Raising(inferd.Model):
        def predict(self, x: int) -> int:
            return self.fail() if where == "predict" else x

        def fail(self) -> int:
            raise error

    if where != "predict":
        setattr(Raising, where, Raising.fail)
    return Raising


def test_what_predict_raises_is_told_and_logged_with_its_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    (outcome,) = run(raising(ValueError("no such digit")), NUMBER)
    assert failure(outcome, BackendError) == "ValueError: no such digit"
    (record,) = caplog.records
    assert record.name == "inferd.model.Raising"
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None
    assert record.exc_info[1] is not None
    assert str(record.exc_info[1]) == "no such digit"


def test_sys_exit_costs_only_the_call() -> None:
    assert failure(run(raising(SystemExit(3)), NUMBER)[0], BackendError) == "SystemExit: 3"


def test_an_error_of_inferd_stays_what_it_is() -> None:
    error = Overloaded("later", retry_after_s=7)
    assert run(raising(error), NUMBER) == [error]
    with pytest.raises(Overloaded) as raised:
        loaded(raising(error, "load"))
    assert raised.value is error
    assert error.__cause__ is None
    assert failure(run(raising(inferd.InvalidRequest("too dark")), NUMBER)[0], InvalidRequest) == (
        "too dark"
    )


@pytest.mark.parametrize("where", ["load", "__init__"])
def test_what_load_raises_is_told(where: str) -> None:
    runtime = ModelRuntime(raising(KeyError("weights"), where))
    with pytest.raises(BackendError, match=rf"Raising\.{where} raised KeyError: 'weights'"):
        runtime.load()
    with pytest.raises(ModelUnavailable, match="is not loaded"):
        _ = runtime.model


def test_what_unload_raises_is_told_and_the_model_is_gone() -> None:
    runtime = loaded(raising(OSError("busy"), "unload"))
    with pytest.raises(BackendError, match=r"Raising\.unload raised OSError: busy"):
        runtime.unload()
    assert "is not loaded" in failure(run(runtime, NUMBER)[0], ModelUnavailable)


class Doubled(inferd.Model, max_batch_size=8):
    calls = 0

    def predict(self, x: list[int], y: npt.NDArray[np.float32]) -> list[int]:
        Doubled.calls += 1
        if min(x) < 0:
            raise ValueError("negative")
        return [2 * value for value in x]


def test_a_failed_batch_has_one_error_for_all() -> None:
    first, second = run(Doubled, np.array([1, -1]), np.zeros(2, np.float32), rows=[1, 1])
    assert first is second
    assert failure(first, BackendError) == "ValueError: negative"


def test_a_call_that_is_wrong_as_a_whole_does_not_run() -> None:
    before = Doubled.calls
    zeros = np.zeros(2, np.float32)
    for arrays, rows, words in [
        ([np.array([1, 2])], [2], "the model takes 2 arguments, got 1"),
        ([np.array([1]), zeros], [2], "argument 'x': expected a batch of 2, got shape [1]"),
        ([np.array([1, 2]), None], [1, 1], "argument 'y' is missing"),
        ([np.array([1.5, 2.5]), zeros], [1, 1], "argument 'x': expected int"),
    ]:
        for outcome in run(Doubled, *arrays, rows=rows):
            assert words in failure(outcome, InvalidRequest)
    assert Doubled.calls == before


class Counter(inferd.Model, max_sessions=2, session_idle_s=10):
    def predict(self, step: int, session: inferd.Session) -> int:
        session.state["n"] = session.state.get("n", 0) + step
        return int(session.state["n"])


def test_a_session_keeps_state_from_call_to_call() -> None:
    now = [0.0]
    runtime = ModelRuntime(Counter, clock=lambda: now[0])
    runtime.load()
    assert runtime.card.signature.sessions
    assert [i.name for i in runtime.card.signature.inputs] == ["step"]

    def step(session: str) -> Any:
        return outputs(run(runtime, NUMBER, sessions=[session])[0])[0][0]

    assert [step("a"), step("a"), step("b"), step(""), step("")] == [3, 6, 3, 3, 3]
    now[0] = 10.0
    assert step("a") == 3
    runtime.unload()
    runtime.load()
    assert step("a") == 3


Positive = Annotated[int, inferd.Field(ge=1)]


def test_a_batch_has_a_session_for_each_item() -> None:
    class Names(inferd.Model, max_batch_size=8):
        def predict(self, x: list[Positive], of: list[inferd.Session]) -> list[str]:
            assert len(x) == len(of)
            return [session.id for session in of]

    outcomes = run(Names, np.array([1, 0, 1, 1]), rows=[2, 1, 1], sessions=["a", "b", "c"])
    assert "expected int >= 1" in failure(outcomes[0], InvalidRequest)
    assert [outputs(o) for o in outcomes[1:]] == [[[b"b"]], [[b"c"]]]


class Words(inferd.Model):
    closed = 0

    def predict(self, text: str) -> Iterator[str]:
        try:
            for word in text.split():
                if word == "bad":
                    raise ValueError("a bad word")
                yield word if word != "five" else 5  # type: ignore[misc]
        finally:
            Words.closed += 1

    def postprocess(self, word: str) -> str:
        return word.upper() if isinstance(word, str) else word


def stream(runtime: ModelRuntime, *arrays: Any) -> Any:
    return runtime.stream(Call("predict", list(arrays), [1]))


def test_a_generator_streams() -> None:
    runtime = loaded(Words)
    assert runtime.card.streams
    assert [outputs(part) for part in stream(runtime, texts("a b"))] == [[[b"A"]], [[b"B"]]]


def test_a_stream_that_is_left_closes_the_generator() -> None:
    parts, before = stream(loaded(Words), texts("a b")), Words.closed
    next(parts)
    parts.close()
    assert Words.closed == before + 1


def test_a_stream_that_fails_says_so_after_its_parts() -> None:
    for text, words in [("a bad", "ValueError: a bad word"), ("a five", "expected str, got int")]:
        parts, before = stream(loaded(Words), texts(text)), Words.closed
        assert outputs(next(parts)) == [[b"A"]]
        with pytest.raises(BackendError, match=words):
            next(parts)
        assert Words.closed == before + 1


def test_a_stream_with_wrong_arguments_does_not_begin() -> None:
    with pytest.raises(InvalidRequest, match="argument 'text': expected UTF-8"):
        next(stream(loaded(Words), texts(b"\xff")))


def test_streaming_and_not_streaming_are_told_apart() -> None:
    assert "answers with a stream" in failure(run(Words, texts("a"))[0], Unsupported)
    assert [outputs(p) for p in stream(loaded(Greeter, device="cpu"), texts("Ada"), None)] == [
        [[b"Hello from cpu, Ada"]]
    ]


def test_a_stream_is_of_one_item_and_only_predict_is_one() -> None:
    class Batched(inferd.Model, max_batch_size=2):
        def predict(self, x: list[int]) -> Iterator[int]:
            yield 1

    class After(inferd.Model):
        def predict(self, x: int) -> int:
            return x

        def postprocess(self, x: int) -> Iterator[int]:
            yield x

    with pytest.raises(TypeError, match="a stream is of one item; leave out max_batch_size"):
        ModelRuntime(Batched)
    with pytest.raises(TypeError, match=r"After\.postprocess cannot be a stream"):
        ModelRuntime(After)


class Slow(inferd.Model):
    """Two of its calls must be under way at once, or neither ends."""

    async def load(self) -> None:
        self.barrier = asyncio.Barrier(2)

    async def predict(self, x: int) -> int:
        await self.barrier.wait()
        return x

    async def unload(self) -> None:
        self.barrier = None  # type: ignore[assignment]


def test_calls_of_an_async_model_are_under_way_together() -> None:
    async def body() -> None:
        runtime = ModelRuntime(Slow)
        assert runtime.card.is_async
        await runtime.aload()
        call = Call("predict", [NUMBER], [1])
        both = await asyncio.wait_for(asyncio.gather(runtime.arun(call), runtime.arun(call)), 5)
        assert [outputs(outcome) for (outcome,) in both] == [[[3]], [[3]]]
        await runtime.aunload()

    asyncio.run(body())


def test_an_async_model_needs_an_event_loop() -> None:
    with pytest.raises(BackendError, match=r"Slow\.load is async"):
        ModelRuntime(Slow).load()

    class Unloaded(Slow):
        def load(self) -> None:  # type: ignore[override]
            pass

    assert "runs on an event loop" in failure(run(Unloaded, NUMBER)[0], Unsupported)


class Tokens(inferd.Model):
    closed = False

    async def preprocess(self, n: int) -> range:
        return range(n)

    async def predict(self, numbers: range) -> AsyncIterator[int]:
        try:
            for number in numbers:
                yield number
        finally:
            Tokens.closed = True

    async def postprocess(self, number: int) -> int:
        return number * 10


def test_an_async_generator_streams_and_is_closed() -> None:
    async def body() -> None:
        runtime = ModelRuntime(Tokens)
        await runtime.aload()
        call = Call("predict", [NUMBER], [1])
        assert [outputs(part) async for part in runtime.astream(call)] == [[[0]], [[10]], [[20]]]
        Tokens.closed = False
        parts = runtime.astream(call)
        assert outputs(await anext(parts)) == [[0]]
        await parts.aclose()
        assert Tokens.closed

    asyncio.run(body())


def test_a_plain_model_runs_and_streams_on_a_loop_too() -> None:
    async def body() -> None:
        runtime = loaded(Words)
        call = Call("predict", [texts("a b")], [1])
        assert [outputs(part) async for part in runtime.astream(call)] == [[[b"A"]], [[b"B"]]]
        greeter = loaded(Greeter, device="cpu")
        (outcome,) = await greeter.arun(Call("predict", [texts("Ada"), None], [1]))
        assert outputs(outcome) == [[b"Hello from cpu, Ada"]]

    asyncio.run(body())


def test_an_asgi_application_is_an_attribute_or_made_by_a_method() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        pass

    class Whose(Greeter):
        asgi = staticmethod(app)

    class Made(Greeter):
        def asgi(self) -> Any:
            return (self.greeting, app)

    class Own(Greeter):
        async def asgi(self, scope: Any, receive: Any, send: Any) -> None:
            pass

    assert loaded(Whose).asgi() is app
    assert loaded(Made).asgi() == ("Hello from cuda", app)
    own = loaded(Own)
    assert own.asgi() == own.model.asgi  # type: ignore[attr-defined]
    assert own.card.has_asgi
    assert loaded(Greeter).asgi() is None


def test_a_model_needs_only_numpy_and_msgspec() -> None:
    script = """
import sys
class Only:
    def find_spec(self, name, path=None, target=None):
        root = name.split(".")[0]
        if root not in sys.stdlib_module_names and root not in ("inferd", "numpy", "msgspec"):
            raise ImportError(name)
sys.meta_path.insert(0, Only())
import numpy as np, inferd
from inferd.sdk import Call, ModelRuntime
class Twice(inferd.Model, max_batch_size=4):
    def predict(self, x: list[dict[str, int]]) -> list[int]:
        return [2 * item["n"] for item in x]
runtime = ModelRuntime(Twice)
runtime.load()
sent = np.array([b'{"n":4}'], object)
print(runtime.run(Call("predict", [sent], [1]))[0][0].tolist())
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.stderr) == ("[8]\n", "")
