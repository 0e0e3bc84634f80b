"""What the tests of this folder share."""

import asyncio
from typing import TypeVar

from plugd.hosting.collection import Collection
from plugd.sampling.slices import Work
from plugd.sampling.store import SLICE, MetricStore

T = TypeVar("T")


def record(store: MetricStore, plugin: str, collection: Collection) -> None:
    """Have the store take a collection; a small one without a turn of anybody else's, and so without a loop."""
    taking = store.record(plugin, collection)
    if len(collection.keys) > SLICE:
        asyncio.run(taking)
        return
    try:
        taking.send(None)
    except StopIteration:
        return
    raise AssertionError("the store has let go of the event loop")


def finish(work: Work[T]) -> tuple[T, int]:
    """Do all of the work; return what it returns, and in how many steps."""
    steps = 0
    while True:
        steps += 1
        try:
            next(work)
        except StopIteration as finished:
            return finished.value, steps
