"""Language models as Triton's backends for them are asked on generate: `text_input` in,
`text_output` out, sampling parameters in the words of vLLM and of TensorRT-LLM.

Sources: the documentation of Triton's vLLM and TensorRT-LLM backends.
"""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any, NamedTuple

import msgspec
import numpy as np

from inferd.errors import InvalidRequest
from inferd.protocols.http.openai.prompts import prompt_tokens
from inferd.protocols.http.openai.refusal import refuse_completion
from inferd.protocols.http.openai.sampling import completion_params, fitted
from inferd.schemas.openai import CompletionRequest
from inferd.serving.served_llm import ServedLLM
from inferd.types.datatype import BYTES
from inferd.types.generation import GenerationRequest
from inferd.types.inference import InferenceResponse
from inferd.types.tensor import Tensor

_OTHER_WORDS = {"stop_words": "stop", "random_seed": "seed"}
_SAMPLING = "sampling_parameters"
_EXCLUDES = "exclude_input_in_output"
_ITS_OWN = ("stream", "model")
"""Said by the path."""


class TextRequest(NamedTuple):
    """A request for text; `before` goes in front of a whole answer."""

    id: str
    generation: GenerationRequest
    before: str


def text_request(
    document: Mapping[str, Any], llm: ServedLLM, streams: bool, internal_id: str
) -> TextRequest:
    """What a generate request asks of a language model; raises InvalidRequest. It may run on a
    thread."""
    given = dict(document)
    nested = given.pop("parameters", None) or {}
    if not isinstance(nested, dict):
        raise InvalidRequest("Expected JSON object for keyword: 'parameters'")
    given |= nested
    sampling = given.pop(_SAMPLING, None)
    if sampling:
        given |= _parsed(sampling)
    text = given.pop("text_input", None)
    if not isinstance(text, str) or not text:
        raise InvalidRequest(f"'text_input' of model '{llm.name}' must be a text, got {text!r}")
    id = str(given.pop("id", ""))
    excludes = given.pop(_EXCLUDES, None)
    for name in _ITS_OWN:
        given.pop(name, None)
    for theirs, ours in _OTHER_WORDS.items():
        if theirs in given:
            given[ours] = given.pop(theirs)
    for name in ("stop", "bad_words"):
        if not given.get(name):  # TensorRT-LLM's clients send "" for none
            given.pop(name, None)
    if isinstance(given.get("bad_words"), str):
        given["bad_words"] = [given["bad_words"]]
    try:
        fields = msgspec.convert(given, CompletionRequest, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"the request's parameters: {error}") from error
    refuse_completion(fields)
    if streams and (fields.n or 1) > 1:
        raise InvalidRequest("n must be 1 where text is streamed")
    params = completion_params(fields, llm.defaults)
    tokens = prompt_tokens(llm, text, fields, True, params.max_tokens)
    generation = llm.request(
        internal_id, tokens,
        fitted(params, fields.max_tokens is not None, llm.max_len, len(tokens)),
        priority=fields.priority or 0,
    )  # fmt: skip
    return TextRequest(id, generation, "" if streams or excludes else text)


def _parsed(sampling: Any) -> dict[str, Any]:
    try:
        return msgspec.json.decode(sampling, type=dict[str, Any])
    except (msgspec.DecodeError, TypeError) as error:
        raise InvalidRequest(f"'{_SAMPLING}' must be the text of a JSON object: {error}") from error


async def text_responses(
    llm: ServedLLM, asked: TextRequest, streams: bool
) -> AsyncGenerator[InferenceResponse, None]:
    """One response with all texts, or one for each piece."""
    texts = [asked.before] * asked.generation.params.n
    async with aclosing(llm.generate(asked.generation)) as stream:
        async for deltas in stream:
            for delta in deltas:
                texts[delta.index] += delta.text
            if streams and texts[0]:
                yield _response(llm, asked, texts)
                texts = [""]
    if not streams:
        yield _response(llm, asked, texts)


def _response(llm: ServedLLM, asked: TextRequest, texts: list[str]) -> InferenceResponse:
    output = Tensor("text_output", BYTES, np.array([t.encode() for t in texts], object))
    return InferenceResponse(llm.name, str(llm.version), [output], asked.id)
