"""Where a server is: the one reader of an address that a user typed. It refuses to connect."""

from urllib.parse import SplitResult, urlsplit

from inferd.errors import InferdError


def split_url(url: str) -> SplitResult:
    """The parts of `http://HOST:PORT/PATH`; HOST:PORT alone is http.

    Raises InferdError for what is no address of a server.
    """
    try:
        where = urlsplit(url if "://" in url else f"http://{url}")
        valid = where.scheme in ("http", "https") and bool(where.hostname) and where.port != 0
    except ValueError:  # a port that is no port
        valid = False
    if not valid or where.username is not None:
        raise InferdError(f"'{url}' is not where a server can be; write http://HOST:PORT")
    return where
