"""What --backend-config says, in Triton's words, of every model of a backend: read once, and added
to each model's parameters, which go before it. Pure.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import msgspec

from inferd.config.model import ModelConfig
from inferd.config.strict import suggest
from inferd.errors import ConfigError

DEFAULT_MAX_BATCH_SIZE = "default-max-batch-size"

_ALIASES = {"pytorch": "torch", "onnx": "onnxruntime"}
_BATCHED = frozenset({DEFAULT_MAX_BATCH_SIZE})

KNOWN: Mapping[str, frozenset[str]] = {
    "": _BATCHED,
    "onnxruntime": _BATCHED | {"intra_op_thread_count", "inter_op_thread_count"},
    "openvino": _BATCHED,
    "torch": _BATCHED,
    "tensorflow": _BATCHED,
    "python": frozenset(),
}
"""Settings that are acted on, by backend; the nameless one is every backend."""

_OWN_MEMORY = "workers share memory as they need it"

IGNORED: Mapping[str, Mapping[str, str]] = {
    "": {"backend-directory": "nothing is loaded from shared libraries of Triton's",
         "min-compute-capability": "frameworks know which GPUs they run on"},
    "onnxruntime": {"enable-global-threadpool": "sessions have threads of their own"},
    "tensorflow": {
        "version": "the version that is installed runs",
        "allow-soft-placement": "TensorFlow decides where operators run",
        "gpu-memory-fraction": "TensorFlow takes memory of GPUs as it needs it",
    },
    "python": {
        "shm-default-byte-size": _OWN_MEMORY, "shm-growth-byte-size": _OWN_MEMORY,
        "shm-region-prefix-name": _OWN_MEMORY,
        "stub-timeout-seconds": "a model may say timeout_secs",
        "thread-pool-size": "requests to other models need no threads",
    },
}  # fmt: skip
"""Settings that change nothing here, and why."""

_FIELD = "backend_config"


@dataclass(frozen=True, slots=True)
class BackendConfig:
    """Settings by backend, and what was said in vain: `setting: why`."""

    settings: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()

    def completed(self, config: ModelConfig, backend: str) -> ModelConfig:
        """A model's configuration with what it does not say itself."""
        said = {**self.settings.get("", {}), **self.settings.get(_name(backend), {})}
        if not said:
            return config
        rows = said.get(DEFAULT_MAX_BATCH_SIZE)
        if rows == "0" and config.max_batch_size is None:
            return msgspec.structs.replace(config, max_batch_size=0)
        return msgspec.structs.replace(config, parameters={**said, **config.parameters})


NO_SETTINGS = BackendConfig()


def read_backend_config(entries: Iterable[str]) -> BackendConfig:
    """From `BACKEND,SETTING=VALUE`, or `SETTING=VALUE` for every backend; raises ConfigError."""
    settings: dict[str, dict[str, str]] = {}
    ignored = []
    for entry in entries:
        name, equals, value = entry.partition("=")
        backend, comma, setting = name.partition(",")
        if not comma:
            backend, setting = "", backend
        backend, setting = _name(backend.strip()), setting.strip()
        if not equals or not setting:
            raise ConfigError(f"'{entry}': expected BACKEND,SETTING=VALUE", field=_FIELD)
        if backend not in KNOWN:
            ignored.append(f"{entry}: no model has settings for backend '{backend}'")
        elif setting in IGNORED.get(backend, {}):
            ignored.append(f"{entry}: {IGNORED[backend][setting]}")
        elif setting not in KNOWN[backend]:
            known = {*KNOWN[backend], *IGNORED.get(backend, {})}
            raise ConfigError(f"'{entry}': unknown setting, {suggest(setting, known)}",
                              field=_FIELD)  # fmt: skip
        elif not (value.isascii() and value.isdigit() and len(value) < 10):
            raise ConfigError(f"'{entry}': expected a whole number", field=_FIELD)
        else:
            settings.setdefault(backend, {})[setting] = str(int(value))
    return BackendConfig(settings, tuple(ignored))


def _name(backend: str) -> str:
    return _ALIASES.get(backend, backend)
