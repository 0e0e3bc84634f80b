"""Metrics as text: what plugins cost, what they measured, and a line for each sample and event as it comes."""

from __future__ import annotations

from plugctl.text import BOLD, DIM, STATE_COLOURS, YELLOW, Style, printable, table
from plugctl.units import clock, duration, number, quantity, rate, size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


def stats(result: dict[str, Any], style: Style) -> list[str]:
    """Draw the answer to ``stats``: a table of plugins, and one of their series."""
    counts = ("collects", "failures", "timeouts", "skipped", "restarts")
    numbers = "COLLECTS FAILURES TIMEOUTS SKIPPED RESTARTS LAST P50 P99 CPU MEMORY SERIES"
    lines = table(
        ("PLUGIN", "STATE", *numbers.split()),
        [
            (
                name,
                plugin["state"],
                *[number(plugin[count]) for count in counts],
                *[duration(plugin[f"duration_{which}"]) for which in ("last", "p50", "p99")],
                duration(plugin["cpu_seconds"]),
                size(plugin["memory_bytes"]),
                number(plugin["series"]),
            )
            for name, plugin in sorted(result["plugins"].items())
        ],
        style,
        right=numbers,
        colours={"STATE": STATE_COLOURS},
    )
    if result["metrics"]:
        rows = [
            (
                metric["plugin"],
                metric["name"],
                quantity(metric["value"], metric["unit"], metric["kind"], metric["name"]),
                None if metric.get("rate") is None else rate(metric["rate"], metric["unit"]),
                labels_text(metric["labels"]),
            )
            for metric in result["metrics"]
        ]
        lines += ["", *table(("PLUGIN", "METRIC", "VALUE", "RATE", "LABELS"), rows, style, right="VALUE RATE")]
    return lines


def samples(notification: dict[str, Any], style: Style) -> list[str]:
    """Draw a ``sample`` notification: a line for each sample of one collection."""
    lines = []
    for sample in notification["samples"]:
        labels = labels_text(sample["labels"])
        parts = [
            style.paint(clock(sample["time"]), DIM),
            printable(sample["plugin"]),
            style.paint(printable(sample["name"]), BOLD) + (f"{{{labels}}}" if labels else ""),
            printable(quantity(sample["value"], sample["unit"], sample["kind"], sample["name"])),
        ]
        if sample.get("rate") is not None:
            parts.append(style.paint(printable(rate(sample["rate"], sample["unit"])), DIM))
        lines.append("  ".join(parts))
    return lines


def event(notification: dict[str, Any], style: Style) -> list[str]:
    """Draw an ``event`` notification: a plugin's change of state, and its cause."""
    cause = f": {printable(notification['cause'])}" if notification.get("cause") else ""
    before = f"{style.state(notification['from'])} → " if notification.get("from") else ""
    name = style.paint(printable(notification["plugin"]), BOLD)
    return [
        f"{style.paint(clock(notification.get('time')), DIM)}  {name}  {before}{style.state(notification['to'])}{cause}"
    ]


def lost(count: int, style: Style) -> str:
    """Draw the line that tells of samples dropped since the last one, as we were too slow to read them."""
    return style.paint(f"… {count:,} samples lost: too slow to show them", YELLOW)


def labels_text(labels: Mapping[str, Any]) -> str:
    """Return labels as ``a=b,c=d``, escaped."""
    return ",".join([f"{printable(name)}={printable(value)}" for name, value in labels.items()])
