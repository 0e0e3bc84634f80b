"""What outlives the daemon: read when it starts, and written to the state directory as it changes."""

from types import TracebackType
from typing import Self

import anyio

from plugd.hosting.events import EventLog
from plugd.hosting.saved import SavedSettings
from plugd.hosting.saved_events import SavedEvents
from plugd.hosting.saved_states import SavedStates
from plugd.sampling.saved_points import SavedPoints
from plugd.sampling.store import MetricStore


class Persistence:
    """All of it, one file each; a context manager round the time in which it is written.

    Args:
        state_dir: where the files are; all but the points are read at once.
        events: gets those of before.
        store: whose points are kept.
        points: of each series.
        interval: seconds between two writes of the points; 0: only when the daemon stops.

    Attributes:
        notes: what is not in order, for people; lines come and go.
    """

    def __init__(self, state_dir: str, events: EventLog, store: MetricStore, points: int, interval: float) -> None:
        self.notes: list[str] = []
        self.settings = SavedSettings(state_dir, self.notes)
        self.states = SavedStates(state_dir, self.notes)
        self.points = SavedPoints(state_dir, store, points, interval, self.notes)
        self._events = SavedEvents(state_dir, events, self.notes)
        self._tasks = anyio.create_task_group()
        self._periodic = anyio.CancelScope()

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        self._tasks.cancel_scope.shield = True  # What ends the daemon is no reason to lose what has not been written.
        for saver in (self.states.saver, self._events.saver):
            if saver is not None:
                self._tasks.start_soon(saver.run)
        self._tasks.start_soon(self._write_points)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._periodic.cancel()
        for saver in (self.states.saver, self._events.saver):
            if saver is not None:
                saver.close()
        await self._tasks.__aexit__(None, None, None)

    async def _write_points(self) -> None:
        with self._periodic:
            await self.points.run()
