"""Talks nonsense to connections for a while: `python -m protocols.http2.fuzz --minutes 10`, from
tests/.

Conversations that keep to the rules are damaged: frames left out, doubled, moved, cut, their bytes
changed; others are frames at random. Each goes to a connection that is watched (`watched.py`):
nothing may be raised, and its rules, its bounds and the ends of its streams must hold. A failure
prints the seed that brings it again (`--seed`).
"""

import argparse
import random
import time
import tracemalloc

from inferd.protocols.http2.frames import PREFACE, frame
from inferd.protocols.http2.limits import Http2Limits
from protocols.http2.conversations import BEGIN, Talk
from protocols.http2.watched import Watched

LIMITS = Http2Limits(
    max_concurrent_streams=8, high_water=5000, turn_bytes=20_000, stream_window_bytes=65_535,
    connection_window_bytes=65_535, max_frame_bytes=16_384, max_queued_bytes=200_000,
    max_header_list_bytes=2048, max_age_s=50.0, max_age_grace_s=5.0,
)  # fmt: skip
MAX_BYTES = 32 * 2**20
"""What one connection, its answers and its notes may take at most in here."""


def damaged(frames: list[bytes], rng: random.Random) -> list[bytes]:
    """The same conversation with a few faults."""
    frames = list(frames)
    for _ in range(rng.randrange(1, 6)):
        at = rng.randrange(len(frames))
        how = rng.randrange(7)
        if how == 0 and len(frames) > 1:
            del frames[at]
        elif how == 1:
            frames.insert(at, frames[rng.randrange(len(frames))])
        elif how == 2:
            other = rng.randrange(len(frames))
            frames[at], frames[other] = frames[other], frames[at]
        elif how == 3:
            frames[at] = frames[at][: rng.randrange(len(frames[at]) + 1)]
        elif how == 4 and frames[at]:
            broken = bytearray(frames[at])
            # Heads of frames are where faults are told apart.
            most = min(9, len(broken)) if rng.random() < 0.5 else len(broken)
            broken[rng.randrange(most)] = rng.randrange(256)
            frames[at] = bytes(broken)
        elif how == 5:
            frames.insert(at, random_frame(rng))
        else:
            frames[at] += rng.randbytes(rng.randrange(1, 12))
    return frames


def random_frame(rng: random.Random) -> bytes:
    """A frame whose every part is possible by itself."""
    kind = rng.choice((*range(10), 0x10, 0xEE))
    size = rng.choice((0, 1, 4, 5, 6, 8, 9, 12, 100, rng.randrange(17_000)))
    stream_id = rng.choice((0, 1, 1, 2, 3, 5, 7, rng.randrange(2**32)))
    payload = rng.randbytes(size) if rng.random() < 0.5 else bytes(size)
    return frame(kind, rng.choice((0, 1, 4, 5, 8, 0x20, rng.randrange(256))), stream_id, payload)


def conversation(rng: random.Random) -> list[bytes]:
    """All that one client sends, in the pieces that arrive."""
    way = rng.random()
    if way < 0.1:
        pieces = [BEGIN, *(random_frame(rng) for _ in range(rng.randrange(60)))]
    elif way < 0.15:
        pieces = [rng.choice((b"", PREFACE, BEGIN)), rng.randbytes(rng.randrange(300))]
    else:
        pieces = damaged(Talk(rng).say(rng.randrange(1, 60)), rng)
    if rng.random() < 0.3:
        whole = b"".join(pieces)
        pieces = []
        while whole:
            cut = rng.choice((1, 5, 9, 100, 20_000))
            pieces.append(whole[:cut])
            whole = whole[cut:]
    return pieces


def run(seed: int) -> None:
    """One client's life; raises what should not be."""
    rng = random.Random(seed)
    watched = Watched(LIMITS, seed)
    connection = watched.connection
    now_s = 0.0
    for piece in conversation(rng):
        act = rng.randrange(40)
        if act == 0:
            connection.pause()
        elif act == 1:
            connection.resume()
        elif act == 2:
            connection.drain(now_s)
        elif act < 6:
            now_s += rng.choice((0.0, 0.25, 5.0, 100.0))
            connection.tick(now_s)
        watched.feed(piece, now_s)
    watched.ends()


def main() -> None:
    """Run for a while, and say how much was run."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, help="run this one alone")
    options = parser.parse_args()
    if options.seed is not None:
        run(options.seed)
        return
    seed = first = time.time_ns() % 2**40
    end_s = time.monotonic() + options.minutes * 60
    while time.monotonic() < end_s:
        # Most in a row are only run; of some the memory is counted, too, which takes longer.
        counted = seed % 200 == 0
        if counted:
            tracemalloc.start()
        try:
            run(seed)
        except BaseException:
            print(f"seed {seed}")
            raise
        if counted:
            peak_bytes = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert peak_bytes < MAX_BYTES, f"seed {seed}: {peak_bytes} bytes"
        seed += 1
    print(f"{seed - first} conversations")


if __name__ == "__main__":
    main()
