"""What `--cache-config` says, in Triton's form: `<cache>,<key>=<value>,...`, once or several times.

It refuses to know what a cache does (`caching/`).
"""

import os
from collections.abc import Iterable
from typing import Annotated

import msgspec
from msgspec import Meta

from inferd.config.strict import decode_struct, suggest
from inferd.errors import ConfigError

FIELD = "cache_config"

_ENVIRONMENT = {
    "user": "TRITONCACHE_REDIS_USERNAME",
    "password": "TRITONCACHE_REDIS_PASSWORD",
}
"""Triton's variables, for what should not stand on a command line."""


class LocalOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A cache in this process's memory."""

    size: Annotated[int, Meta(ge=1)]


class RedisOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A cache in Redis."""

    host: Annotated[str, Meta(min_length=1)]
    port: Annotated[int, Meta(ge=1, le=65535)]
    user: str = ""
    password: str = ""
    db: Annotated[int, Meta(ge=0)] = 0


CacheOptions = LocalOptions | RedisOptions

_CACHES: dict[str, type[LocalOptions] | type[RedisOptions]] = {
    "local": LocalOptions, "redis": RedisOptions,
}  # fmt: skip


def cache_options(said: Iterable[str]) -> CacheOptions | None:
    """The cache to have, None for none; raises ConfigError that names what is wrong."""
    name, values = "", dict[str, str]()
    for text in said:
        cache, *settings = text.split(",")
        if cache not in _CACHES:
            raise ConfigError(f"unknown cache '{cache}': {suggest(cache, _CACHES)}", field=FIELD)
        if name and cache != name:
            raise ConfigError(f"names two caches, {name} and {cache}; there is one", field=FIELD)
        name = cache
        for setting in settings:
            key, equals, value = setting.partition("=")
            if not equals or not key:
                raise ConfigError(
                    f"'{setting}' is not <key>=<value>, as in local,size=1048576", field=FIELD
                )
            if key in values:
                raise ConfigError(f"says '{key}' twice", field=f"{FIELD}.{name}")
            values[key] = value
    if not name:
        return None
    if name == "redis":
        for key, variable in _ENVIRONMENT.items():
            if key not in values and variable in os.environ:
                values[key] = os.environ[variable]
    return decode_struct(values, _CACHES[name], file="", field=f"{FIELD}.{name}", strict=False)
