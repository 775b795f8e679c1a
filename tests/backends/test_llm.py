import asyncio
from pathlib import Path
from typing import Any

import pytest

from inferd.backends.llm import EngineModel, default_params, engine_config
from inferd.backends.registry import open_language_model
from inferd.config.model import ModelConfig
from inferd.errors import (
    BackendError,
    ConfigError,
    InvalidRequest,
    ModelUnavailable,
    Unsupported,
)
from inferd.types.generation import GenerationDelta, SamplingParams
from tiny_llama import MAX_LEN, write_tiny_llama


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    recommended = {"temperature": 0, "top_k": 5, "max_new_tokens": 7, "eos_token_id": 1}
    return write_tiny_llama(tmp_path_factory.mktemp("llm") / "tiny", generation_config=recommended)


# -- options --------------------------------------------------------------------------------------


def test_the_server_goes_before_the_model_and_its_engine_before_its_parameters() -> None:
    config = ModelConfig(
        parameters={
            "max_num_seqs": {"string_value": "3"}, "dtype": "float32", "seed": 5,
            "enable_prefix_caching": "false",
        },
        engine={"dtype": "bfloat16", "max_model_len": 64},
    )  # fmt: skip
    merged = engine_config(config, {"max_model_len": 32})
    assert (merged.max_num_seqs, merged.seed, merged.dtype) == (3, 5, "bfloat16")
    assert (merged.max_model_len, merged.enable_prefix_caching) == (32, False)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (ModelConfig(parameters={"max_num_sqs": "3"}), "did you mean max_num_seqs?"),
        (ModelConfig(parameters={"max_num_seqs": "many"}), "parameters.max_num_seqs"),
        (ModelConfig(engine={"quantisation": "int8"}), "did you mean quantization?"),
        (ModelConfig(engine={"quantization": "int7"}), "engine.quantization"),
    ],
)
def test_a_wrong_option_is_named_with_the_nearest(config: ModelConfig, said: str) -> None:
    with pytest.raises(ConfigError, match=said.replace("?", r"\?")):
        engine_config(config, {})


# -- defaults -------------------------------------------------------------------------------------


def test_what_the_makers_recommend_is_the_default(folder: Path) -> None:
    assert default_params(folder) == SamplingParams(temperature=0, top_k=5, max_tokens=7)


@pytest.mark.parametrize("text", ["", "[]", '{"temperature": "hot"}', "{"])
def test_recommendations_that_are_none_are_told(text: str, tmp_path: Path) -> None:
    assert default_params(tmp_path) == SamplingParams()
    (tmp_path / "generation_config.json").write_text(text)
    with pytest.raises(ConfigError, match="generation_config"):
        default_params(tmp_path)


def test_what_is_null_is_not_said(tmp_path: Path) -> None:
    (tmp_path / "generation_config.json").write_text('{"temperature": null, "top_p": 0.5}')
    assert default_params(tmp_path) == SamplingParams(top_p=0.5)


# -- the model ------------------------------------------------------------------------------------


async def _generate(model: EngineModel, text: str, **params: Any) -> list[GenerationDelta]:
    ids = model.tokenizer.encode(text)
    asked = SamplingParams(temperature=0.0, **params)
    request = model.request("r", ids, asked, priority=0, tenant="", cache_salt="")
    return [delta async for deltas in model.generate(request) for delta in deltas]


def test_a_model_is_loaded_generates_and_is_closed(folder: Path) -> None:
    told: list[tuple[int, int]] = []

    async def life() -> None:
        loop = asyncio.get_running_loop()
        options = {"packed_cache": False, "max_num_seqs": 2}
        model = EngineModel(
            folder, ModelConfig(), options, loop, lambda done, total: told.append((done, total))
        )
        assert not model.alive
        with pytest.raises(ModelUnavailable):
            model.checked_ids([1])
        await model.start()
        assert (model.alive, model.max_len) == (True, MAX_LEN)
        assert model.description.notes
        deltas = await _generate(model, "hello", max_tokens=5)
        assert sum(len(delta.token_ids) for delta in deltas) <= 5
        assert deltas[-1].finish_reason in ("stop", "length")
        assert (model.in_flight, model.gauges().running) == (0, 0)
        with pytest.raises(InvalidRequest, match="vocabulary"):
            model.checked_ids([10**6])
        with pytest.raises(InvalidRequest, match="maximum context length is"):
            await _generate(model, "hello", max_tokens=MAX_LEN)
        await model.drain()
        await asyncio.to_thread(model.close)
        assert not model.alive

    asyncio.run(life())
    assert told
    assert all(0 <= done <= total for done, total in told)


def test_a_chat_is_rendered_by_the_models_template_or_anothers(folder: Path) -> None:
    async def render() -> None:
        model = EngineModel(folder, ModelConfig(), {}, asyncio.get_running_loop())
        messages = [{"role": "user", "content": "hello"}]
        opens = {"add_generation_prompt": True}
        assert "<|im_start|>user\nhello" in model.render(messages, None, None, opens)
        assert model.render(messages, None, "{{ bos_token }}!", {}) == "<s>!"

    asyncio.run(render())


def _unsupported(folder: Path) -> None:
    config = (folder / "config.json").read_text().replace("LlamaForCausalLM", "MambaForCausalLM")
    (folder / "config.json").write_text(config)


def _no_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def _bad_template(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("{% for")


@pytest.mark.parametrize(
    ("spoil", "kind", "said"),
    [
        (_unsupported, Unsupported, "supported are: .*LlamaForCausalLM"),
        (_no_tokenizer, ConfigError, "tokenizer.json"),
        (_bad_template, ConfigError, "chat_template"),
    ],
)
def test_a_folder_that_cannot_be_served_says_why_before_it_loads(
    spoil: Any, kind: type[Exception], said: str, tmp_path: Path
) -> None:
    folder = write_tiny_llama(tmp_path / "m")
    spoil(folder)

    async def open_it() -> None:
        open_language_model(folder, ModelConfig(), {}, asyncio.get_running_loop(), None)

    with pytest.raises(kind, match=said):
        asyncio.run(open_it())


def test_weights_that_are_not_those_of_the_configuration_fail_the_start(tmp_path: Path) -> None:
    folder = write_tiny_llama(tmp_path / "m")
    text = (folder / "config.json").read_text()
    (folder / "config.json").write_text(
        text.replace('"num_hidden_layers": 2', '"num_hidden_layers": 3')
    )

    async def start() -> None:
        model = open_language_model(folder, ModelConfig(), {}, asyncio.get_running_loop(), None)
        await model.start()

    with pytest.raises(BackendError, match="no tensor"):
        asyncio.run(start())
