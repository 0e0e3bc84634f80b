"""Asks a daemon two hundred times a second, and hears the well-behaved plugins' samples: what others suffer.

A process of its own, so that what the tests do delays nothing here. A line on stdin asks for the figures since the
line before it, as one line of JSON; the end of stdin ends the probe.
"""

import json
import os
import selectors
import socket
import sys
import time
from typing import Any, NamedTuple

import msgpack

PERIOD = 0.005  # seconds
INTERVAL = 0.1  # seconds, of the well-behaved plugins
EARLY = 0.002  # seconds by which a tick may come before its time


class Channel:
    """A connection that sends requests and hands over every frame that comes."""

    def __init__(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self.unpacker = msgpack.Unpacker(strict_map_key=False)

    def send(self, identifier: int, method: str, **params: Any) -> None:
        self.socket.sendall(msgpack.packb([0, identifier, method, [params] if params else []]))

    def receive(self) -> list[Any]:
        data = self.socket.recv(1 << 20)
        if not data:
            sys.exit(1)  # The daemon has died, which others tell.
        self.unpacker.feed(data)
        return list(self.unpacker)


class Last(NamedTuple):
    """The last collection of a plugin."""

    tick: int  # multiples of the interval since the epoch
    counted: float


class Figures:
    """What was seen since the last line; the plugins' last collections outlive it."""

    def __init__(self) -> None:
        self.last: dict[str, Last] = {}
        self.clear()

    def clear(self) -> None:
        self.began = time.monotonic()
        self.latencies: dict[str, list[float]] = {"ping": [], "list": []}
        self.late: list[float] = []
        self.rates: list[float] = []
        self.missed = 0
        self.steps = 0
        self.stall = 0.0

    def take(self, plugin: str, wall: float, samples: list[dict[str, Any]]) -> None:
        values = {each["name"]: each for each in samples}
        tick = int((wall + EARLY) // INTERVAL)
        count = values["good.collections"]["value"]
        last = self.last.get(plugin)
        if last is not None:
            self.missed += max(0, tick - last.tick - 1)
            self.steps += count - last.counted != 1
        self.last[plugin] = Last(tick, count)
        self.late.append(wall - tick * INTERVAL)
        if values["good.uptime"]["rate"] is not None:
            self.rates.append(values["good.uptime"]["rate"])

    def as_dict(self) -> dict[str, Any]:
        """Return the figures, times in seconds.

        ``missed``: ticks without a sample. ``wrong_steps``: collections lost or doubled, by the plugins' own count.
        ``late_max``: of a collection's start after its tick. ``stall``: the longest that this process, which asks
        for nothing but to be woken, was woken late: what the machine itself does to everybody.
        """
        return {
            "seconds": time.monotonic() - self.began,
            "samples": len(self.late),
            "missed": self.missed,
            "wrong_steps": self.steps,
            "late_p50": percentile(self.late, 0.5),
            "late_p99": percentile(self.late, 0.99),
            "late_max": max(self.late, default=0.0),
            "rate_min": min(self.rates, default=1.0),
            "rate_max": max(self.rates, default=1.0),
            "stall": self.stall,
            **{
                f"{method}_{name}": value
                for method, values in self.latencies.items()
                for name, value in (("p50", percentile(values, 0.5)), ("p99", percentile(values, 0.99)),
                                    ("max", max(values, default=0.0)))
            },
        }  # fmt: skip


def percentile(values: list[float], share: float) -> float:
    """Return the nearest-rank percentile; 0 where there are no values."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))] if values else 0.0


def main() -> None:
    """Probe the daemon on the socket that the first argument names, and the plugins that match the second."""
    asked, heard = Channel(sys.argv[1]), Channel(sys.argv[1])
    heard.send(0, "subscribe", patterns=[sys.argv[2]])
    figures = Figures()
    selector = selectors.DefaultSelector()
    for source in (0, asked.socket, heard.socket):
        selector.register(source, selectors.EVENT_READ)
    number, sent, waiting = 0, 0.0, ""
    due = time.monotonic()
    while True:
        now = time.monotonic()
        if not waiting and now >= due:
            figures.stall = max(figures.stall, now - due)
            number += 1
            waiting, sent, due = ("ping", "list")[number % 2], now, now + PERIOD
            asked.send(number, waiting)
        timeout = None if waiting else max(0.0, due - time.monotonic())
        for key, _ in selector.select(timeout):
            if key.fileobj == 0:
                if not os.read(0, 4096):
                    return
                print(json.dumps(figures.as_dict()), flush=True)
                figures.clear()
            elif key.fileobj is asked.socket:
                for _ in asked.receive():
                    figures.latencies[waiting].append(time.monotonic() - sent)
                    waiting, due = "", max(due, time.monotonic())
            else:
                for frame in heard.receive():
                    if frame[0] == 2:
                        figures.take(frame[2][0]["plugin"], frame[2][0]["time"], frame[2][0]["samples"])


if __name__ == "__main__":
    main()
