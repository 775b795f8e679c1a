"""What the server can be told, one frozen struct: each field has a type, a default, a unit in its
name and a sentence from which the command line and the reference are made.

It refuses to know where a value came from (`load.py`) and what is done with it (`server.py`).
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

ModelControlMode = Literal["none", "poll", "explicit"]
LogFormat = Literal["text", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]

Port = Annotated[int, Meta(ge=0, le=65535)]
Seconds = Annotated[float, Meta(gt=0)]
Count = Annotated[int, Meta(ge=1)]


class ServerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything `inferd serve` can be told."""

    paths: Annotated[
        tuple[str, ...],
        Meta(
            description="What to serve, NAME=PATH to choose its name: a model's file or folder, a "
            "folder of them, a model repository, or app.py:Class."
        ),
    ] = ()
    host: Annotated[
        str, Meta(description="Address to listen on; 0.0.0.0 opens it to the network.")
    ] = "127.0.0.1"
    http_port: Annotated[
        Port, Meta(description="Port of the HTTP front end; 0 takes a free one.")
    ] = 8000
    http_max_input_size: Annotated[
        Count, Meta(description="Largest request body in bytes, also after decompression.")
    ] = 64 * 1024 * 1024
    http_header_timeout_secs: Annotated[
        Seconds, Meta(description="How long a client may take to send a request's head.")
    ] = 30.0
    http_body_timeout_secs: Annotated[
        Seconds, Meta(description="How long a client may pause while it sends a request's body.")
    ] = 30.0
    http_keep_alive_secs: Annotated[
        Seconds, Meta(description="How long an idle connection is kept.")
    ] = 600.0
    model_control_mode: Annotated[
        ModelControlMode,
        Meta(
            description="none: load all at start; poll: follow the repository; explicit: load and "
            "unload through the API."
        ),
    ] = "none"
    load_model: Annotated[
        tuple[str, ...],
        Meta(description="Model to load at start in explicit mode (repeatable; * is all)."),
    ] = ()
    repository_poll_secs: Annotated[
        Seconds, Meta(description="Seconds between two looks at the repository in poll mode.")
    ] = 15.0
    trust: Annotated[
        bool,
        Meta(
            description="Read models that may run code of their maker's when they are read: "
            "pickles, types unknown to skops, exported programs, Keras's Lambda layers, MLflow's "
            "Python functions. Off, since whoever made such a file is then the server's user."
        ),
    ] = False
    reload: Annotated[
        bool,
        Meta(
            description="Watch Python sources and model files, and reload what changes; for "
            "development."
        ),
    ] = False
    model_load_thread_count: Annotated[
        Count, Meta(description="How many models load at the same time.")
    ] = 4
    strict_readiness: Annotated[
        bool, Meta(description="Ready only when every model that should be served is.")
    ] = True
    exit_on_error: Annotated[
        bool, Meta(description="Exit at start when a model cannot be loaded.")
    ] = False
    exit_timeout_secs: Annotated[
        Seconds, Meta(description="How long requests in flight may take to finish on shutdown.")
    ] = 30.0
    threads: Annotated[
        int, Meta(ge=0, description="Cores that models may use; 0 is all that this process has.")
    ] = 0
    access_log: Annotated[bool, Meta(description="Log one line for each request.")] = False
    log_format: Annotated[LogFormat, Meta(description="Log lines for people or for machines.")] = (
        "text"
    )
    log_level: Annotated[LogLevel, Meta(description="Least severity that is logged.")] = "info"
    engine: Annotated[
        dict[str, Any],
        Meta(description="What is said of every language model's EngineConfig, by field."),
    ] = {}
