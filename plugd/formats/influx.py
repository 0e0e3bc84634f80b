"""InfluxDB line protocol as readings."""

from plugd.formats.line_protocol import PRECISIONS, Field, Point, Points, points
from plugd.formats.reading import Parsed, Reading, fit_labels, fit_name

__all__ = ["PRECISIONS", "Field", "Point", "Points", "parse_influx", "points"]


def parse_influx(text: bytes, *, precision: str = "ns", default_time: float | None = None) -> Parsed:
    """Return the fields of an output as gauges named ``measurement.field``; booleans are 0 and 1.

    Args:
        text: any bytes; they take time and memory by their number.
        precision: the unit of the timestamps, one of PRECISIONS.
        default_time: of the points without timestamp, in Unix seconds.
    """
    found = points(text, precision=precision)
    readings: list[Reading] = []
    skipped = 0  # Strings, which no sample can hold.
    for point in found.points:
        time = default_time if point.time is None else point.time / 1e9
        labels = fit_labels(point.tags)
        for field in point.fields:
            if isinstance(field.value, str):
                skipped += 1
                continue
            name = fit_name(f"{point.measurement}.{field.key}")
            readings.append(Reading(name, "gauge", "1", labels, float(field.value), time=time))
    return Parsed(readings, found.faults, [], skipped, found.unlisted)
