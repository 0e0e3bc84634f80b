"""plugd with the turns of its event loop timed: ``turns_daemon.py FILE PLUGD-ARGUMENT...``; see turns.py.

FILE is what both map into their memory: two slots, each with seconds of the processor, seconds of the clock on the
wall, and a name. The first has the longest turn since the reader wrote zeros there, the second the same of what the
daemon does by itself.
"""

import asyncio
import gc
import mmap
import pathlib
import struct
import sys
import time
from typing import Any

NAME_BYTES = 112
SLOT = struct.Struct(f"=dd{NAME_BYTES}s")
SECONDS = struct.Struct("=d")
SIZE = 2 * SLOT.size
OWN_WORK = ("Watch.run", "Scheduler.run")  # tasks that no request asks for
ROOT = pathlib.Path(__file__).resolve().parent.parent


def main() -> None:
    path, *arguments = sys.argv[1:]
    with open(path, "r+b") as file:
        slots = mmap.mmap(file.fileno(), SIZE)
    measure_turns(slots)
    sys.path.insert(0, str(ROOT))
    from plugd.cli import main as run

    sys.argv = ["plugd", *arguments]
    sys.exit(run())


def measure_turns(slots: mmap.mmap) -> None:
    """Have every callback of the event loop timed, those of its tasks included."""
    run = asyncio.Handle._run
    wall, processor = time.perf_counter, time.thread_time
    collecting = begun = 0.0  # seconds that garbage collections have taken, and when the last one began

    def note_collection(phase: str, _: object) -> None:
        nonlocal collecting, begun
        if phase == "start":
            begun = processor()
        else:
            collecting += processor() - begun

    gc.callbacks.append(note_collection)

    def timed(handle: asyncio.Handle) -> None:
        callback: Any = handle._callback  # None afterwards, where it has removed itself
        started, used, collected = wall(), processor(), collecting
        run(handle)
        cost, took = processor() - used, wall() - started
        for offset in (0, SLOT.size):
            if cost > SECONDS.unpack_from(slots, offset)[0]:
                name = name_of(callback)
                if collecting - collected > cost / 2:
                    name += ": garbage collection"
                if name.partition(":")[0].endswith(OWN_WORK) == bool(offset):
                    SLOT.pack_into(slots, offset, cost, took, name.encode()[:NAME_BYTES])

    asyncio.Handle._run = timed  # type: ignore[method-assign]


def name_of(callback: Any) -> str:
    """Return the name of what a callback runs."""
    owner = getattr(callback, "__self__", None)
    if isinstance(owner, asyncio.Task):
        return owner.get_name()
    return str(getattr(callback, "__qualname__", callback))


if __name__ == "__main__":
    main()
