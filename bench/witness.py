"""What an honest client of the load test sees, as a process of its own.

Run as ``witness.py asking|coming|hearing SOCKET PERIOD START SECONDS``: ``asking`` calls ``list`` again and again on
one connection, ``coming`` on a new connection each time, as plugctl does; ``hearing`` has the plugins' samples sent
and counts ticks. Prints JSON when the time is over.
"""

import json
import os
import socket
import struct
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import msgpack

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests" / "faults"))
from probe import Figures, percentile

PATIENCE = 5.0  # seconds for an answer, after which it is a failure
AGAIN = 0.1  # seconds, after which one that hears nothing subscribes again
LIST = msgpack.packb([0, 1, "list", []])
SUBSCRIBE = msgpack.packb([0, 1, "subscribe", [{"patterns": ["good_*"]}]])


class Failed(Exception):  # noqa: N818
    """There was no answer; the text says why."""


class Connection:
    """A blocking connection."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        # As plugctl does: with a timeout of Python's own, a full backlog would refuse it instead of having it wait.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", int(PATIENCE), 0))
        self._unpacker = msgpack.Unpacker(strict_map_key=False)
        try:
            self._socket.connect(path)
        except OSError as error:
            self._socket.close()
            raise Failed(f"connect: {error}") from error
        self._socket.settimeout(PATIENCE)

    def close(self) -> None:
        self._socket.close()

    def frames(self, request: bytes = b"") -> list[Any]:
        """Send a request, if there is one; return the frames that come next, one at least."""
        try:
            if request:
                self._socket.sendall(request)
            while data := self._socket.recv(1 << 18):
                self._unpacker.feed(data)
                if frames := list(self._unpacker):
                    return frames
        except OSError as error:
            raise Failed(str(error)) from error
        raise Failed("closed by the daemon")

    def ask(self, request: bytes) -> None:
        """Have a request answered."""
        answer = self.frames(request)[0]
        if answer[:3] != [1, 1, None]:
            raise Failed(f"{answer[2]['code']}: {answer[2]['message']}" if answer[0] == 1 else "no answer")


def ask(path: str, period: float, start: float, seconds: float, *, fresh: bool) -> dict[str, Any]:
    """Call ``list`` in every period.

    Returns:
        times in seconds. ``*_due`` are from when the request was due, and so include what one that takes long
        does to those after it; ``stall`` is by how much this process was woken late at most, which is the machine's
        doing.
    """
    connection = None if fresh else Connection(path)
    took: list[float] = []
    since_due: list[float] = []
    failures: Counter[str] = Counter()
    stalls: list[float] = []
    due = start
    while due < start + seconds:
        early = due - time.monotonic()
        if early > 0:
            time.sleep(early)
            stalls.append(time.monotonic() - due)
        asked = time.monotonic()
        try:
            connection = connection or Connection(path)
            connection.ask(LIST)
            took.append(time.monotonic() - asked)
            since_due.append(time.monotonic() - due)
        except Failed as failure:
            failures[str(failure)] += 1
            fresh_now = True
        else:
            fresh_now = fresh
        if fresh_now and connection is not None:
            connection.close()
            connection = None
        due += period
        if time.monotonic() - due > PATIENCE:
            due = time.monotonic()  # After a failure by timeout, not all that was due meanwhile is asked for.
    return {
        "answers": len(took),
        "p50": percentile(took, 0.5),
        "p99": percentile(took, 0.99),
        "max": max(took, default=0.0),
        "p99_due": percentile(since_due, 0.99),
        "max_due": max(since_due, default=0.0),
        "stall_p99": percentile(stalls, 0.99),
        "stall": max(stalls, default=0.0),
        "failures": failures,
    }


def hear(path: str, start: float, seconds: float) -> dict[str, Any]:
    """Hear the samples; return :class:`probe.Figures`, and the missed ticks of each plugin."""
    figures = Figures()
    missed: Counter[str] = Counter()
    failures: Counter[str] = Counter()
    connection: Connection | None = None
    cleared = False
    while time.monotonic() < start + seconds:
        try:
            if connection is None:
                connection = Connection(path)
                frames = connection.frames(SUBSCRIBE)
            else:
                frames = connection.frames()
        except Failed as failure:
            failures[str(failure)] += 1
            connection = None
            time.sleep(AGAIN)
            continue
        if not cleared and time.monotonic() >= start:
            cleared = True
            figures.clear()
            missed.clear()
        for frame in frames:
            if frame[0] == 2 and frame[1] == "sample":
                row = frame[2][0]
                before = figures.missed
                figures.take(row["plugin"], row["time"], row["samples"])
                missed[row["plugin"]] += figures.missed - before
            elif frame[0] == 1 and frame[2] is not None:
                failures[frame[2]["message"]] += 1
                connection = None
                time.sleep(AGAIN)
    return {**figures.as_dict(), "missed_of": missed, "failures": failures}


def main() -> None:
    kind, path, period, start, seconds = sys.argv[1:]
    cpu = time.process_time()
    if kind == "hearing":
        figures = hear(path, float(start), float(seconds))
    else:
        figures = ask(path, float(period), float(start), float(seconds), fresh=kind == "coming")
    print(json.dumps({**figures, "cpu": time.process_time() - cpu, "uid": os.getuid()}))


if __name__ == "__main__":
    main()
