"""A file that is kept like what is in memory: written in the background when that has changed."""

from collections.abc import Callable
from typing import Generic, TypeVar

import anyio
import anyio.to_thread
import structlog

from plugd.state_file import StateFile

log = structlog.get_logger()

T = TypeVar("T")

RETRY = 30.0  # seconds after which what could not be written is tried again
PATIENCE = 2.0  # seconds that anybody waits for the disk, which may hang


class Saver(Generic[T]):
    """Writes the latest of what has changed, and one thing at a time; :meth:`run` is a task.

    Args:
        file: what is written.
        take: returns what the file shall hold as it is now; called in the event loop.
        encode: returns the bytes of that; called in a thread, as it may take long.
        delay: seconds in which changes are gathered.
    """

    def __init__(
        self, file: StateFile, take: Callable[[], T], encode: Callable[[T], bytes], delay: float = 0.0
    ) -> None:
        self._file = file
        self._take = take
        self._encode = encode
        self._delay = delay
        self._version = 0  # of what is in memory
        self._tried = 0  # the one that was last written, or could not be
        self._written = 0
        self._running = False
        self._changed = anyio.Event()
        self._closing = anyio.Event()
        self._progress = anyio.Event()

    def change(self) -> None:
        """Take note that what is in memory has changed."""
        self._version += 1
        self._changed.set()

    async def flush(self) -> None:
        """Wait until what is there now is on the disk, or could not be written; two seconds at most."""
        wanted = self._version
        with anyio.move_on_after(PATIENCE):
            while self._running and self._tried < wanted:
                await self._progress.wait()

    async def run(self) -> None:
        """Write what changes until :meth:`close`, and then what has not been written yet."""
        self._running = True
        try:
            while not self._closing.is_set():
                with anyio.move_on_after(RETRY if self._written < self._version else None):
                    await self._changed.wait()
                self._changed = anyio.Event()
                with anyio.move_on_after(self._delay):
                    await self._closing.wait()
                if self._written < self._version:
                    await self._save()
            if self._written < self._version:
                await self._save()
        finally:
            self._running = False
            self._progress.set()

    def close(self) -> None:
        """Have :meth:`run` end."""
        self._closing.set()
        self._changed.set()

    async def _save(self) -> None:
        version, what = self._version, self._take()
        error: OSError | None = None
        try:
            await anyio.to_thread.run_sync(self._write, what)
            self._written = version
        except OSError as caught:
            error = caught
        except Exception:
            log.exception("state_not_encoded", path=self._file.path)  # plugd's own fault, and no reason to end.
            self._written = version
        self._file.tell(error)
        self._tried = version
        self._progress.set()
        self._progress = anyio.Event()

    def _write(self, what: T) -> None:
        self._file.replace(self._encode(what))
