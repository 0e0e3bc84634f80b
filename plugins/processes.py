"""Processes by state, processes created, the limit of threads; on demand the processes that use most.

Sources: /proc/PID/stat, read once each, /proc/stat and /proc/sys/kernel/threads-max (proc(5)). Where /proc is mounted
with hidepid, only this user's processes are counted.
"""

import os
import time
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import psutil

from plugd.plugin import Counter, Gauge, Plugin, Sample

# The letters of /proc/PID/stat, in the words of the conventions where they have one.
STATES = {
    "R": "running",
    "S": "sleeping",
    "D": "blocked",
    "T": "stopped",
    "t": "stopped",  # by a debugger
    "Z": "defunct",
    "X": "defunct",
    "I": "idle",
}
OTHER_STATE = "other"
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
PROCESS = {"pid": "process.pid", "command": "process.command"}


class Process(NamedTuple):
    """What is used here of /proc/PID/stat; ``ticks`` is its CPU time, ``started`` tells it from a later namesake."""

    pid: int
    command: str
    state: str
    started: int
    ticks: int
    memory_bytes: int


class Processes(Plugin):
    """The processes of the host."""

    version = "1.0.0"
    interval = 10.0  # seconds

    count = Gauge(
        "system.process.count", unit="{process}", labels={"state": "process.state"}, help="Processes by state."
    )
    created = Counter(
        "system.process.created", unit="{process}", help="Processes and threads created since boot: forks and clones."
    )
    limit = Gauge("system.process.limit", unit="{thread}", help="Threads that the kernel will create at most.")
    utilization = Gauge(
        "process.cpu.utilization",
        unit="1",
        labels=PROCESS,
        help="Share of all CPUs that a process used since the last collection; of the top_cpu busiest.",
    )
    memory = Gauge(
        "process.memory.usage", unit="By", labels=PROCESS, help="Resident memory; of the top_memory largest processes."
    )

    class Options:
        """How many processes to name; each one is a series as long as it is among them."""

        top_cpu: int = 0
        top_memory: int = 0

    def start(self) -> None:
        """Begin with nothing measured: the first collection names no busy process."""
        self.before: dict[tuple[int, int], int] = {}
        self.measured = 0.0  # monotonic time of that

    def collect(self) -> Iterable[Sample]:
        """Yield the counts, and the processes that the options ask for."""
        now = time.monotonic()
        processes = list(read_processes(psutil.PROCFS_PATH))
        counts = dict.fromkeys(STATES.values(), 0)
        for process in processes:
            state = STATES.get(process.state, OTHER_STATE)
            counts[state] = counts.get(state, 0) + 1
        if processes:
            for state, count in counts.items():
                yield self.count(count, state=state)
        yield from self.collect_totals()
        if self.options.top_cpu > 0:
            yield from self.collect_busiest(processes, now)
        if self.options.top_memory > 0:
            largest = sorted(processes, key=lambda each: each.memory_bytes, reverse=True)[: self.options.top_memory]
            for process in largest:
                yield self.memory(process.memory_bytes, pid=process.pid, command=process.command)

    def collect_totals(self) -> Iterable[Sample]:
        """Yield what the kernel itself counts."""
        created = parse_created(read(f"{psutil.PROCFS_PATH}/stat"))
        if created is not None:
            yield self.created(created)
        limit = read(f"{psutil.PROCFS_PATH}/sys/kernel/threads-max").strip()
        if limit.isdigit():
            yield self.limit(int(limit))

    def collect_busiest(self, processes: list[Process], now: float) -> Iterable[Sample]:
        """Yield the utilization of those that used most CPU time since the last collection.

        A process that is new since then has used all its time since then.
        """
        elapsed = (now - self.measured) * TICKS_PER_SECOND * (os.cpu_count() or 1)
        before, self.before = self.before, {(each.pid, each.started): each.ticks for each in processes}
        self.measured = now
        if not before:
            return
        used = [(each.ticks - before.get((each.pid, each.started), 0), each) for each in processes]
        used.sort(key=lambda pair: pair[0], reverse=True)
        for ticks, process in used[: self.options.top_cpu]:
            yield self.utilization(max(0, ticks) / elapsed, pid=process.pid, command=process.command)


def read(path: str) -> str:
    """Return a file's text; empty where the host lacks the file or hides it."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def read_processes(procfs: str) -> Iterator[Process]:
    """Yield every process that can be seen."""
    try:
        names = os.listdir(procfs)
    except OSError:
        return
    for name in names:
        if name.isdigit():
            try:
                # Unbuffered: one read(2), and no buffer to make and throw away for each process.
                with open(f"{procfs}/{name}/stat", "rb", buffering=0) as file:
                    process = parse_process(file.read())
            except OSError:
                continue  # It ended since it was listed, or it is hidden.
            if process is not None:
                yield process


def parse_process(data: bytes) -> Process | None:
    """Take what is used here from /proc/PID/stat; None if it is cut short.

    The command stands in parentheses and may itself hold parentheses and spaces: the last one closes it.
    """
    opening, closing = data.find(b"("), data.rfind(b")")
    fields = data[closing + 2 :].split(None, 22)
    if opening < 0 or closing < 0 or len(fields) < 22:
        return None
    return Process(
        pid=int(data[:opening]),
        command=data[opening + 1 : closing].decode("utf-8", "replace"),
        state=fields[0].decode("ascii", "replace"),
        started=int(fields[19]),
        ticks=int(fields[11]) + int(fields[12]),
        memory_bytes=int(fields[21]) * PAGE_BYTES,
    )


def parse_created(text: str) -> int | None:
    """Return the number after "processes" in /proc/stat."""
    for line in text.splitlines():
        if line.startswith("processes "):
            return int(line.split()[1])
    return None
