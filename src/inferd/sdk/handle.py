"""Another model, as a model's code calls it: natural values in and out.

Every call is of one item, also where the other model batches: its items meet those of others in
that model's queue. `predict_many` sends many at once.
"""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import Any

from inferd.errors import BackendError, InvalidRequest
from inferd.sdk.ask import Ask
from inferd.sdk.interface import Interface
from inferd.sdk.mismatch import Mismatch
from inferd.sdk.slots import Slot
from inferd.types.tensor import Array

InterfaceOf = Callable[[str], Interface]
"""What a method takes and gives."""


class Handle:
    """Calls to one model: `predict`, `explain`, `stream`, and each with `a` before it to await.

        text = self.ocr.predict(image)
        texts = await asyncio.gather(*(self.ocr.apredict(image) for image in images))
        for part in self.chat.stream("Hello"): ...
        async for part in self.chat.astream("Hello"): ...
        texts = self.ocr.predict_many(images)

    Arguments go by position or by name. Several results of a class come as that class returns
    them, those of a model known by its name only as a dict. Raises TypeError for arguments that
    the model does not have, InvalidRequest for values that do not fit, and what the model answers.
    """

    def __init__(self, ask: Ask, name: str, interface_of: InterfaceOf, session: str = "") -> None:
        self.ask = ask
        self._name = name
        self._interface_of = interface_of
        self._session = session

    def with_session(self, id: str) -> "Handle":
        """The same model, in the session of that id."""
        return Handle(self.ask, self._name, self._interface_of, id)

    def predict(self, *args: Any, **keywords: Any) -> Any:
        """Run on one item and wait."""
        return self._call("predict", args, keywords)

    async def apredict(self, *args: Any, **keywords: Any) -> Any:
        """Run on one item, without holding up the event loop."""
        return await self._acall("predict", args, keywords)

    def explain(self, *args: Any, **keywords: Any) -> Any:
        """Explain one item and wait."""
        return self._call("explain", args, keywords)

    async def aexplain(self, *args: Any, **keywords: Any) -> Any:
        """Explain one item, without holding up the event loop."""
        return await self._acall("explain", args, keywords)

    def stream(self, *args: Any, **keywords: Any) -> Iterator[Any]:
        """The parts of one item's answer."""
        interface = self._interface_of("predict")
        inputs = self._inputs(interface, args, keywords)
        for arrays in self.ask.stream(self._name, inputs, self._session):
            yield self._result(interface, arrays)

    async def astream(self, *args: Any, **keywords: Any) -> AsyncIterator[Any]:
        """The parts of one item's answer, without holding up the event loop."""
        interface = self._interface_of("predict")
        inputs = self._inputs(interface, args, keywords)
        async for arrays in self.ask.astream(self._name, inputs, self._session):
            yield self._result(interface, arrays)

    def predict_many(self, *args: Sequence[Any], **keywords: Sequence[Any]) -> list[Any]:
        """Run on many items, each argument a sequence of as many values, and wait.

        A model that batches gets up to its `max_batch_size` in one request.
        """
        results = []
        interface = self._interface_of("predict")
        for inputs in self._chunks(interface, args, keywords):
            arrays = self.ask.call(self._name, inputs, "predict", self._session)
            results += self._results(interface, arrays)
        return results

    async def apredict_many(self, *args: Sequence[Any], **keywords: Sequence[Any]) -> list[Any]:
        """As `predict_many`, without holding up the event loop."""
        results = []
        interface = self._interface_of("predict")
        for inputs in self._chunks(interface, args, keywords):
            arrays = await self.ask.acall(self._name, inputs, "predict", self._session)
            results += self._results(interface, arrays)
        return results

    def _call(self, method: str, args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        interface = self._interface_of(method)
        inputs = self._inputs(interface, args, keywords)
        return self._result(interface, self.ask.call(self._name, inputs, method, self._session))

    async def _acall(self, method: str, args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        interface = self._interface_of(method)
        inputs = self._inputs(interface, args, keywords)
        arrays = await self.ask.acall(self._name, inputs, method, self._session)
        return self._result(interface, arrays)

    def _inputs(
        self, interface: Interface, args: tuple[Any, ...], keywords: dict[str, Any]
    ) -> dict[str, Array]:
        bound = self._bind(interface.slots, args, keywords)
        return {
            slot.name: self._encode(slot, slot.encode_one, bound[slot.name])
            for slot in interface.slots
            if slot.name in bound and not _stays_out(slot, bound[slot.name])
        }

    def _chunks(
        self, interface: Interface, args: tuple[Any, ...], keywords: dict[str, Any]
    ) -> Iterator[dict[str, Array]]:
        bound = self._bind(interface.slots, args, keywords)
        counts = {name: len(values) for name, values in bound.items()}
        if len(set(counts.values())) != 1:
            raise TypeError(f"{self._name}: arguments must have equally many values, got {counts}")
        size = interface.signature.max_batch_size
        for start in range(0, next(iter(counts.values())), size or 1):
            if not size:
                yield self._inputs(interface, (), {n: v[start] for n, v in bound.items()})
                continue
            yield {
                slot.name: self._encode(
                    slot, slot.kind.encode_many, bound[slot.name][start : start + size]
                )
                for slot in interface.slots
                if slot.name in bound
            }

    def _bind(
        self, slots: tuple[Slot, ...], args: tuple[Any, ...], keywords: Mapping[str, Any]
    ) -> dict[str, Any]:
        names = [slot.name for slot in slots]
        known = f"{self._name} takes {', '.join(names) or 'no arguments'}"
        if len(args) > len(names):
            raise TypeError(f"{known}; {len(args)} were given")
        bound = dict(zip(names, args, strict=False))
        for name, value in keywords.items():
            if name not in names or name in bound:
                wrong = "was given twice" if name in bound else "is none of them"
                raise TypeError(f"{known}; '{name}' {wrong}")
            bound[name] = value
        for slot in slots:
            if slot.name not in bound and slot.argument.default is None:
                raise TypeError(f"{known}; '{slot.name}' is missing")
        return bound

    def _encode(self, slot: Slot, encode: Callable[[Any], Array], value: Any) -> Array:
        try:
            return encode(value)
        except Mismatch as error:
            raise InvalidRequest(f"{self._name}: {error.of('argument', slot.name)}") from None

    def _result(self, interface: Interface, arrays: Mapping[str, Array]) -> Any:
        try:
            return interface.results.decode_one(arrays)
        except Mismatch as error:
            raise BackendError(f"{self._name}: its result: {error.text}") from None

    def _results(self, interface: Interface, arrays: Mapping[str, Array]) -> list[Any]:
        if not interface.batched:
            return [self._result(interface, arrays)]
        try:
            return interface.results.decode_rows(arrays)
        except Mismatch as error:
            raise BackendError(f"{self._name}: its result: {error.text}") from None


def _stays_out(slot: Slot, value: Any) -> bool:
    """Whether it is the None that has no tensor."""
    return value is None and slot.argument.default == "null" and slot.argument.form != "json"
