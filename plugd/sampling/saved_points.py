"""The points of all series, kept over a restart: written to one file now and then, and read at the start.

Packed in the event loop, in slices, as the series change there; written in threads. A restart goes on where the last
points were, and so do rates, as long as CLOCK_MONOTONIC goes on, which it does until the machine is started anew.
"""

import gc
import os
import time
from collections.abc import Iterator

import anyio
import anyio.lowlevel
import anyio.to_thread
import msgspec
import structlog

from plugd.sampling.points_format import FILE_BYTES, MAGIC, SERIES, VERSION, Frame, frame, read_frames
from plugd.sampling.points_packing import pack
from plugd.sampling.points_unpacking import unpack
from plugd.sampling.slices import SLICE
from plugd.sampling.store import MetricStore, PluginSeries
from plugd.state_file import Replacement, StateFile

log = structlog.get_logger()

FILE_NAME = "points"
PIECE_BYTES = 256 * 1024  # that are written together, and held in memory


class SavedPoints:
    """The file of the points; :meth:`run` is a task of the daemon.

    A file that cannot be taken for what it should be is put aside, and told in ``notes``. Where it cannot be written,
    that is told once, and tried again the next time.

    Args:
        state_dir: where the file is.
        store: what it holds the points of.
        points: of each series.
        interval: seconds between two writes; 0: only when the daemon stops.
        notes: gets a line for people on what is not in order.
    """

    def __init__(self, state_dir: str, store: MetricStore, points: int, interval: float, notes: list[str]) -> None:
        self._file = StateFile(os.path.join(state_dir, FILE_NAME), FILE_BYTES, notes)
        self._store = store
        self._points = points
        self._interval = interval
        self._boot = boot()
        self._restored = False
        self._written = 0  # collections of the store, at the last write
        self._too_many = False
        self._lock = anyio.Lock()

    async def restore(self) -> None:
        """Give the store what the file has; before the first collection."""
        try:
            plugins = await anyio.to_thread.run_sync(self._read)
        except (FileNotFoundError, NotADirectoryError):
            plugins = {}  # The first start.
        except (OSError, msgspec.MsgspecError, ValueError, LookupError, OverflowError, RecursionError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            self._file.give_up("the points of before are lost", reason or repr(error))
            plugins = {}
        self._store.restore(plugins)
        self._restored = True

    async def run(self) -> None:
        """Write now and then, until cancelled."""
        while self._interval:
            await anyio.sleep(self._interval)
            await self.flush()

    async def flush(self) -> None:
        """Write the points as they are; nothing where none have come since the last time."""
        async with self._lock:
            recorded = self._store.recorded
            if not self._restored or recorded == self._written:
                return
            try:
                await self._write()
            except OSError as error:
                self._file.tell(error)
            except Exception:
                log.exception("points_not_packed")  # plugd's own fault, and no reason to end.
            else:
                self._written = recorded
                self._file.tell(None)

    async def _write(self) -> None:
        plugins = self._store.plugins()
        self._tell_of_many(sum(len(own.by_identity) for _, own in plugins))
        path, replacement = self._file.path, None
        try:
            pieces: list[bytes] = []
            size = written = 0
            end = time.perf_counter() + SLICE
            for payload in pack(plugins, self._points, self._boot):
                if payload:
                    pieces.append(payload)
                    size += len(payload)
                if size >= PIECE_BYTES:
                    written += size
                    if written > FILE_BYTES:
                        raise OSError(None, f"It would be larger than {FILE_BYTES} bytes")
                    replacement = await anyio.to_thread.run_sync(_add, path, replacement, pieces)
                    pieces, size = [], 0
                    end = time.perf_counter() + SLICE
                elif time.perf_counter() >= end:
                    await anyio.lowlevel.checkpoint()
                    end = time.perf_counter() + SLICE
            await anyio.to_thread.run_sync(_finish, path, replacement, pieces)
        except BaseException:
            if replacement is not None:
                replacement.discard()
            raise

    def _read(self) -> dict[str, PluginSeries]:
        collecting = gc.isenabled()
        gc.disable()  # What is made here stays: it would be looked at again and again, by whoever is at it.
        try:
            with self._file.open() as file:
                return unpack(_gently(read_frames(file)), self._points, self._boot, time.monotonic())
        finally:
            if collecting:
                gc.enable()

    def _tell_of_many(self, series: int) -> None:
        before, self._too_many = self._too_many, series > SERIES
        if self._too_many and not before:
            log.warning("points_left_out", series=series, maximum=SERIES)


def boot() -> str:
    """Return what CLOCK_MONOTONIC began with: a start of the kernel, and a namespace of its own, time_namespaces(7)."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            kernel = file.read().strip()
    except OSError:
        return ""  # Nobody knows: rates begin anew.
    try:
        return f"{kernel} {os.readlink('/proc/self/ns/time')}"
    except OSError:
        return kernel  # Before Linux 5.6 there are none.


def _gently(frames: Iterator[Frame]) -> Iterator[Frame]:
    """Let the event loop have its turn after each frame: by itself a thread gives way every 5 ms at best."""
    for each in frames:
        time.sleep(0)
        yield each


def _add(path: str, replacement: Replacement | None, pieces: list[bytes]) -> Replacement:
    if replacement is None:
        replacement = Replacement(path)
        replacement.write(MAGIC + VERSION)
    for piece in pieces:
        replacement.write(frame(piece))
        replacement.write(piece)
    return replacement


def _finish(path: str, replacement: Replacement | None, pieces: list[bytes]) -> None:
    _add(path, replacement, pieces).commit()
