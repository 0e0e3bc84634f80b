"""Whose turn it is in a plugin's worker: a collection's, or that of something else that it is asked."""

import contextlib
from collections.abc import AsyncIterator, Callable

import anyio


class Gate:
    """At most one collection is under way, and none while the plugin is asked for something else.

    A tick that comes amiss is held until the turn is over, and is collected then; of several, the last.

    Args:
        begin: begins a collection, which ends with :meth:`collected`; returns whether it could.
    """

    def __init__(self, begin: Callable[[], bool]) -> None:
        self._begin = begin
        self._calling = anyio.Lock(fast_acquire=True)
        self._collecting = False
        self._collected = anyio.Event()
        self._closed = False
        self._held = False

    def tick(self) -> int:
        """Begin a collection, or hold the tick; return how many ticks are lost by it."""
        if self._closed or (self._calling.locked() and not self._collecting):
            lost = int(self._held)
            self._held = True
            return lost
        if self._collecting:
            return 1
        self._collect()
        return 0

    def collected(self) -> None:
        """Note that the collection is over, well or not."""
        self._collecting = False
        self._collected.set()

    async def wait_collected(self) -> None:
        """Wait until no collection is under way."""
        if self._collecting:
            await self._collected.wait()

    def close(self) -> None:
        """Hold all ticks, until :meth:`open`."""
        self._closed = True

    def open(self) -> None:
        """Hold ticks no longer; collect if there was one."""
        self._closed = False
        self._collect_held()

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Have the worker between two collections; one after the other, so that the time of each is its own."""
        try:
            async with self._calling:
                self._collect_held()
                await self.wait_collected()
                yield
        finally:
            if not self._calling.locked():
                self._collect_held()

    def _collect_held(self) -> None:
        if not self._closed and self._held:
            self._held = False
            self._collect()

    def _collect(self) -> None:
        if not self._collecting and self._begin():
            self._collecting = True
            self._collected = anyio.Event()
