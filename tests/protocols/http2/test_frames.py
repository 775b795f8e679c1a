import pytest

from inferd.protocols.http2.frames import (
    CONTINUATION,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    FrameCutter,
    frame,
    goaway,
    header_frames,
    rst_stream,
    settings,
    window_update,
)
from inferd.protocols.http2.limits import Http2Limits
from protocols.http2.client import frames_of


def test_the_bytes_of_frames() -> None:
    assert frame(0, 1, 3, b"abc") == b"\x00\x00\x03\x00\x01\x00\x00\x00\x03abc"
    assert settings({4: 65_536}) == b"\0\0\x06\x04\0\0\0\0\0\0\x04\0\1\0\0"
    assert rst_stream(5, 8) == b"\0\0\x04\x03\0\0\0\0\x05\0\0\0\x08"
    assert window_update(0, 1) == b"\0\0\x04\x08\0\0\0\0\0\0\0\0\1"
    assert goaway(7, 2, b"why") == b"\0\0\x0b\x07\0\0\0\0\0\0\0\0\x07\0\0\0\x02why"


def test_a_block_is_continued_where_it_is_too_long() -> None:
    assert frames_of(header_frames(1, b"abcd", END_STREAM, 4)) == [
        (HEADERS, END_STREAM | END_HEADERS, 1, b"abcd")
    ]
    assert frames_of(header_frames(1, b"abcdefghi", END_STREAM, 4)) == [
        (HEADERS, END_STREAM, 1, b"abcd"),
        (CONTINUATION, 0, 1, b"efgh"),
        (CONTINUATION, END_HEADERS, 1, b"i"),
    ]


def test_whole_frames_are_not_copied() -> None:
    data = frame(0, 0, 1, b"abc")
    assert FrameCutter(100).pieces(data)[0] is data


@pytest.mark.parametrize("cut", range(1, 24))
def test_a_frame_in_two_parts(cut: int) -> None:
    whole = frame(0, 0, 1, b"fifteen letters")
    cutter = FrameCutter(100)
    cutter.keep(whole[:cut])
    assert cutter.is_inside
    assert [piece for piece in cutter.pieces(whole[cut:] + b"next") if piece] == (
        [whole, b"next"] if cut < 24 else [b"next"]
    )
    assert not cutter.is_inside


def test_a_frame_byte_by_byte() -> None:
    whole = frame(0, 0, 1, b"abc")
    cutter = FrameCutter(100)
    cutter.keep(whole[:1])
    for at in range(1, len(whole) - 1):
        assert cutter.pieces(whole[at : at + 1]) == ()
    assert cutter.pieces(whole[-1:])[0] == whole


def test_a_frame_that_is_too_long_is_not_waited_for() -> None:
    cutter = FrameCutter(10)
    head = frame(0, 0, 1, bytes(11))[:9]
    cutter.keep(head[:4])
    assert cutter.pieces(head[4:]) == (head,)


@pytest.mark.parametrize(
    "limits",
    [{"stream_window_bytes": 65_534}, {"connection_window_bytes": 2**31},
     {"max_frame_bytes": 16_383}, {"max_frame_bytes": 2**24}],
)  # fmt: skip
def test_limits_that_http_2_does_not_have(limits: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"is not in"):
        Http2Limits(**limits)  # type: ignore[arg-type]
