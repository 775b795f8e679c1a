"""The OpenAPI document of everything that is served over HTTP."""

from functools import cache
from typing import Any

from inferd import __version__
from inferd.protocols.http.oip.openapi import OIP_SCHEMAS, oip_paths
from inferd.protocols.http.openai.openapi import openai_paths, openai_schemas
from inferd.protocols.http.texts.openapi import texts_paths, texts_schemas


@cache
def openapi_document() -> dict[str, Any]:
    """The document, OpenAPI 3.1."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "inferd",
            "version": __version__,
            "description": "The Open Inference Protocol with Triton's extensions, and the OpenAI "
            "API with vLLM's.",
        },
        "paths": oip_paths() | openai_paths() | texts_paths(),
        "components": {"schemas": OIP_SCHEMAS | openai_schemas() | texts_schemas()},
    }
