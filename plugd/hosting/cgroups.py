"""A cgroup for each worker, where systemd has delegated some: its limits, its end, and what the kernel says of it."""

import itertools
import os
import re
import time
import zlib
from types import TracebackType
from typing import Any, NamedTuple, Self

import anyio
import anyio.to_thread
import structlog

from plugd.config import WorkerLimitsConfig
from plugd.hosting.cost import read_file
from plugd.hosting.delegation import (
    WORKERS,
    Delegation,
    DelegationError,
    kill,
    remove,
    remove_workers,
    stir,
    take_delegated,
)

log = structlog.get_logger()

REMOVAL = 5.0  # seconds; what hangs in the kernel longer than this goes when the daemon does
CLOSING = 2.0  # seconds
PERIOD_MICROSECONDS = 100_000  # of cpu.max; the kernel's own default
NAME_BYTES = 128  # of a plugin's, as part of a directory's


class Leaf(NamedTuple):
    """The cgroup of one worker, which makes it.

    Attributes:
        path: its directory.
        limits: the values of its files, by name.
        memory: that its worker may use, in bytes.
    """

    path: str
    limits: dict[str, str]
    memory: int

    def rules(self) -> dict[str, Any]:
        """Return it as ``plugd.worker.cgroup`` reads it."""
        return {"path": self.path, "limits": self.limits}

    def kill(self) -> None:
        """Kill all that is in it; blocks for as long as the kernel moves other processes about."""
        kill(self.path)

    def why_killed(self) -> str | None:
        """Return how the kernel has ended what was in it for want of memory; None where it has not."""
        try:
            events = dict(line.split() for line in read_file(f"{self.path}/memory.events").decode().splitlines())
        except (OSError, ValueError):
            return None  # It is not there: it was never made, or has no limit on memory.
        if not int(events.get("oom_kill", 0)):
            return None
        if not int(events.get("oom", 0)):
            return "killed by the kernel: the host had no memory left (OOM)"
        return f"killed by the kernel (OOM): it needed more memory than its limit of {self.memory / 2**20:.0f} MiB"


class Cgroups:
    """Names and removes the leaves of all workers; a context manager, which leaves none behind.

    Args:
        delegation: where they are; None: there are none, and workers are limited without.
        fault: why there are none though something was delegated.
    """

    def __init__(self, delegation: Delegation | None = None, fault: str | None = None) -> None:
        self._delegation = delegation
        self._numbers = itertools.count(1)
        # Not where the kernel has no swap space to count, or is told not to.
        self._swaps = delegation is not None and os.path.exists(f"{delegation.path}/memory.swap.max")
        self.notes = [] if fault is None else [f"the delegated cgroup is not used: {fault}"]

    @classmethod
    def take(cls) -> Self:
        """Take over what was delegated to this process: see :func:`plugd.hosting.delegation.take_delegated`."""
        try:
            return cls(take_delegated())
        except DelegationError as error:
            return cls(None, str(error))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._delegation is not None:
            remove_workers(self._delegation.path, time.monotonic() + CLOSING)
            os.close(self._delegation.lock)

    @property
    def controllers(self) -> list[str] | None:
        """What limits there are, of cpu, memory and pids; None where workers have no cgroups."""
        return None if self._delegation is None else list(self._delegation.controllers)

    def assign(self, name: str, limits: WorkerLimitsConfig) -> Leaf | None:
        """Return the leaf for a worker of this plugin that is about to be forked; None where there are none."""
        if self._delegation is None:
            return None
        directory = f"{WORKERS}{escaped(name)}.{next(self._numbers)}"
        swap = {"memory.swap.max": "0"} if self._swaps else {}  # Or what is too much would go there, and slow down all.
        files = {
            "memory": {"memory.max": str(limits.memory), **swap, "memory.oom.group": "1"},
            "cpu": {"cpu.max": cpu_max(limits.cpu)},
            "pids": {"pids.max": str(limits.processes)},
        }
        values = {file: value for name in self._delegation.controllers for file, value in files[name].items()}
        return Leaf(os.path.join(self._delegation.path, directory), values, limits.memory)

    async def stir(self) -> None:
        """Have workers that are about to be forked enter their leaves faster: see ``delegation.stir``."""
        if self._delegation is not None:
            await anyio.to_thread.run_sync(stir, self._delegation)

    async def retire(self, leaf: Leaf) -> None:
        """Kill what a worker that is gone has left in its leaf, and remove that."""
        # In a thread: it waits for the kernel, twice.
        if not await anyio.to_thread.run_sync(remove, leaf.path, time.monotonic() + REMOVAL):
            log.warning("cgroup_not_removed", path=leaf.path)


def cpu_max(share: float) -> str:
    """Return the value of cpu.max for a plugin that may use this share of a core outside of requests.

    One core more than that: the daemon asks one thing at a time, and the time that a request takes is not counted. So
    nothing is slowed down that keeps to its limit, and what does not cannot take more cores until it is killed.
    """
    return f"{round((1 + share) * PERIOD_MICROSECONDS)} {PERIOD_MICROSECONDS}"


def escaped(name: str) -> str:
    r"""Return a plugin's name as part of a directory's: other bytes than the usual as ``\xNN``, and not too many."""
    text = re.sub(rb"[^A-Za-z0-9_.@-]", lambda match: b"\\x%02x" % match[0][0], os.fsencode(name)).decode()
    return text if len(text) <= NAME_BYTES else f"{text[: NAME_BYTES - 9]}~{zlib.crc32(os.fsencode(name)):08x}"
