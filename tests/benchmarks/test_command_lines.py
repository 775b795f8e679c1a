"""Names on the command lines of the benchmarks: which are known, and which are the default."""

import pytest
from benchmarks.servers import SERVERS
from benchmarks.settings import CANDIDATES
from benchmarks.workloads import ALL_NAMES

from benchmarks import __main__ as bench
from benchmarks import tune


def test_everything_is_measured_unless_told() -> None:
    options = bench.parse([])
    assert (options.only, options.workloads) == (tuple(SERVERS), ALL_NAMES)
    options = bench.parse(["--only", "inferd,ray", "--workloads", "mlp,offline"])
    assert (options.only, options.workloads) == (("inferd", "ray"), ("mlp", "offline"))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--workloads", "mlp,encodr"], "no workload 'encodr'; known: encoder, "),
        (["--workloads", "of"], "no workload 'of'; known: offline, "),
        (["--only", "infred"], "no server 'infred'; known: inferd, "),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest_first(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        bench.parse(arguments)
    said = capsys.readouterr().err
    assert told in said
    known = ALL_NAMES if "--workloads" in arguments else SERVERS
    assert all(name in said for name in known)


@pytest.mark.parametrize("peer", CANDIDATES)
def test_a_peer_is_tuned_for_a_workload_that_it_has(peer: str) -> None:
    assert tune.parse([peer]).workload in CANDIDATES[peer]


def test_a_workload_without_candidates_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        tune.parse(["mlserver-xgboost", "--workload", "mlp"])
    assert "mlserver-xgboost has candidates for trees" in capsys.readouterr().err
