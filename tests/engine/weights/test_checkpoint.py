import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from engine.checkpoints import FAMILIES, copied, folder, model
from inferd.engine.models.registry import describe
from inferd.engine.models.spec import WeightSource
from inferd.engine.weights.checkpoint import INDEX, Checkpoint, check_shapes
from inferd.errors import BackendError, ConfigError, InferdError, Unsupported


def save(path: Path, file: str = "model.safetensors", **tensors: torch.Tensor) -> Path:
    path.mkdir(exist_ok=True)
    save_file(tensors, path / file)
    return path


def raw(path: Path, header: object, data: bytes = b"", length: int | None = None) -> Path:
    """A folder with a file that holds that header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    size = (len(text) if length is None else length).to_bytes(8, "little")
    (path / "model.safetensors").write_bytes(size + text + data)
    return path


def entry(dtype: object = "F32", shape: object = (2,), offsets: object = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    "dtype",
    [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32,
     torch.int16, torch.int8, torch.uint8, torch.bool],
)  # fmt: skip
def test_every_dtype_becomes_float32(tmp_path: Path, dtype: torch.dtype) -> None:
    tensor = (10 * numbers(5, 3)).to(dtype)
    checkpoint = Checkpoint(save(tmp_path, x=tensor))
    np.testing.assert_array_equal(checkpoint.float32("x"), tensor.float().numpy())
    np.testing.assert_array_equal(checkpoint.float32("x", (1, 4)), tensor[1:4].float().numpy())
    assert checkpoint.float32("x").flags.c_contiguous


def test_tensors_are_views_with_their_dtype(tmp_path: Path) -> None:
    wide, half = numbers(4, 3), numbers(2, 2).bfloat16()
    checkpoint = Checkpoint(save(tmp_path, wide=wide, half=half, none=torch.empty(0, 3)))
    assert checkpoint.names() == {"wide", "half", "none"}
    assert [checkpoint.dtype(name) for name in ("wide", "half")] == ["F32", "BF16"]
    assert checkpoint.shape("wide") == (4, 3)
    assert checkpoint.shape("none") == checkpoint.tensor("none").shape == (0, 3)
    assert checkpoint.num_bytes == 4 * 12 + 2 * 4
    view = checkpoint.tensor("wide")
    np.testing.assert_array_equal(view, wide.numpy())
    assert not view.flags.owndata
    assert not view.flags.writeable
    bits = checkpoint.tensor("half")
    assert bits.dtype == np.uint16
    np.testing.assert_array_equal(bits, half.view(torch.uint16).numpy())
    checkpoint.close()
    np.testing.assert_array_equal(view, wide.numpy())  # the file stays mapped


def test_odd_bf16_values_keep_their_bits(tmp_path: Path) -> None:
    tensor = torch.tensor([0.0, -0.0, torch.inf, -torch.inf, torch.nan, 1e-40]).bfloat16()
    found = Checkpoint(save(tmp_path, x=tensor)).float32("x")
    np.testing.assert_array_equal(found, tensor.float().numpy())
    assert np.signbit(found[1])


@pytest.mark.parametrize("rows", [(0, 9), (0, 2), (1, 4), (2, 5), (4, 8), (8, 9), (3, 3), (9, 9)])
def test_parts_are_joined(tmp_path: Path, rows: tuple[int, int]) -> None:
    parts = {"a": numbers(2, 3), "b": numbers(3, 3, seed=1).bfloat16(), "c": numbers(4, 3, seed=2)}
    checkpoint = Checkpoint(save(tmp_path, **parts))
    source = WeightSource("qkv", ("a", "b", "c"))
    expected = torch.cat([part.float() for part in parts.values()]).numpy()
    assert checkpoint.source_shape(source) == (9, 3)
    np.testing.assert_array_equal(checkpoint.load(source), expected)
    np.testing.assert_array_equal(checkpoint.load(source, rows), expected[slice(*rows)])


def test_transposed_and_partial_sources(tmp_path: Path) -> None:
    tensor, half = numbers(4, 3), numbers(4, 3).bfloat16()
    checkpoint = Checkpoint(save(tmp_path, x=tensor, half=half))
    turned = WeightSource("w", ("x",), transposed=True)
    assert checkpoint.source_shape(turned) == (3, 4)
    np.testing.assert_array_equal(checkpoint.load(turned), tensor.T.numpy())
    np.testing.assert_array_equal(checkpoint.load(turned, (1, 2)), tensor.T[1:2].numpy())
    turned_half = checkpoint.load(WeightSource("w", ("half",), transposed=True))
    np.testing.assert_array_equal(turned_half, half.T.float().numpy())
    assert turned_half.flags.c_contiguous
    some = WeightSource("w", ("x",), rows=(1, 3))
    np.testing.assert_array_equal(checkpoint.load(some), tensor[1:3].numpy())


def test_raw_loads_keep_the_dtype(tmp_path: Path) -> None:
    a, b, wide = numbers(2, 3).bfloat16(), numbers(1, 3).bfloat16(), numbers(1, 3)
    checkpoint = Checkpoint(save(tmp_path, a=a, b=b, wide=wide))
    joined, dtype = checkpoint.load_raw(WeightSource("w", ("a", "b")))
    assert dtype == "BF16"
    np.testing.assert_array_equal(joined, torch.cat([a, b]).view(torch.uint16).numpy())
    view, _ = checkpoint.load_raw(WeightSource("w", ("wide",)))
    assert not view.flags.owndata
    with pytest.raises(BackendError, match="'a', 'wide' differ in dtype"):
        checkpoint.load_raw(WeightSource("w", ("a", "wide")))


def test_rows_outside_a_weight_are_refused(tmp_path: Path) -> None:
    checkpoint = Checkpoint(save(tmp_path, a=numbers(2, 3)))
    for rows in ((0, 3), (-1, 1), (2, 1)):
        with pytest.raises(ValueError, match="rows"):
            checkpoint.float32("a", rows)


def test_parts_that_do_not_fit_are_named(tmp_path: Path) -> None:
    checkpoint = Checkpoint(save(tmp_path, a=numbers(2, 3), b=numbers(2, 4)))
    with pytest.raises(BackendError, match="tensor 'b' gives"):
        checkpoint.load(WeightSource("w", ("a", "b")))
    with pytest.raises(BackendError, match="there is no tensor 'c'"):
        checkpoint.load(WeightSource("w", ("c",)))


def test_float8_has_bits_alone(tmp_path: Path) -> None:
    checkpoint = Checkpoint(save(tmp_path, x=numbers(2, 2).to(torch.float8_e4m3fn)))
    assert checkpoint.tensor("x").dtype == np.uint8
    with pytest.raises(Unsupported, match="tensor 'x' has dtype F8_E4M3"):
        checkpoint.float32("x")


def test_an_index_names_the_files(tmp_path: Path) -> None:
    whole = Checkpoint(folder("llama"))
    model("llama").save_pretrained(tmp_path, max_shard_size="100KB")
    assert (tmp_path / INDEX).exists()
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    (tmp_path / "consolidated.safetensors").write_bytes(b"of no interest")
    sharded = Checkpoint(tmp_path)
    assert sharded.names() == whole.names()
    for name in whole.names():
        np.testing.assert_array_equal(sharded.tensor(name), whole.tensor(name))


def test_several_files_without_an_index(tmp_path: Path) -> None:
    save(tmp_path, "b.safetensors", b=numbers(2))
    save(tmp_path, "a.safetensors", a=numbers(2))
    assert Checkpoint(tmp_path).names() == {"a", "b"}
    save(tmp_path, "c.safetensors", a=numbers(2))
    with pytest.raises(BackendError, match=r"c\.safetensors: tensor 'a' is in a\.safetensors too"):
        Checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (b"{", "cannot be read as an index"),
        (b"[]", "cannot be read as an index"),
        (b"{}", "cannot be read as an index"),
        (b'{"weight_map": {}}', "must name tensors"),
        (b'{"weight_map": [1]}', "must name tensors"),
        (b'{"weight_map": {"a": 1}}', "no file's name"),
        (b'{"weight_map": {"a": "../a.safetensors"}}', "no file's name"),
        (b'{"weight_map": {"a": "other.safetensors"}}', "other.safetensors: cannot be opened"),
    ],
)
def test_a_wrong_index_is_told(tmp_path: Path, index: bytes, message: str) -> None:
    save(tmp_path, a=numbers(2))
    (tmp_path / INDEX).write_bytes(index)
    with pytest.raises(ConfigError, match=message):
        Checkpoint(tmp_path)


def test_an_index_that_names_what_is_not_there(tmp_path: Path) -> None:
    save(tmp_path, a=numbers(2))
    (tmp_path / INDEX).write_text('{"weight_map": {"b": "model.safetensors"}}', encoding="utf-8")
    with pytest.raises(BackendError, match=r"model\.safetensors: there is no tensor 'b'"):
        Checkpoint(tmp_path)


def test_a_folder_without_weights_is_told(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"no \*\.safetensors files"):
        Checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("header", "length", "message"),
    [
        ({}, 10**6, "states a header of 1000000"),
        ({}, 2**63, "states a header of"),
        (b"{x", None, "its header is not JSON"),
        (b"\xff\xfe", None, "its header is not JSON"),
        (b"[" * 50_000, None, "its header is not JSON"),
        ([], None, "not a JSON object"),
        ({"x": 1}, None, "tensor 'x' has no valid entry"),
        ({"x": {}}, None, "tensor 'x' has no valid entry"),
        ({"x": entry("F7")}, None, "tensor 'x' has no valid entry"),
        ({"x": entry(["F32"])}, None, "tensor 'x' has no valid entry"),
        ({"x": entry(shape=(-2,))}, None, "tensor 'x' has no valid entry"),
        ({"x": entry(shape=(2.0,))}, None, "tensor 'x' has no valid entry"),
        ({"x": entry(shape=(True, 2))}, None, "tensor 'x' has no valid entry"),
        ({"x": entry(shape=2)}, None, "tensor 'x' has no valid entry"),
        ({"x": entry(offsets=(0, 8, 9))}, None, "tensor 'x' has no valid entry"),
        ({"x": entry(offsets=(-8, 0))}, None, "tensor 'x' has no valid entry"),
        ({"x": entry(offsets=(4, 12))}, None, "tensor 'x' ends behind the file"),
        ({"x": entry(shape=(3,))}, None, "has 8 bytes"),
        ({"x": entry(offsets=(8, 0))}, None, "has -8 bytes"),
        ({"x": entry(shape=(2**40, 2**40))}, None, "has 8 bytes"),
    ],
)
def test_a_corrupt_file_is_told(
    tmp_path: Path, header: object, length: int | None, message: str
) -> None:
    path = raw(tmp_path, header, bytes(8), length)
    with pytest.raises(BackendError, match=message) as caught:
        Checkpoint(path)
    assert "model.safetensors" in str(caught.value)


@pytest.mark.parametrize("size", [0, 7])
def test_a_file_without_a_header_is_told(tmp_path: Path, size: int) -> None:
    (tmp_path / "model.safetensors").write_bytes(bytes(size))
    with pytest.raises(BackendError, match=f"has {size} bytes"):
        Checkpoint(tmp_path)


@given(data=st.data())
@settings(derandomize=True, deadline=None, max_examples=200)
def test_whatever_is_changed_or_cut_off_is_read_or_told(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("corrupt")
    file = raw(path, {"a": entry(), "b": entry("BF16", (2, 2), (8, 16))}, bytes(16))
    good = (file / "model.safetensors").read_bytes()
    at = data.draw(st.integers(0, len(good) - 1))
    until = at + data.draw(st.integers(0, 4))
    changed = good[:at] + data.draw(st.binary(max_size=4)) + good[until:]
    (path / "model.safetensors").write_bytes(changed)
    try:
        checkpoint = Checkpoint(path)
    except InferdError as error:
        told = str(error)
    else:
        told = ""
        for name in checkpoint.names():
            assert checkpoint.tensor(name).shape == checkpoint.shape(name)
    assert not told or "model.safetensors" in told


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_shapes_are_checked_before_anything_is_read(name: str, tmp_path: Path) -> None:
    checkpoint = Checkpoint(folder(name))
    spec, sources = describe(folder(name), checkpoint.names())
    check_shapes(checkpoint, spec, sources)
    config_path = copied(name, tmp_path) / "config.json"
    held = json.loads(config_path.read_bytes()) | {"vocab_size": 301}
    wider, _ = describe(held)
    with pytest.raises(BackendError, match=r"make embed \[300, 64\], but config.json asks for"):
        check_shapes(checkpoint, wider, sources)
