"""The formats that plugd reads of other people's programs: what parses each, and how often such programs are run."""

import os
from collections.abc import Callable
from typing import NamedTuple

from plugd.formats.reading import Parsed

TYPES_DB = "/usr/share/collectd/types.db"
TYPES_DB_BYTES = 1024 * 1024


class Format(NamedTuple):
    """How a program's output is read.

    Attributes:
        parse: takes what it printed, and its exit status.
        interval: seconds between two runs, as long as the configuration says nothing else.
        statuses: the exit statuses that are results, and no failures.
    """

    parse: Callable[[bytes, int], Parsed]
    interval: float = 10.0
    statuses: range = range(1)


def format_of(name: str) -> Format:
    """Return a format by its name; only its own parser is imported. Munin's has a module of its own."""
    match name:
        case "nagios":
            from plugd.formats.nagios import parse_nagios

            return Format(parse_nagios, interval=60.0, statuses=range(4))
        case "prometheus":
            from plugd.formats.prometheus import parse

            return Format(lambda output, _status: parse(output))
        case "influx":
            from plugd.formats.influx import parse_influx

            return Format(lambda output, _status: parse_influx(output))
        case "collectd":
            from plugd.formats.collectd import parse_collectd, parse_types_db

            types, _ = parse_types_db(_types_db())
            return Format(lambda output, _status: parse_collectd(output, types))
    raise ValueError(name)


def _types_db() -> bytes:
    """Return collectd's own list of types, where it is installed."""
    try:
        with open(os.environ.get("COLLECTD_TYPES_DB", TYPES_DB), "rb") as file:
            return file.read(TYPES_DB_BYTES)
    except OSError:
        return b""  # The commonest are known without it.
