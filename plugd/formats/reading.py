"""What every parser of this package returns, and how names of other worlds become plugd names."""

import re
import zlib
from collections.abc import Iterable
from typing import Literal, NamedTuple

Kind = Literal["gauge", "counter"]
Labels = tuple[tuple[str, str], ...]

FAULT_LIMIT = 1000  # Faults kept with their text; those after are only counted: an output may be nothing but faults.
NAME_LENGTH = 255  # The bounds of METRIC_NAME and LABEL_NAME in plugd.worker.validation.
LABEL_LENGTH = 128

_NAME = re.compile(rf"[A-Za-z][A-Za-z0-9_.\-/]{{0,{NAME_LENGTH - 1}}}")
_LABEL = re.compile(rf"[A-Za-z_][A-Za-z0-9_.]{{0,{LABEL_LENGTH - 1}}}")
_NOT_IN_NAME = re.compile(r"[^A-Za-z0-9_.\-/]")
_NOT_IN_LABEL = re.compile(r"[^A-Za-z0-9_.]")
_EXCERPT_LENGTH = 60  # characters
_DIGEST_LENGTH = 9  # "_" and eight hexadecimal digits.


class Reading(NamedTuple):
    """One value a program printed."""

    name: str  # As the format spells it, as far as that fits: see fit_name.
    kind: Kind
    unit: str  # UCUM; "1" where unknown.
    labels: Labels  # Sorted by name.
    value: float  # Always finite.
    help: str = ""
    time: float | None = None  # Unix seconds; None: when it was read.


class Fault(NamedTuple):
    """One line that is not what the format allows."""

    line: int  # From 1.
    message: str


class MalformedError(ValueError):
    """A line is not what the format allows; the message says why. It never leaves this package."""


class Parsed(NamedTuple):
    """All that one output held. The good lines of an output are kept, whatever the others are."""

    readings: list[Reading]
    faults: list[Fault]  # In the order of their lines; FAULT_LIMIT at most.
    notices: list[str]  # Status text and notifications.
    skipped: int = 0  # Well-formed values that are no finite number, which no sample can hold.
    unlisted: int = 0  # Faults after the first FAULT_LIMIT.

    @property
    def fault_count(self) -> int:
        """How many lines are malformed."""
        return len(self.faults) + self.unlisted


class Faults:
    """The faults of one output while it is parsed."""

    def __init__(self) -> None:
        self.unlisted = 0
        self._listed: list[Fault] = []

    def add(self, line: int, message: str) -> None:
        """Count a fault, and keep it unless there are too many."""
        if len(self._listed) < FAULT_LIMIT:
            self._listed.append(Fault(line, message))
        else:
            self.unlisted += 1

    def listed(self) -> list[Fault]:
        """Return those kept, in the order of their lines."""
        return sorted(self._listed)


def fit_name(name: str) -> str:
    """Return a legal metric name made of any text; the same text always gives the same name.

    What does not fit becomes ``_``. A name that does not begin with a letter gets an ``m`` in front, and the end of
    one that is too long is replaced by a digest of the whole, so that two long names stay two.
    """
    if _NAME.fullmatch(name):
        return name
    fitting = _NOT_IN_NAME.sub("_", name)
    if not fitting[:1].isalpha():
        fitting = f"m{fitting}"
    return _bounded(fitting, name, NAME_LENGTH)


def fit_label(name: str) -> str:
    """Return a legal label name made of any text, in the way of ``fit_name``; ``_`` goes before a leading digit."""
    if _LABEL.fullmatch(name):
        return name
    fitting = _NOT_IN_LABEL.sub("_", name)
    if not fitting or not (fitting[0].isalpha() or fitting[0] == "_"):
        fitting = f"_{fitting}"
    return _bounded(fitting, name, LABEL_LENGTH)


def fit_labels(labels: Iterable[tuple[str, str]]) -> Labels:
    """Return labels with legal names, sorted; of two names that fit as the same one, the second gets a digest."""
    fitting: dict[str, str] = {}
    for name, value in sorted(labels):
        legal = fit_label(name)
        if legal in fitting:
            legal = f"{legal[: LABEL_LENGTH - _DIGEST_LENGTH]}{_digest(name)}"
        fitting[legal] = value
    return tuple(sorted(fitting.items()))


def excerpt(text: str | bytes) -> str:
    """Return text as a fault's message quotes it: on one line, printable and short."""
    if isinstance(text, bytes):
        text = text[: 4 * _EXCERPT_LENGTH].decode("utf-8", "backslashreplace")
    if len(text) > _EXCERPT_LENGTH:
        text = f"{text[:_EXCERPT_LENGTH]}…"
    return ascii(text) if not text.isprintable() else repr(text)


def _bounded(fitting: str, name: str, length: int) -> str:
    return fitting if len(fitting) <= length else f"{fitting[: length - _DIGEST_LENGTH]}{_digest(name)}"


def _digest(name: str) -> str:
    return f"_{zlib.crc32(name.encode('utf-8', 'surrogatepass')):08x}"
