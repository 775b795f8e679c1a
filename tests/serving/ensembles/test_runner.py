"""Ensembles of models whose runs the test ends."""

import gc
import time
import weakref
from typing import Any

import numpy as np
import pytest

from fakes import clock, on_loop, turns
from inferd.batching.batcher import BatchResult
from inferd.errors import BackendError, InvalidRequest, ModelUnavailable, Overloaded, RequestTimeout
from inferd.serving.ensembles.run import sequence_said
from inferd.types.inference import InferenceResponse, RequestedOutput, SequenceStep
from serving.ensembles.fake_models import Fakes, fake_model

LINE = "a(x=in) -> y=t", "b(x=t) -> y=out"


def line() -> Fakes:
    fakes = Fakes(*LINE)
    fakes.add("a")
    fakes.add("b", lambda arrays: [array * 10 for array in arrays])
    return fakes


@on_loop
async def test_arrays_go_from_step_to_step_as_they_are_and_all_are_counted() -> None:
    fakes = line()
    fakes.ask(2.0, id="7")
    await turns(2)
    made = np.full((1, 4), 3, np.float32)
    fakes.runners["a"].finish(outputs=[made])
    await turns(2)
    ((batch, _),) = fakes.runners["b"].running
    assert batch.items[0].arrays[0] is made
    fakes.runners["b"].finish()
    (answer,) = fakes.answers
    assert fakes.values(answer) == [30]
    assert isinstance(answer, InferenceResponse)
    assert (answer.id, answer.model_name, answer.outputs[0].name) == ("7", "e", "out")
    for served in (fakes.ensemble, *fakes.models.values()):
        assert (served.statistics.success.count, served.statistics.inference_count) == (1, 1)
        assert served.in_flight() == 0
    assert [sum(h.counts) for h in fakes.ensemble.statistics.steps.values()] == [1, 1]
    assert list(fakes.ensemble.statistics.steps) == [("1", "a"), ("2", "b")]


@on_loop
async def test_steps_batch_with_everybodys_requests() -> None:
    fakes = line()
    for value in range(3):
        fakes.ask(value)
    fakes.models["a"].submit(_direct(5.0), fakes.answers.append)
    await turns(2)
    assert [batch.rows for batch, _ in fakes.runners["a"].running] == [4]
    await fakes.settle()
    assert sorted(fakes.values(answer) for answer in fakes.answers) == [[6], [10], [20], [30]]
    assert fakes.models["b"].statistics.execution_count == 1


def _direct(value: float):  # type: ignore[no-untyped-def]
    from inferd.types.datatype import FP32
    from inferd.types.inference import InferenceRequest
    from inferd.types.tensor import Tensor

    return InferenceRequest("a", "", [Tensor("x", FP32, np.full((1, 4), value, np.float32))])


@on_loop
async def test_what_a_request_says_of_itself_travels_along() -> None:
    fakes = line()
    deadline_ns = time.perf_counter_ns() + 10**12
    step = SequenceStep(5, start=True)
    fakes.ask(
        id="7", parameters={"p": 1}, timeout_us=10**9, deadline_ns=deadline_ns, priority=3,
        session="s", sequence=step, depth=2,
    )  # fmt: skip
    await turns(2)
    fakes.runners["a"].finish()
    await turns(2)
    ((batch, _),) = fakes.runners["b"].running
    came = batch.items[0].request
    assert (came.id, came.parameters, came.timeout_us) == ("7", {"p": 1}, 10**9)
    assert (came.deadline_ns, came.priority, came.session) == (deadline_ns, 3, "s")
    assert came.depth == 2
    assert came.sequence == step
    await fakes.settle()


@on_loop
async def test_an_error_names_the_step_and_what_else_runs_is_given_up() -> None:
    fakes = Fakes("a(x=in) -> y=t", "b(x=in) -> y=u", "c(p=t, q=u) -> y=out")
    for name in "ab":
        fakes.add(name)
    fakes.add("c", inputs="pq")
    fakes.ask()
    await turns(2)
    fakes.runners["b"].fail("no such thing")
    assert fakes.told() == "in ensemble 'e', step 2 (model 'b'): no such thing"
    assert len(fakes.runners["a"].given_up) == 1
    fakes.runners["a"].finish()
    await turns(3)
    assert len(fakes.answers) == 1
    assert fakes.ensemble.statistics.fail.count == 1
    assert fakes.runners["c"].started == []
    assert fakes.ensemble.in_flight() == 0


@on_loop
async def test_the_kind_of_a_steps_error_is_that_of_the_answer() -> None:
    fakes = Fakes(*LINE)
    fakes.add("a", lambda arrays: [np.zeros((1, 5), np.float32)], columns=4)
    fakes.add("b")
    fakes.ask()
    await fakes.settle()
    (answer,) = fakes.answers
    assert isinstance(answer, InvalidRequest)
    assert str(answer).startswith("in ensemble 'e', step 2 (model 'b'): unexpected shape for input")


@on_loop
async def test_a_full_queue_of_a_step_says_when_to_come_back() -> None:
    fakes = line()
    fakes.models["a"].batcher.queue.max_size = 0
    fakes.ask()
    await turns(2)
    (answer,) = fakes.answers
    assert isinstance(answer, Overloaded)
    assert answer.retry_after_s == 1.0
    assert str(answer).startswith("in ensemble 'e', step 1 (model 'a'): ")


@on_loop
async def test_leaving_in_the_middle_gives_up_what_runs() -> None:
    fakes = line()
    item = fakes.ask()
    await turns(2)
    fakes.runners["a"].finish()
    await turns(2)
    item.cancel()
    assert len(fakes.runners["b"].given_up) == 1
    fakes.runners["b"].finish()
    await turns(2)
    assert fakes.answers == []
    for served in (fakes.ensemble, fakes.models["b"]):
        assert served.statistics.failures["CANCELED"] == 1
        assert served.in_flight() == 0
    await fakes.ensemble.drain()


@on_loop
async def test_a_deadline_ends_the_request_wherever_it_is() -> None:
    fakes = line()
    fakes.ask(deadline_ns=time.perf_counter_ns() + 5 * 10**9)
    await turns(2)
    fakes.runners["a"].finish()
    await turns(2)
    await clock().pass_time(6)
    (answer,) = fakes.answers
    assert isinstance(answer, RequestTimeout)
    assert len(fakes.runners["b"].given_up) == 1
    fakes.runners["b"].finish()
    await fakes.ensemble.drain()


@on_loop
async def test_only_steps_for_what_is_asked_for_run() -> None:
    fakes = Fakes("a(x=in) -> y=t", "b(x=t) -> y=out", "c(x=t) -> y=more", outputs="out more")
    for name in "abc":
        fakes.add(name)
    fakes.ask(outputs=[RequestedOutput("more")])
    await fakes.settle()
    assert [fakes.values(answer) for answer in fakes.answers] == [[2]]
    assert fakes.runners["b"].started == []
    assert len(fakes.runners["c"].started) == 1


# -- models that come and go ----------------------------------------------------------------------


@on_loop
async def test_without_one_of_its_models_an_ensemble_says_which() -> None:
    fakes = line()
    assert fakes.ensemble.trouble == ""
    gone = fakes.models.pop("b")
    words = "in ensemble 'e', step 2 (model 'b'): 'b' is not there"
    assert fakes.ensemble.trouble == words
    fakes.ask()
    await fakes.settle()
    assert fakes.told() == words
    assert isinstance(fakes.answers[0], ModelUnavailable)
    fakes.models["b"] = gone
    assert fakes.ensemble.trouble == ""


@on_loop
async def test_a_model_that_comes_again_is_used_if_its_tensors_are_the_same() -> None:
    fakes = line()
    assert not fakes.ensemble.outdated
    fakes.models["b"] = fake_model("b", fakes.runners["b"], version=2)
    assert not fakes.ensemble.outdated
    fakes.models["b"] = fake_model("b", fakes.runners["b"], version=3, inputs="z")
    assert fakes.ensemble.outdated
    assert "loaded again with other tensors" in fakes.ensemble.trouble


@on_loop
async def test_a_model_that_is_gone_is_not_held_on_to() -> None:
    fakes = line()
    fakes.ask()
    await fakes.settle()
    gone = weakref.ref(fakes.models.pop("a"))
    del fakes.runners["a"]
    gc.collect()
    assert gone() is None


# -- at once --------------------------------------------------------------------------------------


def rows(count: int) -> list[np.ndarray]:  # type: ignore[type-arg]
    return [np.arange(count * 4, dtype=np.float32).reshape(count, 4)]


def at_once() -> Fakes:
    fakes = Fakes(*LINE)
    fakes.add("a", at_once=True)
    fakes.add("b", lambda arrays: [array * 10 for array in arrays], at_once=True)
    return fakes


@on_loop
async def test_requests_that_come_together_run_at_once_and_each_is_counted() -> None:
    fakes = at_once()
    assert fakes.ensemble.mergeable
    outputs = fakes.ensemble.run_now(rows(3), 3, time.perf_counter_ns())
    assert outputs is not None
    assert np.array_equal(outputs[0], (rows(3)[0] + 1) * 10)
    for served in (fakes.ensemble, *fakes.models.values()):
        counted = served.statistics
        assert (counted.success.count, counted.inference_count, counted.execution_count) == (
            3,
            3,
            1,
        )
    assert [sum(h.counts) for h in fakes.ensemble.statistics.steps.values()] == [3, 3]


@on_loop
async def test_nothing_runs_where_one_model_would_not_at_once() -> None:
    fakes = at_once()
    fakes.runners["b"].at_once = False
    assert fakes.ensemble.run_now(rows(2), 2, 0) is None
    fakes.runners["b"].at_once = True
    fakes.models["b"].submit(_renamed("b"), fakes.answers.append)  # somebody waits there
    assert fakes.ensemble.run_now(rows(2), 2, 0) is None
    assert fakes.models["a"].statistics.execution_count == 0
    await fakes.settle()
    assert fakes.ensemble.run_now(rows(2), 2, 0) is not None
    del fakes.models["b"]
    assert fakes.ensemble.run_now(rows(2), 2, 0) is None


def _renamed(name: str):  # type: ignore[no-untyped-def]
    request = _direct(0.0)
    request.model_name = name
    return request


@on_loop
async def test_riders_ride_through_all_steps() -> None:
    fakes = line()
    item = fakes.ensemble.submit_riders(rows(3), 3, time.perf_counter_ns(), fakes.answers.append)
    assert item is not None
    await fakes.settle()
    (answer,) = fakes.answers
    assert isinstance(answer, InferenceResponse)
    assert np.array_equal(answer.outputs[0].array, (rows(3)[0] + 1) * 10)
    for served in (fakes.ensemble, *fakes.models.values()):
        assert served.statistics.success.count == 3


# -- streams --------------------------------------------------------------------------------------


def streaming(**more: int) -> Fakes:
    fakes = Fakes(*LINE, **more)
    fakes.add("a", streams=True)
    fakes.add("b")
    return fakes


@on_loop
async def test_an_ensemble_with_a_model_that_streams_streams() -> None:
    fakes = streaming()
    assert fakes.ensemble.signature.streams
    fakes.ask()
    await turns(2)
    fakes.runners["a"].part(1)
    await turns(2)
    fakes.runners["b"].finish()
    assert [fakes.values(part) for part in fakes.parts] == [[2]]
    fakes.runners["a"].part(5)
    fakes.runners["a"].end()
    assert fakes.answers == []
    await turns(2)
    fakes.runners["b"].finish()
    assert [fakes.values(part) for part in fakes.parts] == [[2], [6]]
    (end,) = fakes.answers
    assert isinstance(end, InferenceResponse)
    assert end.outputs == []


@on_loop
async def test_a_stream_goes_on_as_its_client_takes_answers() -> None:
    fakes = streaming()
    item = fakes.ask()
    await turns(2)
    fakes.runners["a"].part(1)
    fakes.runners["a"].part(2)
    await turns(2)
    fakes.runners["b"].finish()
    assert len(fakes.parts) == 2
    assert fakes.runners["a"].taken == []
    fakes.ensemble.took(item, 1)
    assert fakes.runners["a"].taken == [1]
    fakes.ensemble.took(item, 1)
    assert fakes.runners["a"].taken == [1, 1]
    item.cancel()
    fakes.runners["a"].end()
    await fakes.ensemble.drain()


@on_loop
async def test_max_inflight_requests_holds_responses_back() -> None:
    fakes = streaming(max_inflight_requests=1)
    fakes.ask()
    await turns(2)
    for value in (1, 2, 3):
        fakes.runners["a"].part(value)
    fakes.runners["a"].end()
    seen = []
    for _ in range(3):
        await turns(3)
        seen.append([batch.rows for batch, _ in fakes.runners["b"].running])
        fakes.runners["b"].finish()
    assert seen == [[1], [1], [1]]
    assert [fakes.values(part) for part in fakes.parts] == [[2], [3], [4]]
    assert len(fakes.answers) == 1


@on_loop
async def test_an_error_of_one_response_ends_the_stream() -> None:
    fakes = streaming()
    fakes.ask()
    await turns(2)
    fakes.runners["a"].part(1)
    await turns(2)
    fakes.runners["b"].fail("broken")
    assert fakes.told() == "in ensemble 'e', step 2 (model 'b'): broken"
    assert len(fakes.runners["a"].given_up) == 1
    fakes.runners["a"].part(2)
    fakes.runners["a"].end()
    await turns(3)
    assert len(fakes.answers) == 1


@on_loop
async def test_a_response_that_is_an_error_ends_the_stream() -> None:
    fakes = streaming()
    fakes.ask()
    await turns(2)
    fakes.runners["a"].bad_part(BackendError("broken"))
    assert fakes.told() == "in ensemble 'e', step 1 (model 'a'): broken"
    fakes.runners["a"].end()
    await fakes.ensemble.drain()


@on_loop
async def test_a_response_without_outputs_goes_nowhere() -> None:
    fakes = streaming()
    fakes.ask()
    await turns(2)
    fakes.runners["a"].empty_part()
    assert fakes.runners["a"].taken == [1]
    fakes.runners["a"].end()
    await turns(2)
    assert fakes.parts == []
    assert len(fakes.answers) == 1


@on_loop
async def test_a_step_that_needs_an_output_that_is_missing_says_so() -> None:
    fakes = line()
    fakes.ask()
    await turns(2)
    ((batch, done),) = fakes.runners["a"].running
    done(batch, BatchResult(None, None, 0, 0, each=[[None]]))
    assert fakes.told().startswith(
        "in ensemble 'e', step 2 (model 'b'): expected 1 inputs but got 0 inputs for model 'b'"
    )


@on_loop
async def test_an_output_that_no_model_gave_is_not_in_the_answer() -> None:
    fakes = line()
    fakes.ask()
    await turns(2)
    fakes.runners["a"].finish()
    await turns(2)
    ((batch, done),) = fakes.runners["b"].running
    done(batch, BatchResult(None, None, 0, 0, each=[[None]]))
    (answer,) = fakes.answers
    assert isinstance(answer, InferenceResponse)
    assert answer.outputs == []


# -- what models say beside tensors ---------------------------------------------------------------


@on_loop
async def test_a_model_moves_its_request_to_another_sequence_and_the_answer_says_which() -> None:
    fakes = line()
    fakes.ask(sequence=SequenceStep(5, start=True))
    await turns(2)
    ((batch, done),) = fakes.runners["a"].running
    said = {"sequence_id": 7, "sequence_end": True, "mine": "stays"}
    done(batch, BatchResult([np.zeros((1, 4), np.float32)], None, 0, 0, parameters={0: said}))
    await turns(2)
    ((batch, _),) = fakes.runners["b"].running
    assert batch.items[0].request.sequence == SequenceStep(7, end=True)
    fakes.runners["b"].finish()
    (answer,) = fakes.answers
    assert isinstance(answer, InferenceResponse)
    assert answer.parameters == {"sequence_id": 7, "sequence_start": False, "sequence_end": True}


@on_loop
async def test_what_else_models_say_does_not_go_on() -> None:
    fakes = line()
    fakes.ask()
    await turns(2)
    ((batch, done),) = fakes.runners["a"].running
    done(batch, BatchResult([np.zeros((1, 4), np.float32)], None, 0, 0, parameters={0: {"p": 1}}))
    await fakes.settle()
    (answer,) = fakes.answers
    assert isinstance(answer, InferenceResponse)
    assert answer.parameters is None


@pytest.mark.parametrize("said", [{"sequence_id": 1.5}, {"sequence_id": True},
                                  {"sequence_id": 3, "sequence_start": 1}])  # fmt: skip
def test_what_a_model_says_of_a_sequence_has_its_types(said: dict[str, Any]) -> None:
    with pytest.raises(BackendError, match="the model's parameter 'sequence_"):
        sequence_said(said, None)


# -- with and without a batch dimension -----------------------------------------------------------


@on_loop
@pytest.mark.parametrize(("ensemble", "model"), [(8, 0), (0, 8)])
async def test_a_batch_dimension_of_one_comes_and_goes(ensemble: int, model: int) -> None:
    fakes = Fakes(*LINE, max_batch_size=ensemble)
    fakes.add("a", max_batch_size=ensemble)
    fakes.add("b", max_batch_size=model)
    assert not fakes.ensemble.mergeable
    fakes.ask()
    await fakes.settle()
    (answer,) = fakes.answers
    assert isinstance(answer, InferenceResponse), answer
    assert answer.outputs[0].array.shape == ((1, 4) if ensemble else (4,))
