from inferd.observability.statistics import MAX_RESPONSES, ModelStatistics


def test_responses_are_counted_by_their_place() -> None:
    statistics = ModelStatistics()
    statistics.responded(0, "success", 30, 5)
    statistics.responded(0, "success", 50, 5)
    statistics.responded(0, "fail", 7, 1)
    statistics.responded(1, "empty_response", 9, 2)
    statistics.responded(1, "cancel", 4)
    first, second = statistics.responses[0], statistics.responses[1]
    assert (first.success.count, first.success.ns) == (2, 90)
    assert (first.fail.count, first.fail.ns) == (1, 8)
    assert (first.compute_infer.count, first.compute_infer.ns) == (3, 87)
    assert (first.compute_output.count, first.compute_output.ns) == (3, 11)
    assert (second.empty_response.count, second.empty_response.ns) == (1, 11)
    assert (second.cancel.count, second.cancel.ns) == (1, 4)
    assert second.compute_infer.count == second.compute_output.count == 0


def test_a_stream_without_end_is_counted_up_to_a_place() -> None:
    statistics = ModelStatistics()
    for place in range(MAX_RESPONSES + 10):
        statistics.responded(place, "success", 1)
    assert len(statistics.responses) == MAX_RESPONSES
