"""What a server is given because its options say so: a log, a file for traces, certificates, a
cache, resources of instances.

Each is made, or what is wrong with the options is said. It refuses to know what is served.
"""

import logging
from pathlib import Path
from typing import TextIO

from inferd.batching.rate_limiter import RateLimiter, read_amounts
from inferd.caching.local import LocalCache
from inferd.caching.redis import RedisCache
from inferd.config.cache import LocalOptions, cache_options
from inferd.config.server import ServerConfig
from inferd.errors import ConfigError
from inferd.observability.log_settings import LogSettings
from inferd.observability.trace_file import TraceFile
from inferd.protocols.http2.tls import ServerTls, TlsFiles, trouble_with
from inferd.protocols.oip.log_settings import LOG_FORMATS

_log = logging.getLogger("inferd.server")


def log_settings(config: ServerConfig) -> LogSettings:
    """Which severities are logged, how and where."""
    least = LogSettings.of_level(config.log_level)
    return LogSettings(
        info=least.info and config.log_info,
        warning=least.warning and config.log_warning,
        error=config.log_error,
        verbose_level=max(least.verbose_level, config.log_verbose),
        format=config.log_format if config.log_format in LOG_FORMATS else "ISO8601",
        file=config.log_file or "",
    )


def log_file(config: ServerConfig) -> TextIO | None:
    """Raises ConfigError for one that cannot be written."""
    if not config.log_file:
        return None
    try:
        return open(config.log_file, "a", buffering=1, encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"{config.log_file} cannot be written: {error.strerror or error}", field="log_file"
        ) from error


def trace_file(name: str | None) -> TraceFile | None:
    """Raises ConfigError for one that has no folder."""
    if not name:
        return None
    path = Path(name)
    if not path.parent.is_dir() or path.is_dir():
        raise ConfigError(
            f"cannot write traces to {path}: expected a file in a folder that exists",
            field="trace_file",
        )
    return TraceFile(path)


def cache(config: ServerConfig) -> LocalCache | RedisCache | None:
    """Raises ConfigError for one that there is not."""
    options = cache_options(config.cache_config)
    if options is None:
        return None
    return LocalCache(options.size) if isinstance(options, LocalOptions) else RedisCache(options)


def server_tls(config: ServerConfig) -> ServerTls | None:
    """Raises ConfigError for files that do not belong together, or cannot be read."""
    certificate, key, root = config.grpc_server_cert, config.grpc_server_key, config.grpc_root_cert
    wanted, mutual = config.grpc_use_ssl, config.grpc_use_ssl_mutual
    if wanted is False and not mutual:
        return None
    if certificate is None and key is None and root is None and not (wanted or mutual):
        return None
    if mutual and root is None:
        raise ConfigError(
            "needs --grpc-root-cert, for the certificates of clients", field="grpc_use_ssl_mutual"
        )
    if root is not None and not mutual and (wanted or mutual is False):
        _log.warning("--grpc-root-cert: no client is asked for a certificate without "
                     "--grpc-use-ssl-mutual")  # fmt: skip
        root = None
    if certificate is None or key is None:
        missing = "grpc_server_cert" if certificate is None else "grpc_server_key"
        raise ConfigError(
            "gRPC over TLS needs a certificate and its key, --grpc-server-cert and "
            "--grpc-server-key",
            field=missing,
        )
    files = TlsFiles(Path(certificate), Path(key), Path(root) if root is not None else None)
    try:
        return ServerTls(files)
    except OSError as error:
        wrong, why = trouble_with(files)
        field = {
            "certificate": "grpc_server_cert", "key": "grpc_server_key",
            "client_ca": "grpc_root_cert",
        }[wrong]  # fmt: skip
        option = field.replace("_", "-")
        raise ConfigError(
            f"{getattr(files, wrong)} {why}; name another file with --{option}", field=field
        ) from error


def rate_limiter(config: ServerConfig) -> RateLimiter | None:
    """Raises ConfigError for resources that cannot be read."""
    amounts = read_amounts(config.rate_limit_resource)
    if config.rate_limit == "off":
        if amounts:
            _log.warning("resources limit nothing without --rate-limit execution_count")
        return None
    return RateLimiter(amounts)
