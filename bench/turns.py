"""How long single requests hold the daemon's event loop: ``python bench/turns.py``.

Each method with the worst parameters that it takes, and the worst frames, against a daemon with 200 plugins and
as many series as is said. A turn is one uninterrupted run of a callback on the loop: for so long nobody else is
served. Printed is the longest turn of each request: the middle one of several in milliseconds of the processor, and
on the wall, where what else the machine does counts as well; and the worst of them.
"""

import argparse
import mmap
import socket
import statistics
import struct
import sys
import tempfile
import time
from typing import Any, NamedTuple

import msgpack
from harness import HERE, Daemon, compile_bytecode
from turns_daemon import SIZE, SLOT

AIM = 0.005  # seconds
PLUGINS = 200
SERIES_OF_ONE = 10_000  # what a plugin may have by default
METRICS_OF_ONE = 200
ELEMENTS = 4080  # of the 4,096 that a frame may hold, those that are left to an argument
REPETITIONS = 9
TIMEOUT = 60.0  # seconds for an answer
COLLECTIONS = 6.0  # seconds in which subscribers are sent samples

BIG = '''"""Many series."""

from plugd.plugin import Counter, Plugin, command


class {title}(Plugin):
    interval = {interval}

    value = Counter("bench.series", labels=("number",))
    total = 0

    def collect(self):
        self.total += 1
        for number in range({count}):
            yield self.value(self.total + number / 7, number=number)

    @command
    def many(self):
        return [{{}}] * 30_000

    @command
    def large(self):
        return "x" * 4_000_000
'''

SMALL = '''"""Few series."""

from plugd.plugin import Gauge, Plugin


class {title}(Plugin):
    interval = 3600.0

    value = Gauge("bench.{title}.{name}")

    def collect(self):
        yield self.value(1)
'''

WIDE_HEAD = '''"""Many metrics."""

from plugd.plugin import Gauge, Plugin


class Wide(Plugin):
    interval = {interval}

'''


class Case(NamedTuple):
    """Requests of one connection that are sent at once."""

    method: str
    name: str
    frames: bytes
    answers: int = 1


class Measured(NamedTuple):
    """The longest turn, in seconds of the processor and of the clock, and what ran in it."""

    cpu: float
    wall: float
    callback: str


class TimedDaemon(Daemon):
    """A daemon whose turns can be read."""

    def __init__(self, sources: dict[str, str]) -> None:
        super().__init__((), "", sources)
        self._file = tempfile.NamedTemporaryFile(prefix="plugd-bench-")  # noqa: SIM115 - closed on leaving
        self._file.write(bytes(SIZE))
        self._file.flush()
        self._slots = mmap.mmap(self._file.fileno(), SIZE)
        program = [sys.executable, "-I", str(HERE / "turns_daemon.py"), self._file.name]
        self._command = program + self._command[self._command.index("plugd") + 1 :]

    def __exit__(self, *details: object) -> None:
        super().__exit__(*details)
        self._slots.close()
        self._file.close()

    def reset(self) -> None:
        """Forget the turns that were."""
        self._slots[:] = bytes(SIZE)

    def longest(self, own: bool = False) -> Measured:
        """Return the longest turn since; ``own``: of what the daemon does unasked."""
        cpu, wall, name = SLOT.unpack_from(self._slots, SLOT.size if own else 0)
        return Measured(cpu, wall, name.rstrip(b"\0").decode().removeprefix("plugd."))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=int, action="append", help="in all, in steps of 10,000 (10,000 and 40,000)")
    parser.add_argument("--only", metavar="TEXT", help="cases whose method or name has this in it")
    options = parser.parse_args()
    compile_bytecode()
    for series in options.series or (10_000, 40_000):
        print(f"\n{series:,} series, {PLUGINS} plugins")
        print(f"{'method':10}{'case':38}{'CPU ms':>8}{'wall':>8}{'worst':>8}   where")
        with TimedDaemon(sources(series, 3600.0)) as daemon:
            for case in cases():
                if not options.only or options.only in f"{case.method} {case.name}":
                    print(row(case.method, case.name, [ask(daemon, case) for _ in range(REPETITIONS)]), flush=True)
            print(row("", "what the daemon does unasked", [daemon.longest(own=True)]))
        with TimedDaemon(sources(series, 2.0)) as daemon:
            for name, patterns in (("of all", None), ("64 patterns", hard_patterns()), ("64 misses", misses())):
                if not options.only or options.only in f"subscribe {name}":
                    print(row("subscribe", f"16 {name}", [subscribe(daemon, patterns)]), flush=True)
            print(row("", "what the daemon does unasked", [daemon.longest(own=True)]), flush=True)


def row(method: str, name: str, turns: list[Measured]) -> str:
    worst = max(turns)
    middle = statistics.median(each.cpu for each in turns)
    wall = statistics.median(each.wall for each in turns)
    mark = "" if middle <= AIM else "  TOO LONG"
    figures = "".join(f"{seconds * 1e3:8.2f}" for seconds in (middle, wall, worst.cpu))
    return f"{method:10}{name:38}{figures}   {worst.callback}{mark}"


def sources(series: int, interval: float) -> dict[str, str]:
    """Return the plugins: some with many series, one with many metrics, and the rest with one each."""
    found = {}
    for number in range(max(1, series // SERIES_OF_ONE)):
        count = min(series, SERIES_OF_ONE)
        found[f"big{number}"] = BIG.format(title=f"Big{number}", interval=interval, count=count)
    metrics = [f'    m{n} = Gauge("bench.wide.{"a" * 40}{n}.{"a" * 40}")' for n in range(METRICS_OF_ONE)]
    yields = ["", "    def collect(self):", *(f"        yield self.m{n}({n})" for n in range(METRICS_OF_ONE)), ""]
    found["wide"] = "\n".join([WIDE_HEAD.format(interval=interval) + metrics[0], *metrics[1:], *yields])
    for number in range(PLUGINS - len(found)):
        found[f"small{number}"] = SMALL.format(title=f"Small{number}", name="a" * 40).replace(".Small", ".small")
    return found


def cases() -> list[Case]:
    """Return the requests."""
    plain = ("ping", "hello", "version", "methods", "list", "status", "stats")
    return [
        *(Case(method, "", request(method)) for method in plain),
        Case("stats", "16 at once", b"".join(request("stats", id=n) for n in range(16)), 16),
        Case("stats", "64 patterns *a*a*a…", request("stats", patterns=hard_patterns())),
        Case(
            "stats", "64 patterns of sets", request("stats", patterns=["[!b-d]" * 42 + f"*{n:03}" for n in range(64)])
        ),
        Case("stats", "64 patterns of small sets", request("stats", patterns=misses())),
        Case("stats", "64 patterns ?*?*?…", request("stats", patterns=["?*" * 120 + f"{n}" for n in range(64)])),
        Case("stats", "64 that match nothing", request("stats", patterns=["z" * 250 + f"{n}" for n in range(64)])),
        Case("stats", "64 plain names", request("stats", patterns=[f"small{n}" for n in range(64)])),
        Case("why", "", request("why", name="big0")),
        Case("describe", "200 metrics", request("describe", name="wide")),
        Case("get", "", request("get", name="wide")),
        Case("logs", "500 lines", request("logs", lines=500)),
        Case("call", "30,000 maps returned", request("call", name="big0", command="many")),
        Case("call", "4 MB returned", request("call", name="big0", command="large")),
        *argument_cases(),
        *frame_cases(),
    ]


def argument_cases() -> list[Case]:
    """Return requests whose parameters are many or malformed."""
    names = [f"{'n' * 10}{n}" for n in range(1000)]
    long_names = ["n" * 60] * 1000
    unknown = {f"k{n}": n for n in range(ELEMENTS // 2)}
    return [
        Case("reload", "1,000 names that are none", request("reload", names=names)),
        Case("load", "1,000 names that are none", request("load", names=names)),
        Case("pause", "1,000 long names", request("pause", names=long_names)),
        Case("call", "4,080 arguments", request("call", name="none", command="c", args=[7] * ELEMENTS)),
        Case("call", "4,080 maps as arguments", request("call", name="none", command="c", args=[{}] * ELEMENTS)),
        Case("call", "2,040 keywords", request("call", name="none", command="c", kwargs=unknown)),
        Case(
            "call", "4,080 bin, and a name that is bin", request("call", name=b"x", command="c", args=[b"x"] * ELEMENTS)
        ),
        Case("call", "4,080 extensions", request("call", name="none", args=[msgpack.ExtType(1, b"x")] * ELEMENTS)),
        Case("call", "4,080 timestamps", request("call", name="none", args=[msgpack.Timestamp(7)] * ELEMENTS)),
        Case("call", "60 KB of text", request("call", name="none", command="c", args=["é" * 30_000])),
        Case("set", "nested 29 deep", request("set", name="none", setting="s", value=nested(29))),
        Case("ping", "2,040 parameters too many", request("ping", **unknown)),
        Case("ping", "a parameter of 60 KB", request("ping", **{"k" * 60_000: 1})),
        Case("stats", "1,000 patterns", request("stats", patterns=["*a" * 30] * 1000)),
        Case("x" * 8, "no such method", request("x" * 60_000)),
    ]


def frame_cases() -> list[Case]:
    """Return frames that are worst to decode; after some of them the daemon hangs up."""
    ping = request("ping")
    head = b"\x94\x00\x01\xa4ping\x91"
    many = struct.pack(">BH", 0xDC, ELEMENTS)
    return [
        Case("frame", "2,000 pings", ping * 2000, 2000),
        Case("frame", "4,080 fixints", head + many + b"\x07" * ELEMENTS),
        Case("frame", "4,080 empty maps", head + many + b"\x80" * ELEMENTS),
        Case("frame", "2,040 arrays of one", head + struct.pack(">BH", 0xDC, 2040) + b"\x91\x07" * 2040),
        Case("frame", "1,360 maps of one", head + struct.pack(">BH", 0xDC, 1360) + b"\x81\xa1a\x07" * 1360),
        Case("frame", "4,000 timestamps of 12 bytes", head + b"\xdc\x0f\xa0" + (b"\xc7\x0c\xff" + bytes(12)) * 4000),
        Case("frame", "15 of the frames with empty maps", (head + many + b"\x80" * ELEMENTS) * 15, 15),
        Case("frame", "64 Ki elements in 64 KiB", head + b"\xdd\x00\x00\xff\xe0" + b"\x07" * 65_504),
        Case("frame", "the same key 2,000 times", head + b"\xde\x07\xd0" + b"\xa1k\x07" * 2000),
        Case("frame", "33 levels", head + b"\x91" * 33),
        Case("frame", "64 KiB and a byte", head + b"\xdb\x00\x01\x00\x00" + b"x" * 65_536),
        Case("frame", "0xc1", head + b"\xc1"),
    ]


def request(method: str, id: int = 1, **params: Any) -> bytes:
    packed: bytes = msgpack.packb([0, id, method, [params] if params else []])
    return packed


def hard_patterns() -> list[str]:
    """Return 64 patterns that nearly match, over and over."""
    return ["*a" * 126 + f"*{n}b" for n in range(64)]


def misses() -> list[str]:
    """Return 64 patterns of sets, no two alike."""
    return ["".join(f"[{chr(97 + (n + i) % 26)}z]*" for i in range(50)) + f"{n}" for n in range(64)]


def nested(depth: int) -> Any:
    value: Any = 7
    for _ in range(depth):
        value = [value] * (2 if depth < 3 else 1)
    return value


def ask(daemon: TimedDaemon, case: Case) -> Measured:
    """Send a case's requests, read all answers, and return the longest turn of it."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(TIMEOUT)
        client.connect(daemon.socket)
        client.sendall(request("ping", id=7))
        client.recv(64)  # The connection is made.
        daemon.reset()
        unpacker = msgpack.Unpacker(strict_map_key=False, max_buffer_size=2**31 - 1)
        left = case.answers
        sent = 0
        while left:
            if sent < len(case.frames):
                sent += client.send(case.frames[sent : sent + 200_000])
            data = client.recv(1 << 20) if sent == len(case.frames) else b""
            if not data and sent == len(case.frames):
                break
            unpacker.feed(data)
            for _ in unpacker:
                left -= 1
        time.sleep(0.02)  # What is done after the answer counts as well.
        return daemon.longest()


def subscribe(daemon: TimedDaemon, patterns: list[str] | None) -> Measured:
    """Subscribe as often as a connection may, read for some collections, and return the longest turn."""
    params = {} if patterns is None else {"patterns": patterns}
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(0.5)
        client.connect(daemon.socket)
        daemon.reset()
        for number in range(16):
            client.sendall(request("subscribe", id=number, **params))
        end = time.monotonic() + COLLECTIONS
        while time.monotonic() < end:
            try:
                client.recv(1 << 20)
            except TimeoutError:
                pass  # Nothing of what they want has come.
        return daemon.longest()


if __name__ == "__main__":
    main()
