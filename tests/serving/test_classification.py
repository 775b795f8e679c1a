import numpy as np
import pytest

from inferd.errors import InvalidRequest
from inferd.serving.classification import MAX_ELEMENTS, check_classification, classify
from inferd.types.datatype import BF16, BYTES, DATATYPES, FP32
from inferd.types.tensor import Tensor, TensorSpec

LABELS = ("cat", "dog")


def top(
    values: object, count: int, labels: tuple[str, ...] = (), batched: bool = True,
    datatype: str = "FP32",
) -> list[object]:  # fmt: skip
    kind = DATATYPES[datatype]
    result = classify(Tensor("y", kind, np.array(values, kind.dtype)), count, labels, batched)
    assert (result.name, result.datatype) == ("y", BYTES)
    assert result.array.dtype == object
    found: list[object] = result.array.tolist()
    return found


def test_the_largest_of_each_row_come_first() -> None:
    assert top([[0.25, 0.5, 0.125], [3, 1, 2]], 2) == [
        [b"0.500000:1", b"0.250000:0"],
        [b"3.000000:0", b"2.000000:2"],
    ]


def test_labels_name_the_indices_that_have_one() -> None:
    assert top([[1, 3, 2]], 3, LABELS) == [[b"3.000000:1:dog", b"2.000000:2", b"1.000000:0:cat"]]


def test_of_equals_the_first_comes_first() -> None:
    assert top([[1, 2, 2, 1, 2]], 5) == [
        [b"2.000000:1", b"2.000000:2", b"2.000000:4", b"1.000000:0", b"1.000000:3"]
    ]


def test_more_than_there_are_is_all_there_are() -> None:
    assert top([[1, 2]], 10**9) == [[b"2.000000:1", b"1.000000:0"]]


def test_without_a_batch_the_whole_output_is_one_row() -> None:
    assert top([3, 5, 4], 2, batched=False) == [b"5.000000:1", b"4.000000:2"]
    assert top([[3, 5], [4, 9]], 2, batched=False) == [b"9.000000:3", b"5.000000:1"]
    assert top(7, 1, batched=False) == [b"7.000000:0"]


def test_further_dimensions_are_counted_through() -> None:
    assert top([[[1, 2], [9, 3]]], 2) == [[b"9.000000:2", b"3.000000:3"]]


@pytest.mark.parametrize(
    ("datatype", "values", "expected"),
    [
        ("UINT8", [[0, 255]], [[b"255.000000:1", b"0.000000:0"]]),
        ("INT64", [[-5, 3]], [[b"3.000000:1", b"-5.000000:0"]]),
        ("FP16", [[0.5, 1]], [[b"1.000000:1", b"0.500000:0"]]),
        ("FP64", [[1e-9, 0]], [[b"0.000000:0", b"0.000000:1"]]),
        ("BOOL", [[False, True]], [[b"1.000000:1", b"0.000000:0"]]),
        ("BF16", [[0x3F80, 0xC000, 0x4000]], [[b"2.000000:2", b"1.000000:0", b"-2.000000:1"]]),
    ],
)
def test_every_kind_of_number(datatype: str, values: object, expected: object) -> None:
    assert top(values, 3, datatype=datatype) == expected


def test_bf16_without_a_batch() -> None:
    array = np.array([0x3F80, 0x4000], np.uint16)
    found = classify(Tensor("y", BF16, array), 1, LABELS, False).array
    assert found.tolist() == [b"2.000000:1:dog"]


def test_large_integers_are_told_apart() -> None:
    assert top([[2**53, 2**53 + 1]], 1, datatype="INT64")[0][0].endswith(b":1")  # type: ignore[index]
    assert top([[2**63 - 1, 2**63 - 2]], 1, datatype="INT64")[0][0].endswith(b":0")  # type: ignore[index]


def test_nan_is_never_the_best() -> None:
    assert top([[np.nan, 1.0, np.inf]], 2) == [[b"inf:2", b"1.000000:1"]]


@pytest.mark.parametrize("shape", [(2, 0), (0, 3)])
def test_nothing_to_choose_from(shape: tuple[int, int]) -> None:
    result = classify(Tensor("y", FP32, np.zeros(shape, np.float32)), 2, (), True)
    assert result.array.size == 0
    assert result.array.shape[0] == shape[0]


def test_more_than_a_million_elements_are_refused() -> None:
    tensor = Tensor("y", FP32, np.zeros((2, MAX_ELEMENTS // 2 + 1), np.float32))
    with pytest.raises(InvalidRequest, match=r"output 'y' would return 1000002 elements"):
        classify(tensor, MAX_ELEMENTS, (), True)
    assert classify(tensor, 1, (), True).array.shape == (2, 1)


def test_strings_cannot_be_classified() -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_classification(TensorSpec("y", BYTES, (-1,)), 1)
    assert "class result not available for output due to unsupported type 'BYTES'" in str(
        caught.value
    )


@pytest.mark.parametrize("count", [0, -1])
def test_at_least_one_is_asked_for(count: int) -> None:
    with pytest.raises(InvalidRequest, match="classification of output 'y' must be at least 1"):
        check_classification(TensorSpec("y", FP32, (-1,)), count)


def test_what_can_be_classified_passes() -> None:
    check_classification(TensorSpec("y", BF16, (-1,)), 1)
