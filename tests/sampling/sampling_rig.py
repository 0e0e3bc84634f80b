"""What the tests of this folder share."""

import asyncio

from plugd.hosting.collection import Collection
from plugd.sampling.store import SLICE, MetricStore


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
