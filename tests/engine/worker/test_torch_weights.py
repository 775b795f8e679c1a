import copy
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.checkpoints import FAMILIES, folder, model
from inferd.engine.models.registry import describe
from inferd.engine.weights.checkpoint import Checkpoint
from inferd.engine.worker.torch_weights import (
    cache_block_bytes,
    load_weights,
    share_of,
    weight_bytes,
)
from inferd.errors import ConfigError


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_weights_are_the_checkpoints(name: str) -> None:
    checkpoint = Checkpoint(folder(name))
    spec, sources = describe(folder(name), checkpoint.names())
    told: list[tuple[int, int]] = []
    weights = load_weights(
        spec, sources, checkpoint, progress=lambda done, total: told.append((done, total))
    )
    total = sum(weight.nbytes for weight in weights.all)
    assert total == weight_bytes(spec, "float32")
    assert told[-1] == (total, total)
    assert told == sorted(told)
    for source in sources:
        held = weights.model
        name = source.name
        if name.startswith("layers."):
            _, index, name = name.split(".", 2)
            held = weights.layers[int(index)]
        np.testing.assert_array_equal(held[name].numpy(), checkpoint.load(source))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_small_dtypes_are_read_as_they_are(dtype: torch.dtype, tmp_path: Path) -> None:
    copy.deepcopy(model("llama")).to(dtype).save_pretrained(tmp_path)
    checkpoint = Checkpoint(tmp_path)
    spec, sources = describe(tmp_path, checkpoint.names())
    weights = load_weights(spec, sources, checkpoint, dtype=str(dtype)[6:])
    assert {weight.dtype for weight in weights.all} == {dtype}
    embed = next(source for source in sources if source.name == "embed")
    np.testing.assert_array_equal(weights.model["embed"].float().numpy(), checkpoint.load(embed))


def test_an_unknown_dtype_is_told() -> None:
    checkpoint = Checkpoint(folder("llama"))
    spec, sources = describe(folder("llama"), checkpoint.names())
    with pytest.raises(ConfigError, match="dtype: 'int3' is none of: float32"):
        load_weights(spec, sources, checkpoint, dtype="int3")


def test_a_share_of_the_free_memory_is_the_caches() -> None:
    spec, _ = describe(folder("llama"), Checkpoint(folder("llama")).names())
    with pytest.raises(ConfigError, match="kv_cache_dtype: 'int8' is none of"):
        cache_block_bytes(spec, "int8", 16)
    assert cache_block_bytes(spec, "bfloat16", 16) == 3 * 2 * 16 * 2 * 48 * 2
    assert share_of(1000, 100) == 9
    assert share_of(50, 100) == 0
    assert share_of(-1, 100) == 0
