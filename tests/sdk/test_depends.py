"""Models made of other models, without a server and behind an Ask."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest

import inferd
from inferd.errors import BackendError, InvalidRequest, ModelUnavailable, Unsupported
from inferd.sdk.ask import Arrays
from inferd.sdk.call import Call
from inferd.sdk.local import LocalAsk
from inferd.sdk.runtime import ModelRuntime
from inferd.types.signature import Signature
from sdk.calls import failure, loaded, outputs, run, texts


@dataclass
class Word:
    text: str
    length: int


class Measure(inferd.Model, max_batch_size=2, name="measure"):
    """Batched: a caller sees one item nevertheless."""

    loads = 0
    unloads = 0

    def load(self) -> None:
        Measure.loads += 1
        self.batches: list[int] = []

    def predict(self, text: list[str], bonus: list[int] = [0]) -> list[Word]:  # noqa: B006
        self.batches.append(len(text))
        return [Word(t, len(t) + b) for t, b in zip(text, bonus, strict=True)]

    def unload(self) -> None:
        Measure.unloads += 1


class Spell(inferd.Model):
    def predict(self, text: str) -> Iterator[str]:
        yield from text

    def explain(self, text: str, mask: npt.NDArray[np.float32] | None = None) -> int:
        return len(text) + (0 if mask is None else int(mask.sum()))


class Pipeline(inferd.Model):
    measure = inferd.depends(Measure)
    spell = inferd.depends(Spell)

    def predict(self, text: str) -> dict[str, int]:
        words = self.measure.predict_many(text.split())
        return {word.text: word.length for word in words}


class Served:
    """An Ask that answers for several local models by served name, and keeps what was asked."""

    def __init__(self, **models: type[inferd.Model]) -> None:
        self.models = {name: LocalAsk(model) for name, model in models.items()}
        self.asked: list[tuple[str, list[str], str, str]] = []

    def signature(self, name: str, method: str = "predict") -> Signature:
        return self.models[name].signature(name, method)

    def call(self, name: str, inputs: Arrays, method: str, session: str) -> Arrays:
        self.asked.append((name, sorted(inputs), method, session))
        return self.models[name].call(name, inputs, method, session)

    async def acall(self, name: str, inputs: Arrays, method: str, session: str) -> Arrays:
        self.asked.append((name, sorted(inputs), method, session))
        return await self.models[name].acall(name, inputs, method, session)

    def stream(self, name: str, inputs: Arrays, session: str) -> Iterator[Arrays]:
        return self.models[name].stream(name, inputs, session)

    def astream(self, name: str, inputs: Arrays, session: str) -> AsyncIterator[Arrays]:
        return self.models[name].astream(name, inputs, session)


def test_a_class_is_made_in_this_process_without_a_server() -> None:
    pipeline = Pipeline()
    assert pipeline.predict("a bcd ef") == {"a": 1, "bcd": 3, "ef": 2}
    ask: Any = pipeline.measure.ask
    assert ask._runtime.model.batches == [2, 1]
    with pytest.raises(Unsupported, match="model 'm' has no method 'explain'"):
        ask.signature("m", "explain")


def test_a_call_is_of_one_item_and_results_are_the_others_own() -> None:
    pipeline = Pipeline()
    assert pipeline.measure.predict("abc") == Word("abc", 3)
    assert pipeline.measure.predict(text="abc", bonus=4) == Word("abc", 7)
    assert list(pipeline.spell.stream("ab")) == ["a", "b"]
    assert pipeline.spell.explain("ab") == 2
    assert pipeline.spell.explain("ab", None) == 2
    assert pipeline.spell.explain("ab", mask=np.ones(3)) == 5


def test_calls_can_be_awaited_side_by_side() -> None:
    async def body() -> None:
        pipeline = Pipeline()
        words = await asyncio.gather(*(pipeline.measure.apredict(t) for t in ("a", "bb")))
        assert words == [Word("a", 1), Word("bb", 2)]
        assert await pipeline.measure.apredict_many(["a", "b", "c"], bonus=[1, 2, 3]) == [
            Word("a", 2), Word("b", 3), Word("c", 4),
        ]  # fmt: skip
        assert [part async for part in pipeline.spell.astream("ab")] == ["a", "b"]
        assert await pipeline.spell.aexplain("abc") == 3

    asyncio.run(body())


class Later(inferd.Model):
    loads = 0
    unloads = 0

    async def load(self) -> None:
        await asyncio.sleep(0)
        Later.loads += 1

    async def predict(self, x: int) -> int:
        await asyncio.sleep(0)
        return x + 1

    async def unload(self) -> None:
        Later.unloads += 1


class Waits(inferd.Model):
    later = inferd.depends(Later)

    async def predict(self, x: int) -> int:
        first, second = await asyncio.gather(self.later.apredict(x), self.later.apredict(x + 1))
        return int(first + second)


class Blocks(inferd.Model):
    later = inferd.depends(Later)

    def predict(self, x: int) -> int:
        return int(self.later.predict(x))


def test_an_async_model_is_asked_from_sync_code_too() -> None:
    before = Later.loads, Later.unloads
    runtime = loaded(Blocks)
    assert outputs(run(runtime, np.array([1]))[0]) == [[2]]
    runtime.unload()
    assert (Later.loads, Later.unloads) == (before[0] + 1, before[1] + 1)


def test_an_async_model_is_loaded_once_and_unloaded_on_the_loop() -> None:
    async def body() -> None:
        before = Later.loads, Later.unloads
        runtime = ModelRuntime(Waits)
        await runtime.aload()
        (outcome,) = await runtime.arun(Call("predict", [np.array([1])], [1]))
        assert outputs(outcome) == [[5]]
        await runtime.aunload()
        assert (Later.loads, Later.unloads) == (before[0] + 1, before[1] + 1)

    asyncio.run(body())


def test_unloading_a_model_unloads_what_it_made() -> None:
    runtime = loaded(Pipeline)
    before = Measure.loads, Measure.unloads
    assert outputs(run(runtime, texts("a"))[0]) == [[b'{"a":1}']]
    runtime.unload()
    assert (Measure.loads, Measure.unloads) == (before[0] + 1, before[1] + 1)


def test_with_a_server_all_goes_through_it() -> None:
    served = Served(measure=Measure, Spell=Spell)
    runtime = ModelRuntime(Pipeline, ask=served)
    runtime.load()
    assert outputs(run(runtime, texts("a b c"))[0]) == [[b'{"a":1,"b":1,"c":1}']]
    assert served.asked == [("measure", ["text"], "predict", "")] * 2
    pipeline: Any = runtime.model
    pipeline.measure.with_session("s").predict("a", bonus=1)
    assert served.asked[-1] == ("measure", ["bonus", "text"], "predict", "s")


class ByName(inferd.Model):
    other = inferd.depends("other")

    def predict(self, text: str) -> str:
        return repr(self.other.predict(text))


def by_name(model: type[inferd.Model]) -> Any:
    runtime = ModelRuntime(ByName, ask=Served(other=model))
    runtime.load()
    return runtime.model


def test_a_model_known_by_name_gives_natural_values() -> None:
    assert by_name(Measure).predict("abc") == "{'text': 'abc', 'length': 3}"
    assert by_name(Measure).other.predict_many(["a", "bb"], [1, 1]) == [
        {"text": "a", "length": 2}, {"text": "bb", "length": 3},
    ]  # fmt: skip
    assert by_name(Pipeline).predict("a bc") == "{'a': 1, 'bc': 2}"
    assert list(by_name(Spell).other.stream("ab")) == ["a", "b"]
    assert by_name(Spell).other.explain("ab", np.ones(2)) == 4


class Point(NamedTuple):
    x: int
    y: int


@pytest.mark.parametrize(
    ("annotation", "value", "came"),
    [
        (bool, True, True),
        (float, 1, 1.0),
        (bytes, b"\xff", b"\xff"),
        (list[Point], [Point(1, 2)], [[1, 2]]),
        (Point, Point(1, 2), {"x": 1, "y": 2}),
        (npt.NDArray[np.str_], ["a", "b"], ["a", "b"]),
        (npt.NDArray[np.uint8], [[1, 2]], [[1, 2]]),
    ],
)
def test_every_form_crosses_to_a_model_known_by_name(
    annotation: Any, value: Any, came: Any
) -> None:
    def predict(self, x):  # type: ignore[no-untyped-def]
        return x

    argument = list[Point] if annotation is Point else annotation
    predict.__annotations__ = {"x": argument, "return": annotation}
    if annotation is Point:
        predict = lambda self, x: x[0]  # noqa: E731
        predict.__annotations__ = {"x": argument, "return": annotation}
        value = [value]
    other = type("Other", (inferd.Model,), {"predict": predict})
    result = by_name(other).other.predict(value)
    assert (result.tolist() if isinstance(result, np.ndarray) else result) == came


def test_a_name_without_a_server_says_what_a_test_can_do() -> None:
    with pytest.raises(ModelUnavailable, match="in a test set other of the instance"):
        ByName().predict("a")

    class StandIn:
        def predict(self, text: str) -> str:
            return text * 2

    model = ByName()
    model.other = StandIn()  # type: ignore[assignment]
    assert model.predict("a") == "'aa'"


@pytest.mark.parametrize(
    ("args", "keywords", "words"),
    [
        ((), {}, "measure takes text, bonus; 'text' is missing"),
        (("a", 1, 2), {}, "measure takes text, bonus; 3 were given"),
        (("a",), {"text": "b"}, "'text' was given twice"),
        (("a",), {"color": "b"}, "'color' is none of them"),
    ],
)
def test_arguments_it_does_not_have(
    args: Sequence[Any], keywords: dict[str, Any], words: str
) -> None:
    with pytest.raises(TypeError, match=words):
        Pipeline().measure.predict(*args, **keywords)


def test_values_that_do_not_fit_and_errors_of_the_other_model() -> None:
    pipeline = Pipeline()
    with pytest.raises(InvalidRequest, match="measure: argument 'text': expected str, got int"):
        pipeline.measure.predict(5)
    with pytest.raises(TypeError, match="must have equally many values"):
        pipeline.measure.predict_many(["a", "b"], [1])

    class Broken(inferd.Model):
        def predict(self, text: str) -> str:
            raise ValueError("broken")

    runtime = ModelRuntime(ByName, ask=Served(other=Broken))
    runtime.load()
    (outcome,) = runtime.run(Call("predict", [texts("a")], [1]))
    assert failure(outcome, BackendError) == "ValueError: broken"


def test_the_card_names_what_a_model_depends_on() -> None:
    class Both(Pipeline):
        spell = None  # type: ignore[assignment]
        other = inferd.depends("other")

    depends = ModelRuntime(Both).card.depends
    assert [(d.attribute, d.name) for d in depends] == [("measure", "measure"), ("other", "other")]
    assert depends[0].target == f"{__file__}:Measure"
    assert depends[1].target == ""


def test_depends_takes_models_only() -> None:
    with pytest.raises(TypeError, match=r"depends takes a class of inferd\.Model"):
        inferd.depends(int)  # type: ignore[arg-type]
