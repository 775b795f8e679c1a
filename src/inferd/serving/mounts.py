"""Which path belongs to the HTTP routes of which model. Pure.

No model gets a path on which the server itself answers, or another model does; a path below that
of another is its own.
"""

from collections.abc import Iterable

from inferd.errors import ConfigError


class Mounts:
    """The paths that models have claimed."""

    def __init__(self) -> None:
        self._owners: dict[str, str] = {}
        self._own: list[str] = []

    def reserve(self, templates: Iterable[str]) -> None:
        """The server answers on these; `{name}` stands for any segment."""
        self._own += templates

    def claim(self, path: str, name: str) -> None:
        """A model is going to answer on `path` and below; raises ConfigError naming who does."""
        for template in self._own:
            if _covers(path, template):
                raise ConfigError(
                    f"'{path}' would hide the server's own route '{template}'; choose another path",
                    field=f"mount of model '{name}'",
                )
        owner = self._owners.setdefault(path, name)
        if owner != name:
            raise ConfigError(
                f"'{path}' is the mount of model '{owner}' already; choose another path",
                field=f"mount of model '{name}'",
            )

    def settle(self, name: str, path: str) -> None:
        """Of what a model has claimed it keeps only this; empty is nothing."""
        for claimed in [p for p, owner in self._owners.items() if owner == name and p != path]:
            del self._owners[claimed]
        if path:
            self._owners.setdefault(path, name)

    def find(self, path: str) -> tuple[str, str]:
        """The longest mount that holds a path, and its model; empty where none does."""
        if not self._owners:
            return "", ""
        end = len(path)
        while end > 0:
            owner = self._owners.get(path[:end])
            if owner is not None:
                return path[:end], owner
            end = path.rfind("/", 0, end)
        return "", ""


def _covers(mount: str, template: str) -> bool:
    """Whether a route of the server's is at a mount or below it."""
    segments, route = mount.split("/"), template.split("/")
    if len(segments) > len(route):
        return False
    return all(
        theirs == ours or ours.startswith("{")
        for theirs, ours in zip(segments, route, strict=False)
    )
