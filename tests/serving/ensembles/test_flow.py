"""What runs next, by hand and by chance: a Flow is run by a test that ends steps in any order."""

from random import Random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from inferd.serving.ensembles.flow import Call, Flow
from inferd.serving.ensembles.graph import EnsembleGraph
from inferd.types.inference import SequenceStep
from inferd.types.tensor import Array
from serving.ensembles.graphs import graph, member

STREAM = member(streams=True)


def number(value: float) -> Array:
    return np.array([value], np.float32)


def begin(made: EnsembleGraph, **tensors: float) -> Flow:
    return Flow(made, {name: number(value) for name, value in (tensors or {"in": 1.0}).items()})


def models(calls: list[Call]) -> list[str]:
    return [call.step.model for call in calls]


def finish(flow: Flow, call: Call, *values: float) -> None:
    flow.arrived(call, [number(value) for value in values])
    flow.ended(call)


def answers(flow: Flow) -> list[list[float]]:
    return [[float(array[0]) for array in answer.arrays] for answer in flow.answers()]


def test_a_step_runs_when_its_tensors_are_there_and_its_outputs_are_handed_on_as_they_are() -> None:
    flow = begin(graph("a(x=in) -> y=t", "b(x=t) -> y=out"))
    (first,) = flow.calls()
    assert list(flow.calls()) == []
    made = number(5)
    flow.arrived(first, [made])
    flow.ended(first)
    (second,) = flow.calls()
    assert second.inputs["x"] is made
    assert not flow.finished
    finish(flow, second, 7)
    assert answers(flow) == [[7]]
    assert flow.finished


def test_steps_that_need_nothing_of_each_other_run_at_once() -> None:
    flow = begin(
        graph(
            "a(x=in) -> y=t", "b(x=in) -> y=u", "c(p=t, q=u) -> y=out",
            members={"c": member("pq")},
        )
    )  # fmt: skip
    first, second = flow.calls()
    finish(flow, second, 2)
    assert list(flow.calls()) == []
    finish(flow, first, 1)
    (last,) = flow.calls()
    assert {name: float(array[0]) for name, array in last.inputs.items()} == {"p": 1, "q": 2}


def test_an_input_that_was_left_out_is_left_out_of_its_steps() -> None:
    lenient = type(member())(8, member("pq").inputs, member().outputs)
    lenient = type(lenient)(
        8,
        tuple(type(s)(s.name, s.datatype, s.shape, True) for s in lenient.inputs),
        lenient.outputs,
    )
    made = graph(
        "a(p=in, q=more) -> y=out", members={"a": lenient},
        input=[
            {"name": name, "data_type": "TYPE_FP32", "dims": [4], "optional": True}
            for name in ("in", "more")
        ],
    )  # fmt: skip
    (call,) = begin(made, more=3).calls()
    assert list(call.inputs) == ["q"]
    (call,) = Flow(made, {}).calls()
    assert call.inputs == {}


def test_an_output_that_was_not_given_is_left_out_of_what_comes_behind() -> None:
    flow = begin(
        graph("a(x=in) -> y=t, z=u", "b(x=t, w=u) -> y=out", members={
            "a": member("x", "yz"), "b": member("xw")})
    )  # fmt: skip
    (first,) = flow.calls()
    flow.arrived(first, [number(1), None])
    flow.ended(first)
    (second,) = flow.calls()
    assert list(second.inputs) == ["x"]
    flow.arrived(second, [None])
    flow.ended(second)
    assert [answer.arrays for answer in flow.answers()] == [[None]]
    assert flow.finished


def test_what_a_model_says_of_the_sequence_is_that_of_all_that_is_made_of_its_outputs() -> None:
    made = graph(
        "a(x=in) -> y=t", "b(x=t) -> y=u", "c(x=in) -> y=v", "d(x=u, w=v) -> y=out",
        members={"d": member("xw")},
    )  # fmt: skip
    came, said = SequenceStep(5, start=True), SequenceStep(7, end=True)
    flow = Flow(made, {"in": number(1)}, came)
    first, beside = flow.calls()
    assert first.sequence == beside.sequence == came
    flow.arrived(first, [number(2)], said)
    flow.ended(first)
    (second,) = flow.calls()
    assert second.sequence == said
    finish(flow, second, 3)
    finish(flow, beside, 4)
    (last,) = flow.calls()
    assert last.sequence == said
    finish(flow, last, 5)
    assert [answer.sequence for answer in flow.answers()] == [said]


# -- streams --------------------------------------------------------------------------------------


def test_each_response_goes_on_by_itself_and_is_answered_in_its_place() -> None:
    flow = begin(graph("a(x=in) -> y=t", "b(x=t) -> y=out", members={"a": STREAM}))
    (stream,) = flow.calls()
    flow.arrived(stream, [number(1)])
    flow.arrived(stream, [number(2)])
    first, second = flow.calls()
    finish(flow, second, 20)
    assert answers(flow) == []
    finish(flow, first, 10)
    assert answers(flow) == [[10], [20]]
    assert not flow.finished
    flow.ended(stream)
    assert flow.finished


def test_what_does_not_stream_is_used_for_every_response_also_when_it_is_late() -> None:
    flow = begin(
        graph(
            "a(x=in) -> y=t", "s(x=in) -> y=u", "c(p=t, q=u) -> y=out",
            members={"s": STREAM, "c": member("pq")},
        )
    )  # fmt: skip
    plain, stream = flow.calls()
    flow.arrived(stream, [number(1)])
    flow.arrived(stream, [number(2)])
    flow.ended(stream)
    assert list(flow.calls()) == []
    finish(flow, plain, 5)
    calls = list(flow.calls())
    seen = [[float(array[0]) for array in call.inputs.values()] for call in calls]
    assert seen == [[5, 1], [5, 2]]
    for call in calls:
        finish(flow, call, 0)
    assert flow.finished


def test_a_stream_without_responses_is_an_answer_without_any() -> None:
    flow = begin(graph("a(x=in) -> y=t", "b(x=t) -> y=out", members={"a": STREAM}))
    (stream,) = flow.calls()
    flow.ended(stream)
    assert flow.finished
    assert answers(flow) == []


def test_so_many_requests_are_in_flight_at_a_step() -> None:
    flow = begin(
        graph(
            "a(x=in) -> y=t", "b(x=t) -> y=out", members={"a": STREAM}, max_inflight_requests=2
        )
    )  # fmt: skip
    (stream,) = flow.calls()
    for value in range(5):
        flow.arrived(stream, [number(value)])
    running = list(flow.calls())
    assert [float(call.inputs["x"][0]) for call in running] == [0, 1]
    finish(flow, running[1], 0)
    (third,) = flow.calls()
    assert float(third.inputs["x"][0]) == 2
    assert list(flow.calls()) == []


def test_a_response_is_dealt_with_when_its_answer_has_been_taken() -> None:
    flow = begin(graph("a(x=in) -> y=t", "b(x=t) -> y=out", members={"a": STREAM}))
    (stream,) = flow.calls()
    flow.arrived(stream, [number(1)])
    (call,) = flow.calls()
    finish(flow, call, 10)
    assert answers(flow) == [[10]]
    assert flow.credits() == []
    flow.taken(1)
    assert flow.credits() == [stream]
    assert flow.credits() == []


# -- by chance ------------------------------------------------------------------------------------


@st.composite
def lines(draw: st.DrawFn) -> list[str]:
    """Steps that each take one or two tensors made before; the last makes `out` of all that nobody
    else took."""
    tensors, unused = ["in"], {"in"}
    written = []
    for index in range(draw(st.integers(1, 6))):
        taken = draw(st.lists(st.sampled_from(tensors), min_size=1, max_size=2))
        unused -= set(taken)
        inputs = ", ".join(f"{name}={tensor}" for name, tensor in zip("pq", taken, strict=False))
        written.append(f"m{len(taken)}({inputs}) -> y=t{index}")
        tensors.append(f"t{index}")
        unused.add(f"t{index}")
    last = sorted(unused)
    inputs = ", ".join(f"{chr(97 + i)}={tensor}" for i, tensor in enumerate(last))
    return [*written, f"last({inputs}) -> y=out"]


@given(lines(), st.randoms(use_true_random=False))
def test_every_step_runs_once_with_what_the_others_made(written: list[str], random: Random) -> None:
    count = written[-1].count("=") - 1
    members = {
        "m1": member("p"), "m2": member("pq"),
        "last": member("".join(chr(97 + i) for i in range(count))),
    }  # fmt: skip
    order = list(written)
    random.shuffle(order)
    made = graph(*order, members=members)
    values = {"in": 1.0}
    for step in made.steps:  # in an order in which each finds what it takes
        values[step.outputs[0][1]] = step.index + sum(values[tensor] for _, tensor in step.inputs)
    flow = begin(made)
    running = list(flow.calls())
    ran = 0
    while running:
        call = running.pop(random.randrange(len(running)))
        taken = sum(float(array[0]) for array in call.inputs.values())
        finish(flow, call, call.step.index + taken)
        ran += 1
        running += flow.calls()
    assert ran == len(written)
    assert flow.finished
    assert answers(flow) == [[values["out"]]]


@given(
    st.lists(st.integers(0, 3), max_size=6), st.integers(0, 3), st.randoms(use_true_random=False)
)
def test_answers_of_streams_in_streams_come_in_order_within_bounds(
    inner: list[int], most: int, random: Random
) -> None:
    """Stream a gives as many responses as `inner` is long, and b, for each, as many as it says."""
    made = graph(
        "a(x=in) -> y=t", "b(x=t) -> y=u", "c(p=t, q=u) -> y=out", max_inflight_requests=most,
        members={"a": STREAM, "b": STREAM, "c": member("pq")},
    )  # fmt: skip
    flow = begin(made)
    (stream,) = flow.calls()
    left: dict[Call, list[float]] = {stream: [float(i) for i in range(len(inner))]}
    got: list[list[float]] = []
    credited = {"a": 0, "b": 0}
    while left:
        call = random.choice(list(left))
        if call.step.model == "c":
            outer, within = (float(array[0]) for array in call.inputs.values())
            finish(flow, call, outer * 100 + within)
            del left[call]
        elif left[call]:
            flow.arrived(call, [number(left[call].pop(0))])
        else:
            flow.ended(call)
            del left[call]
        for begun in flow.calls():
            if begun.step.model == "b":
                place = int(begun.inputs["x"][0])
                left[begun] = [float(i) for i in range(inner[place])]
            else:
                left[begun] = []
        if most:
            names = [call.step.model for call in left]
            assert all(names.count(name) <= most for name in "abc")
        came = answers(flow)
        got += came
        flow.taken(len(came))
        for credit in flow.credits():
            credited[credit.step.model] += 1
    assert flow.finished
    assert got == [[i * 100.0 + j] for i, count in enumerate(inner) for j in range(count)]
    assert credited == {"a": len(inner), "b": sum(inner)}
