"""A framework's model and answers are kept for as long as what they were made of is the same."""

from dataclasses import replace

from benchmarks.offline import made_of
from benchmarks.workloads import OWN, TREES


def test_what_is_kept_is_of_these_rows_and_this_framework() -> None:
    kept = made_of(TREES, ["xgboost 3.0"])
    assert made_of(replace(TREES, connections=(1,)), ["xgboost 3.0"]) == kept
    others = (
        made_of(TREES, ["xgboost 3.1"]),
        made_of(replace(TREES, request_rows=2), ["xgboost 3.0"]),
        made_of(OWN["offline-xgboost"], ["xgboost 3.0"]),
    )
    assert kept not in others
