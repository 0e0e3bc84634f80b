"""Writes the points of a store over and over, each time others, and says how often; somebody kills it.

Run as ``killed_writer.py DIRECTORY SERIES``. All series have one value: the number of the write that they are of.
"""

import asyncio
import os
import sys
from array import array

from plugd.hosting.collection import Collection, MetricDeclaration, SeriesKey
from plugd.sampling.saved_points import SavedPoints
from plugd.sampling.store import MetricStore

METRIC = MetricDeclaration("test.value", "counter", "1", ("number",), "")


async def write_on(directory: str, series: int) -> None:
    store = MetricStore(60)
    keys = [SeriesKey(METRIC, (str(number),)) for number in range(series)]
    saved = SavedPoints(directory, store, 60, 0.0, [])
    await saved.restore()
    number = max((int(value) for _, latest in store.collections() for value in latest.values), default=0)
    while True:
        number += 1
        values = array("d", [float(number)]) * series
        await store.record("p", Collection(keys, values, 1.0 + number, 1.0 + number, 0.001, {}))
        await saved.flush()
        os.write(1, b"%d\n" % number)


if __name__ == "__main__":
    asyncio.run(write_on(sys.argv[1], int(sys.argv[2])))
