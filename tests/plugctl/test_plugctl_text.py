"""Text for terminals: escapes, columns, colours."""

import pytest

from plugctl.text import Style, block, fields, printable, table

COLOURFUL = Style(colour=True)
PLAIN = Style()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain µ 漢", "plain µ 漢"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\nb\rc\td\0", "a\\x0ab\\x0dc\\x09d\\x00"),
        ("\x9b31m\x7f", "\\x9b31m\\x7f"),
        ("\u202eevil", "\\u202eevil"),
        ("\udcff", "\\udcff"),
        (12, "12"),
    ],
)
def test_what_a_terminal_would_obey_is_escaped(text: object, shown: str) -> None:
    """Control characters of both sets, marks of direction, and halves of pairs."""
    assert printable(text) == shown


def test_every_cell_field_and_line_is_escaped() -> None:
    """No renderer has to remember it."""
    lines = table(("A", "B"), [("\x1b]0;x\x07", "b\nb")], PLAIN) + fields([("c", "\x1b[2J")], PLAIN) + block("\x1b\nd")
    assert not any("\x1b" in line or "\n" in line for line in lines)


def test_columns_are_aligned_and_absence_is_a_dash() -> None:
    """Numbers to the right, where the header says so; wide characters take two columns."""
    assert table(("NAME", "N", "ABOUT"), [("cpu", 5, None), ("漢字漢字", 12345, "x")], PLAIN, right="N") == [
        "NAME          N  ABOUT",
        "cpu           5  -",
        "漢字漢字  12345  x",
    ]


def test_colour_does_not_disturb_the_columns() -> None:
    """Without its escape sequences, a coloured table is the plain one."""
    arguments = (("STATE", "N"), [("running", 1), ("failed", 2)])
    coloured = table(*arguments, COLOURFUL, colours={"STATE": {"failed": "31"}})
    assert coloured[2].startswith("\x1b[31mfailed\x1b[0m ")
    assert [line.replace("\x1b[31m", "").replace("\x1b[1m", "").replace("\x1b[0m", "") for line in coloured] == table(
        *arguments, PLAIN
    )


def test_the_last_column_is_cut_at_the_terminals_width() -> None:
    """And only there: a pipe gets everything."""
    row = ("cpu", "a very long description indeed")
    narrow = table(("NAME", "ABOUT"), [row], Style(width=20))[1]
    assert narrow == "cpu   a very long d…"[:20]
    assert len(narrow) <= 20
    assert row[1] in table(("NAME", "ABOUT"), [row], PLAIN)[1]


def test_a_table_without_rows_is_its_header() -> None:
    """Scripts may rely on the first line."""
    assert table(("NAME", "STATE"), [], PLAIN) == ["NAME  STATE"]
