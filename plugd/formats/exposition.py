"""The grammar of one line of Prometheus text, in its strict form (OpenMetrics 1.0) and its older lax one (0.0.4).

OpenMetrics: the ABNF of https://github.com/prometheus/OpenMetrics/blob/main/specification/OpenMetrics.md.
0.0.4: https://prometheus.io/docs/instrumenting/exposition_formats/; blanks and tabs may stand between any two tokens,
and a comma after the last label. Every pattern here can match in one way only, so that time grows with the line.
"""

import math
import re
from typing import NamedTuple

from plugd.formats.reading import Labels, MalformedError, excerpt

EXEMPLAR_LENGTH = 128  # Characters in all names and values of an exemplar's labels.

_NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
_REAL = r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
_VALUE = rf"(?:{_REAL}|[+-]?[iI][nN][fF](?:[iI][nN][iI][tT][yY])?|[nN][aA][nN])"
_LABEL = r"[a-zA-Z_][a-zA-Z0-9_]*"
_QUOTED = r'"([^"\\]*+(?:\\.[^"\\]*+)*+)"'
_ESCAPES = {"\\": "\\", '"': '"', "n": "\n"}


class Exemplar(NamedTuple):
    """What OpenMetrics may put behind a sample; plugd checks it and does not keep it."""

    labels: dict[str, str]
    value: float


class SampleLine(NamedTuple):
    """One sample as it is spelled."""

    name: str
    labels: dict[str, str]
    value: float
    time: str = ""  # "": none. OpenMetrics has seconds, 0.0.4 whole milliseconds.
    exemplar: Exemplar | None = None

    def sorted_labels(self) -> Labels:
        """Return the labels that count: an empty label is as good as none."""
        return tuple(sorted([label for label in self.labels.items() if label[1]]))


class Grammar(NamedTuple):
    """What the two forms differ in."""

    head: re.Pattern[str]  # Up to the brace, or the blank before the value.
    label: re.Pattern[str]  # With what follows it: a comma or the brace.
    no_label: re.Pattern[str]  # A closing brace where a label might stand.
    tail: re.Pattern[str]  # Value and time.
    ends_in_comma: bool
    unknown_escapes: bool  # Whether a backslash before any other character means itself.


def _grammar(gap: str, blank: str, time: str, *, lax: bool) -> Grammar:
    return Grammar(
        head=re.compile(rf"({_NAME})(?:{gap}(\{{)|(?={blank}))"),
        label=re.compile(rf"{gap}({_LABEL}){gap}={gap}{_QUOTED}{gap}([,}}])"),
        no_label=re.compile(rf"{gap}\}}"),
        tail=re.compile(rf"{gap or blank}({_VALUE})(?:{blank}({time}))?{gap}"),
        ends_in_comma=lax,
        unknown_escapes=not lax,
    )


STRICT = _grammar("", " ", _REAL, lax=False)
LAX = _grammar(r"[ \t]*", r"[ \t]+", "[+-]?[0-9]+", lax=True)


def parse_sample(text: str, grammar: Grammar) -> SampleLine:
    """Return the sample of a line.

    Raises:
        MalformedError: the line is none.
    """
    head = grammar.head.match(text)
    if head is None:
        raise MalformedError(f"not a sample, which is a name, labels and a value: {excerpt(text)}")
    labels: dict[str, str] = {}
    end = head.end()
    if head[2]:
        labels, end = _parse_labels(text, end, grammar)
    value, time, end = _parse_tail(text, end, grammar)
    exemplar = None
    if end != len(text):
        if grammar.ends_in_comma or not text.startswith(" # {", end):
            raise MalformedError(f"cannot read {excerpt(text[end:])} after the value")
        exemplar = _parse_exemplar(text, end + len(" # {"))
    return SampleLine(head[1], labels, value, time, exemplar)


def parse_number(text: str) -> float:
    """Return the value of a number as labels spell it.

    Raises:
        MalformedError: it is none.
    """
    if not _WHOLE_VALUE.fullmatch(text):
        raise MalformedError(f"{excerpt(text)} is not a number")
    return _float(text)


def unescape(text: str) -> str:
    r"""Return a text without its ``\\``, ``\"`` and ``\n``; a backslash before anything else stays."""
    return _ESCAPED.sub(lambda match: _ESCAPES[match[1]], text) if "\\" in text else text


_WHOLE_VALUE = re.compile(_VALUE)
_ESCAPED = re.compile(r'\\([\\"n])')
_ANY_ESCAPE = re.compile(r"\\.")


def _parse_labels(text: str, start: int, grammar: Grammar) -> tuple[dict[str, str], int]:
    labels: dict[str, str] = {}
    if empty := grammar.no_label.match(text, start):
        return labels, empty.end()
    while True:
        label = grammar.label.match(text, start)
        if label is None:
            raise MalformedError(f'not a label, name="value" and then a comma or a brace: {excerpt(text[start:])}')
        name, value, after = label.groups()
        if name in labels:
            raise MalformedError(f"label {excerpt(name)} is there twice")
        if not grammar.unknown_escapes and "\\" in value:
            unknown = next((escape for escape in _ANY_ESCAPE.findall(value) if escape[1] not in _ESCAPES), None)
            if unknown is not None:
                raise MalformedError(f"label {excerpt(name)}: no character is escaped as {excerpt(unknown)}")
        labels[name] = unescape(value)
        start = label.end()
        if after == "}":
            return labels, start
        if grammar.ends_in_comma and (last := grammar.no_label.match(text, start)):
            return labels, last.end()


def _parse_tail(text: str, start: int, grammar: Grammar) -> tuple[float, str, int]:
    tail = grammar.tail.match(text, start)
    if tail is None:
        raise MalformedError(f"no value where one must be: {excerpt(text[start:])}")
    time = tail[2] or ""
    if time:
        _float(time)
    return _float(tail[1]), time, tail.end()


def _parse_exemplar(text: str, start: int) -> Exemplar:
    labels, end = _parse_labels(text, start, STRICT)
    if sum(len(name) + len(value) for name, value in labels.items()) > EXEMPLAR_LENGTH:
        raise MalformedError(f"the labels of the exemplar have more than {EXEMPLAR_LENGTH} characters")
    value, _, end = _parse_tail(text, end, STRICT)
    if end != len(text):
        raise MalformedError(f"cannot read {excerpt(text[end:])} after the exemplar")
    return Exemplar(labels, value)


def _float(text: str) -> float:
    """Return a number that has the right form."""
    number = float(text)
    if math.isinf(number) and "n" not in text.lower():
        raise MalformedError(f"{excerpt(text)} is out of the range of a 64-bit number")
    return number
