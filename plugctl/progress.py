"""A line on the terminal that tells how far a command is, and is gone at its end."""

from __future__ import annotations

import os
import sys

from plugctl.text import columns, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Self

USUAL_COLUMNS = 80

_CLEAR = "\r\x1b[K"  # ECMA-48, EL: to the end of the line


class ProgressLine:
    """Draws the notifications ``progress`` on stderr, each over the one before; nothing where that is no terminal.

    Args:
        title: what the line begins with.
        wanted: whether anything is to be drawn at all.
    """

    def __init__(self, title: str, *, wanted: bool) -> None:
        self._title = title
        self._wanted = wanted and stderr_is_terminal()
        self._drawn = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._drawn:
            self._write(_CLEAR)

    def show(self, method: str, params: dict[str, Any]) -> None:
        """Take a notification."""
        if self._wanted and method == "progress":
            self._drawn = True
            self._write(_CLEAR + fitted(f"{self._title}  {told(params)}", _width()))

    def _write(self, text: str) -> None:
        try:
            sys.stderr.write(text)
            sys.stderr.flush()
        except OSError:
            self._wanted = self._drawn = False  # The terminal is gone; the command is not.


def told(params: dict[str, Any]) -> str:
    """Return a notification in words: ``42 %  scanning``, ``17  scanning`` or ``scanning``."""
    done, total, text = _number(params.get("done")), _number(params.get("total")), params.get("text")
    words = []
    if done is not None:
        share = 100 * done / total if total else None
        words.append(f"{done:.10g}" if share is None else f"{min(max(share, 0), 100):.0f} %")
    if text:
        words.append(printable(text))
    return "  ".join(words)


def fitted(text: str, width: int) -> str:
    """Return the text cut to one line of a terminal, which would be wrapped otherwise, and could not be cleared."""
    text = printable(text)
    while columns(text) >= width:
        text = text[:-1]
    return text


def stderr_is_terminal() -> bool:
    """Whether stderr is a terminal on which a line can be drawn anew."""
    return sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) and value - value == 0 else None


def _width() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or USUAL_COLUMNS
    except (OSError, ValueError):
        return USUAL_COLUMNS
