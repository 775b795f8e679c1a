import pytest

from inferd.protocols.request_id import MAX_BYTES, next_request_id, request_id


@pytest.mark.parametrize("sent", [b"a", b"0f-9_A.b:c/d+e=@", b"x" * MAX_BYTES])
def test_a_sane_id_is_kept(sent: bytes) -> None:
    assert request_id(sent) == sent


@pytest.mark.parametrize(
    "sent",
    [
        None, b"", b"x" * (MAX_BYTES + 1), b"a b", b"a\r\nset-cookie: x", b"a\n", b"\x00",
        b"\xc3\xa9", b'a"b', b"<script>", b"a;b", b"a,b", b"\x1b[31m", b"{}", b"%0d", b"\\",
    ],
)  # fmt: skip
def test_an_id_that_could_break_a_header_or_a_log_line_is_replaced(sent: bytes | None) -> None:
    given = request_id(sent)
    assert given != sent
    assert request_id(given) == given, "ours would be kept if it were sent"


def test_ids_are_never_given_twice() -> None:
    given = [next_request_id() for _ in range(1000)]
    assert len(set(given)) == 1000
