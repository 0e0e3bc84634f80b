"""What plugd itself costs and refuses: CPU time, memory, threads and descriptors of the daemon and of every worker.

Sources: /proc/PID/stat, /proc/PID/fd, /proc/PID/task/TID/children and, if asked for, /proc/PID/smaps_rollup (proc(5)).
What its control socket has accepted and refused the daemon says itself.
The daemon is this worker's parent; a worker has "plugd:" and the start of its plugin's name as its command name,
of which the kernel keeps 15 bytes. What a plugin starts counts as its own.
"""

import os
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import psutil

from plugd.plugin import Counter, Gauge, Plugin, Sample

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
PREFIX = "plugd:"
FORKSERVER = "plugd:forksrv"
LABELS = ("process", "plugin")

Role = tuple[str, str]
"""The values of the labels: ``daemon``, ``forkserver``, ``worker`` or ``other``, and a worker's plugin."""


class Process(NamedTuple):
    """What is used here of /proc/PID/stat; ``waited`` is the CPU time of children that ended, in ticks as ``own``."""

    pid: int
    command: str
    parent: int
    started: int
    own: int
    waited: int
    threads: int
    memory_bytes: int


class Cost(NamedTuple):
    """What a child of the daemon costs together with its descendants, or the daemon on its own."""

    root: Process
    ticks: int
    members: list[Process]


class Plugd(Plugin):
    """The processes of this daemon, and its control socket."""

    version = "1.0.0"
    interval = 5.0  # seconds
    requires = ("daemon",)

    time = Counter("plugd.process.cpu.time", unit="s", labels=LABELS, help="CPU time used, in user and system mode.")
    memory = Gauge(
        "plugd.process.memory.usage", unit="By", labels=LABELS, help="Resident memory, shared pages counted in full."
    )
    proportional = Gauge(
        "plugd.process.memory.proportional",
        unit="By",
        labels=LABELS,
        help="Resident memory, each shared page divided by those who share it (PSS); with the option pss.",
    )
    threads = Gauge("plugd.process.thread.count", unit="{thread}", labels=LABELS, help="Threads.")
    descriptors = Gauge(
        "plugd.process.unix.file_descriptor.count", unit="{file_descriptor}", labels=LABELS, help="Open descriptors."
    )

    accepted = Counter("plugd.control.accepted", unit="{connection}", help="Connections that were accepted.")
    refused = Counter(
        "plugd.control.refused",
        unit="{refusal}",
        labels=("reason",),
        help="Connections, requests and notifications that were refused, closed or dropped, by the limit or error.",
    )

    class Options:
        """What costs more to know."""

        pss: bool = False
        """Whether to read smaps_rollup, for which the kernel walks every page of every process.

        Of other processes than its own this plugin sees it only without a sandbox, and as the daemon's user.
        """

    def start(self) -> None:
        """Find the daemon, and the way in which this kernel tells children."""
        self.daemon = os.getppid()
        self.ticks: dict[Role, int] = {}
        self.seen: dict[tuple[int, int], int] = {}

    def collect(self) -> Iterable[Sample]:
        """Yield the cost of each role; those of several processes, as during a reload, are added up."""
        groups: dict[Role, list[Cost]] = {}
        for cost in read_costs(psutil.PROCFS_PATH, self.daemon):
            groups.setdefault(role_of(cost.root, self.daemon), []).append(cost)
        self.count_ticks(groups)
        for role, costs in groups.items():
            process, plugin = role
            members = [member for cost in costs for member in cost.members]
            yield self.time(self.ticks[role] / TICKS_PER_SECOND, process=process, plugin=plugin)
            yield self.memory(sum(each.memory_bytes for each in members), process=process, plugin=plugin)
            yield self.threads(sum(each.threads for each in members), process=process, plugin=plugin)
            descriptors = known(count_descriptors(psutil.PROCFS_PATH, each.pid) for each in members)
            if descriptors:
                yield self.descriptors(sum(descriptors), process=process, plugin=plugin)
            if self.options.pss:
                sizes = known(read_proportional(psutil.PROCFS_PATH, each.pid) for each in members)
                if sizes:
                    yield self.proportional(sum(sizes), process=process, plugin=plugin)

        for row in self.inputs.get("daemon", ()):
            if row["name"] == self.refused.name:
                yield self.refused(row["value"], **row["labels"])
            elif row["name"] == self.accepted.name:
                yield self.accepted(row["value"])

    def count_ticks(self, groups: dict[Role, list[Cost]]) -> None:
        """Add to each role's time what its processes used since they were last seen.

        A sum over living processes would fall whenever one of them ends, as every reload has it.
        """
        ticks: dict[Role, int] = {}
        seen: dict[tuple[int, int], int] = {}
        for role, costs in groups.items():
            ticks[role] = self.ticks.get(role, 0)
            for cost in costs:
                key = (cost.root.pid, cost.root.started)
                before = self.seen.get(key, 0)
                ticks[role] += max(0, cost.ticks - before)
                seen[key] = max(cost.ticks, before)
        self.ticks, self.seen = ticks, seen

    def save_state(self) -> dict[str, Any]:
        """Keep the times, so that a reload of this plugin is no restart of its counters."""
        return {
            "ticks": [[*role, ticks] for role, ticks in self.ticks.items()],
            "seen": [[*key, ticks] for key, ticks in self.seen.items()],
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Count on from where the generation before stopped."""
        self.ticks = {(process, plugin): ticks for process, plugin, ticks in state["ticks"]}
        self.seen = {(pid, started): ticks for pid, started, ticks in state["seen"]}


def role_of(process: Process, daemon: int) -> Role:
    """Return what a child of the daemon is; ``other`` is a process that plugd inherited, whose parent ended."""
    if process.pid == daemon:
        return "daemon", ""
    if process.command == FORKSERVER:
        return "forkserver", ""
    if process.command.startswith(PREFIX):
        return "worker", process.command.removeprefix(PREFIX)
    return "other", ""


def read_costs(procfs: str, daemon: int) -> list[Cost]:
    """Return the cost of the daemon and of each of its children that is still there."""
    root = read_process(procfs, daemon)
    if root is None:
        return []
    # The daemon's "waited" is the time of workers that ended, and not its own.
    costs = [Cost(root, root.own, [root])]
    children = children_function(procfs)
    for pid in children(daemon):
        members = [member for each in family(pid, children) if (member := read_process(procfs, each)) is not None]
        if members and members[0].pid == pid:
            costs.append(Cost(members[0], sum(each.own + each.waited for each in members), members))
    return costs


def family(pid: int, children: Callable[[int], Iterable[int]]) -> list[int]:
    """Return a process and all its descendants, itself first."""
    found = [pid]
    for each in found:  # grows while it is walked
        found.extend(child for child in children(each) if child not in found)
    return found


def children_function(procfs: str) -> Callable[[int], Iterable[int]]:
    """Return a function from a pid to its children's pids.

    Each thread's ``children`` names those that it forked; a kernel without it (CONFIG_PROC_CHILDREN) leaves nothing
    but to ask every process on the host for its parent.
    """
    if os.path.exists(f"{procfs}/self/task/{os.getpid()}/children"):
        return lambda pid: read_children(procfs, pid)
    by_parent: dict[int, list[int]] = {}
    for name in listing(procfs):
        process = read_process(procfs, int(name)) if name.isdigit() else None
        if process is not None:
            by_parent.setdefault(process.parent, []).append(process.pid)
    return lambda pid: by_parent.get(pid, [])


def read_children(procfs: str, pid: int) -> list[int]:
    """Return the pids of a process's children, by whichever thread they were forked."""
    threads = listing(f"{procfs}/{pid}/task")
    return [int(child) for thread in threads for child in read(f"{procfs}/{pid}/task/{thread}/children").split()]


def read_process(procfs: str, pid: int) -> Process | None:
    """Return one process; None if it ended."""
    return parse_process(read(f"{procfs}/{pid}/stat"))


def parse_process(text: str) -> Process | None:
    """Take what is used here from /proc/PID/stat; None if it is empty or cut short."""
    opening, closing = text.find("("), text.rfind(")")  # the command may hold parentheses itself
    fields = text[closing + 2 :].split()
    if opening < 0 or closing < 0 or len(fields) < 22:
        return None
    return Process(
        pid=int(text[:opening]),
        command=text[opening + 1 : closing],
        parent=int(fields[1]),
        started=int(fields[19]),
        own=int(fields[11]) + int(fields[12]),
        waited=int(fields[13]) + int(fields[14]),
        threads=int(fields[17]),
        memory_bytes=int(fields[21]) * PAGE_BYTES,
    )


def count_descriptors(procfs: str, pid: int) -> int | None:
    """Return the number of open descriptors; None if this user may not see them."""
    try:
        return len(os.listdir(f"{procfs}/{pid}/fd"))
    except OSError:
        return None


def read_proportional(procfs: str, pid: int) -> int | None:
    """Return the proportional set size in bytes; None if this user may not see it."""
    for line in read(f"{procfs}/{pid}/smaps_rollup").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024  # kB
    return None


def known(values: Iterable[int | None]) -> list[int]:
    """Return the values without the unknown ones."""
    return [value for value in values if value is not None]


def listing(path: str) -> list[str]:
    """Return a directory's names; none where it is gone or hidden."""
    try:
        return os.listdir(path)
    except OSError:
        return []


def read(path: str) -> str:
    """Return a file's text; empty where the host lacks the file or hides it."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
