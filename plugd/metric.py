"""Metrics and samples: what a plugin declares, and what it yields.

A metric is declared once, as an attribute of the plugin's class, and called to make a sample of it.
Names, units and labels follow OpenTelemetry's semantic conventions; units are UCUM
(``s``, ``By``, ``1``, ``{thread}``). This module imports nothing: workers fork with it in place.
"""

from collections.abc import Iterable, Mapping
from typing import ClassVar, NamedTuple

LabelValue = str | int


class MetricError(ValueError):
    """A metric was declared or used against its own declaration."""


class Sample(NamedTuple):
    """One measured value of one series.

    ``labels`` holds the label values as text, in the order in which the metric declares them.
    """

    metric: "Metric"
    value: float
    labels: tuple[str, ...]


class Metric:
    """The declaration of a metric, and the maker of its samples.

    Args:
        name: dotted name in OpenTelemetry's style, such as ``system.cpu.time``.
        unit: the UCUM unit of the value; ``1`` for a ratio or a plain number.
        labels: the labels that every sample must carry. A sequence of names that are Python words,
            or a mapping of Python words to label names: ``{"mode": "cpu.mode"}``.
        help: one sentence on what the value means.

    Faults in a declaration are found by :meth:`faults`, all at once, and not when it is made: a plugin's
    author shall see every one of them, not the first.
    """

    kind: ClassVar[str] = ""
    __slots__ = ("help", "labels", "name", "parameters", "unit")

    def __init__(
        self,
        name: str,
        *,
        unit: str = "1",
        labels: Iterable[str] | Mapping[str, str] = (),
        help: str = "",
    ) -> None:
        self.name = name
        self.unit = unit
        self.help = help
        if isinstance(labels, Mapping):
            self.parameters: tuple[str, ...] = tuple(labels)
            self.labels: tuple[str, ...] = tuple(labels.values())
        else:
            self.parameters = self.labels = (labels,) if isinstance(labels, str) else tuple(labels)

    def __call__(self, value: float, /, **labels: LabelValue) -> Sample:
        """Make a sample of this metric.

        Args:
            value: a finite number, in the metric's unit.
            labels: exactly the declared labels; each a string or an integer.

        Raises:
            MetricError: a label is missing or not declared. Values are checked when the sample is taken.
        """
        try:
            values = tuple([labels[parameter] for parameter in self.parameters])
        except KeyError:
            raise self._label_error(labels) from None
        if len(labels) != len(values):
            raise self._label_error(labels)
        return Sample(self, value, values)  # type: ignore[arg-type]  # the values become text when they are taken

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, unit={self.unit!r})"

    def _label_error(self, given: Mapping[str, object]) -> MetricError:
        missing = [name for name in self.parameters if name not in given]
        unknown = [name for name in given if name not in self.parameters]
        reasons = []
        if unknown:
            reasons.append(f"no label {', '.join(map(repr, unknown))}")
        if missing:
            reasons.append(f"label {', '.join(map(repr, missing))} missing")
        declared = ", ".join(self.parameters) or "none"
        return MetricError(f"metric {self.name!r}: {'; '.join(reasons)} (declared: {declared})")


class Gauge(Metric):
    """A value that goes up and down: a temperature, bytes in use."""

    kind = "gauge"
    __slots__ = ()


class Counter(Metric):
    """A total that only grows, and starts again at zero with what it counts; plugd derives its rate."""

    kind = "counter"
    __slots__ = ()
