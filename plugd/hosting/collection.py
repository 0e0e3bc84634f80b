"""One collection as the daemon holds it, and the check of what a worker has sent."""

import math
from array import array
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from plugd.errors import PLUGIN_INVALID, CommandError

LABEL_CHARACTERS = 1024
HELP_CHARACTERS = 4096
NOTE_CHARACTERS = 1024
METRICS = 2000  # that a plugin may come to declare as it runs
CLOCK_TOLERANCE = 1.0  # seconds


class MetricDeclaration(NamedTuple):
    """A metric as its plugin declares it."""

    name: str
    kind: str  # "gauge" or "counter"
    unit: str  # UCUM
    labels: tuple[str, ...]
    help: str

    @classmethod
    def of(cls, row: Any) -> "MetricDeclaration":
        """Return what a worker says of a metric.

        Raises:
            LookupError, TypeError, ValueError: it says something else.
        """
        return cls(
            str(row["name"]),
            "counter" if row["kind"] == "counter" else "gauge",
            str(row["unit"]),
            tuple(map(str, row["labels"])),
            str(row["help"])[:HELP_CHARACTERS],
        )


class SeriesKey(NamedTuple):
    """A series: a metric, and a value for each of its labels."""

    metric: MetricDeclaration
    labels: tuple[str, ...]


class Collection(NamedTuple):
    """The samples of one collection: ``values[i]`` belongs to ``keys[i]``.

    ``keys`` is the same object as in the collection before when the series are the same.
    """

    keys: Sequence[SeriesKey]
    values: "array[float]"
    time: float  # Unix seconds, of its start
    monotonic: float  # seconds of CLOCK_MONOTONIC, of its start
    duration: float  # seconds
    dropped: dict[str, int]  # samples over a limit, by metric
    exploding: Mapping[str, str] = MappingProxyType({})  # of these metrics: the label with the most values
    malformed: int = 0  # lines of a program's output
    first_fault: str = ""  # the first of those
    notice: str | None = None  # a program's own words on how things are
    idle: bool = False  # nothing has come since the last one, and what there was stays as it is


class SeriesIndex:
    """The ids that a worker has given to its series.

    Args:
        metrics: what the plugin declares.
        maximum: how many series it may have in all, whatever its worker says.
    """

    def __init__(self, metrics: Sequence[MetricDeclaration], maximum: int = 40_000) -> None:
        self._maximum = maximum
        self._metrics = list(metrics)
        self._keys: dict[int, SeriesKey] = {}
        self._current: Sequence[SeriesKey] = ()

    @property
    def metrics(self) -> Sequence[MetricDeclaration]:
        """What the plugin has declared so far."""
        return self._metrics

    def declare(self, rows: list[Any]) -> None:
        """Take further metrics, of a plugin that learns of them as it runs.

        Raises:
            ValueError, TypeError, LookupError: they are malformed, or too many.
        """
        if len(self._metrics) + len(rows) > METRICS:
            raise ValueError(f"more than {METRICS} metrics")
        self._metrics += map(MetricDeclaration.of, rows)

    def define(self, rows: list[Any]) -> None:
        """Take definitions: ``[id, index of the metric, label values]`` each.

        Raises:
            ValueError, TypeError, LookupError: they are malformed, or too many.
        """
        for identifier, index, labels in rows:
            metric = self._metrics[index]
            if not isinstance(identifier, int) or identifier < 0 or index < 0:
                raise ValueError("an id is a number from 0")
            if len(labels) != len(metric.labels):
                raise ValueError(f"{len(labels)} label values for metric {metric.name!r}")
            if not all(isinstance(value, str) for value in labels):
                raise ValueError("a label's value is text")
            self._keys[identifier] = SeriesKey(metric, tuple(value[:LABEL_CHARACTERS] for value in labels))
        if len(self._keys) > self._maximum:
            raise ValueError(f"more than {self._maximum} series")

    def collection(self, reply: Any, asked: tuple[float, float], answered: tuple[float, float]) -> Collection:
        """Return what the answer to ``collect`` says.

        Args:
            reply: the answer.
            asked: Unix and monotonic time of the request.
            answered: those of the answer. Times that the worker states and that do not lie between them are
                replaced by those of the request.

        Raises:
            CommandError: ``plugin.invalid``: it is not such an answer.
        """
        try:
            values = array("d", reply["values"])
            idle = bool(reply.get("idle", False))
            if reply["ids"] is not None:
                ids = array("I", reply["ids"])
                self._current = tuple([self._keys[identifier] for identifier in ids])
            current = () if idle else self._current
            if len(values) != len(current):
                raise ValueError(f"{len(values)} values for {len(current)} series")
            if not all(map(math.isfinite, values)):
                raise ValueError("a value is not a finite number")
            for identifier in reply["forget"]:
                del self._keys[identifier]
            monotonic = _between(reply["monotonic"], asked[1], answered[1])
            wall = _between(reply["time"], asked[0] - CLOCK_TOLERANCE, answered[0] + CLOCK_TOLERANCE)
            malformed, first_fault, notice = reply.get("told", (0, "", None))
            return Collection(
                current,
                values,
                asked[0] if wall is None else wall,
                asked[1] if monotonic is None else monotonic,
                answered[1] - asked[1],
                {str(name): int(count) for name, count in reply["dropped"].items()},
                {str(name): str(label) for name, label in reply.get("exploding", {}).items()},
                int(malformed),
                str(first_fault)[:NOTE_CHARACTERS],
                None if notice is None else str(notice)[:NOTE_CHARACTERS],
                idle=idle,
            )
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise CommandError(PLUGIN_INVALID, f"collect gave a malformed answer: {error!r:.200}") from error


def _between(value: Any, low: float, high: float) -> float | None:
    return value if isinstance(value, float) and low <= value <= high else None
