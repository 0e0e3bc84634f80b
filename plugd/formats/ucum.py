"""Unit words, as metric names spell them, in UCUM.

https://prometheus.io/docs/practices/naming/#base-units, https://ucum.org/ucum; what is counted (``requests``) becomes
an annotation, ``{requests}``, as in OpenTelemetry.
"""

import re

_UCUM = {
    "seconds": "s",
    "milliseconds": "ms",
    "microseconds": "us",
    "nanoseconds": "ns",
    "minutes": "min",
    "hours": "h",
    "days": "d",
    "bytes": "By",
    "kilobytes": "kBy",
    "megabytes": "MBy",
    "gigabytes": "GBy",
    "kibibytes": "KiBy",
    "mebibytes": "MiBy",
    "gibibytes": "GiBy",
    "bits": "bit",
    "ratio": "1",
    "ratios": "1",
    "percent": "%",
    "celsius": "Cel",
    "kelvin": "K",
    "volts": "V",
    "millivolts": "mV",
    "amperes": "A",
    "milliamperes": "mA",
    "watts": "W",
    "milliwatts": "mW",
    "joules": "J",
    "grams": "g",
    "kilograms": "kg",
    "meters": "m",
    "metres": "m",
    "hertz": "Hz",
    "megahertz": "MHz",
    "pascals": "Pa",
    "decibels": "dB",
}
_SINGULAR = {word[:-1]: unit for word, unit in _UCUM.items() if word.endswith("s") and word != "celsius"}
_ANNOTATION_LENGTH = 61  # A unit has 63 characters at most, two of which are the braces.
_NOT_IN_ANNOTATION = re.compile(r"[^\x21-\x7a]|[{|}~]")


def ucum(word: str) -> str:
    """Return the UCUM unit of a unit's English name: ``seconds``, ``bytes_per_second``, ``requests``; 1 for none."""
    if not word:
        return "1"
    amount, per, time = word.partition("_per_")
    if per:
        top, bottom = _known(amount), _known(time)
        if top is not None and bottom is not None:
            return f"{top}/{bottom}"
    return _known(word) or f"{{{_NOT_IN_ANNOTATION.sub('_', word)[:_ANNOTATION_LENGTH]}}}"


def ucum_in_name(name: str) -> str:
    """Return the UCUM unit a metric's name ends in by Prometheus's convention: ``cpu_seconds``; 1 if in none."""
    head, _, last = name.rpartition("_")
    if not head:
        return "1"
    rest, _, per = head.rpartition("_")
    if per == "per":
        return ucum(f"{rest.rpartition('_')[2]}_per_{last}") if _known(last) else "1"
    return _UCUM.get(last, "1")  # Plurals only: a "second" in a name may be the one after the first.


def _known(word: str) -> str | None:
    return _UCUM.get(word) or _SINGULAR.get(word)
