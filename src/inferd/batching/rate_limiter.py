"""Which instances may run, of all models whose instances need resources that are short.

Triton's rate limiter: an instance runs while it holds what it needs, and of those that wait the one
that has run least goes first, its runs counted times its priority. What an instance did not run
while nothing waited for it is not made up for. An instance waits only behind others that need a
resource of its own, so one that needs much is not overtaken for ever by many that need little.

Pure: it counts, and refuses to know how anything is run (`serving/limited_runner.py`).
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from inferd.config.model import ModelConfig
from inferd.config.scheduling import ModelInstanceGroup
from inferd.errors import ConfigError

GLOBAL: Final = -1
"""In place of a device: all devices share the resource. The CPU is device 0, as in Triton."""

Resource = tuple[str, int]
"""A name and a device."""

Amounts = Mapping[tuple[str, int | None], int]
"""How much there is of each name on a device, or (None) on every one."""

_RESOURCE: Final = re.compile(r"([^:]+):(\d+)(?::(\d+))?")
_FIELD: Final = "instance_group.rate_limiter.resources"


@dataclass(slots=True, eq=False)
class LimitedInstance:
    """What runs one batch at a time. `weight` is its priority, `score` that of all its runs."""

    needs: Mapping[Resource, int]
    weight: int = 1
    score: int = 0


class Waiter(Protocol):
    """Whoever gives batches to instances."""

    free: list[LimitedInstance]

    def wants(self) -> bool:
        """Whether it has a batch to give, and could."""

    def look(self) -> None:
        """One of its instances may be let run that was not: see what there is to give."""


class RateLimiter:
    """Counts the resources of all instances.

    Where `amounts` say nothing at all, there is of each resource what the instance that needs most
    of it needs.
    """

    def __init__(self, amounts: Amounts | None = None) -> None:
        self._amounts = amounts or {}
        self._instances: list[LimitedInstance] = []
        self._there: dict[Resource, int] = {}
        self._used: dict[Resource, int] = {}
        self._line: dict[Waiter, None] = {}
        self._now = 0

    def join(self, instances: Sequence[LimitedInstance]) -> "Limits":
        """Instances are there from now on; raises ConfigError where one could never run."""
        needed = {name: device for i in self._instances for name, device in i.needs}
        for instance in instances:
            for (name, device), count in instance.needs.items():
                if (needed.setdefault(name, device) == GLOBAL) != (device == GLOBAL):
                    raise ConfigError(
                        f'Resource "{name}" is present as both global and device-specific resource '
                        "in the model configuration; say global the same way everywhere",
                        field=_FIELD,
                    )
                there = self._said((name, device)) if self._amounts else count
                if there < count:
                    raise ConfigError(
                        f'Resource count for "{name}" is limited to {there} which will '
                        "prevent scheduling of one or more model instances, the minimum required "
                        f"count is {count}; raise it with --rate-limit-resource "
                        f"{name}:{count}",
                        field=_FIELD,
                    )
        self._instances.extend(instances)
        self._recount()
        return Limits(self, tuple(instances))

    def leave(self, instances: Sequence[LimitedInstance]) -> None:
        """Instances are there no more; none of them runs, and their waiter wants nothing."""
        self._instances = [kept for kept in self._instances if kept not in instances]
        self._line = {waiter: None for waiter in self._line if waiter.wants()}
        self._recount()

    def _recount(self) -> None:
        self._there.clear()
        for instance in self._instances:
            for resource, count in instance.needs.items():
                there = max(count, self._there.get(resource, 0))
                self._there[resource] = self._said(resource) if self._amounts else there

    def first(self, asking: Waiter) -> LimitedInstance | None:
        """Which of its free instances may run now, if any."""
        for instance in sorted(asking.free, key=self._turn):
            if self._fits(instance) and not self._has_to_wait(instance, asking):
                return instance
        return None

    def short_of(self, one: LimitedInstance, other: LimitedInstance) -> tuple[str, int] | None:
        """A resource of which there is not enough for both to run at the same time, and how much
        both need; None where there is enough of all."""
        for resource, count in other.needs.items():
            both = one.needs.get(resource, 0) + count
            if both > count and both > self._there[resource]:
                return resource[0], both
        return None

    def start(self, waiter: Waiter, instance: LimitedInstance) -> None:
        """One of its free instances runs, and holds what it needs."""
        waiter.free.remove(instance)
        for resource, count in instance.needs.items():
            self._used[resource] = self._used.get(resource, 0) + count
        self._now = self._turn(instance)
        instance.score = self._now + instance.weight

    def end(self, waiter: Waiter, instance: LimitedInstance) -> None:
        """It has run; all in the line look, and its waiter with them."""
        for resource, count in instance.needs.items():
            self._used[resource] -= count
        waiter.free.append(instance)
        if waiter.wants():
            self.enter_line(waiter)
        self._wake()

    def enter_line(self, waiter: Waiter) -> None:
        """It wants one of its free instances to run."""
        self._line.setdefault(waiter)

    def leave_line(self, waiter: Waiter) -> None:
        """It has its turn. Who stood behind may not have to wait any longer."""
        if waiter in self._line:
            del self._line[waiter]
            self._wake()

    def _wake(self) -> None:
        """Have all in the line look, whose turn is next first."""
        for waiter in sorted(self._line, key=self._next_turn):
            waiter.look()

    def _next_turn(self, waiter: Waiter) -> int:
        return min(map(self._turn, waiter.free), default=0)

    def _turn(self, instance: LimitedInstance) -> int:
        return max(instance.score, self._now)

    def _fits(self, instance: LimitedInstance) -> bool:
        return all(
            self._used.get(resource, 0) + count <= self._there[resource]
            for resource, count in instance.needs.items()
        )

    def _said(self, resource: Resource) -> int:
        """How much there is by the amounts that were given."""
        name, device = resource
        said = [
            count
            for (known, where), count in self._amounts.items()
            if known == name and (device == GLOBAL or where in (None, device))
        ]
        return max(said, default=0)

    def _has_to_wait(self, instance: LimitedInstance, asking: Waiter) -> bool:
        """Whether another that waits and needs some of the same is to go before."""
        limit = self._turn(instance) + 1  # where it is even, who came first into the line
        for waiter in self._line:
            if waiter is asking:
                limit -= 1
            elif waiter.wants() and any(
                self._turn(other) < limit and not instance.needs.keys().isdisjoint(other.needs)
                for other in waiter.free
            ):
                return True
        return False


@dataclass(frozen=True, slots=True)
class Limits:
    """The instances of one model that are limited, and by what."""

    limiter: RateLimiter
    instances: tuple[LimitedInstance, ...]

    def leave(self) -> None:
        """The model is there no more."""
        self.limiter.leave(self.instances)

    def shut_out(self, others: "Limits") -> tuple[str, int] | None:
        """A resource of which none of the others gets what it needs while any one of these runs,
        and how much it would take for both; None where there is none such."""
        short = None
        for one in self.instances:
            for other in others.instances:
                short = self.limiter.short_of(one, other)
                if short is None:
                    return None
        return short


def limited_instances(config: ModelConfig) -> list[LimitedInstance]:
    """The instances of a model that get requests; none where no instance needs a resource."""
    active = [_limited(one) for one in config.instances if not one.passive]
    return active if any(instance.needs for instance in active) else []


def _limited(one: ModelInstanceGroup) -> LimitedInstance:
    if one.rate_limiter is None:
        return LimitedInstance({})
    device = one.gpus[0] if one.gpus else 0
    needs = {
        (resource.name, GLOBAL if resource.is_global else device): resource.count
        for resource in one.rate_limiter.resources
        if resource.count
    }
    return LimitedInstance(needs, one.rate_limiter.priority or 1)


def read_amounts(options: Iterable[str]) -> Amounts:
    """Amounts from NAME:COUNT or NAME:COUNT:DEVICE; raises ConfigError."""
    amounts: dict[tuple[str, int | None], int] = {}
    for option in options:
        match = _RESOURCE.fullmatch(option)
        if match is None:
            raise ConfigError(
                f"expected NAME:COUNT or NAME:COUNT:DEVICE, such as R1:4, got '{option}'",
                field="rate_limit_resource",
            )
        key = match[1], None if match[3] is None else int(match[3])
        if key in amounts:
            raise ConfigError(f"says twice how much there is: '{option}'",
                              field="rate_limit_resource")  # fmt: skip
        amounts[key] = int(match[2])
    return amounts
