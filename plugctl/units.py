"""Quantities as people read and write them: UCUM units become KiB, percent, days; ``20m`` becomes seconds.

https://ucum.org/ucum
"""

from __future__ import annotations

from time import localtime, strftime

_BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_DECIMAL = ("", "k", "M", "G", "T", "P", "E")
_BYTES = {"By": 1, "KiBy": 2**10, "MiBy": 2**20, "GiBy": 2**30, "kBy": 10**3, "MBy": 10**6, "GBy": 10**9}
_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9, "min": 60.0, "h": 3600.0, "d": 86400.0}
_SYMBOLS = {"Cel": "°C", "[degF]": "°F", "Ohm": "Ω"}
_SHARES = ("utilization", "ratio", "fraction", "charge")
_WRITTEN = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}


def quantity(value: float | None, unit: str, kind: str = "gauge", name: str = "") -> str:
    """Return a metric's value with its unit.

    ``1`` is the unit of shares, and of any other number without a dimension: percent are shown only of a gauge
    whose name says that it is a share, by its last part, as that of ``system.cpu.utilization`` does.
    """
    if value is None:
        return "-"
    if unit.endswith("/s"):
        return quantity(value, unit[:-2], "counter") + "/s"
    if unit in _BYTES:
        return size(value * _BYTES[unit])
    if unit in _SECONDS:
        return duration(value * _SECONDS[unit])
    if unit == "1" and kind != "counter" and name.rpartition(".")[2] in _SHARES:
        return f"{value * 100:.1f}%"
    if unit == "%":
        return f"{value:.1f}%"
    if unit in ("Hz", "bit"):
        return f"{_scaled(value, 1000, _DECIMAL)}{unit}"
    if unit in ("", "1") or unit.startswith("{"):
        return number(value)
    return f"{number(value)} {_SYMBOLS.get(unit, unit)}"


def rate(value: float | None, unit: str) -> str:
    """Return the rate of a counter of this unit; seconds in a second are a share of the time."""
    if value is None:
        return "-"
    if unit in _SECONDS:
        return f"{value * _SECONDS[unit] * 100:.1f}%"
    return quantity(value, unit, "counter") + "/s"


def size(count: float | None) -> str:
    """Return a number of bytes: ``21.5 MiB``."""
    return "-" if count is None else _scaled(count, 1024, _BINARY)


def duration(seconds: float | None) -> str:
    """Return a time span in at most two units: ``250 µs``, ``12.5 s``, ``3d 4h``."""
    if seconds is None:
        return "-"
    if not -1e15 < seconds < 1e15:
        return f"{seconds} s"
    if seconds < 0:
        return "-" + duration(-seconds)
    if seconds < 0.0009995:
        return f"{seconds * 1e6:.0f} µs" if seconds else "0 s"
    if seconds < 0.9995:
        return f"{_trimmed(seconds * 1e3, 1 if seconds < 0.01 else 0)} ms"
    if seconds < 59.95:
        return f"{_trimmed(seconds, 1)} s"
    whole = round(seconds)
    for name, length, lesser, part in (("d", 86400, "h", 3600), ("h", 3600, "m", 60), ("m", 60, "s", 1)):
        if whole >= length:
            rest = whole % length // part
            return f"{whole // length}{name} {rest}{lesser}" if rest else f"{whole // length}{name}"
    return f"{whole} s"


def number(value: float | None) -> str:
    """Return a plain number: whole ones in full, others with three or four digits."""
    if value is None:
        return "-"
    if not -1e15 < value < 1e15:
        return f"{value:g}"
    if value == int(value):
        return f"{int(value):,}"
    distance = abs(value)
    if distance >= 1000:
        return f"{value:,.0f}"
    if distance >= 100:
        return f"{value:.1f}"
    return f"{value:.2f}" if distance >= 1 else f"{value:.3g}"


def moment(seconds: float | None, layout: str = "%Y-%m-%d %H:%M:%S") -> str:
    """Return a Unix time as the local date and time, or as ``layout`` says."""
    if seconds is None:
        return "-"
    try:
        return strftime(layout, localtime(seconds))
    except (OverflowError, OSError, ValueError):
        return f"{seconds:g}"


def clock(seconds: float | None) -> str:
    """Return a Unix time as the local time of day."""
    return moment(seconds, "%H:%M:%S")


def parse_duration(text: str) -> float:
    """Return the seconds that ``90``, ``20m``, ``1h30m`` or ``500ms`` mean.

    Raises:
        ValueError: the text is no duration above zero.
    """
    total, digits, position = 0.0, "", 0
    while position < len(text):
        character = text[position]
        if character.isdecimal() or character == ".":
            digits += character
            position += 1
            continue
        unit = "ms" if text.startswith("ms", position) else character
        if unit not in _WRITTEN or not digits:
            raise ValueError(f"{text!r} is no duration: write 90, 20m, 1h30m or 500ms")
        total += _parse_number(digits, text) * _WRITTEN[unit]
        digits, position = "", position + len(unit)
    if digits:
        total += _parse_number(digits, text)
    if not 0 < total < 1e10:
        raise ValueError(f"{text!r} is no duration above zero: write 90, 20m, 1h30m or 500ms")
    return total


def parse_count(text: str) -> int:
    """Return a whole number above zero.

    Raises:
        ValueError: the text is none.
    """
    if not text.isdecimal() or len(text) > 18 or int(text) < 1:
        raise ValueError(f"{text!r} is no whole number above zero")
    return int(text)


def _parse_number(digits: str, text: str) -> float:
    try:
        return float(digits)
    except ValueError:
        raise ValueError(f"{text!r} is no duration: write 90, 20m, 1h30m or 500ms") from None


def _scaled(value: float, base: int, prefixes: tuple[str, ...]) -> str:
    if not -1e30 < value < 1e30:
        return f"{value} {prefixes[0]}"
    step = 0
    while abs(value) >= base - 0.05 and step + 1 < len(prefixes):
        value /= base
        step += 1
    return f"{_trimmed(value, 1) if step == 0 else format(value, '.1f')} {prefixes[step]}"


def _trimmed(value: float, places: int) -> str:
    text = f"{value:.{places}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
