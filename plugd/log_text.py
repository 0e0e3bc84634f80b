"""Records of the log: their values, and what they look like on a terminal, in JSON and in systemd's journal."""

import json
import re
import time
from collections.abc import Mapping
from typing import Any

from plugd.journal import MESSAGE_IDS, Entry

Record = dict[str, Any]
"""One event: time (Unix seconds), level, event, then its facts; only values that go over the wire."""

FIRST_KEYS = ("time", "level", "event")
_TEXT_LENGTH = 2000  # characters of one value
_ELEMENTS = 64  # of one list or table
_PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}  # sd-daemon(3)
_COLOURS = {"debug": "2", "info": "32", "warning": "33", "error": "31", "critical": "1;31"}  # ANSI SGR
_FIELDS = {"plugin": "PLUGIN", "generation": "GENERATION"}  # facts that have a field of their own name
_FIELD_LENGTH = 64  # characters of a field's name: systemd.journal-fields(7) and journald's own check
_NO_FIELD = re.compile("[^A-Z0-9_]")


def plain(value: object, depth: int = 4) -> Any:
    """Return a value as one that goes over the wire and into JSON, and is bounded; anything else as its text."""
    try:
        return _plain(value, depth)
    except Exception:  # noqa: BLE001 - whatever a value's own methods raise, the event is worth more
        return f"<{type(value).__name__}>"


def plain_text(text: str, longest: int) -> str:
    """Return text as one that can be encoded, with so many characters at most and a word on how many there were."""
    if len(text) > longest:
        text = f"{text[:longest]}… ({len(text)} characters)"
    # Lone surrogates stand for bytes of file names that are no UTF-8, and are none themselves.
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def escape(text: str) -> str:
    """Return text without control characters, which could drive the reader's terminal; they become escapes."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )


def render_text(record: Record, colour: bool = False) -> str:
    """Return a record for people: ``14:02:11 info plugin_started plugin=load pid=12``."""
    clock = time.strftime("%H:%M:%S", time.localtime(record["time"]))
    level = f"{record['level']:<8}"
    event = escape(record["event"])
    if colour:
        clock = f"\x1b[2m{clock}\x1b[0m"
        level = f"\x1b[{_COLOURS.get(record['level'], '0')}m{level}\x1b[0m"
        event = f"\x1b[1m{event}\x1b[0m"
    return "\n".join([f"{clock} {level} {event}{_facts(record)}", *_traceback(record)])


def render_journal(record: Record) -> str:
    """Return a record for the journal, which has the time itself; ``<6>`` is its priority: sd-daemon(3)."""
    prefix = f"<{_PRIORITIES.get(record['level'], 6)}>"
    lines = [f"{escape(record['event'])}{_facts(record)}", *_traceback(record)]
    return "\n".join(prefix + line for line in lines)


def journal_entry(record: Record, message: str | None = None) -> Entry:
    """Return a record as fields of the journal: a message, and every fact by itself.

    Args:
        record: needs no time, which the journal has itself.
        message: instead of the event, its facts and its traceback, as :func:`render_text` has them.
    """
    event = escape(record["event"])
    if message is None:
        message = "\n".join([f"{event}{_facts(record)}", *_traceback(record)])
    entry = [
        ("MESSAGE", message),
        ("PRIORITY", str(_PRIORITIES.get(record["level"], 6))),
        ("PLUGD_EVENT", event),
    ]
    if event in MESSAGE_IDS:
        entry.append(("MESSAGE_ID", MESSAGE_IDS[event]))
    for key, value in record.items():
        if key not in FIRST_KEYS:
            name = _FIELDS.get(key) or _NO_FIELD.sub("_", f"PLUGD_{key.upper()}")[:_FIELD_LENGTH]
            entry += [(name, text) for text in _field_values(value)]
    return entry


def render_json(record: Record) -> str:
    """Return a record as one JSON object on one line, in ASCII."""
    return json.dumps(record).replace("\x7f", "\\u007f")


def _plain(value: object, depth: int) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return plain_text(value, _TEXT_LENGTH)
    if isinstance(value, int) and -(2**63) <= value < 2**64:
        return int(value)
    if isinstance(value, float) and abs(value) < float("inf"):
        return float(value)
    if depth and isinstance(value, Mapping):
        items = list(value.items())[:_ELEMENTS]
        return {plain_text(str(key), 100): plain(item, depth - 1) for key, item in items}
    if depth and isinstance(value, list | tuple | set | frozenset):
        return [plain(item, depth - 1) for item in list(value)[:_ELEMENTS]]
    return plain_text(str(value) if isinstance(value, BaseException) else repr(value), _TEXT_LENGTH)


def _facts(record: Record) -> str:
    return "".join(
        f" {escape(key)}={_fact(value)}"
        for key, value in record.items()
        if key not in FIRST_KEYS and key != "exception"
    )


def _fact(value: object) -> str:
    if not isinstance(value, str):
        return _as_json(value)
    if value and value.isprintable() and not any(character in ' "=\\' for character in value):
        return value
    return _as_json(value)


def _field_values(value: object) -> list[str]:
    """Return what a field holds: of a list each element, so that one can be searched for; of nothing, nothing."""
    elements = value if isinstance(value, list) else [value]
    # Lines stay lines. What else could drive a terminal does not: `journalctl -o cat` shows a field as it is.
    return [
        "\n".join(map(escape, element.split("\n"))) if isinstance(element, str) else _as_json(element)
        for element in elements
        if element is not None
    ]


def _as_json(value: object) -> str:
    return escape(json.dumps(value, ensure_ascii=False))


def _traceback(record: Record) -> list[str]:
    return [f"    {escape(line)}" for line in str(record.get("exception", "")).splitlines()]
