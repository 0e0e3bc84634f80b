"""Yields a hundred thousand series from its third collection on, ten thousand of each metric."""

from collections.abc import Iterable

from plugd.plugin import Gauge, Plugin, Sample


class ManyMetrics(Plugin):
    interval = 0.1  # seconds

    a = Gauge("fault.a", labels=("number",))
    b = Gauge("fault.b", labels=("number",))
    c = Gauge("fault.c", labels=("number",))
    d = Gauge("fault.d", labels=("number",))
    e = Gauge("fault.e", labels=("number",))
    f = Gauge("fault.f", labels=("number",))
    g = Gauge("fault.g", labels=("number",))
    h = Gauge("fault.h", labels=("number",))
    i = Gauge("fault.i", labels=("number",))
    j = Gauge("fault.j", labels=("number",))

    def __init__(self) -> None:
        self.count = 0

    def collect(self) -> Iterable[Sample]:
        self.count += 1
        for number in range(10_000 if self.count >= 3 else 1):
            for metric in (self.a, self.b, self.c, self.d, self.e, self.f, self.g, self.h, self.i, self.j):
                yield metric(number, number=number)
