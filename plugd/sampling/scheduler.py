"""One heap, one timer: wakes once for all plugins that are due at one instant."""

import heapq
import time
from collections.abc import Callable
from typing import NamedTuple

import anyio
import structlog
from anyio.lowlevel import checkpoint

from plugd.hosting.environment import Tick
from plugd.sampling.schedule import Schedule, TimeLine

log = structlog.get_logger()

SLACK = 0.0005  # seconds; what is due within it is due now: a second wake-up would cost more
LONGEST_SLEEP = 30.0  # seconds, after which the clocks are compared again
SPARE = 64  # places of the heap that ticks which were removed or replaced may take until they would have come


class _Entry(NamedTuple):
    schedule: Schedule
    on_tick: Callable[[Tick], None]
    due: float  # on the time line


class Agenda:
    """What is due when: the scheduler without a clock.

    Instants are those of a time line; see :class:`plugd.sampling.schedule.TimeLine`.
    """

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}
        self._heap: list[tuple[float, str]] = []

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, name: str, schedule: Schedule, on_tick: Callable[[Tick], None], now: float) -> None:
        """Have a name ticked from now on; one that is there with the same schedule keeps its next tick."""
        known = self._entries.get(name)
        due = known.due if known is not None and known.schedule == schedule else schedule.after(now)
        self._enter(name, _Entry(schedule, on_tick, due))

    def remove(self, name: str) -> None:
        """Tick a name no more."""
        self._entries.pop(name, None)

    def next_due(self) -> float | None:
        """Return the instant of the next tick, or None."""
        while self._heap and not self._is_current(*self._heap[0]):
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def take_due(self, now: float) -> list[tuple[_Entry, int]]:
        """Return what is due at ``now``, each with the number of its ticks that are lost, and set the next."""
        due = []
        while (instant := self.next_due()) is not None and instant <= now:
            _, name = heapq.heappop(self._heap)
            entry = self._entries[name]
            due.append((entry, entry.schedule.missed(entry.due, now)))
            self._enter(name, entry._replace(due=entry.schedule.after(now)))
        return due

    def realign(self, now: float) -> None:
        """Set every next tick anew: the time line has jumped, and no tick was missed by that."""
        for name, entry in list(self._entries.items()):
            self._enter(name, entry._replace(due=entry.schedule.after(now)))

    def _enter(self, name: str, entry: _Entry) -> None:
        self._entries[name] = entry
        heapq.heappush(self._heap, (entry.due, name))
        if len(self._heap) > 2 * len(self._entries) + SPARE:
            self._heap = [(each.due, name) for name, each in self._entries.items()]
            heapq.heapify(self._heap)

    def _is_current(self, due: float, name: str) -> bool:
        entry = self._entries.get(name)
        return entry is not None and entry.due == due


class Scheduler:
    """Calls the plugins' ``on_tick`` at their ticks; :meth:`run` is a task of the daemon.

    Attributes:
        wakeups: how often it has woken.
        late_max: the greatest lateness of a tick, in seconds.
        resynchronised: how often the time line had to follow the wall clock.
    """

    def __init__(self) -> None:
        self._agenda = Agenda()
        self._line = TimeLine(time.monotonic(), time.time())
        self._changed = anyio.Event()
        self._awake_by = time.monotonic() + LONGEST_SLEEP
        self.wakeups = 0
        self.late_max = 0.0
        self.resynchronised = 0

    def add(self, name: str, interval: float, offset: float, on_tick: Callable[[Tick], None]) -> None:
        """Tick a plugin every ``interval`` seconds."""
        self._agenda.add(name, Schedule(interval, offset), on_tick, self._line.at(time.monotonic()))
        self._changed.set()

    def remove(self, name: str) -> None:
        """Tick a plugin no more."""
        self._agenda.remove(name)

    def overdue(self) -> float:
        """Return for how many seconds it should have been awake by now; 0: it sleeps, as it should."""
        return max(0.0, time.monotonic() - self._awake_by)

    async def run(self) -> None:
        """Tick until cancelled."""
        while True:
            self._changed = anyio.Event()
            due = self._agenda.next_due()
            delay = LONGEST_SLEEP
            if due is not None:
                delay = min(delay, self._line.monotonic(due) - time.monotonic())
            self._awake_by = time.monotonic() + delay
            if delay > SLACK:
                with anyio.move_on_after(delay):
                    await self._changed.wait()
            else:
                await checkpoint()  # Ticks that lie closely together shall not keep everything else waiting.
            self._wake()

    def _wake(self) -> None:
        self.wakeups += 1
        monotonic = time.monotonic()
        jump = self._line.resynchronise(monotonic, time.time())
        if jump:
            self.resynchronised += 1
            log.warning("clock_jumped", jump_seconds=round(jump, 3))
            self._agenda.realign(self._line.at(monotonic))
            return
        now = self._line.at(monotonic)
        for entry, missed in self._agenda.take_due(now + SLACK):
            late = max(0.0, now - entry.due)
            self.late_max = max(self.late_max, late)
            entry.on_tick(Tick(self._line.monotonic(entry.due), late, missed))
