"""A request to the HTTP routes of a model's own, as it crosses to where the model runs."""

import msgspec


class VisitHead(msgspec.Struct, frozen=True, array_like=True):
    """Everything of the request but its body, in the terms of ASGI's HTTP scope: `path` is the
    whole path, decoded, and starts with `root_path`, which is where the routes are mounted."""

    method: str
    path: str
    raw_path: bytes
    root_path: str
    query: bytes
    headers: list[tuple[bytes, bytes]]
    client: tuple[str, int] | None
