from collections import deque
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferd.batching.rate_limiter import (
    GLOBAL,
    LimitedInstance,
    RateLimiter,
    Resource,
    limited_instances,
    read_amounts,
)
from inferd.errors import ConfigError
from inferd.repository.model_config import decode_model_config

R = ("R", 0)


def instance(weight: int = 1, needs: Mapping[Resource, int] | None = None) -> LimitedInstance:
    return LimitedInstance({R: 1} if needs is None else needs, weight)


class Model:
    """A Waiter that has `queued` batches to give; when it is told to look, it does so later, after
    those that were told before."""

    def __init__(
        self, limiter: RateLimiter, instances: list[LimitedInstance], due: "deque[Model]"
    ) -> None:
        limiter.join(instances)
        self.free = list(instances)
        self.running: list[LimitedInstance] = []
        self.queued = 0
        self.ran = 0
        self._limiter = limiter
        self._due = due

    def wants(self) -> bool:
        return bool(self.queued and self.free)

    def look(self) -> None:
        self._due.append(self)

    def dispatch(self) -> None:
        """As a batcher does."""
        while self.wants():
            first = self._limiter.first(self)
            if first is None:
                self._limiter.enter_line(self)
                return
            self._limiter.leave_line(self)
            self._limiter.start(self, first)
            self.running.append(first)
            self.queued -= 1
            self.ran += 1

    def finish(self) -> None:
        self._limiter.end(self, self.running.pop(0))


class Server:
    """Models on one limiter, and whose turn it is to look."""

    def __init__(
        self, *models: list[LimitedInstance], amounts: Mapping[Any, int] | None = None
    ) -> None:
        self.limiter = RateLimiter(amounts)
        self.due: deque[Model] = deque()
        self.models = [Model(self.limiter, instances, self.due) for instances in models]

    def ask(self, index: int, batches: int = 1) -> None:
        self.models[index].queued += batches
        self.models[index].look()
        self.settle()

    def settle(self) -> None:
        while self.due:
            self.due.popleft().dispatch()

    def finish(self, index: int) -> None:
        self.models[index].finish()
        self.settle()

    def running(self) -> list[int]:
        return [len(model.running) for model in self.models]

    def order(self) -> str:
        """Which model runs next, one batch after the other, until all has run."""
        ran = ""
        while any(counts := self.running()):
            index = next(index for index, count in enumerate(counts) if count)
            ran += "abc"[index]
            self.finish(index)
        return ran


def test_an_instance_runs_only_while_its_resources_are_free() -> None:
    server = Server([instance()], [instance()])
    server.ask(0)
    server.ask(1)
    assert server.running() == [1, 0]
    server.finish(0)
    assert server.running() == [0, 1]


def test_as_many_run_as_there_are_resources() -> None:
    server = Server([instance() for _ in range(3)], amounts={("R", None): 2})
    server.ask(0, 3)
    assert server.running() == [2]


def test_each_device_has_its_own_and_what_is_global_is_shared() -> None:
    on = [[instance(needs={("R", device): 1, ("G", GLOBAL): 1})] for device in (0, 1, 2)]
    server = Server(*on, amounts={("R", None): 1, ("G", None): 2})
    for index in range(3):
        server.ask(index)
    assert server.running() == [1, 1, 0]


def test_who_needs_nothing_waits_for_nobody() -> None:
    server = Server([instance()], [instance()], [instance(needs={})])
    for index in range(3):
        server.ask(index)
    assert server.running() == [1, 0, 1]


def test_runs_are_shared_out_by_priority_as_triton_does() -> None:
    server = Server([instance(1)], [instance(2)])
    server.ask(0, 12)
    server.ask(1, 12)
    assert server.order() == "ab" + "aba" * 5 + "a" + "bbbbbb"


def test_what_an_instance_did_not_run_while_it_was_idle_is_not_made_up_for() -> None:
    server = Server([instance()], [instance()])
    server.ask(0, 100)
    for _ in range(50):
        server.finish(0)
    server.ask(1, 10)
    assert server.order()[:8] in ("abababab", "aabababa")


def test_who_needs_much_is_not_overtaken_for_ever_by_who_needs_little() -> None:
    server = Server([instance()], [instance()], [instance(9, {R: 2})], amounts={("R", None): 2})
    server.ask(0, 50)
    server.ask(1, 50)
    server.ask(2)
    for turn in range(40):
        if server.running()[2]:
            break
        server.finish(turn % 2 if server.running()[turn % 2] else 1 - turn % 2)
    assert server.models[2].ran == 1
    assert turn < 30


def test_one_that_waits_no_more_is_in_nobodys_way() -> None:
    server = Server([instance(5)], [instance(1)], [instance(9)])
    for index in range(3):
        server.ask(index)
    server.models[1].queued = 0  # all its requests were cancelled
    server.finish(0)
    assert server.running() == [0, 0, 1]


def test_an_instance_that_could_never_run_is_refused_in_tritons_words() -> None:
    limiter = RateLimiter({("R", None): 3, ("S", 1): 5})
    wanted = (
        r'Resource count for "R" is limited to 3 which will prevent scheduling of one or more '
        r"model instances, the minimum required count is 4; raise it with --rate-limit-resource R:4"
    )
    with pytest.raises(ConfigError, match=wanted) as refused:
        limiter.join([instance(needs={R: 4})])
    assert refused.value.field == "instance_group.rate_limiter.resources"
    with pytest.raises(ConfigError, match="is limited to 0"):
        limiter.join([instance(needs={("S", 0): 1})])
    with pytest.raises(ConfigError, match="is limited to 0"):
        limiter.join([instance(needs={("r", 0): 1})])
    limiter.join([instance(needs={("S", 1): 5, R: 3})])


def test_what_is_global_counts_whatever_device_was_named() -> None:
    RateLimiter({("R", 1): 3}).join([instance(needs={("R", GLOBAL): 3})])


def test_of_two_amounts_for_a_device_the_larger_holds_as_in_triton() -> None:
    for amounts in ({("R", 0): 2, ("R", None): 50}, {("R", 0): 50, ("R", None): 2}):
        RateLimiter(amounts).join([instance(needs={R: 4})])


def test_a_resource_is_global_for_all_or_for_none() -> None:
    limiter = RateLimiter()
    limits = limiter.join([instance()])
    with pytest.raises(ConfigError, match="present as both global and device-specific"):
        limiter.join([instance(needs={("R", GLOBAL): 1})])
    limits.leave()
    limiter.join([instance(needs={("R", GLOBAL): 1})])


def test_without_amounts_there_is_what_the_largest_needs_while_it_is_there() -> None:
    server = Server([instance(), instance()])
    large = server.limiter.join([instance(needs={R: 2})])
    server.ask(0, 4)
    assert server.running() == [2]
    large.leave()
    server.finish(0)
    server.finish(0)
    assert server.running() == [1]


@pytest.mark.parametrize(
    ("amounts", "holds", "asked", "short"),
    [
        (None, [{R: 1}], [{R: 1}], ("R", 2)),
        (None, [{R: 2}], [{R: 1}, {R: 2}], ("R", 4)),
        ({("R", None): 2}, [{R: 1}], [{R: 1}], None),
        ({("R", None): 2}, [{R: 1}], [{R: 2}], ("R", 3)),
        ({("R", None): 2}, [{R: 1}, {R: 2}], [{R: 1}], None),  # it may be the first that asks
        ({("R", None): 2}, [{R: 2}], [{R: 2}, {}], None),  # the second can run
        (None, [{R: 1}], [{("S", 0): 1}], None),
        (None, [{}], [{R: 1}], None),
    ],
)
def test_who_asks_is_told_what_it_holds_that_another_needs(
    amounts: Mapping[Any, int] | None, holds: list[dict[Resource, int]],
    asked: list[dict[Resource, int]], short: tuple[str, int] | None,
) -> None:  # fmt: skip
    limiter = RateLimiter(amounts)
    one = limiter.join([LimitedInstance(needs) for needs in holds])
    other = limiter.join([LimitedInstance(needs) for needs in asked])
    assert one.shut_out(other) == short


def test_amounts_are_read_as_triton_writes_them() -> None:
    assert read_amounts(["R1:4", "R1:2:1", "big one:0"]) == {
        ("R1", None): 4, ("R1", 1): 2, ("big one", None): 0,
    }  # fmt: skip


@pytest.mark.parametrize("option", ["R1", "R1:x", ":4", "R1:4:gpu", "R1:-4", "R1:4:0:0", ""])
def test_amounts_that_cannot_be_read_name_the_option(option: str) -> None:
    with pytest.raises(ConfigError, match="expected NAME:COUNT") as refused:
        read_amounts([option])
    assert refused.value.field == "rate_limit_resource"


def test_an_amount_is_not_said_twice() -> None:
    with pytest.raises(ConfigError, match="twice"):
        read_amounts(["R1:4", "R1:4:0", "R1:5"])


def test_instances_need_what_their_groups_say() -> None:
    groups = [
        {
            "kind": "KIND_GPU", "gpus": [0, 2],
            "rate_limiter": {
                "resources": [
                    {"name": "R", "count": 3}, {"name": "G", "global": True},
                    {"name": "no", "count": 0},
                ],
                "priority": 2,
            },
        },
        {"kind": "KIND_CPU", "count": 2},
        {"passive": True, "rate_limiter": {"resources": [{"name": "P"}]}},
    ]  # fmt: skip
    config = decode_model_config({"instance_group": groups}, file="config.yaml")
    found = [(one.needs, one.weight) for one in limited_instances(config)]
    assert found == [
        ({("R", 0): 3, ("G", GLOBAL): 1}, 2), ({("R", 2): 3, ("G", GLOBAL): 1}, 2),
        ({}, 1), ({}, 1),
    ]  # fmt: skip


@pytest.mark.parametrize("group", [{}, {"rate_limiter": {"priority": 2}}])
def test_a_model_that_needs_nothing_is_not_limited(group: dict[str, Any]) -> None:
    config = decode_model_config({"instance_group": [group]}, file="config.yaml")
    assert limited_instances(config) == []


needs = st.dictionaries(st.sampled_from([("R", 0), ("S", 0), ("G", GLOBAL)]), st.integers(1, 2))
instances = st.lists(st.builds(LimitedInstance, needs, st.integers(1, 3)), min_size=1, max_size=3)
steps = st.lists(
    st.tuples(st.sampled_from(["ask", "ask", "finish", "cancel"]), st.integers(0, 3)), max_size=60
)


@settings(derandomize=True, deadline=None, max_examples=200)
@given(st.lists(instances, min_size=2, max_size=4), steps, st.booleans())
def test_no_more_runs_than_there_is_and_nobody_waits_who_could_run(
    models: list[list[LimitedInstance]], steps: list[tuple[str, int]], said: bool
) -> None:
    amounts = {("R", None): 3, ("S", None): 2, ("G", None): 2} if said else None
    fresh = [[LimitedInstance(one.needs, one.weight) for one in model] for model in models]
    server = Server(*fresh, amounts=amounts)
    there = {
        resource: amounts[resource[0], None]
        if amounts
        else max(one.needs.get(resource, 0) for model in models for one in model)
        for resource in (("R", 0), ("S", 0), ("G", GLOBAL))
    }
    for step, number in steps:
        index = number % len(server.models)
        model = server.models[index]
        if step == "ask":
            server.ask(index)
        elif step == "cancel":
            model.queued = 0
        elif model.running:
            server.finish(index)
        held = [one.needs for each in server.models for one in each.running]
        for resource, count in there.items():
            assert sum(needs.get(resource, 0) for needs in held) <= count
        if step != "cancel":
            assert not any(m.wants() and server.limiter.first(m) for m in server.models)
    while any(server.running()):
        server.finish(next(i for i, count in enumerate(server.running()) if count))
    assert not any(model.queued for model in server.models)
