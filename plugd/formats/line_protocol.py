"""InfluxDB line protocol: its grammar.

https://docs.influxdata.com/influxdb/v2/reference/syntax/line-protocol/, and where that leaves something open the
grammar and the cases of https://github.com/influxdata/line-protocol and line-protocol-corpus. An entry is a line, but
the text of a string field may hold line ends. What is wrong costs the line its entry begins on: a string that was not
closed does not swallow the lines after it.
"""

import math
import re
from typing import Literal, NamedTuple

from plugd.formats.reading import Fault, Faults, MalformedError, excerpt

Type = Literal["float", "int", "uint", "string", "bool"]

PRECISIONS = {"ns": 1, "us": 1_000, "µs": 1_000, "ms": 1_000_000, "s": 1_000_000_000}  # nanoseconds

_INT_RANGE = (-(1 << 63), (1 << 63) - 1)
_UINT_RANGE = (0, (1 << 64) - 1)
_DIGITS = 20  # No number of 64 bits has more.
_BOOLEANS = {word: word[:1] in b"tT" for word in b"t T true True TRUE f F false False FALSE".split()}

# A backslash escapes the characters that would end the text, and is itself before any other. Each pattern matches in
# one way only, and gives nothing back.
_MEASUREMENT = re.compile(rb"(?:[^\x00-\x20\x7f,\\]++|\\[ ,]?)*+")
_KEY = re.compile(rb"(?:[^\x00-\x20\x7f,=\\]++|\\[ ,=]?)*+")
_STRING = re.compile(rb'"((?:[^"\\]++|\\.)*+)"', re.DOTALL)
_VALUE = re.compile(rb"[^, \r\n]*+")
_SPACES = re.compile(rb" *+")
_LINE_END = re.compile(rb"\r?\n|\r?\Z")
_BLANK = re.compile(rb"(?: |\r?\n|\r\Z)*+")
_COMMENT = re.compile(rb"#[^\x00-\x1f\x7f]*+(?:\r?\n|\r?\Z)")
_ESCAPED = re.compile(rb"\\([ ,=])")
_ESCAPED_IN_MEASUREMENT = re.compile(rb"\\([ ,])")
_ESCAPED_IN_STRING = re.compile(rb'\\(["\\nrt])')
_STRING_ESCAPES = {b"n": b"\n", b"r": b"\r", b"t": b"\t"}
_FLOAT = re.compile(rb"-?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_INTEGER = re.compile(rb"-?[0-9]+")


class Field(NamedTuple):
    """One value of a point; ``value`` is a float, int, str or bool as ``type`` says."""

    key: str
    type: Type
    value: float | str


class Point(NamedTuple):
    """One entry, as it was written."""

    measurement: str
    tags: tuple[tuple[str, str], ...]  # Sorted by key.
    fields: tuple[Field, ...]
    time: int | None  # Unix nanoseconds.


class Points(NamedTuple):
    """All entries of an output."""

    points: list[Point]
    faults: list[Fault]  # In the order of their lines; FAULT_LIMIT at most.
    unlisted: int = 0  # Faults after those.


def points(text: bytes, *, precision: str = "ns", default_time: int | None = None) -> Points:
    """Return the entries of an output.

    Args:
        text: any bytes; they take time and memory by their number.
        precision: the unit of the timestamps, one of PRECISIONS.
        default_time: of the points without timestamp, in Unix nanoseconds; cut to the precision.
    """
    scale = PRECISIONS[precision]
    if default_time is not None:
        default_time -= default_time % scale
    found: list[Point] = []
    faults = Faults()
    line, counted, start = 1, 0, 0
    while True:
        start = _skip(text, start)
        if start == len(text):
            return Points(found, faults.listed(), faults.unlisted)
        line += text.count(b"\n", counted, start)
        counted = start
        entry = _Entry(text, start)
        try:
            found.append(entry.read(scale, default_time))
            start = entry.at
        except MalformedError as error:
            faults.add(line, str(error))
            start = text.find(b"\n", start) + 1 or len(text)


def _skip(text: bytes, start: int) -> int:
    """Return where the next entry begins: behind spaces, empty lines and comments."""
    while True:
        start = _end(_BLANK, text, start)
        comment = _COMMENT.match(text, start)
        if comment is None:
            return start
        start = comment.end()


class _Entry:
    """One entry while it is read from left to right; ``at`` is where reading is."""

    def __init__(self, text: bytes, start: int) -> None:
        self.at = start
        self._text = text

    def read(self, scale: int, default_time: int | None) -> Point:
        """Return the entry, and leave ``at`` behind its line end.

        Raises:
            MalformedError: it is none.
        """
        measurement = self._take(_MEASUREMENT)
        if not measurement:
            raise MalformedError(f"no measurement where one must be: {self._rest()}")
        if measurement.startswith(b"#"):
            raise MalformedError("a control character in a comment")
        tags = self._tags()
        fields = self._fields()
        time = default_time if self._ends() else self._time(scale)
        return Point(_text(_ESCAPED_IN_MEASUREMENT.sub(rb"\1", measurement)), tags, fields, time)

    def _tags(self) -> tuple[tuple[str, str], ...]:
        tags: dict[str, str] = {}
        while self._next() == b",":
            self.at += 1
            key = _text(self._key("tag"))
            value = _text(_ESCAPED.sub(rb"\1", self._take(_KEY)))
            if not value:
                raise MalformedError(f"tag {excerpt(key)} has no value")
            if key in tags:
                raise MalformedError(f"tag {excerpt(key)} is there twice")
            tags[key] = value
        if self._next() != b" ":
            raise MalformedError(f"neither a tag nor a field where one must be: {self._rest()}")
        self._take(_SPACES)
        return tuple(sorted(tags.items()))

    def _fields(self) -> tuple[Field, ...]:
        fields = [self._field()]
        while self._next() == b",":
            self.at += 1
            fields.append(self._field())
        if self._next() not in (b" ", b"\r", b"\n", b""):
            raise MalformedError(f"cannot read {self._rest()} after a field")
        self._take(_SPACES)
        return tuple(fields)

    def _field(self) -> Field:
        key = _text(self._key("field"))
        if self._next() == b'"':
            string = _STRING.match(self._text, self.at)
            if string is None:
                raise MalformedError(f"the string of field {excerpt(key)} is not closed")
            self.at = string.end()
            return Field(key, "string", _text(_ESCAPED_IN_STRING.sub(_string_escape, string[1])))
        return _scalar(key, self._take(_VALUE))

    def _key(self, what: str) -> bytes:
        """Take a key and the equals sign behind it."""
        start = self.at
        key = self._take(_KEY)
        if not key or self._next() != b"=":
            self.at = start
            raise MalformedError(f"not a {what}, which is a key, = and a value: {self._rest()}")
        self.at += 1
        return _ESCAPED.sub(rb"\1", key)

    def _time(self, scale: int) -> int:
        word = self._take(_VALUE)
        self._take(_SPACES)
        if not self._ends():
            raise MalformedError(f"cannot read {self._rest()} after the timestamp")
        if not _INTEGER.fullmatch(word):
            raise MalformedError(f"not a timestamp: {excerpt(word)}")
        time = _integer(word, _INT_RANGE) * scale
        if not _INT_RANGE[0] <= time <= _INT_RANGE[1]:
            raise MalformedError(f"timestamp {excerpt(word)} is out of range")
        return time

    def _ends(self) -> bool:
        """Whether the line ends here, which is taken then."""
        line_end = _LINE_END.match(self._text, self.at)
        if line_end:
            self.at = line_end.end()
        return line_end is not None

    def _take(self, pattern: re.Pattern[bytes]) -> bytes:
        start = self.at
        self.at = _end(pattern, self._text, start)
        return self._text[start : self.at]

    def _next(self) -> bytes:
        """Return the next byte; none at the end."""
        return self._text[self.at : self.at + 1]

    def _rest(self) -> str:
        return excerpt(self._text[self.at : self.at + 100].partition(b"\n")[0])


def _end(pattern: re.Pattern[bytes], text: bytes, start: int) -> int:
    """Return where a pattern ends that matches anywhere, be it nothing."""
    match = pattern.match(text, start)
    return match.end() if match else start


def _scalar(key: str, word: bytes) -> Field:
    """Return the field of a value that is no string."""
    if word in _BOOLEANS:
        return Field(key, "bool", _BOOLEANS[word])
    digits = word[:-1]
    if word.endswith(b"i") and _INTEGER.fullmatch(digits):
        return Field(key, "int", _integer(digits, _INT_RANGE))
    if word.endswith(b"u") and _INTEGER.fullmatch(digits) and not digits.startswith(b"-"):
        return Field(key, "uint", _integer(digits, _UINT_RANGE))
    if not _FLOAT.fullmatch(word):
        raise MalformedError(f"field {excerpt(key)}: not a value: {excerpt(word)}")
    number = float(word)
    if math.isinf(number):
        raise MalformedError(f"field {excerpt(key)}: {excerpt(word)} is out of range")
    return Field(key, "float", number)


def _integer(word: bytes, bounds: tuple[int, int]) -> int:
    sign, digits = word[:1] == b"-", word.lstrip(b"-").lstrip(b"0") or b"0"
    # Python takes quadratic time for long numbers, and none of them is in range.
    number = int(digits) if len(digits) <= _DIGITS else bounds[1] + 1
    number = -number if sign else number
    if not bounds[0] <= number <= bounds[1]:
        raise MalformedError(f"{excerpt(word)} is out of range")
    return number


def _string_escape(escape: re.Match[bytes]) -> bytes:
    return _STRING_ESCAPES.get(escape[1], escape[1])


def _text(token: bytes) -> str:
    try:
        return token.decode()
    except UnicodeDecodeError:
        raise MalformedError(f"not UTF-8: {excerpt(token)}") from None
