"""What clients may say, as bytes: the material of property tests and of the fuzzer."""

import random

from hpack import Encoder

from inferd.protocols.http2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PADDED,
    PING,
    PREFACE,
    SETTINGS,
    frame,
    rst_stream,
    settings,
    window_update,
)
from protocols.http2.client import REQUEST, Pairs, request

BEGIN = PREFACE + settings({}) + frame(SETTINGS, ACK, 0)


class Talk:
    """A client that mostly keeps to the rules, and does what they allow at random."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.encoder = Encoder()
        self.sent: list[bytes] = []
        self.next_id = 1
        self.open: list[int] = []
        values: dict[int, int] = {}
        if rng.random() < 0.7:
            values[4] = rng.choice((0, 1, 10, 100, 65_535, 100_000))
        if rng.random() < 0.3:
            values[5] = rng.choice((16_384, 20_000, 2**24 - 1))
        if rng.random() < 0.3:
            values[1] = rng.choice((0, 100, 4096))
        self.sent.append(PREFACE + settings(values) + frame(SETTINGS, ACK, 0))

    def say(self, count: int) -> list[bytes]:
        """So many steps; gives all frames, the preface first."""
        steps = (self.opens, self.opens, self.sends, self.sends, self.sends, self.widens,
                 self.resets, self.other)  # fmt: skip
        for _ in range(count):
            self.rng.choice(steps)()
        return self.sent

    def opens(self) -> None:
        rng = self.rng
        pairs: Pairs = list(REQUEST)
        if rng.random() < 0.3:
            pairs.append((b"grpc-timeout", b"%dm" % rng.randrange(20)))
        block = self.encoder.encode(pairs) if rng.random() < 0.7 else request()
        flags = END_STREAM if rng.random() < 0.2 else 0
        stream_id = self.next_id
        self.next_id += rng.choice((2, 2, 2, 4))
        if not flags:
            self.open.append(stream_id)
        if rng.random() < 0.2:
            cut = rng.randrange(len(block) + 1)
            self.sent.append(frame(HEADERS, flags, stream_id, block[:cut]))
            self.sent.append(frame(CONTINUATION, END_HEADERS, stream_id, block[cut:]))
        else:
            self.sent.append(frame(HEADERS, flags | END_HEADERS, stream_id, block))

    def sends(self) -> None:
        if not self.open:
            return
        rng = self.rng
        stream_id = rng.choice(self.open)
        payload = rng.randbytes(rng.choice((0, 1, 5, 100, 3000)))
        flags = 0
        if rng.random() < 0.2:
            padding = rng.randrange(20)
            payload = bytes((padding,)) + payload + bytes(padding)
            flags |= PADDED
        if rng.random() < 0.4:
            flags |= END_STREAM
            self.open.remove(stream_id)
        self.sent.append(frame(DATA, flags, stream_id, payload))

    def widens(self) -> None:
        stream_id = self.rng.choice([0, *self.open, *range(1, self.next_id, 2)])
        self.sent.append(window_update(stream_id, self.rng.choice((1, 7, 100, 5000))))

    def resets(self) -> None:
        if self.open:
            stream_id = self.open.pop(self.rng.randrange(len(self.open)))
            self.sent.append(rst_stream(stream_id, self.rng.randrange(14)))

    def other(self) -> None:
        rng = self.rng
        self.sent.append(
            rng.choice(
                (
                    settings({4: rng.choice((0, 3, 50, 70_000))}),
                    frame(PING, ACK, 0, rng.randbytes(8)),
                    frame(2, 0, 1, bytes(5)),
                    frame(0xEE, 0xFF, rng.randrange(9), rng.randbytes(rng.randrange(20))),
                )
            )
        )
