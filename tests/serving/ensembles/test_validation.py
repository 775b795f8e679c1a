from typing import Any

import pytest

from inferd.errors import ConfigError
from serving.ensembles.graphs import graph, member, spec, tensor

LINE = "a(x=in) -> y=t", "b(x=t) -> y=out"
STREAM = member(streams=True)


def refusal(*written: str, **more: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        graph(*written, **more)
    return str(caught.value)


def test_steps_stand_behind_those_whose_tensors_they_take() -> None:
    made = graph("c(x=u) -> y=out", "b(x=t) -> y=u", "a(x=in) -> y=t")
    assert [step.model for step in made.steps] == ["a", "b", "c"]
    assert [step.index for step in made.steps] == [2, 1, 0]
    assert made.steps[0].where == "step 3 (model 'a')"


def test_one_tensor_may_be_the_input_of_several_steps() -> None:
    made = graph(
        "a(x=in) -> y=t", "b(x=t) -> y=u", "c(x=t) -> y=v", "d(p=u, q=v, r=in) -> y=out",
        members={"d": member("pqr")},
    )  # fmt: skip
    assert [step.model for step in made.consumers["t"]] == ["b", "c"]
    assert [step.model for step in made.consumers["in"]] == ["a", "d"]


def test_a_version_below_zero_is_the_newest() -> None:
    assert [step.version for step in graph(*LINE).steps] == ["", ""]


@pytest.mark.parametrize(
    ("steps", "more", "words"),
    [
        ((), {}, ["at least one step"]),
        (LINE, {"input": []}, ["input", "each input"]),
        (LINE, {"instance_group": [{"count": 2}]}, ["instance_group", "not for an ensemble"]),
        (LINE, {"dynamic_batching": {}}, ["dynamic_batching"]),
        (
            ("a(x=in, z=in) -> y=out",), {},
            ["step[0].input_map", "step 1 (model 'a')", "tensor 'in'", "input 'z'", "it has: x"],
        ),
        (("a(x=in) -> z=out",), {}, ["step 1 (model 'a')", "tensor 'out'", "output 'z'"]),
        (("a() -> y=out",), {}, ["step 1 (model 'a')", "input 'x'", "not mapped"]),
        (("a(x=in) -> ",), {}, ["step 1 (model 'a')", "none of the model's outputs"]),
        (
            ("a(x=in) -> y=t", "b(x=foo) -> y=out"), {},
            ["step[1].input_map", "step 2 (model 'b')", "input 'x'", "tensor 'foo'", "no step"],
        ),
        (
            ("a(x=in) -> y=out", "b(x=in) -> y=out"), {},
            ["step 2 (model 'b')", "tensor 'out'", "made by step 1 (model 'a') already"],
        ),
        (("a(x=in) -> y=in",), {}, ["tensor 'in'", "an input of the ensemble already"]),
        (("a(x=in) -> y=t",), {}, ["output", "no step makes tensor 'out'"]),
        (LINE, {"inputs": "in more"}, ["input", "no step uses tensor 'more'"]),
        (
            ("a(x=in) -> y=out", "b(x=in) -> y=t"), {},
            ["step 2 (model 'b')", "nobody uses tensor 't'"],
        ),
        (
            ("a(x=v, z=in) -> y=t", "b(x=t) -> y=u", "c(x=u) -> y=v, z=out"),
            {"members": {"a": member("xz"), "c": member("x", "yz")}},
            [
                "step 1 (model 'a') waits for 'v'", "step 2 (model 'b') waits for 't'",
                "step 3 (model 'c') waits for 'u'", "circle",
            ],
        ),
        (
            LINE, {"members": {"a": member(max_batch_size=4)}},
            ["max_batch_size", "is 8", "step 1 (model 'a')", "at most 4"],
        ),
    ],
)  # fmt: skip
def test_what_cannot_run_is_refused_by_name(
    steps: tuple[str, ...], more: dict[str, Any], words: list[str]
) -> None:
    told = refusal(*steps, **more)
    assert [word for word in words if word not in told] == [], told


def test_data_types_of_two_models_are_compared() -> None:
    ints = member()
    ints = type(ints)(8, (spec("x", "TYPE_INT32"),), ints.outputs)
    told = refusal(*LINE, members={"b": ints})
    for word in ("tensor 't'", "TYPE_FP32 from step 1 (model 'a')", "step 2 (model 'b')", "'x'"):
        assert word in told
    assert "TYPE_INT32" in told


def test_shapes_of_two_models_are_compared() -> None:
    five = member()
    five = type(five)(8, (spec("x", "TYPE_FP32", -1, 5),), five.outputs)
    told = refusal(*LINE, members={"b": five})
    assert "tensor 't' has shape [-1, 4] from step 1 (model 'a')" in told
    assert "step 2 (model 'b') takes as 'x' has [-1, 5]" in told


def test_what_the_ensemble_says_of_its_outputs_is_compared() -> None:
    told = refusal(*LINE, output=[tensor("out", "TYPE_INT8")])
    assert "tensor 'out' is TYPE_FP32 from step 2 (model 'b')" in told
    assert "the ensemble gives as its output is TYPE_INT8" in told


@pytest.mark.parametrize("free", [(-1, -1), (-1, 4)])
def test_a_size_that_is_free_fits_any(free: tuple[int, ...]) -> None:
    any_size = type(member())(8, (spec("x", "TYPE_FP32", *free),), member().outputs)
    assert len(graph(*LINE, members={"b": any_size}).steps) == 2


def test_a_model_without_batches_may_be_part_of_one_with_them() -> None:
    whole = type(member())(0, (spec("x", "TYPE_FP32", -1, 4),), (spec("y", "TYPE_FP32", -1, 4),))
    made = graph(*LINE, members={"b": whole})
    assert [step.mixed for step in made.steps] == [False, True]


def test_an_input_that_may_be_left_out_needs_models_that_do_without() -> None:
    optional = [{**tensor("in"), "optional": True}]
    assert "may be left out, but step 1 (model 'a') needs it as 'x'" in refusal(
        *LINE, input=optional
    )
    lenient = type(member())(8, (spec("x", optional=True),), member().outputs)
    assert graph(*LINE, input=optional, members={"a": lenient}).inputs[0].optional


# -- what streams ---------------------------------------------------------------------------------


def test_an_ensemble_with_a_model_that_streams_streams() -> None:
    assert not graph(*LINE).streams
    made = graph(*LINE, members={"a": STREAM})
    assert made.streams
    assert made.scope == (0,)
    assert [step.scope for step in made.steps] == [(), (0,)]


def test_what_stands_behind_two_streams_in_a_row_runs_for_each_response_of_the_second() -> None:
    made = graph(
        "a(x=in) -> y=t", "b(x=t) -> y=u", "c(p=t, q=u) -> y=out",
        members={"a": STREAM, "b": STREAM, "c": member("pq")},
    )  # fmt: skip
    assert [step.scope for step in made.steps] == [(), (0,), (0, 1)]


def test_two_streams_beside_each_other_cannot_be_joined() -> None:
    told = refusal(
        "a(x=in) -> y=t", "b(x=in) -> y=u", "c(p=t, q=u) -> y=out",
        members={"a": STREAM, "b": STREAM, "c": member("pq")},
    )  # fmt: skip
    assert "step 3 (model 'c') needs tensors 't' and 'u'" in told
    told = refusal(
        "a(x=in) -> y=out", "b(x=in) -> y=more", outputs="out more",
        members={"a": STREAM, "b": STREAM},
    )  # fmt: skip
    assert "the answer needs tensors 'out' and 'more'" in told


# -- fewer outputs --------------------------------------------------------------------------------


def test_steps_that_make_nothing_that_is_asked_for_are_left_out() -> None:
    made = graph(
        "a(x=in) -> y=t", "b(x=t) -> y=out", "c(x=t) -> y=more", "d(x=in) -> y=last",
        outputs="out more last",
    )  # fmt: skip
    assert [step.model for step in made.pruned((1,)).steps] == ["a", "c"]
    assert [step.model for step in made.pruned((2, 0)).steps] == ["a", "d", "b"]
    assert [out.name for out in made.pruned((2, 0)).outputs] == ["last", "out"]
    assert [step.model for step in made.pruned((1,)).consumers["t"]] == ["c"]
