"""What the server can be told, one frozen struct: each field has a type, a default, a unit in its
name and a sentence from which the command line and the reference are made.

It refuses to know where a value came from (`load.py`) and what is done with it (`server.py`).
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

ModelControlMode = Literal["none", "poll", "explicit"]
SharedMemoryKind = Literal["none", "system"]
LogFormat = Literal["text", "json", "default", "ISO8601"]
RateLimitMode = Literal["off", "execution_count"]
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
    id: Annotated[str, Meta(description="Name of this server, in its metadata.")] = "inferd"
    http: Annotated[bool, Meta(description="Serve HTTP as well.")] = True
    http_address: Annotated[
        str | None, Meta(description="Address of the HTTP front end; default: --host.")
    ] = None
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
    grpc: Annotated[bool, Meta(description="Serve gRPC as well.")] = True
    grpc_address: Annotated[
        str | None, Meta(description="Address of the gRPC front end; default: --host.")
    ] = None
    grpc_port: Annotated[
        Port | None,
        Meta(
            description="Port of the gRPC front end; 0 takes a free one. Unless said, the one "
            "after the HTTP port, or a free one where that is 0."
        ),
    ] = None
    grpc_max_input_size: Annotated[
        Count, Meta(description="Largest gRPC message in bytes, also after decompression.")
    ] = 64 * 1024 * 1024
    grpc_use_ssl: Annotated[
        bool | None,
        Meta(description="Whether gRPC is over TLS; default: if --grpc-server-cert is given."),
    ] = None
    grpc_use_ssl_mutual: Annotated[
        bool | None,
        Meta(
            description="Whether gRPC is over TLS and clients must show a certificate; default: if "
            "--grpc-root-cert is given."
        ),
    ] = None
    grpc_server_cert: Annotated[
        str | None,
        Meta(
            description="PEM file with the certificate, and its chain, for gRPC over TLS; read "
            "again when it changes. Needs --grpc-server-key."
        ),
    ] = None
    grpc_server_key: Annotated[
        str | None, Meta(description="PEM file with the key of --grpc-server-cert.")
    ] = None
    grpc_root_cert: Annotated[
        str | None,
        Meta(
            description="PEM file with the authorities whose certificates gRPC clients must show; "
            "none asks for no certificate."
        ),
    ] = None
    grpc_keepalive_secs: Annotated[
        Seconds, Meta(description="How long a gRPC client may be silent before it is pinged.")
    ] = 300.0
    grpc_keepalive_timeout_secs: Annotated[
        Seconds, Meta(description="How long a pinged gRPC client may take to answer.")
    ] = 20.0
    grpc_min_ping_interval_secs: Annotated[
        float,
        Meta(
            ge=0,
            description="A ping that follows another one sooner, with no answer between them, is "
            "too early.",
        ),
    ] = 300.0
    grpc_max_ping_strikes: Annotated[
        int,
        Meta(
            ge=0,
            description="How often a gRPC client may ping too early before it is told "
            "too_many_pings and left; 0 is no limit.",
        ),
    ] = 2
    grpc_max_connection_age_secs: Annotated[
        float,
        Meta(
            ge=0,
            description="How old a gRPC connection may become before its client is asked "
            "to make a new one; 0 is no limit.",
        ),
    ] = 0.0
    grpc_max_connection_age_grace_secs: Annotated[
        float,
        Meta(ge=0, description="How long calls on such a connection may go on; 0 is no limit."),
    ] = 0.0
    grpc_max_concurrent_streams: Annotated[
        Count, Meta(description="Most calls in flight on one gRPC connection.")
    ] = 1024
    metrics: Annotated[
        bool, Meta(description="Answer /metrics, on the HTTP port and on --metrics-port.")
    ] = True
    metrics_port: Annotated[
        Port | None,
        Meta(description="A port for /metrics alone; 0 takes a free one. Default: none."),
    ] = None
    metrics_address: Annotated[
        str | None, Meta(description="Address of that port; default: --http-address.")
    ] = None
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
        float,
        Meta(
            ge=0,
            description="Seconds between two looks at the repository in poll mode; 0 looks once.",
        ),
    ] = 15.0
    model_config_name: Annotated[
        Annotated[str, Meta(pattern=r"^[^/\s]*$")],
        Meta(
            description="Read configs/NAME.pbtxt (or .yaml) of a model's folder in place of its "
            "config.pbtxt, where it is there."
        ),
    ] = ""
    auto_complete_config: Annotated[
        bool,
        Meta(
            description="Ask models for what their configurations do not say; without, each must "
            "say its inputs and outputs."
        ),
    ] = True
    backend_config: Annotated[
        tuple[str, ...],
        Meta(
            description="BACKEND,SETTING=VALUE for the models of a backend, such as "
            "onnxruntime,intra_op_thread_count=2; SETTING=VALUE is for all (repeatable)."
        ),
    ] = ()
    shared_memory: Annotated[
        SharedMemoryKind,
        Meta(
            description="system: clients on this machine may have tensors in regions of /dev/shm, "
            "of which whoever reaches the server may then read and write all that it may."
        ),
    ] = "none"
    cache_config: Annotated[
        tuple[str, ...],
        Meta(
            description="Where answers of models with response_cache are kept: local,size=BYTES, "
            "or redis,host=HOST,port=PORT,user=...,password=... (repeatable)."
        ),
    ] = ()
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
    model_load_retry_count: Annotated[
        int, Meta(ge=0, description="How often a model is tried again that cannot be loaded.")
    ] = 0
    rate_limit: Annotated[
        RateLimitMode,
        Meta(
            description="execution_count: instances run only while they hold the resources of "
            "their rate_limiter; off: as soon as they are free."
        ),
    ] = "off"
    rate_limit_resource: Annotated[
        tuple[str, ...],
        Meta(
            description="How much there is of a resource, NAME:COUNT on every device or "
            "NAME:COUNT:DEVICE (repeatable). Unless any is said, as much as the instance that "
            "needs most."
        ),
    ] = ()
    strict_readiness: Annotated[
        bool, Meta(description="Ready only when every model that should be served is.")
    ] = True
    exit_on_error: Annotated[
        bool, Meta(description="Exit at start when a model cannot be loaded.")
    ] = False
    exit_timeout_secs: Annotated[
        float,
        Meta(ge=0, description="How long requests in flight may take to finish on shutdown."),
    ] = 30.0
    threads: Annotated[
        int, Meta(ge=0, description="Cores that models may use; 0 is all that this process has.")
    ] = 0
    access_log: Annotated[bool, Meta(description="Log one line for each request.")] = False
    log_format: Annotated[
        LogFormat,
        Meta(
            description="Log lines for people (text) or for machines (json), or with the head that "
            "Triton's have (default, ISO8601)."
        ),
    ] = "text"
    log_level: Annotated[LogLevel, Meta(description="Least severity that is logged.")] = "info"
    log_verbose: Annotated[
        int, Meta(ge=0, description="Over 0, lines for debugging are logged as well.")
    ] = 0
    log_info: Annotated[bool, Meta(description="Log information.")] = True
    log_warning: Annotated[bool, Meta(description="Log warnings.")] = True
    log_error: Annotated[bool, Meta(description="Log errors.")] = True
    log_file: Annotated[
        str | None, Meta(description="File that the log goes to; default: standard error.")
    ] = None
    trace_file: Annotated[
        str | None,
        Meta(
            description="File for traces of requests, which the API switches on; none has nothing "
            "traced."
        ),
    ] = None
    trace_config: Annotated[
        tuple[str, ...],
        Meta(
            description="SETTING=VALUE for traces from the start: level (TIMESTAMPS), rate, count; "
            "triton,file and triton,log-frequency (repeatable)."
        ),
    ] = ()
    engine: Annotated[
        dict[str, Any],
        Meta(description="What is said of every language model's EngineConfig, by field."),
    ] = {}
