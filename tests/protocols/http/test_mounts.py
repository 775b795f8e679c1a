import pytest

from inferd.errors import BackendError
from inferd.protocols.http.mounts import answer_headers, visit_head
from inferd.protocols.http.request import Headers, HttpRequest, RequestHead


def visited(*headers: tuple[bytes, bytes], body: bytes = b"", target: bytes = b"/a/b%20c?d=%20"):
    head = RequestHead(b"PUT", target, list(headers), dict(headers), True, len(body))
    return visit_head(HttpRequest(head, body), "/a/b c", "/a", ("10.0.0.1", 4000))


def test_a_request_in_the_terms_of_asgi() -> None:
    head = visited((b"host", b"h"), (b"accept", b"a"), (b"accept", b"b"))
    assert (head.method, head.path, head.root_path) == ("PUT", "/a/b c", "/a")
    assert (head.raw_path, head.query) == (b"/a/b%20c", b"d=%20")
    assert head.headers == [(b"host", b"h"), (b"accept", b"a"), (b"accept", b"b")]
    assert head.client == ("10.0.0.1", 4000)


def test_what_concerns_the_connection_does_not_go_on() -> None:
    head = visited(
        (b"connection", b"Keep-Alive, X-Hop"), (b"x-hop", b"1"), (b"te", b"trailers"),
        (b"transfer-encoding", b"chunked"), (b"expect", b"100-continue"), (b"x-kept", b"1"),
        body=b"abc",
    )  # fmt: skip
    assert head.headers == [(b"x-kept", b"1"), (b"content-length", b"3")]


def test_an_empty_body_that_was_announced_stays_so() -> None:
    assert visited((b"content-length", b"0")).headers == [(b"content-length", b"0")]


def test_headers_of_an_answer() -> None:
    given: Headers = [
        (b"Content-Type", b" text/plain "), (b"Content-Length", b"7"), (b"Date", b"today"),
        (b"Set-Cookie", b"a"), (b"Set-Cookie", b"b"), (b"Connection", b"close"),
    ]  # fmt: skip
    kept, length = answer_headers(200, given)
    assert kept == [(b"content-type", b"text/plain"), (b"set-cookie", b"a"), (b"set-cookie", b"b")]
    assert length == 7


@pytest.mark.parametrize(
    ("status", "header", "words"),
    [
        (101, (b"x", b"1"), "status 101"),
        (600, (b"x", b"1"), "status 600"),
        (200, (b"x", b"1\r\ny: 2"), "header b'x'"),
        (200, (b"x: y\r\n", b"1"), "header b'x: y"),
        (200, (b"", b"1"), "header b''"),
        (200, (b"content-length", b"-1"), "content-length b'-1'"),
        (200, (b"content-length", b"9" * 30), "content-length"),
    ],
)
def test_what_would_not_be_an_answer_is_refused(
    status: int, header: tuple[bytes, bytes], words: str
) -> None:
    with pytest.raises(BackendError, match=words):
        answer_headers(status, [header])
