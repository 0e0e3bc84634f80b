"""What a worker tells the daemon unasked, ahead of an answer: which metrics and series there are from now on."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from plugd.metric import Metric

FRAME_ROWS = 256
FRAME_CHARACTERS = 256 * 1024
HELP_CHARACTERS = 500

Notify = Callable[[str, dict[str, Any]], None]


def metric_row(metric: Metric) -> dict[str, Any]:
    """Return a metric as the daemon is told of it, here or in the answer to ``load``."""
    return {
        "name": metric.name,
        "kind": metric.kind,
        "unit": metric.unit,
        "labels": list(metric.labels),
        "help": metric.help,
    }


def declare(notify: Notify, metrics: Sequence[Metric]) -> None:
    """Tell of new metrics, ahead of their first series."""
    for rows in _framed([metric_row(metric) for metric in metrics]):
        notify("declare", {"metrics": rows})


def define(notify: Notify, series: Sequence[Any]) -> None:
    """Tell of new series, ahead of their first samples: ``Collected.define``."""
    for rows in _framed(series):
        notify("define", {"series": rows})


def _framed(rows: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """Yield rows in as many as one frame may hold: neither too many nor too long, see WORKER_LIMITS."""
    start, characters, values = 0, 0, 0
    for position, row in enumerate(rows):
        labels = row["labels"] if isinstance(row, dict) else row[2]
        length, count = HELP_CHARACTERS + sum(map(len, labels)), 12 + len(labels)
        too_long = characters + length > FRAME_CHARACTERS or values + count > 16 * FRAME_ROWS
        if position > start and (too_long or position - start >= FRAME_ROWS):
            yield rows[start:position]
            start, characters, values = position, 0, 0
        characters += length
        values += count
    if start < len(rows):
        yield rows[start:]
