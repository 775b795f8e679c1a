"""The OpenAPI document of everything that is served over HTTP."""

from collections.abc import Sequence
from typing import Any

from inferd import __version__
from inferd.protocols.http.call.openapi import call_paths
from inferd.protocols.http.oip.openapi import OIP_SCHEMAS, oip_paths
from inferd.protocols.http.openai.openapi import openai_paths, openai_schemas
from inferd.protocols.http.texts.openapi import texts_paths, texts_schemas
from inferd.serving.served_model import ServedModel


def openapi_document(models: Sequence[ServedModel] = ()) -> dict[str, Any]:
    """The document, OpenAPI 3.1; each of `models` has an operation of its own in it."""
    calls, schemas = call_paths(models)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "inferd",
            "version": __version__,
            "description": "Models called by name with plain JSON, the Open Inference Protocol "
            "with Triton's extensions, and the OpenAI API with vLLM's.",
        },
        "paths": calls | oip_paths() | openai_paths() | texts_paths(),
        "components": {"schemas": OIP_SCHEMAS | openai_schemas() | texts_schemas() | schemas},
    }
