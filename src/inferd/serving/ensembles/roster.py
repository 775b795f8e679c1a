"""Which ensembles there are to be, of which models, and which of those came with them.

Pure. It refuses to load and to unload (`serving/model_manager.py`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from inferd.repository.formats import ENSEMBLE
from inferd.repository.source import ModelSource


class Roster:
    """The ensembles that there are to be, by name."""

    def __init__(self) -> None:
        self._sources: dict[str, ModelSource] = {}
        self._loads: dict[str, int] = {}
        """How often each model has been loaded..."""
        self._made_of: dict[str, tuple[int, ...]] = {}
        """...and those of an ensemble's models when it was."""
        self._along: set[str] = set()

    def expect(self, source: ModelSource) -> None:
        """A model is to be what its source says, an ensemble or not."""
        self._sources.pop(source.name, None)
        if source.backend == ENSEMBLE:
            self._sources[source.name] = source

    def leave(self, name: str) -> ModelSource | None:
        """A model is not to be there any more; its source if it is an ensemble."""
        return self._sources.pop(name, None)

    def loaded(self, name: str) -> None:
        """A model has been loaded, perhaps again."""
        self._loads[name] = self._loads.get(name, 0) + 1

    def making(self, name: str) -> None:
        """An ensemble is being made of its models as they are loaded now."""
        if name in self._sources:  # it may have left meanwhile
            self._made_of[name] = self._loads_of(self._sources[name])

    def changed(self) -> list[ModelSource]:
        """Ensembles of which a model has been loaded since they were made."""
        return [
            source for name, source in self._sources.items()
            if self._made_of.get(name) != self._loads_of(source)
        ]  # fmt: skip

    def came(self, asked: Iterable[str], along: Iterable[str]) -> None:
        """These models were asked for by name, the others come along for ensembles."""
        self._along.update(along)
        self._along.difference_update(asked)

    def go_along(self, source: ModelSource) -> list[str]:
        """The models that came along for an ensemble, and that no other one needs."""
        needed = {name for other in self._sources.values() for name in members_of(other)}
        going = [n for n in members_of(source) if n in self._along and n not in needed]
        self._along.difference_update(going)
        return going

    def outermost(self, names: set[str]) -> set[str]:
        """Of these models those that none of these ensembles is made of."""
        sources = [self._sources[name] for name in names if name in self._sources]
        return names - {member for source in sources for member in members_of(source)} or names

    def _loads_of(self, source: ModelSource) -> tuple[int, ...]:
        return tuple(self._loads.get(name, 0) for name in members_of(source))


def members_of(source: ModelSource) -> tuple[str, ...]:
    """The models of an ensemble's steps; none of another model."""
    scheduling = source.config.ensemble_scheduling
    if source.backend != ENSEMBLE or scheduling is None:
        return ()
    return tuple(dict.fromkeys(step.model_name for step in scheduling.step))


def with_members(
    names: Iterable[str], sources: Mapping[str, ModelSource]
) -> dict[str, ModelSource]:
    """The sources of these models and, of ensembles, of all that they are made of."""
    found: dict[str, ModelSource] = {}
    left = list(names)
    while left:
        name = left.pop()
        if name in sources and name not in found:
            found[name] = sources[name]
            left += members_of(sources[name])
    return found


def without_circles(sources: Mapping[str, ModelSource]) -> dict[str, ModelSource]:
    """The same sources; an ensemble that is a part of itself has that for its error."""
    return {
        name: replace(source, error=f"the ensemble contains itself: {' -> '.join(way)}")
        if not source.error and (way := _way_back(name, sources))
        else source
        for name, source in sources.items()
    }


def _way_back(name: str, sources: Mapping[str, ModelSource]) -> list[str]:
    """From an ensemble to itself, if there is a way."""
    ways = [[name]]
    seen = set()
    while ways:
        way = ways.pop(0)
        source = sources.get(way[-1])
        for member in members_of(source) if source is not None else ():
            if member == name:
                return [*way, name]
            if member not in seen:
                seen.add(member)
                ways.append([*way, member])
    return []
