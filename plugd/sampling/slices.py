"""Work in slices: what would hold the event loop for long lets others have their turn in between.

Such work is a generator that yields where it may be interrupted, after no more than some tenths of a millisecond.
"""

import time
from collections.abc import Generator
from typing import TypeVar

import anyio.lowlevel

SLICE = 0.002  # seconds, after which others have their turn

T = TypeVar("T")

Work = Generator[None, None, T]


async def in_slices(work: Work[T]) -> T:
    """Do the work, in slices of 2 ms; return what it returns."""
    end = time.perf_counter() + SLICE
    while True:
        try:
            next(work)
        except StopIteration as finished:
            result: T = finished.value
            return result
        if time.perf_counter() >= end:
            await anyio.lowlevel.checkpoint()
            end = time.perf_counter() + SLICE
