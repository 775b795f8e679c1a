import pytest

from inferd.config.engine import EngineConfig
from inferd.engine.loading import choose, kv_block_bytes
from inferd.engine.models.spec import Attention, DecoderSpec, Layer, Mlp, Norm
from inferd.errors import ConfigError

LAYER = Layer(Attention(8, 2, 64, 0.125, None), Mlp(1024, "silu"))
SPEC = DecoderSpec("llama", 1000, 512, 2048, Norm("rms", 1e-5), (LAYER,) * 4)
GIB = 1 << 30


def test_auto_keeps_what_the_checkpoint_has() -> None:
    for dtype, weights in (("F32", "float32"), ("BF16", "bfloat16"), ("F16", "bfloat16")):
        choice = choose(EngineConfig(), SPEC, dtype, GIB, 2, 32)
        assert (choice.weights, choice.kv) == (weights, weights)
        assert any(weights in line for line in choice.why)


def test_quantized_weights_keep_a_bfloat16_cache() -> None:
    choice = choose(EngineConfig(quantization="int8"), SPEC, "F32", GIB, 2, 32)
    assert (choice.weights, choice.kv) == ("int8", "bfloat16")


def test_a_block_holds_keys_and_values_of_all_layers() -> None:
    assert kv_block_bytes(SPEC, "bf16", 32) == 32 * 4 * 2 * 2 * 64 * 2
    assert kv_block_bytes(SPEC, "i8", 32) == 32 * 4 * 2 * 2 * (64 + 4)


def test_the_cache_is_as_large_as_can_be_used_and_no_larger() -> None:
    config = EngineConfig(max_num_seqs=4, max_model_len=320)
    assert choose(config, SPEC, "BF16", GIB, 2, 32).num_blocks == 4 * 10
    small = choose(config, SPEC, "BF16", 20 * kv_block_bytes(SPEC, "bf16", 32), 2, 32)
    assert small.num_blocks == 10
    given = EngineConfig(
        max_num_seqs=4,
        max_model_len=320,
        kv_cache_memory_bytes=7 * kv_block_bytes(SPEC, "bf16", 32),
    )
    assert choose(given, SPEC, "BF16", GIB, 2, 32).num_blocks == 7


@pytest.mark.parametrize(
    ("config", "device", "field"),
    [
        (EngineConfig(max_model_len=4096), "cpu", "max_model_len"),
        (EngineConfig(kv_cache_memory_bytes=100), "cpu", "kv_cache_memory_bytes"),
        (EngineConfig(quantization="int8"), "cuda", "quantization"),
    ],
)
def test_what_cannot_be_names_its_field(config: EngineConfig, device: str, field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        choose(config, SPEC, "BF16", GIB, 2, 32, device)
    assert caught.value.field == field
