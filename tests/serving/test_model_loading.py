"""Whether lanes are kept is tried out; time is what the fake instances say that it is."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from fakes import FakeInstance
from inferd.backends.base import ModelDescription
from inferd.batching.estimate import RunTimeEstimate
from inferd.config.model import ModelConfig, ModelWarmup
from inferd.errors import InvalidRequest
from inferd.serving.loaded_model import LoadSpec
from inferd.serving.model_loading import _lanes_gain
from inferd.types.datatype import FP32
from inferd.types.tensor import Array, TensorSpec

MS = 1_000_000
SPECS = (TensorSpec("x", FP32, (-1, 4)),)


class Clock:
    """Time that passes when an instance runs, and at no other time."""

    def __init__(self) -> None:
        self.now_ns = 0
        self.sizes: list[int] = []
        self._lock = threading.Lock()

    def __call__(self) -> int:
        return self.now_ns

    def instance(self, ms_of: Callable[[int], float]) -> FakeInstance:
        """One whose runs take so many milliseconds for so many rows."""

        def compute(inputs: list[Array]) -> list[Array]:
            with self._lock:
                self.sizes.append(len(inputs[0]))
                self.now_ns += int(ms_of(len(inputs[0])) * MS)
            return inputs

        return FakeInstance(compute)


def gain(
    clock: Clock, wide: FakeInstance, lanes: list[FakeInstance], max_batch_size: int = 64,
    **config: object,
) -> bool:  # fmt: skip
    spec = LoadSpec("m", 1, Path(), "fake", ModelConfig(**config), 2, {})  # type: ignore[arg-type]
    description = ModelDescription("fake", "fake", max_batch_size, SPECS, SPECS, steady=True)
    return _lanes_gain(wide, lanes, spec, description, RunTimeEstimate(), clock)


@pytest.mark.parametrize(("lane_ms", "kept"), [(4, True), (6, False)])
def test_lanes_have_to_get_more_done_than_all_cores(lane_ms: float, kept: bool) -> None:
    """Time adds up over both lanes: five milliseconds a row each would be as good."""
    clock = Clock()
    wide = clock.instance(lambda rows: 5 * rows)
    lanes = [clock.instance(lambda rows: lane_ms * rows) for _ in range(2)]
    assert gain(clock, wide, lanes) is kept
    assert max(clock.sizes) == 4, "that takes all cores 20 ms"


def test_the_trial_goes_on_while_more_rows_gain() -> None:
    clock = Clock()
    wide = clock.instance(lambda rows: 10 + rows)
    lanes = [clock.instance(lambda rows: 6 + 1.5 * rows) for _ in range(2)]
    assert not gain(clock, wide, lanes), "one row would have spoken for the lanes"
    assert max(clock.sizes) == 64


def test_no_more_rows_are_tried_than_a_batch_may_have() -> None:
    clock = Clock()
    assert gain(clock, clock.instance(lambda rows: 1), [clock.instance(lambda rows: 1)] * 2, 8)
    assert max(clock.sizes) == 8
    assert gain(clock, clock.instance(lambda rows: 1), [clock.instance(lambda rows: 1)] * 2, 0)


def test_a_model_that_takes_no_made_up_rows_keeps_its_lanes() -> None:
    clock = Clock()

    def refuse(inputs: list[Array]) -> list[Array]:
        raise InvalidRequest("no zeros")

    assert gain(clock, FakeInstance(refuse), [FakeInstance(refuse)] * 2)
    asked = ModelWarmup("w", 1, {})
    assert gain(clock, FakeInstance(refuse), [FakeInstance(refuse)] * 2, model_warmup=(asked,))
