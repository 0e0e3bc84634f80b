"""JSON of anything that msgpack can carry, safe to print."""

from __future__ import annotations

import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def json_text(thing: Any, indent: int | None = None) -> str:
    """Return JSON in ASCII: what is not, control characters included, is escaped.

    Numbers that JSON does not have (NaN, infinities) become null, bytes become text, keys become strings.
    """
    separators = (",", ":") if indent is None else None
    try:
        return json.dumps(thing, indent=indent, separators=separators, allow_nan=False)
    except (TypeError, ValueError):
        return json.dumps(_plain(thing), indent=indent, separators=separators)


def _plain(thing: Any) -> Any:
    if isinstance(thing, dict):
        return {key if isinstance(key, str) else str(_plain(key)): _plain(value) for key, value in thing.items()}
    if isinstance(thing, list | tuple):
        return [_plain(item) for item in thing]
    if isinstance(thing, float):
        return thing if thing - thing == 0 else None
    if isinstance(thing, bytes):
        return thing.decode("utf-8", "backslashreplace")
    return thing if thing is None or isinstance(thing, bool | int | str) else str(thing)
