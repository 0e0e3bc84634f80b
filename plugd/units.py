"""Durations and sizes as people write them: ``1h30m``, ``250ms``, ``64KiB``."""

import math
import re

_DURATION_UNITS = {
    "w": 604800.0,
    "d": 86400.0,
    "h": 3600.0,
    "m": 60.0,
    "s": 1.0,
    "ms": 1e-3,
    "us": 1e-6,
}  # seconds
_SIZE_UNITS = {"": 1, "b": 1}  # bytes
for _power, _letter in enumerate("kmgt", start=1):
    _SIZE_UNITS[_letter] = _SIZE_UNITS[f"{_letter}i"] = _SIZE_UNITS[f"{_letter}ib"] = 1024**_power
    _SIZE_UNITS[f"{_letter}b"] = 1000**_power

_NUMBER = r"[0-9]{1,19}(?:\.[0-9]{1,15})?"
_DURATION_PART = re.compile(rf"({_NUMBER})\s*(ms|us|[wdhms])\s*")
_SIZE = re.compile(rf"({_NUMBER})\s*([a-z]*)")


def parse_duration(value: object, *, minimum: float = 0.0, maximum: float = math.inf) -> float:
    """Return a duration in seconds.

    Args:
        value: a number of seconds, or text: ``"10s"``, ``"1h30m"``, ``"250ms"``, ``"10"``. Units are w, d,
            h, m, s, ms and us, the largest first, each at most once.
        minimum: the shortest duration allowed, in seconds, inclusive.
        maximum: the longest duration allowed, in seconds, inclusive.

    Raises:
        ValueError: it is no duration or out of range; the message reads on from a key's name.
    """
    seconds = _seconds(value)
    if seconds is None:
        raise ValueError(f"expected a duration such as '10s' or '1h30m', got {shown(value)}")
    if not minimum <= seconds <= maximum:  # also refuses NaN
        if maximum == math.inf:
            raise ValueError(f"must be at least {format_duration(minimum)}, got {shown(value)}")
        bounds = f"{format_duration(minimum)} and {format_duration(maximum)}"
        raise ValueError(f"must be between {bounds}, got {shown(value)}")
    return seconds


def parse_size(value: object, *, minimum: int = 0, maximum: int = 2**63 - 1) -> int:
    """Return a size in bytes.

    Args:
        value: a whole number of bytes, or text: ``"64KiB"``, ``"10MB"``, ``"1G"``. K, M, G and T alone, or
            with ``iB``, are powers of 1024; with ``B`` they are powers of 1000. Case does not matter.
        minimum: the smallest size allowed, in bytes, inclusive.
        maximum: the largest size allowed, in bytes, inclusive.

    Raises:
        ValueError: it is no size or out of range; the message reads on from a key's name.
    """
    size_bytes = _bytes(value)
    if size_bytes is None:
        raise ValueError(f"expected a size such as '64KiB' or '10MB', got {shown(value)}")
    if not minimum <= size_bytes <= maximum:
        bounds = f"{format_size(minimum)} and {format_size(maximum)}"
        raise ValueError(f"must be between {bounds}, got {shown(value)}")
    return size_bytes


def format_duration(seconds: float) -> str:
    """Return a duration in its largest whole unit: ``10ms``, ``90s``, ``1d``."""
    for unit, length in _DURATION_UNITS.items():
        count = seconds / length
        if count >= 1 and math.isclose(count, round(count), rel_tol=1e-9):
            return f"{round(count)}{unit}"
    return f"{seconds:g}s"


def format_size(size_bytes: int) -> str:
    """Return a size in its largest whole binary unit: ``64KiB``, ``1000B``."""
    for power, unit in ((4, "TiB"), (3, "GiB"), (2, "MiB"), (1, "KiB")):
        if size_bytes and size_bytes % 1024**power == 0:
            return f"{size_bytes // 1024**power}{unit}"
    return f"{size_bytes}B"


def shown(value: object) -> str:
    """Return a value as a message shows it: short, and on one line."""
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) and abs(value) >= 10**18:
        return "a huge number"  # and str() of a really huge one raises
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _seconds(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if not isinstance(value, str):
        try:
            return float(value)
        except OverflowError:  # an integer of more than 308 digits
            return math.inf
    text = value.strip()
    if re.fullmatch(_NUMBER, text):
        return float(text)
    units = list(_DURATION_UNITS)
    seconds = 0.0
    position = 0
    while position < len(text):
        part = _DURATION_PART.match(text, position)
        if part is None or part[2] not in units:
            return None
        seconds += float(part[1]) * _DURATION_UNITS[part[2]]
        del units[: units.index(part[2]) + 1]
        position = part.end()
    return seconds if text else None


def _bytes(value: object) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = _SIZE.fullmatch(value.strip().lower()) if isinstance(value, str) else None
    if match is None or match[2] not in _SIZE_UNITS:
        return None
    factor = _SIZE_UNITS[match[2]]
    # Whole numbers stay integers: a float holds 53 bits of them.
    return int(float(match[1]) * factor) if "." in match[1] else int(match[1]) * factor
