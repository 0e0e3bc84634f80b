"""The watch over the workers: what no rlimit can hold them to is measured twice a second.

Resident memory of a worker with its descendants; CPU time used outside of the daemon's requests, where a plugin
has nothing to do that would take a share of a core for long; and processes that outlived their worker.
"""

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

import anyio
import anyio.lowlevel
import structlog

from plugd.hosting.cost import Cost
from plugd.hosting.tree import cost_of_tree, kill_strays

log = structlog.get_logger()

PERIOD = 0.5  # seconds
AT_ONCE = 16  # workers
CPU_PERIODS = 3  # in a row over the limit


@dataclass(frozen=True, slots=True)
class UsageLimits:
    """What a worker may use: bytes resident, and CPU seconds per second outside of requests."""

    memory_bytes: int = 256 * 1024 * 1024
    cpu_share: float = 0.5


class UsageJudge:
    """Judges one worker by its measurements; pure, with the clock passed in."""

    def __init__(self, limits: UsageLimits) -> None:
        self._limits = limits
        self._last: tuple[float, float, float] | None = None
        self._over = 0

    def judge(self, now: float, cost: Cost, busy: float) -> str | None:
        """Return why the worker must go, or None.

        Args:
            now: seconds of a steady clock.
            cost: of the worker and its descendants so far.
            busy: seconds that it has spent on requests so far.
        """
        limits = self._limits
        if cost.memory_bytes > limits.memory_bytes:
            used, allowed = cost.memory_bytes / 2**20, limits.memory_bytes / 2**20
            return f"used {used:.0f} MiB of memory; its limit is {allowed:.0f} MiB"
        last, self._last = self._last, (now, cost.cpu_seconds, busy)
        if last is None or now <= last[0]:
            return None
        elapsed = now - last[0]
        idle_cpu = (cost.cpu_seconds - last[1]) - (busy - last[2])
        self._over = self._over + 1 if idle_cpu > limits.cpu_share * elapsed else 0
        if self._over >= CPU_PERIODS:
            share = 100 * idle_cpu / elapsed
            return (
                f"used {share:.0f} % of a core outside of its collections; its limit is {100 * limits.cpu_share:.0f} %"
            )
        return None


class Watched(Protocol):
    """A worker, as far as the watch is concerned."""

    pid: int
    judge: UsageJudge

    def busy_seconds(self) -> float:
        """Seconds that it has spent on requests so far."""

    def kill(self, reason: str) -> None:
        """End it."""


class Watch:
    """Looks after all workers; :meth:`run` is a task of the daemon.

    Args:
        other_children: the pids of the daemon's children that are no workers, or None while one may be about to
            become known: then nobody is taken for a stray.
    """

    def __init__(self, other_children: Callable[[], Iterable[int] | None]) -> None:
        self._other_children = other_children
        self.workers: set[Watched] = set()

    async def run(self) -> None:
        """Measure until cancelled."""
        while True:
            await anyio.sleep(PERIOD)
            now = anyio.current_time()
            for number, worker in enumerate(list(self.workers)):
                if number % AT_ONCE == AT_ONCE - 1:
                    await anyio.lowlevel.checkpoint()  # Two files of /proc each: others have their turn.
                self._judge(worker, now)
            self.sweep()

    def _judge(self, worker: Watched, now: float) -> None:
        try:
            reason = worker.judge.judge(now, cost_of_tree(worker.pid), worker.busy_seconds())
        except OSError as error:  # There are no descriptors to read /proc with; perhaps there are the next time.
            log.warning("worker_not_measured", pid=worker.pid, reason=error.strerror)
            return
        if reason is not None:
            worker.kill(reason)

    def sweep(self) -> None:
        """Kill what workers that are gone have left behind."""
        others = self._other_children()
        if others is not None:
            with contextlib.suppress(OSError):  # as above
                kill_strays({*others, *(worker.pid for worker in self.workers)})
