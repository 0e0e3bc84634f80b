"""Turns: at most so many at one time, and who waits for another gives its turn away meanwhile."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio


class Turns:
    """A limit that cannot deadlock those who wait for each other: a waiting one does not count.

    Args:
        number: how many may have a turn at one time.
    """

    def __init__(self, number: int) -> None:
        self._free = anyio.Semaphore(number)
        self._holding: set[str] = set()

    @asynccontextmanager
    async def taken(self, name: str) -> AsyncIterator[None]:
        """Wait for a turn and have it."""
        await self._take(name)
        try:
            yield
        finally:
            self._give_back(name)

    @asynccontextmanager
    async def given_away(self, name: str) -> AsyncIterator[None]:
        """Be without one's turn, and wait for it at the end. Who has none gives none away."""
        had = self._give_back(name)
        yield
        if had:
            await self._take(name)

    async def _take(self, name: str) -> None:
        await self._free.acquire()
        self._holding.add(name)

    def _give_back(self, name: str) -> bool:
        if name not in self._holding:
            return False
        self._holding.discard(name)
        self._free.release()
        return True
