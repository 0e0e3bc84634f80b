"""What a worker tells the daemon unasked, ahead of an answer: which series there are from now on."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

FRAME_ROWS = 256
FRAME_CHARACTERS = 256 * 1024
HELP_CHARACTERS = 500

Notify = Callable[[str, dict[str, Any]], None]


def define(notify: Notify, series: Sequence[Any]) -> None:
    """Tell of new series, ahead of their first samples: ``Collected.define``."""
    for rows in framed(series):
        notify("define", {"series": rows})


def framed(rows: Sequence[Any]) -> Iterator[Sequence[Any]]:
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
