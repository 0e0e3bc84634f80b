"""Values as text: settings, and whatever a plugin's command returned."""

from __future__ import annotations

from plugctl.text import BOLD, Style, fields, printable, table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def value(result: Any, style: Style) -> list[str]:
    """Draw any value: a scalar as it is, a map as fields, records as a table, the rest as indented JSON."""
    if result is None:
        return []
    if isinstance(result, dict) and all(map(_is_scalar, result.values())):
        return fields([(printable(key), _text(item)) for key, item in result.items()], style)
    if isinstance(result, list) and all(map(_is_scalar, result)):
        return [printable(_text(item)) for item in result]
    if isinstance(result, list) and all(_is_record(item) and item.keys() == result[0].keys() for item in result):
        header = [printable(key).upper() for key in result[0]]
        return table(header, [[_text(item) for item in record.values()] for record in result], style)
    if _is_scalar(result):
        return [printable(line) for line in _text(result).splitlines() or [""]]
    from plugctl.jsontext import json_text

    return json_text(result, indent=2).splitlines()


def paused(result: dict[str, Any], style: Style) -> list[str]:
    """Draw the answer to ``pause``."""
    return _done("paused", result["paused"], style)


def resumed(result: dict[str, Any], style: Style) -> list[str]:
    """Draw the answer to ``resume``."""
    return _done("resumed", result["resumed"], style)


def _done(word: str, names: list[Any], style: Style) -> list[str]:
    listed = ", ".join([printable(name) for name in names]) or "nothing"
    return [f"{style.paint(word, BOLD)}  {listed}"]


def _is_scalar(thing: Any) -> bool:
    return not isinstance(thing, dict | list | tuple)


def _is_record(thing: Any) -> bool:
    return isinstance(thing, dict) and bool(thing) and all(map(_is_scalar, thing.values()))


def _text(thing: Any) -> str:
    if thing is None:
        return "-"
    if isinstance(thing, bool):
        return "true" if thing else "false"
    if isinstance(thing, bytes):
        return thing.decode("utf-8", "backslashreplace")
    return str(thing)
