"""Half a minute of good and bad traffic; `python -m tests.lifecycle.soak` runs it for longer."""

from pathlib import Path

import pytest

from .soak import MAX_GROWTH_MB, run_soak


@pytest.mark.slow
def test_mixed_traffic_leaves_the_server_right_ready_and_the_same_size(tmp_path: Path) -> None:
    report = run_soak(tmp_path, seconds=30, warm_up_s=15)
    print(report)
    assert report.wrong == []
    assert report.ready
    assert min(report.sent[kind] for kind in (
        "json", "binary", "malformed", "oversized", "disconnect", "load", "look")) > 10  # fmt: skip
    assert report.growth_mb < MAX_GROWTH_MB
