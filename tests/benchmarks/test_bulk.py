"""What two bare sockets carry, beside which a server's large tensors are seen."""

from dataclasses import replace

import pytest
from benchmarks.bulk import measure_sockets
from benchmarks.workloads import TENSOR


def test_bare_sockets_give_back_what_they_are_sent() -> None:
    small = replace(TENSOR, width=50_000)
    found = measure_sockets(small, connections=2, seconds=0.02)
    assert found.requests_per_second > 0
    assert found.gb_per_second * 1e9 == pytest.approx(found.requests_per_second * 200_000)
