"""The Open Inference Protocol's part of the OpenAPI document: what each route takes and answers,
errors included.
"""

from functools import cache
from typing import Any

from inferd.types.datatype import DATATYPES

_JSON = "application/json"
_PARAMETER_VALUE = {"type": ["boolean", "integer", "number", "string"]}
_PARAMETERS = {"type": "object", "additionalProperties": _PARAMETER_VALUE}
_TENSOR_NAME = {"type": "string"}
_SHAPE = {"type": "array", "items": {"type": "integer", "minimum": 0}}
_DATATYPE = {"type": "string", "enum": list(DATATYPES)}

_TRACE_LEVEL = {"type": "string", "enum": ["OFF", "TIMESTAMPS"]}
_TRACE_VALUE = {"type": ["string", "null"]}

OIP_SCHEMAS: dict[str, Any] = {
    "Error": {
        "type": "object",
        "required": ["error"],
        "properties": {"error": {"type": "string"}},
    },
    "InferInput": {
        "type": "object",
        "required": ["name", "shape", "datatype"],
        "properties": {
            "name": _TENSOR_NAME,
            "shape": _SHAPE,
            "datatype": _DATATYPE,
            "parameters": _PARAMETERS,
            "data": {"type": "array", "description": "Flat or nested, row-major."},
        },
    },
    "InferOutput": {
        "type": "object",
        "required": ["name"],
        "properties": {"name": _TENSOR_NAME, "parameters": _PARAMETERS},
    },
    "InferRequest": {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": {"type": "string"},
            "parameters": _PARAMETERS,
            "inputs": {"type": "array", "items": {"$ref": "#/components/schemas/InferInput"}},
            "outputs": {"type": "array", "items": {"$ref": "#/components/schemas/InferOutput"}},
        },
    },
    "InferResponse": {
        "type": "object",
        "required": ["model_name", "outputs"],
        "properties": {
            "id": {"type": "string"},
            "model_name": {"type": "string"},
            "model_version": {"type": "string"},
            "parameters": _PARAMETERS,
            "outputs": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["name", "shape", "datatype"],
                    "properties": {
                        "name": _TENSOR_NAME,
                        "shape": _SHAPE,
                        "datatype": _DATATYPE,
                        "parameters": _PARAMETERS,
                        "data": {"type": "array"},
                    },
                },
            },
        },
    },
    "TensorMetadata": {
        "type": "object",
        "required": ["name", "datatype", "shape"],
        "properties": {
            "name": _TENSOR_NAME,
            "datatype": _DATATYPE,
            "shape": {"type": "array", "items": {"type": "integer", "minimum": -1}},
        },
    },
    "ModelMetadata": {
        "type": "object",
        "required": ["name", "versions", "platform", "inputs", "outputs"],
        "properties": {
            "name": {"type": "string"},
            "versions": {"type": "array", "items": {"type": "string"}},
            "platform": {"type": "string"},
            "inputs": {"type": "array", "items": {"$ref": "#/components/schemas/TensorMetadata"}},
            "outputs": {"type": "array", "items": {"$ref": "#/components/schemas/TensorMetadata"}},
        },
    },
    "ServerMetadata": {
        "type": "object",
        "required": ["name", "version", "extensions"],
        "properties": {
            "name": {"type": "string"},
            "version": {"type": "string"},
            "extensions": {"type": "array", "items": {"type": "string"}},
        },
    },
    "ModelStatus": {
        "type": "object",
        "required": ["name"],
        "properties": {
            "name": {"type": "string"},
            "version": {"type": "string"},
            "state": {"enum": ["UNKNOWN", "LOADING", "READY", "UNLOADING", "UNAVAILABLE"]},
            "reason": {"type": "string"},
        },
    },
    "RepositoryIndex": {"type": "array", "items": {"$ref": "#/components/schemas/ModelStatus"}},
    "RepositoryIndexRequest": {
        "type": "object",
        "properties": {"ready": {"type": "boolean"}},
    },
    "LoadRequest": {
        "type": "object",
        "properties": {
            "parameters": {
                "type": "object",
                "description": "config is JSON, in place of the model's own until the next load; "
                "with it, file:<version>/<name> are a model's files, in base64, in place of its "
                "own.",
                "properties": {"config": {"type": "string"}},
                "patternProperties": {
                    "^file:": {"type": "string", "contentEncoding": "base64"},
                },
                "additionalProperties": False,
            }
        },
    },
    "UnloadRequest": {
        "type": "object",
        "properties": {
            "parameters": {
                "type": "object",
                "properties": {"unload_dependents": {"type": "boolean"}},
                "additionalProperties": False,
            }
        },
    },
    "TraceSettings": {
        "type": "object",
        "description": "Settings of the server's, or of a model's own; null takes one back.",
        "properties": {
            "trace_level": {
                "anyOf": [
                    {"type": "array", "items": _TRACE_LEVEL},
                    _TRACE_LEVEL,
                    {"type": "null"},
                ]
            },
            "trace_rate": _TRACE_VALUE,
            "trace_count": _TRACE_VALUE,
            "log_frequency": _TRACE_VALUE,
            "trace_file": _TRACE_VALUE,
            "trace_mode": _TRACE_VALUE,
        },
        "additionalProperties": False,
    },
    "LogSettings": {
        "type": "object",
        "properties": {
            "log_file": {"type": "string", "readOnly": True},
            "log_info": {"type": "boolean"},
            "log_warning": {"type": "boolean"},
            "log_error": {"type": "boolean"},
            "log_verbose_level": {"type": "integer", "minimum": 0, "maximum": 2**32 - 1},
            "log_format": {"enum": ["ISO8601"]},
        },
        "additionalProperties": False,
    },
    "GenerateRequest": {
        "type": "object",
        "description": "Inputs by name, each a value or a list of values; other keys, and those of "
        "`parameters`, are parameters of the request.",
        "properties": {"id": {"type": "string"}, "parameters": {"type": "object"}},
    },
    "GenerateResponse": {
        "type": "object",
        "description": "Outputs by name, each a value or a flat list of values.",
        "required": ["model_name", "model_version"],
        "properties": {
            "id": {"type": "string"},
            "model_name": {"type": "string"},
            "model_version": {"type": "string"},
        },
    },
    "Region": {
        "type": "object",
        "required": ["name", "key", "offset", "byte_size"],
        "properties": {
            "name": {"type": "string"},
            "key": {"type": "string"},
            "offset": {"type": "integer", "minimum": 0},
            "byte_size": {"type": "integer", "minimum": 1},
        },
    },
    "Regions": {"type": "array", "items": {"$ref": "#/components/schemas/Region"}},
    "RegisterRequest": {
        "type": "object",
        "required": ["key", "byte_size"],
        "properties": {
            "key": {"type": "string", "description": "Name of an object in /dev/shm."},
            "offset": {"type": "integer", "minimum": 0},
            "byte_size": {"type": "integer", "minimum": 1},
        },
    },
    "Ready": {"type": "object", "properties": {"ready": {"type": "boolean"}}},
    "Object": {"type": "object"},
}

_EXAMPLE = """curl -s localhost:8000/v2/models/NAME/infer -d '{
  "inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [0.5, 1.5]}]
}'"""


@cache
def oip_paths() -> dict[str, Any]:
    """The operations, by path and method."""
    paths: dict[str, Any] = {
        "/v2/health/live": {"get": _operation("Health", "Whether the process answers", "Object")},
        "/v2/health/ready": {
            "get": _operation("Health", "Whether every model is ready", "Ready", errors=(400, 503))
        },
        "/v2": {"get": _operation("Metadata", "Name, version and extensions", "ServerMetadata")},
    }
    for suffix, where in (("", ""), ("/versions/{version}", " of one version")):
        base = f"/v2/models/{{model}}{suffix}"
        names = ["model", "version"] if suffix else ["model"]
        paths[f"{base}/infer"] = {"post": _infer(where, names)}
        paths[f"{base}/generate"] = {"post": _generate(where, names)}
        paths[f"{base}/generate_stream"] = {"post": _generate_stream(where, names)}
        for path, tag, summary, schema, errors in (
            ("", "Metadata", f"Inputs, outputs, versions{where}", "ModelMetadata", (404, 503)),
            ("/ready", "Health", f"Whether the model answers{where}", "Ready", (400, 404)),
            ("/config", "Metadata", f"Configuration in force{where}", "Object", (404, 503)),
            ("/stats", "Statistics", f"Counts and durations{where}", "Object", (400,)),
        ):
            paths[base + path] = {"get": _operation(tag, summary, schema, names, errors)}
    paths["/v2/models/stats"] = {"get": _operation("Statistics", "All models", "Object")}
    paths |= _repository_paths() | _settings_paths() | _shared_memory_paths()
    paths["/metrics"] = {"get": _text("Metrics in Prometheus' format", "text/plain")}
    return paths


def _repository_paths() -> dict[str, Any]:
    base = "/v2/repository/models/{model}"
    index = _operation(
        "Repository", "Every model with its state", "RepositoryIndex", (), (400,),
        body="RepositoryIndexRequest",
    )  # fmt: skip
    changes = {
        verb: _operation(
            "Repository", summary, None, ["model"], (400, 404, 501, 503), body=f"{body}Request"
        )
        for verb, summary, body in (
            ("load", "Load or reload a model and wait for it (explicit mode)", "Load"),
            ("unload", "Stop serving a model (explicit mode)", "Unload"),
        )
    }
    return {
        "/v2/repository/index": {"post": index},
        f"{base}/load": {"post": changes["load"]},
        f"{base}/unload": {"post": changes["unload"]},
    }


def _settings_paths() -> dict[str, Any]:
    paths: dict[str, Any] = {}
    for path, schema, told, change, errors in (
        ("/v2/logging", "LogSettings", "Which severities are logged", "Log others", ()),
        ("/v2/trace/setting", "TraceSettings", "Which requests are traced", "Trace others", ()),
        (
            "/v2/models/{model}/trace/setting", "TraceSettings",
            "Which requests of the model are traced", "Trace others of the model", (404, 503),
        ),
    ):  # fmt: skip
        names = ["model"] if "{model}" in path else []
        paths[path] = {
            "get": _operation("Settings", told, schema, names, errors and (400, *errors)),
            "post": _operation(
                "Settings", f"{change} from now on", schema, names, (400, *errors, 501), body=schema
            ),
        }
    return paths


def _shared_memory_paths() -> dict[str, Any]:
    base = "/v2/systemsharedmemory"
    paths: dict[str, Any] = {}
    for path, names in ((base, []), (f"{base}/region/{{region}}", ["region"])):
        one = "One registered region" if names else "All registered regions"
        errors = (404, 501) if names else (501,)
        paths[f"{path}/status"] = {
            "get": _operation("Shared memory", one, "Regions", names, errors)
        }
        forget = "Forget a region" if names else "Forget all regions"
        paths[f"{path}/unregister"] = {
            "post": _operation("Shared memory", forget, None, names, (501,))
        }
    paths[f"{base}/region/{{region}}/register"] = {
        "post": _operation(
            "Shared memory", "Let requests name a region (--shared-memory system)", None,
            ["region"], (400, 501), body="RegisterRequest",
        )
    }  # fmt: skip
    return paths


def _generate(where: str, names: list[str]) -> dict[str, Any]:
    operation = _operation(
        "Inference", f"Run the model, in flat JSON{where}", "GenerateResponse", names,
        (400, 404, 413, 500, 501, 503), body="GenerateRequest",
    )  # fmt: skip
    operation["requestBody"]["required"] = True
    return operation


def _generate_stream(where: str, names: list[str]) -> dict[str, Any]:
    operation = _generate(where, names)
    operation["summary"] = f"Run the model, its responses as server-sent events{where}"
    operation["responses"]["200"]["content"] = {"text/event-stream": {}}
    return operation


def _infer(where: str, names: list[str]) -> dict[str, Any]:
    operation = _operation(
        "Inference", f"Run the model{where}", "InferResponse", names,
        (400, 404, 413, 500, 501, 503), body="InferRequest",
    )  # fmt: skip
    operation["requestBody"]["required"] = True
    operation["x-example"] = _EXAMPLE
    operation["responses"]["200"]["content"]["application/octet-stream"] = {}
    return operation


def _operation(
    tag: str,
    summary: str,
    schema: str | None,
    names: list[str] | tuple[()] = (),
    errors: tuple[int, ...] = (),
    body: str = "",
) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": "OK"}
    if schema:
        answer["content"] = {_JSON: {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    error_schema = "Ready" if schema == "Ready" else "Error"
    operation: dict[str, Any] = {
        "tags": [tag],
        "summary": summary,
        "responses": {"200": answer} | {str(status): _error(error_schema) for status in errors},
    }
    if names:
        operation["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in names
        ]
    if body:
        reference = {"schema": {"$ref": f"#/components/schemas/{body}"}}
        operation["requestBody"] = {"content": {_JSON: reference}}
    return operation


def _error(schema: str) -> dict[str, Any]:
    kinds: list[dict[str, str]] = [{"$ref": "#/components/schemas/Error"}]
    if schema != "Error":
        kinds.append({"$ref": f"#/components/schemas/{schema}"})
    return {"description": "Error", "content": {_JSON: {"schema": {"anyOf": kinds}}}}


def _text(summary: str, media_type: str) -> dict[str, Any]:
    return {
        "tags": ["Metrics"],
        "summary": summary,
        "responses": {"200": {"description": "OK", "content": {media_type: {}}}},
    }
