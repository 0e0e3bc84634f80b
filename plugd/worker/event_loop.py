"""The event loop of an asynchronous plugin: imported in its worker only."""

import asyncio
import socket
from collections.abc import Awaitable, Coroutine
from typing import Any


class EventLoop:
    """One asyncio loop for the life of the plugin.

    It runs whenever the plugin does, and also while the worker waits for the daemon, so that tasks which the
    plugin started go on between two collections.
    """

    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        self._task: asyncio.Task[None] | None = None

    def run(self, awaitable: Awaitable[Any]) -> Any:
        """Run until the awaitable is done; return its result."""
        return self._runner.run(_await(awaitable))

    def begin(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Start a task that runs beside everything else."""
        self._task = self._runner.get_loop().create_task(coroutine)

    def check(self) -> None:
        """Raise what has ended the task that was begun, if anything has."""
        if self._task is not None and self._task.done():
            self._task.result()

    def wait_readable(self, channel: socket.socket) -> None:
        """Run until the channel can be read."""
        self._runner.run(_readable(channel))

    def close(self) -> None:
        """Cancel what still runs, and close the loop."""
        self._runner.close()


async def _await(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


async def _readable(channel: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(channel, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(channel)
