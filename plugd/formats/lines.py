"""What the line formats have in common: lines out of bytes, numbers out of text, excerpts for messages."""

import re
from collections.abc import Iterator

EXCERPT = 60  # characters of a line that a message shows

_NUMBER = re.compile(
    r"[-+]?(?:[0-9]++(?:\.[0-9]*+)?|\.[0-9]++)(?:[eE][-+]?[0-9]++)?|U|[-+]?(?:nan|inf(?:inity)?)", re.IGNORECASE
)


def numbered_lines(output: bytes, errors: str = "backslashreplace") -> Iterator[tuple[int, str]]:
    """Yield the lines of an output that are not blank, with their numbers from 1, without the white space around.

    Only a newline ends a line. Bytes that are not UTF-8 become backslash escapes, so that what differed still does.
    """
    for number, line in enumerate(output.decode("utf-8", errors).split("\n"), 1):
        if stripped := line.strip():
            yield number, stripped


def number(text: str) -> float | None:
    """Return the number a text is, or None if it is none.

    A value that the program says is unknown (``U``, ``nan``) or that no float holds is one that is not finite.
    """
    if not _NUMBER.fullmatch(text):
        return None  # float() would also take 1_000 and the digits of other scripts.
    return float("nan") if text in ("U", "u") else float(text)


def shown(text: str) -> str:
    """Return a text as a message shows it: quoted, printable and short."""
    return ascii(text) if len(text) <= EXCERPT else f"{text[:EXCERPT]!a}..."
