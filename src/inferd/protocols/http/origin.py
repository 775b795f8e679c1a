"""Whether a browser sent a request for a page of another site. Pure.

A server on a loopback address is reachable from every page that a browser shows, and requests with
the plain content types need no leave. So everything but reading is refused to such pages, on every
route of the server's own; what a model mounts knows itself whom it lets in. Browsers say in Origin
whose page asks; other clients send none. Behind a proxy that replaces Host, X-Forwarded-Host is
looked at as well: no page can send it without leave.
"""

from collections.abc import Mapping
from urllib.parse import urlsplit


def cross_site(fields: Mapping[bytes, bytes]) -> bool:
    """Whether the request comes from a page that this server did not hand out."""
    origin = fields.get(b"origin")
    if origin is None:
        return False
    try:
        page = urlsplit(origin.decode("latin-1")).netloc.lower()
    except ValueError:
        return True
    hosts = (fields.get(b"host", b""), fields.get(b"x-forwarded-host", b""))
    return not page or page not in [host.decode("latin-1").strip().lower() for host in hosts]


CROSS_SITE = (
    "a page of another site may not use this server: its Origin is not the Host that was asked; "
    "ask from a page on the same host, or through a proxy that puts both under one"
)
