from collections.abc import Callable

import numpy as np
import pytest

from inferd.backends.completion import DEFAULT_MAX_BATCH_SIZE, complete, probe_batching
from inferd.config.model import ModelConfig, ModelInput, ModelOutput
from inferd.errors import BackendError, ConfigError
from inferd.types.datatype import BF16, BOOL, BYTES, DATATYPES, FP16, FP32, FP64, INT64, DataType
from inferd.types.tensor import Array, TensorSpec

X = TensorSpec("x", FP32, (-1, 4))
Z = TensorSpec("z", INT64, (-1, -1))
Y = TensorSpec("y", FP32, (-1, 2))


def described(config: ModelConfig, most: int = 8) -> tuple[tuple[TensorSpec, ...], ...]:
    found = complete(config, "p", "b", [X, Z], [Y], most, ["a note"])
    assert (found.platform, found.backend, found.notes) == ("p", "b", ("a note",))
    assert found.max_batch_size == most
    return found.inputs, found.outputs


def x(dims: tuple[int, ...] = (4,), data_type: str = "TYPE_FP32", name: str = "x") -> ModelInput:
    return ModelInput(name=name, data_type=data_type, dims=dims)  # type: ignore[arg-type]


def z(dims: tuple[int, ...] = (-1,)) -> ModelInput:
    return x(dims, "TYPE_INT64", "z")


def y(dims: tuple[int, ...] = (2,), data_type: str = "TYPE_FP32", name: str = "y") -> ModelOutput:
    return ModelOutput(name=name, data_type=data_type, dims=dims)  # type: ignore[arg-type]


def refusal(config: ModelConfig, most: int = 8) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        described(config, most)
    return caught.value


# -- configuration and model ----------------------------------------------------------------------


def test_an_empty_configuration_takes_what_the_model_says() -> None:
    assert described(ModelConfig()) == ((X, Z), (Y,))
    assert described(ModelConfig(), most=0) == ((X, Z), (Y,))


def test_the_configuration_may_narrow_shapes_and_choose_the_order() -> None:
    inputs, outputs = described(ModelConfig(input=(z((7,)), x()), output=(y(),)))
    assert [(s.name, s.shape) for s in inputs] == [("z", (-1, 7)), ("x", (-1, 4))]
    assert outputs == (Y,)


def test_without_batching_dims_are_the_whole_shape() -> None:
    inputs, _ = described(ModelConfig(input=(x((3, 4)), z((-1, 2)))), most=0)
    assert [s.shape for s in inputs] == [(3, 4), (-1, 2)]


def test_an_output_that_is_not_configured_is_not_offered() -> None:
    outputs = [Y, TensorSpec("w", FP32, (-1,))]
    found = complete(ModelConfig(output=(y(),)), "p", "b", [X], outputs, 8)
    assert found.outputs == (Y,)


@pytest.mark.parametrize(
    ("config", "field", "named"),
    [
        (ModelConfig(input=(x(name="nope"), z())), "input", "has no 'nope'; it has: x, z"),
        (ModelConfig(output=(y(name="nope"),)), "output", "the model has no 'nope'; it has: y"),
        (ModelConfig(input=(x(),)), "input", "the model also needs z"),
        (ModelConfig(input=(x(), x(), z())), "input", "'x'"),
        (
            ModelConfig(input=(x(data_type="TYPE_FP64"), z())), "input.data_type",
            "'x' is TYPE_FP64, but the model has TYPE_FP32",
        ),
        (ModelConfig(output=(y(data_type="TYPE_BF16"),)), "output.data_type", "'y' is TYPE_BF16"),
        (ModelConfig(input=(x((5,)), z())), "input.dims", "'x' has dims [5]"),
        (ModelConfig(input=(x((-1,)), z())), "input.dims", "'x' has dims [-1]"),
        (ModelConfig(input=(x((-1, 4)), z())), "input.dims", "(the first is the batch)"),
        (ModelConfig(output=(y((2, 1)),)), "output.dims", "'y' has dims [2, 1]"),
    ],
)  # fmt: skip
def test_a_disagreement_names_the_field(config: ModelConfig, field: str, named: str) -> None:
    error = refusal(config)
    assert error.field == field
    assert named in str(error)


def test_dims_with_the_batch_are_right_without_batching() -> None:
    assert refusal(ModelConfig(input=(x((4,)), z())), most=0).field == "input.dims"


@pytest.mark.parametrize("shape", [(4, 4), (3,), ()])
def test_batches_need_a_first_dimension_that_is_free(shape: tuple[int, ...]) -> None:
    for inputs, outputs in (
        ([TensorSpec("t", FP32, shape)], [Y]),
        ([X], [TensorSpec("t", FP32, shape)]),
    ):
        with pytest.raises(ConfigError, match="'t' has shape") as caught:
            complete(ModelConfig(), "p", "b", inputs, outputs, 8)
        assert caught.value.field == "max_batch_size"


def test_a_fixed_single_row_is_a_batch_of_one() -> None:
    found = complete(ModelConfig(), "p", "b", [TensorSpec("t", FP32, (1, 4))], [Y], 1)
    assert found.inputs[0].shape == (-1, 4)


# -- the probe ------------------------------------------------------------------------------------

Compute = Callable[[list[Array]], list[Array]]


def probed(compute: Compute, *kinds: DataType, tail: tuple[int, ...] = (4,)) -> int:
    """The batch size that a probe chooses for a model with such inputs and one output."""
    inputs = [TensorSpec(f"x{i}", kind, (-1, *tail)) for i, kind in enumerate(kinds)]
    outputs = [TensorSpec("y", kinds[0], (-1, *tail))]
    size, note = probe_batching(compute, inputs, outputs)
    assert note.startswith("no batching: " if size == 0 else "batches of up to 64 rows: ")
    return size


INDEPENDENT: dict[str, Compute] = {
    "identity": lambda a: [a[0]],
    "sum of the row": lambda a: [np.repeat(a[0].sum(1, keepdims=True), a[0].shape[1], 1)],
    "softmax": lambda a: [np.exp(a[0]) / np.exp(a[0]).sum(1, keepdims=True)],
    "constant": lambda a: [np.ones_like(a[0])],
}
DEPENDENT: dict[str, Compute] = {
    "less the mean of all": lambda a: [a[0] - a[0].mean(0, keepdims=True)],
    "running sum": lambda a: [a[0].cumsum(0)],
    "backwards": lambda a: [a[0][::-1]],
    "largest of all": lambda a: [np.broadcast_to(a[0].max(0, keepdims=True), a[0].shape)],
    "softmax over all": lambda a: [np.exp(a[0]) / np.exp(a[0]).sum(0)],
    "position": lambda a: [a[0] + np.arange(len(a[0])).reshape(-1, 1)],
    "joined": lambda a: [a[0].sum(0, keepdims=True)],
    "twice as many": lambda a: [np.concatenate([a[0], a[0]])],
}


@pytest.mark.parametrize("name", INDEPENDENT)
@pytest.mark.parametrize("kind", [FP32, FP64], ids=lambda k: k.name)
def test_independent_rows_may_be_batched(name: str, kind: DataType) -> None:
    assert probed(INDEPENDENT[name], kind) == DEFAULT_MAX_BATCH_SIZE


@pytest.mark.parametrize("name", DEPENDENT)
@pytest.mark.parametrize("kind", [FP32, FP64], ids=lambda k: k.name)
def test_dependent_rows_are_not_batched(name: str, kind: DataType) -> None:
    assert probed(DEPENDENT[name], kind) == 0


@pytest.mark.parametrize("kind", DATATYPES.values(), ids=lambda k: k.name)
def test_every_datatype_can_be_probed(kind: DataType) -> None:
    assert probed(lambda a: [a[0]], kind) == DEFAULT_MAX_BATCH_SIZE


@pytest.mark.parametrize("tail", [(), (1,), (4,)], ids=str)
@pytest.mark.parametrize("kind", DATATYPES.values(), ids=lambda k: k.name)
def test_rows_out_of_their_places_are_noticed_in_every_datatype(
    kind: DataType, tail: tuple[int, ...]
) -> None:
    """The least that a sequence does to its elements."""
    assert probed(lambda a: [a[0][::-1]], kind, tail=tail) == 0


def running(arrays: list[Array]) -> list[Array]:
    return [arrays[0].cumsum(0).astype(arrays[0].dtype)]


@pytest.mark.parametrize("tail", [(), (1,)], ids=str)
@pytest.mark.parametrize("kind", [INT64, FP32, FP16, BF16, BOOL], ids=lambda k: k.name)
def test_a_running_sum_is_noticed_in_every_kind_of_number(
    kind: DataType, tail: tuple[int, ...]
) -> None:
    """A sequence of single numbers, as token ids are."""
    assert probed(running, kind, tail=tail) == 0


def test_dependence_on_another_input_is_noticed() -> None:
    assert probed(lambda a: [a[0] + a[1].mean(0)], FP32, FP32) == 0
    assert probed(lambda a: [a[0] + a[1]], FP32, FP32) == DEFAULT_MAX_BATCH_SIZE


def test_rounding_does_not_pass_for_dependence() -> None:
    def rounded(arrays: list[Array]) -> list[Array]:
        return [arrays[0] * (1 + 1e-6 * len(arrays[0]))]

    assert probed(rounded, FP32) == DEFAULT_MAX_BATCH_SIZE


@pytest.mark.parametrize("shape", [(4, 4), (1, 4), ()])
def test_nothing_is_run_where_a_first_dimension_is_fixed(shape: tuple[int, ...]) -> None:
    def never(arrays: list[Array]) -> list[Array]:
        raise AssertionError("run")

    fixed = TensorSpec("t", FP32, shape)
    for inputs, outputs in (([fixed], [Y]), ([X], [fixed]), ([X, fixed], [Y]), ([], [Y])):
        assert probe_batching(never, inputs, outputs)[0] == 0


def test_a_probe_that_fails_says_so_and_batches_nothing() -> None:
    def fails(arrays: list[Array]) -> list[Array]:
        raise BackendError("an id of 1 is out of range")

    size, note = probe_batching(fails, [X], [Y])
    assert size == 0
    assert "an id of 1 is out of range" in note
    assert "max_batch_size" in note


def test_free_dimensions_are_given_the_same_size_in_every_row() -> None:
    seen: list[tuple[int, ...]] = []

    def noting(arrays: list[Array]) -> list[Array]:
        seen.append(arrays[0].shape)
        return [arrays[0]]

    probe_batching(
        noting, [TensorSpec("x", FP32, (-1, -1, 3))], [TensorSpec("y", FP32, (-1, -1, 3))]
    )
    assert seen == [(1, 8, 3), (1, 8, 3), (2, 8, 3)]


def test_strings_of_different_rows_differ() -> None:
    seen: list[list[bytes]] = []

    def noting(arrays: list[Array]) -> list[Array]:
        seen.append(arrays[0].ravel().tolist())
        return [arrays[0]]

    probe_batching(noting, [TensorSpec("x", BYTES, (-1, 1))], [TensorSpec("y", BYTES, (-1, 1))])
    assert all(isinstance(value, bytes) for row in seen for value in row)
    assert seen[0] != seen[1]
