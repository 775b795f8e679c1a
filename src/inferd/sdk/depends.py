"""Models made of other models: `depends` as an attribute of a class."""

import inspect
from typing import overload

from inferd.errors import ModelUnavailable
from inferd.sdk.ask import Ask
from inferd.sdk.card import DependencyCard
from inferd.sdk.handle import Handle, InterfaceOf
from inferd.sdk.interface import Interface, read_interface, remote_interface
from inferd.sdk.local import LocalAsk
from inferd.sdk.model import Model


class Dependency:
    """What `depends` puts into a class. On an instance it is a Handle, made at first use.

    An attribute of the instance goes before it, so that a test may put anything in its place.
    """

    def __init__(self, target: type[Model] | str) -> None:
        self.target = target
        self._attribute = ""

    @property
    def name(self) -> str:
        """The name that the other model is served under."""
        return self.target if isinstance(self.target, str) else self.target.options.name

    def __set_name__(self, owner: type[Model], name: str) -> None:
        self._attribute = name

    @overload
    def __get__(self, model: None, owner: type[Model]) -> "Dependency": ...
    @overload
    def __get__(self, model: Model, owner: type[Model]) -> Handle: ...
    def __get__(self, model: Model | None, owner: type[Model]) -> "Dependency | Handle":
        if model is None:
            return self
        ask = model._inferd_ask or self._local(owner)
        handle = Handle(ask, self.name, self._interface_of(ask))
        model.__dict__[self._attribute] = handle
        return handle

    def _local(self, owner: type[Model]) -> Ask:
        if isinstance(self.target, str):
            raise ModelUnavailable(
                f"{owner.__name__}.{self._attribute} depends on the served model '{self.target}', "
                f"and there is no server; in a test set {self._attribute} of the instance"
            )
        return LocalAsk(self.target)

    def _interface_of(self, ask: Ask) -> InterfaceOf:
        target = self.target
        if isinstance(target, str):
            return lambda method: remote_interface(ask.signature(target, method))
        known: dict[str, Interface] = {}

        def interface_of(method: str) -> Interface:
            if method not in known:
                known[method] = read_interface(target, method)
            return known[method]

        return interface_of


def depends(target: type[Model] | str) -> Dependency:
    """Another model, by its class or by the name it is served under, as an attribute of a class.

        class Reader(inferd.Model):
            ocr = inferd.depends(Ocr)

            def predict(self, page: Image) -> str:
                return self.ocr.predict(page)

    In a server a call goes through the other model's queue and batches there. Without one a class
    is made and loaded in this process.
    """
    if not isinstance(target, str) and not (isinstance(target, type) and issubclass(target, Model)):
        raise TypeError(f"depends takes a class of inferd.Model or a served name, not {target!r}")
    return Dependency(target)


def dependency_cards(model_class: type[Model]) -> tuple[DependencyCard, ...]:
    """The models that a class depends on."""
    return tuple(
        DependencyCard(attribute, dependency.name, _source(dependency.target))
        for attribute, dependency in dependencies(model_class).items()
    )


def dependencies(model_class: type[Model]) -> dict[str, Dependency]:
    """By attribute, those of base classes too."""
    found: dict[str, Dependency] = {}
    for base in reversed(model_class.__mro__):
        for attribute, value in vars(base).items():
            found.pop(attribute, None)
            if isinstance(value, Dependency):
                found[attribute] = value
    return found


def close_local(model: Model) -> None:
    """Unload the models that were made in this process for `model`."""
    for ask in _forget_local(model):
        ask.close()


async def aclose_local(model: Model) -> None:
    """As `close_local`, on an event loop."""
    for ask in _forget_local(model):
        await ask.aclose()


def _forget_local(model: Model) -> list[LocalAsk]:
    handles = [model.__dict__.pop(attribute, None) for attribute in dependencies(type(model))]
    asks = [handle.ask for handle in handles if isinstance(handle, Handle)]
    return [ask for ask in asks if isinstance(ask, LocalAsk)]


def _source(target: type[Model] | str) -> str:
    if isinstance(target, str):
        return ""
    try:
        return f"{inspect.getfile(target)}:{target.__qualname__}"
    except (OSError, TypeError):  # a class that was typed in has no file
        return ""
