"""tritonserver's command line in inferd's words: which of its options are others here, which change
nothing and why, and which are refused. Pure.

Options that are named the same in both are not here, but for those that Triton gives a value where
ours need none (`--strict-readiness=false`). It refuses to know what any option does.
"""

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

Words = list[str]
"""Arguments of `inferd serve`."""

_TRUE, _FALSE = ("true", "1", "on"), ("false", "0", "off")


class Translation(NamedTuple):
    """Arguments in inferd's words, and what was said in vain: `--option: why`."""

    arguments: Words
    ignored: list[str]


class UnusableOption(Exception):
    """An option, or its value, that cannot be taken: `option` and why."""

    def __init__(self, option: str, why: str) -> None:
        super().__init__(f"--{option} {why}")
        self.option = option


def translate(arguments: Words) -> Translation:
    """Raises UnusableOption."""
    found = Translation([], [])
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if word == "--":
            found.arguments.extend((word, *rest))
            break
        name, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or name not in TRITON_NAMES:
            found.arguments.append(word)
            continue
        if name in BOOLEANS:
            if not equals and (not rest or rest[0].lower() not in (*_TRUE, *_FALSE)):
                value = "true"
            elif not equals:
                value = rest.pop(0)
            value = _boolean(name, value)
        elif name not in FLAGS and not equals:
            if not rest:
                raise UnusableOption(name, "needs a value")
            value = rest.pop(0)
        elif equals and name in FLAGS:
            raise UnusableOption(name, "takes no value")
        if name in TAKEN:
            found.arguments.extend(TAKEN[name](value))
        elif name in REFUSED:
            if name not in BOOLEANS or value == "true":
                raise UnusableOption(name, REFUSED[name])
        else:
            found.ignored.append(f"--{name}: {IGNORED[name]}")
    return found


def _boolean(name: str, value: str) -> str:
    if value.lower() in _TRUE:
        return "true"
    if value.lower() in _FALSE:
        return "false"
    raise UnusableOption(name, f"takes true or false, not '{value}'")


def _flag(name: str, inverted: bool = False) -> Callable[[str], Words]:
    return lambda value: [f"--{name}" if (value == "true") is not inverted else f"--no-{name}"]


def _valued(name: str, prefix: str = "") -> Callable[[str], Words]:
    return lambda value: [f"--{name}", prefix + value]


def _milliseconds(name: str, ours: str) -> Callable[[str], Words]:
    def words(value: str) -> Words:
        try:
            return [f"--{ours}", repr(int(value) / 1000)]
        except ValueError:
            raise UnusableOption(name, f"takes whole milliseconds, not '{value}'") from None

    return words


def _verbose(value: str) -> Words:
    return ["--log-verbose", {"true": "1", "false": "0"}.get(value.lower(), value)]


def _cache_size(value: str) -> Words:
    return [] if value == "0" else ["--cache-config", f"local,size={value}"]


_SAME_FLAGS = (
    "strict-readiness", "exit-on-error", "log-info", "log-warning", "log-error",
)  # fmt: skip

_IN_MILLISECONDS = {
    "grpc-keepalive-time": "grpc-keepalive-secs",
    "grpc-keepalive-timeout": "grpc-keepalive-timeout-secs",
    "grpc-http2-min-recv-ping-interval-without-data": "grpc-min-ping-interval-secs",
    "grpc-max-connection-age": "grpc-max-connection-age-secs",
    "grpc-max-connection-age-grace": "grpc-max-connection-age-grace-secs",
}

TAKEN: Final[Mapping[str, Callable[[str], Words]]] = {
    "model-repository": lambda value: [value],
    "model-store": lambda value: [value],
    "allow-http": _flag("http"),
    "allow-grpc": _flag("grpc"),
    "allow-metrics": _flag("metrics"),
    "allow-client-shm": lambda value: ["--shared-memory", "system" if value == "true" else "none"],
    **{name: _flag(name) for name in _SAME_FLAGS},
    "disable-auto-complete-config": lambda _: ["--no-auto-complete-config"],
    "strict-model-config": _flag("auto-complete-config", inverted=True),
    "grpc-use-ssl": _valued("grpc-use-ssl"),
    "grpc-use-ssl-mutual": _valued("grpc-use-ssl-mutual"),
    **{name: _milliseconds(name, ours) for name, ours in _IN_MILLISECONDS.items()},
    "grpc-http2-max-ping-strikes": _valued("grpc-max-ping-strikes"),
    "log-verbose": _verbose,
    "response-cache-byte-size": _cache_size,
    "trace-level": _valued("trace-config", "level="),
    "trace-rate": _valued("trace-config", "rate="),
    "trace-count": _valued("trace-config", "count="),
    "trace-log-frequency": _valued("trace-config", "triton,log-frequency="),
}
"""Option to what it is here, by its value."""

_NO_DEVICE_MEMORY = "inferd keeps no pool of memory; frameworks have their own"
_NO_LIBRARIES = "nothing is loaded from shared libraries of Triton's"
_THREADS = "requests are handled by one thread, and models run on others (--threads)"

IGNORED: Final[Mapping[str, str]] = {
    "http-thread-count": _THREADS,
    "sagemaker-thread-count": _THREADS,
    "vertex-ai-thread-count": _THREADS,
    "sagemaker-port": "there is no endpoint of SageMaker's",
    "sagemaker-safe-port-range": "there is no endpoint of SageMaker's",
    "vertex-ai-port": "there is no endpoint of Vertex AI's",
    "vertex-ai-default-model": "there is no endpoint of Vertex AI's",
    "grpc-infer-allocation-pool-size": "nothing of a request is kept for the next",
    "grpc-infer-response-compression-level": "answers are compressed as each client asks",
    "grpc-keepalive-permit-without-calls": "silent clients are pinged, with calls or without",
    "grpc-http2-max-pings-without-data": "as many pings are sent as --grpc-keepalive-time asks",
    "allow-gpu-metrics": "metrics of GPUs are not read",
    "allow-cpu-metrics": "metrics of the machine are always there, and cost nothing",
    "metrics-interval-ms": "metrics are read when they are asked for",
    "metrics-config": "counters and histograms of latencies are always on; there are no summaries",
    "backend-directory": _NO_LIBRARIES,
    "repoagent-directory": _NO_LIBRARIES,
    "cache-directory": _NO_LIBRARIES,
    "pinned-memory-pool-byte-size": _NO_DEVICE_MEMORY,
    "cuda-memory-pool-byte-size": _NO_DEVICE_MEMORY,
    "cuda-virtual-address-size": _NO_DEVICE_MEMORY,
    "model-load-gpu-limit": "the memory of a GPU is not looked at before a model is loaded",
    "min-supported-compute-capability": "frameworks know which GPUs they run on",
    "enable-peer-access": "GPUs are not told to read each other's memory",
    "buffer-manager-thread-count": "tensors are not copied on threads of their own",
    "host-policy": "instances are not bound to NUMA nodes or cores; start the server under numactl",
}
"""Options that change nothing here, and why: none of them changes an answer."""

_RESTRICTED = (
    "is not there yet, and nothing would be restricted without it; let a gateway check the header, "
    "or listen where only those who may can ask"
)
_FORWARDED = "is not done: headers do not become parameters of requests; have the client send them"
_SHARED_PORT = "is not done: each server needs a port of its own"

REFUSED: Final[Mapping[str, str]] = {
    "http-restricted-api": _RESTRICTED,
    "grpc-restricted-protocol": _RESTRICTED,
    "http-header-forward-pattern": _FORWARDED,
    "grpc-header-forward-pattern": _FORWARDED,
    "model-namespacing": "is not done: models of one name in two repositories cannot both be "
    "served; give one another name with NAME=PATH",
    "reuse-http-port": _SHARED_PORT,
    "reuse-grpc-port": _SHARED_PORT,
    "allow-sagemaker": "is not done: there is no endpoint of SageMaker's",
    "allow-vertex-ai": "is not done: there is no endpoint of Vertex AI's",
}
"""Options that cannot be left out of account, and why; a boolean one may say false."""

BOOLEANS: Final = frozenset(
    {
        *_SAME_FLAGS, "allow-client-shm", "allow-http", "allow-grpc", "allow-metrics",
        "strict-model-config",
        "grpc-use-ssl", "grpc-use-ssl-mutual", "allow-gpu-metrics", "allow-cpu-metrics",
        "enable-peer-access", "grpc-keepalive-permit-without-calls", "model-namespacing",
        "reuse-http-port", "reuse-grpc-port", "allow-sagemaker", "allow-vertex-ai",
    }
)  # fmt: skip
"""Options whose value is true or false, and true where it is left out."""

FLAGS: Final = frozenset({"disable-auto-complete-config"})
"""Options without a value."""

TRITON_NAMES: Final = frozenset({*TAKEN, *IGNORED, *REFUSED})
