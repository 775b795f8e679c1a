import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferd.protocols.http.reader import LARGE_BODY_BYTES, HttpLimits, RequestReader
from inferd.protocols.http.request import HttpRequest
from protocols.http.harness import chunked, cut, request

LIMITS = HttpLimits(max_body_bytes=100, max_head_bytes=300)


def plain(requests: list[HttpRequest]) -> list[tuple[object, ...]]:
    """What of requests can be compared."""
    return [
        (r.head.method, r.head.target, r.head.headers, r.head.fields, r.head.keep_alive,
         r.head.body_bytes, r.body)
        for r in requests
    ]  # fmt: skip


def read(*pieces: bytes, limits: HttpLimits = LIMITS) -> tuple[RequestReader, list[HttpRequest]]:
    reader = RequestReader(limits)
    return reader, [found for piece in pieces for found in reader.feed(piece)]


def rejection(*pieces: bytes, limits: HttpLimits = LIMITS) -> tuple[int, str]:
    reader, _ = read(*pieces, limits=limits)
    assert reader.rejection is not None
    return reader.rejection


SEVERAL = (
    request("/a", b"one", x_mark="1"),
    request("/b?q=%20", method="GET"),
    chunked(b"tw", b"o" * 20, target="/c"),
    request("/d", b"x" * 90, x_mark="3", accept="*/*"),
    request("/e", b"", connection="keep-alive"),
    request("/f", b"\r\n\r\nPOST /g HTTP/1.1\r\n\r\n"),
)


def test_several_requests_in_one_piece_are_read_in_order() -> None:
    reader, found = read(b"".join(SEVERAL))
    assert [r.head.target for r in found] == [b"/a", b"/b?q=%20", b"/c", b"/d", b"/e", b"/f"]
    assert [r.body for r in found] == [
        b"one", b"", b"tw" + b"o" * 20, b"x" * 90, b"", b"\r\n\r\nPOST /g HTTP/1.1\r\n\r\n",
    ]  # fmt: skip
    assert found[0].head.fields[b"x-mark"] == b"1"
    assert found[2].head.body_bytes == 22
    assert reader.rejection is None
    assert not reader.in_message
    assert not reader.in_body


@settings(derandomize=True, deadline=None, max_examples=200)
@given(st.lists(st.integers(0, 2000), max_size=40))
def test_any_split_gives_the_same_requests(points: list[int]) -> None:
    data = b"".join(SEVERAL)
    assert plain(read(*cut(data, points))[1]) == plain(read(data)[1])


HUGE = bytes(range(256)) * (LARGE_BODY_BYTES // 256)
LARGE = (
    request("/a", HUGE, x_mark="1"),
    request("/b", b"small"),
    request("/c", HUGE[1:]),
    request("/d", HUGE + b"and more", connection="close"),
)


@settings(derandomize=True, deadline=None, max_examples=100)
@given(
    st.lists(
        st.integers(0, 4 * LARGE_BODY_BYTES)
        | st.integers(-300, 300).map(lambda near: LARGE_BODY_BYTES + near),
        max_size=30,
    )
)
def test_large_bodies_come_in_any_pieces(points: list[int]) -> None:
    reader, found = read(*cut(b"".join(LARGE), points), limits=HttpLimits())
    assert [(r.head.target, r.head.keep_alive, r.head.body_bytes) for r in found] == [
        (b"/a", True, len(HUGE)), (b"/b", True, 5), (b"/c", True, len(HUGE) - 1),
        (b"/d", False, len(HUGE) + 8),
    ]  # fmt: skip
    assert [r.body for r in found] == [HUGE, b"small", HUGE[1:], HUGE + b"and more"]
    assert found[0].head.fields[b"x-mark"] == b"1"
    assert (reader.in_message, reader.in_body, reader.rejection) == (False, False, None)


def test_a_large_body_is_on_its_way_until_its_last_byte() -> None:
    whole = request("/a", HUGE)
    reader, found = read(whole[:1000], whole[1000:-1], limits=HttpLimits())
    assert (found, reader.in_message, reader.in_body) == ([], True, True)
    (found_then,) = reader.feed(whole[-1:] + b"nonsense")
    assert found_then.body == HUGE
    assert reader.rejection is not None


def test_byte_by_byte_gives_the_same_requests() -> None:
    data = b"".join(SEVERAL)
    pieces = [data[i : i + 1] for i in range(len(data))]
    assert plain(read(*pieces)[1]) == plain(read(data)[1])


def test_header_names_are_lower_case_and_values_as_sent() -> None:
    (found,) = read(b"GET / HTTP/1.1\r\nHost: H\r\nX-Mark: A b\r\nx-mark: C\r\n\r\n")[1]
    assert found.head.headers == [(b"host", b"H"), (b"x-mark", b"A b"), (b"x-mark", b"C")]
    assert found.head.fields[b"x-mark"] == b"C"


@pytest.mark.parametrize(
    ("head", "keeps"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", True),
        (b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n", False),
        (b"GET / HTTP/1.1\r\nConnection: Keep-Alive\r\n\r\n", True),
        (b"GET / HTTP/1.0\r\n\r\n", False),
        (b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", False),
    ],
)
def test_keep_alive(head: bytes, keeps: bool) -> None:
    (found,) = read(head)[1]
    assert found.head.keep_alive is keeps


# -- where it is ----------------------------------------------------------------------------------


def test_it_knows_whether_a_head_or_a_body_is_on_its_way() -> None:
    reader = RequestReader(LIMITS)
    seen = []
    for piece in (b"", b"POST / HT", b"TP/1.1\r\nContent-Length: 3\r\n", b"\r\n", b"ab", b"c"):
        if piece:
            reader.feed(piece)
        seen.append((reader.in_message, reader.in_body))
    assert seen == [
        (False, False), (True, False), (True, False), (True, True), (True, True), (False, False),
    ]  # fmt: skip


# -- limits ---------------------------------------------------------------------------------------

LONG_HEAD = b"GET / HTTP/1.1\r\nX-Long: %b\r\n\r\n" % (b"a" * 400)


@pytest.mark.parametrize("piece_bytes", [1, 10, 299, 301, 10_000])
def test_a_head_over_the_limit_is_refused_however_it_comes(piece_bytes: int) -> None:
    pieces = [LONG_HEAD[i : i + piece_bytes] for i in range(0, len(LONG_HEAD), piece_bytes)]
    status, message = rejection(*pieces)
    assert status == 431
    assert "300" in message


def test_a_head_at_the_limit_is_read() -> None:
    head = b"GET / HTTP/1.1\r\nX-Long: %b\r\n\r\n"
    fitting = head % (b"a" * (300 - len(head) + 2))
    assert len(fitting) == 300
    for pieces in ([fitting], [fitting[:100], fitting[100:]], [fitting[:299], fitting[299:]]):
        reader, found = read(*pieces)
        assert (reader.rejection, len(found)) == (None, 1)


def test_each_head_has_the_limit_to_itself() -> None:
    one = request("/now", b"b" * 90, x_mark="a" * 150)
    reader, found = read(one[:200], one[200:] + one[:50], one[50:] + one[:220], one[220:])
    assert (reader.rejection, len(found)) == (None, 3)


@pytest.mark.parametrize("piece_bytes", [65_536, 262_144, 100_003])
def test_large_bodies_one_behind_the_other_are_no_large_heads(piece_bytes: int) -> None:
    """Pieces as a socket gives them: the end of a body, and the start of what follows."""
    sizes = [200_000, 3, 1_000_000, 131_000, 10] * 2
    data = b"".join(request("/now", b"x" * size) for size in sizes)
    pieces = [data[i : i + piece_bytes] for i in range(0, len(data), piece_bytes)]
    reader, found = read(*pieces, limits=HttpLimits())
    assert reader.rejection is None
    assert [len(r.body) for r in found] == sizes


def test_small_chunks_are_no_endless_framing() -> None:
    data = chunked(*[b"x"] * 20_000)
    limits = HttpLimits(max_head_bytes=1000)
    for piece_bytes in (1, 1000, 1_000_000):
        pieces = [data[i : i + piece_bytes] for i in range(0, len(data), piece_bytes)]
        reader, found = read(*pieces, limits=limits)
        assert reader.rejection is None
        assert found[0].body == b"x" * 20_000


def test_a_body_counts_for_its_own_limit_only() -> None:
    limits = HttpLimits(max_body_bytes=5000, max_head_bytes=300)
    data = request("/now", b"b" * 5000)
    for points in ([], [10], [60, 70], [2000]):
        reader, found = read(*cut(data, points), limits=limits)
        assert (reader.rejection, len(found)) == (None, 1)


@pytest.mark.parametrize("size", [101, 10**6, 10**30])
def test_a_body_too_large_by_its_length_is_refused_before_it_comes(size: int) -> None:
    head = b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % size
    status, message = rejection(head)
    if size < 2**64:
        assert status == 413
        assert "exceeds the maximum allowed input size of 100 bytes" in message
    else:
        assert status in (400, 413)


@pytest.mark.parametrize("piece_bytes", [1, 7, 10_000])
def test_a_chunked_body_is_refused_when_it_grows_too_large(piece_bytes: int) -> None:
    data = chunked(b"a" * 60, b"b" * 41)
    status, message = rejection(
        *[data[i : i + piece_bytes] for i in range(0, len(data), piece_bytes)]
    )
    assert status == 413
    assert "exceeds the maximum allowed input size of 100 bytes" in message


def test_bodies_at_the_limit_are_read() -> None:
    for data in (request("/now", b"a" * 100), chunked(b"a" * 60, b"b" * 40)):
        reader, found = read(data)
        assert reader.rejection is None
        assert len(found[0].body) == 100


def test_endless_trailers_are_refused() -> None:
    reader = RequestReader(LIMITS)
    reader.feed(chunked(b"a").removesuffix(b"\r\n"))
    for number in range(1000):
        reader.feed(b"X-Trailer-%d: %b\r\n" % (number, b"a" * 100))
        if reader.rejection is not None:
            break
    assert reader.rejection is not None
    assert reader.rejection[0] in (400, 413, 431)


def test_trailers_do_not_pass_for_headers() -> None:
    trailers = b"content-encoding: gzip\r\nx-mark: trailer\r\n"
    _, found = read(chunked(b"a", trailers=trailers))
    for one in found:  # to refuse the request would be fine too
        assert b"content-encoding" not in one.head.fields
        assert b"x-mark" not in one.head.fields


# -- what is not a request ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"hello\r\n\r\n",
        b"\x16\x03\x01\x02\x00",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nbad header\r\n\r\n",
        b"GET / HTTP/1.1\r\nbad name: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1x\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n",
    ],
)
def test_what_is_malformed_is_refused(data: bytes) -> None:
    status, message = rejection(data)
    assert status == 400
    assert "malformed HTTP request" in message


def test_requests_before_what_is_malformed_are_still_read() -> None:
    reader, found = read(request("/a") + request("/b", b"x") + b"\x00\x00\x00")
    assert [r.head.target for r in found] == [b"/a", b"/b"]
    assert reader.rejection is not None


def test_nothing_is_read_after_a_rejection() -> None:
    reader, _ = read(b"nonsense\r\n\r\n")
    first = reader.rejection
    assert reader.feed(request("/a")) == []
    assert reader.rejection is first


def test_nothing_is_read_after_an_upgrade() -> None:
    upgrade = b"GET /chat HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
    reader, found = read(upgrade + b"\x81\x05hello")
    assert [r.head.target for r in found] == [b"/chat"]
    assert reader.upgraded
    assert reader.rejection is None
    assert reader.feed(request("/a")) == []


# -- expect ---------------------------------------------------------------------------------------


def test_a_client_that_waits_for_a_sign_is_noticed_until_its_body_is_here() -> None:
    data = request("/a", b"abc", Expect="100-Continue")
    reader = RequestReader(LIMITS)
    reader.feed(data[:-3])
    assert reader.expects_continue
    assert len(reader.feed(data[-3:])) == 1
    assert not reader.expects_continue


def test_no_sign_is_given_for_a_body_that_is_refused() -> None:
    reader, _ = read(b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 900\r\n\r\n")
    assert not reader.expects_continue
    assert reader.rejection is not None
    assert reader.rejection[0] == 413


def test_an_old_client_gets_no_sign_that_it_does_not_know() -> None:
    reader, _ = read(b"POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n")
    assert not reader.expects_continue
