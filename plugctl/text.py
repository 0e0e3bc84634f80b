"""Text for a terminal: what others wrote is escaped, columns are aligned, states have their colours.

Every cell and field is escaped here, so that no renderer can forget it: a plugin's name, message or label
must not move the cursor, set the title, or forge a line.
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing takes longer to import than all of plugctl
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

BOLD = "1"
DIM = "2"
RED = "31"
GREEN = "32"
YELLOW = "33"
CYAN = "36"

STATE_COLOURS = {
    "running": GREEN,
    "starting": CYAN,
    "stopping": CYAN,
    "paused": YELLOW,
    "backoff": YELLOW,
    "quarantined": RED,
    "failed": RED,
}


class Style:
    """How and for when to draw.

    Args:
        colour: whether escape sequences may be used.
        width: columns to keep to, or None where there is no terminal: then nothing is cut.
        now: Unix seconds, for what is told as an age.
    """

    __slots__ = ("colour", "now", "width")

    def __init__(self, *, colour: bool = False, width: int | None = None, now: float = 0.0) -> None:
        self.colour = colour
        self.width = width
        self.now = now

    def paint(self, text: str, colour: str | None) -> str:
        """Return the text in a colour, where there are colours."""
        return f"\x1b[{colour}m{text}\x1b[0m" if self.colour and colour else text

    def state(self, name: object) -> str:
        """Return the name of a plugin's state in its colour."""
        return self.paint(printable(name), STATE_COLOURS.get(str(name)))


def printable(thing: object) -> str:
    """Return text with all escaped that a terminal would obey: control characters, line ends, marks of direction."""
    text = thing if isinstance(thing, str) else str(thing)
    if text.isprintable():
        return text
    return "".join([character if character.isprintable() else _escape(ord(character)) for character in text])


def table(
    header: Sequence[str],
    rows: Iterable[Sequence[object]],
    style: Style,
    *,
    right: str = "",
    colours: Mapping[str, Mapping[str, str]] | None = None,
) -> list[str]:
    """Return the lines of a table; None in a cell is shown as ``-``.

    Args:
        header: names of the columns.
        rows: cells, as many as there are columns.
        style: the last column is cut at its width.
        right: names of the columns that are aligned to the right, with blanks between.
        colours: for a column's name, the colours of its values.
    """
    cells = [["-" if cell is None or cell == "" else printable(cell) for cell in row] for row in rows]
    widths = [max(map(columns, column)) for column in zip(header, *cells, strict=True)]
    to_right = right.split()
    lines = [style.paint(_line(header, header, widths, to_right, style, None), BOLD)]
    lines += [_line(row, header, widths, to_right, style, colours) for row in cells]
    return lines


def fields(pairs: Iterable[tuple[str, object]], style: Style) -> list[str]:
    """Return a line for each label and value; pairs whose value is None are left out."""
    known = [(label, printable(value)) for label, value in pairs if value is not None]
    width = max([len(label) for label, _ in known], default=0)
    return [f"{style.paint(label.ljust(width), BOLD)}  {value}" for label, value in known]


def block(text: object, indent: str = "    ") -> list[str]:
    """Return the lines of a text of several lines, each escaped and indented."""
    return [indent + printable(line.expandtabs()) for line in str(text).split("\n") if line.strip()]


def columns(text: str) -> int:
    """Return how many columns of a terminal an escaped text takes."""
    if text.isascii():
        return len(text)
    import unicodedata

    return sum(
        0 if unicodedata.combining(character) else 1 + (unicodedata.east_asian_width(character) in "WF")
        for character in text
    )


def _line(
    cells: Sequence[str],
    header: Sequence[str],
    widths: Sequence[int],
    to_right: Sequence[str],
    style: Style,
    colours: Mapping[str, Mapping[str, str]] | None,
) -> str:
    parts = []
    last = len(cells) - 1
    used = 0
    for index, cell in enumerate(cells):
        name = header[index]
        padding = " " * (widths[index] - columns(cell))
        if index == last and style.width is not None and name not in to_right:
            cell = _cut(cell, style.width - used)
        painted = style.paint(cell, colours[name].get(cell)) if colours and name in colours else cell
        if name in to_right:
            parts.append(padding + painted)
        else:
            parts.append(painted if index == last else painted + padding)
        used += widths[index] + 2
    return "  ".join(parts)


def _cut(text: str, width: int) -> str:
    if width < 8 or columns(text) <= width:  # narrower than that, the terminal may wrap it
        return text
    while columns(text) >= width:
        text = text[:-1]
    return text.rstrip() + "…"


def _escape(code: int) -> str:
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
