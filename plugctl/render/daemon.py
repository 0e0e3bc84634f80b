"""The daemon as text: how it is, in full and in a few lines, and its log."""

from __future__ import annotations

from plugctl.render.plugins import error_text
from plugctl.text import BOLD, CYAN, DIM, GREEN, RED, STATE_COLOURS, YELLOW, Style, fields, printable, table
from plugctl.units import duration, moment, number, size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_LEVEL_COLOURS = {"debug": DIM, "info": GREEN, "warning": YELLOW, "error": RED, "critical": RED}


def status(result: dict[str, Any], style: Style) -> list[str]:
    """Draw the answer to ``status``."""
    lines = [_headline(result, style)]
    lines += fields(
        [
            ("started", moment(result["started_at"])),
            ("pid", f"{result['pid']} (uid {result['uid']})"),
            ("socket", result.get("socket")),
            ("config", result.get("config") or "none: defaults"),
            ("plugins in", ", ".join([str(path) for path in result.get("plugin_dirs") or ()]) or None),
            ("plugins", _counts(result)),
            ("cgroups", _cgroups(result.get("cgroups"))),
            ("series", number(result.get("series"))),
            ("connections", number(result.get("connections"))),
            ("memory", size(result.get("memory_bytes"))),
            ("cpu time", duration(result.get("cpu_seconds"))),
        ],
        style,
    )
    return lines + _problems(result, style) + _notes(result, style)


def brief(result: dict[str, Any], style: Style) -> list[str]:
    """Draw the answer to ``status`` for those who asked for nothing: what runs, and what does not."""
    cost = f"{number(result.get('series'))} series, {size(result.get('memory_bytes'))} of memory"
    hint = style.paint("Try: plugctl list, plugctl stats, plugctl help", DIM)
    lines = [_headline(result, style), f"{printable(_counts(result))}; {cost}"]
    return [*lines, *_problems(result, style), *_notes(result, style), hint]


def logs(result: list[dict[str, Any]], style: Style) -> list[str]:
    """Draw the answer to ``logs``: one line for each, the oldest first, as the daemon sends them."""
    lines = []
    for entry in result:
        level = str(entry.get("level") or "info")
        facts = dict(entry.get("fields") or {})
        if entry.get("plugin") is not None:
            facts = {"plugin": entry["plugin"], **facts}
        told = [style.paint(printable(name), CYAN) + "=" + _fact(value) for name, value in facts.items()]
        parts = [
            style.paint(moment(entry["time"]), DIM),
            style.paint(printable(level).ljust(8), _LEVEL_COLOURS.get(level)),
            style.paint(printable(entry["event"]), BOLD),
            *told,
        ]
        lines.append(" ".join(parts))
    return lines


def _headline(result: dict[str, Any], style: Style) -> str:
    name = style.paint(f"plugd {printable(result['version'])}", BOLD)
    return f"{name}, up {duration(result['uptime'])}"


def _counts(result: dict[str, Any]) -> str:
    plugins = result["plugins"]
    states = ", ".join([f"{count} {state}" for state, count in plugins["states"].items() if count])
    total = f"{plugins['total']} plugin{'' if plugins['total'] == 1 else 's'}"
    return f"{total}: {states}" if states else total


def _cgroups(controllers: list[str] | None) -> str | None:
    """One for each worker, and the limits that it has; None where there are none."""
    if controllers is None:
        return None
    return "one for each plugin, " + (f"with limits on {', '.join(controllers)}" if controllers else "without limits")


def _problems(result: dict[str, Any], style: Style) -> list[str]:
    rows = [(problem["name"], problem["state"], error_text(problem["last_error"])) for problem in result["problems"]]
    if not rows:
        return []
    return ["", *table(("PROBLEM", "STATE", "LAST ERROR"), rows, style, colours={"STATE": STATE_COLOURS}), ""]


def _notes(result: dict[str, Any], style: Style) -> list[str]:
    return [style.paint(f"note: {printable(note)}", YELLOW) for note in result.get("notes") or ()]


def _fact(value: object) -> str:
    text = printable(value)
    return repr(text) if not text or " " in text else text
