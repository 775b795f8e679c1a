import pytest

from inferd.errors import InvalidRequest
from inferd.observability.custom_metrics import CustomMetrics


def test_a_counter_is_one_for_all_who_hold_it() -> None:
    metrics = CustomMetrics()
    family = metrics.family("seen", "counter", "what was\nseen")
    one, other = [metrics.hold(family, {"b": "2", "a": 'x"y'}) for _ in range(2)]
    assert one is other
    one.increment(2)
    other.increment(-5)
    assert metrics.render() == (
        b'# HELP seen what was\\nseen\n# TYPE seen counter\nseen{a="x\\"y",b="2"} 2.0\n'
    )
    metrics.drop(one)
    assert b"2.0" in metrics.render()
    metrics.drop(other)
    assert metrics.render() == b""


def test_a_gauge_goes_up_and_down() -> None:
    metrics = CustomMetrics()
    gauge = metrics.hold(metrics.family("level", "gauge", ""), {})
    gauge.set(3)
    gauge.increment(-0.5)
    assert metrics.render().endswith(b"level 2.5\n")


def test_a_histogram_counts_what_is_at_most_a_bound() -> None:
    metrics = CustomMetrics()
    sizes = metrics.hold(metrics.family("sizes", "histogram", ""), {"m": "x"}, (1.0, 4.0))
    for value in (0.5, 1.0, 3.0, 9.0):
        sizes.observe(value)
    assert metrics.render().decode().splitlines()[2:] == [
        'sizes_bucket{m="x",le="1.0"} 2',
        'sizes_bucket{m="x",le="4.0"} 3',
        'sizes_bucket{m="x",le="+Inf"} 4',
        'sizes_sum{m="x"} 13.5',
        'sizes_count{m="x"} 4',
    ]


@pytest.mark.parametrize("name", ["a b", "", "1a", "nv_inference_count", "inferd_x"])
def test_names_that_cannot_be(name: str) -> None:
    with pytest.raises(InvalidRequest, match="cannot be a metric's name"):
        CustomMetrics().family(name, "gauge", "")


def test_what_does_not_fit() -> None:
    metrics = CustomMetrics()
    family = metrics.family("sizes", "histogram", "")
    for labels, buckets, said in (
        ({"a b": "x"}, (1.0,), "cannot be a label"),
        ({"le": "x"}, (1.0,), "cannot be a label"),
        ({}, (2.0, 1.0), "have to rise"),
        ({}, (), "needs its buckets"),
    ):
        with pytest.raises(InvalidRequest, match=said):
            metrics.hold(family, labels, buckets)
    metrics.hold(family, {}, (1.0,))
    with pytest.raises(InvalidRequest, match="other buckets"):
        metrics.hold(family, {}, (2.0,))
    with pytest.raises(InvalidRequest, match="is a histogram, not a gauge"):
        metrics.family("sizes", "gauge", "")
