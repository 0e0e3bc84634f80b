"""Globs: what fits, and that no pattern takes long."""

import fnmatch
import re
from collections.abc import Sequence

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sampling_rig import finish

from plugd.sampling.patterns import NAMES_KEPT, Patterns


def fits(patterns: Sequence[str], *names: str) -> bool:
    return finish(Patterns(patterns).learn(*names))[0]


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("cpu", "cpu", True),
        ("CPU", "cpu", False),
        ("cp", "cpu", False),
        ("cpu", "cp", False),
        ("", "", True),
        ("", "a", False),
        ("*", "", True),
        ("**", "abc", True),
        ("system.*", "system.", True),
        ("system.*", "systemd", False),
        ("*.time", "system.cpu.time", True),
        ("*.time", "system.cpu.times", False),
        ("a*b*c", "aXbXbc", True),
        ("a*b*c", "aXcXb", False),
        ("c?u", "cpu", True),
        ("c?u", "cu", False),
        ("?*?", "a", False),
        ("[cm]pu", "mpu", True),
        ("[!cm]pu", "cpu", False),
        ("[!cm]pu", "gpu", True),
        ("[a-c]x", "bx", True),
        ("[c-a]x", "bx", False),
        ("[a-]x", "-x", True),
        ("[]]x", "]x", True),
        ("[!]]x", "]x", False),
        ("[cpu", "[cpu", True),
        ("[", "[", True),
        ("[]", "[]", True),
        ("[]*", "[]x", True),
        ("ü?*", "üöä", True),
        ("*[à-ý]", "xö", True),
    ],
)
def test_a_glob_fits_whole_names(pattern: str, name: str, expected: bool) -> None:
    """With case, and as `fnmatch` has it."""
    assert fits([pattern], name) is expected
    assert fnmatch.fnmatchcase(name, pattern) is expected


@given(
    pattern=st.text("ab*?[]!-^\\", max_size=10),
    name=st.text("abc-]![^\\", max_size=6),
)
def test_globs_are_those_of_fnmatch(pattern: str, name: str) -> None:
    """Any pattern, but for empty ranges before a "!", which fnmatch takes for the negation of a set."""
    assume(not re.search("-.!", pattern))
    assert fits([pattern], name) == fnmatch.fnmatchcase(name, pattern)


@given(patterns=st.lists(st.text("ab*?", max_size=5), max_size=6), name=st.text("ab", max_size=6))
def test_one_of_several_has_to_fit(patterns: list[str], name: str) -> None:
    """They do not get in one another's way."""
    assert fits(patterns, name) == any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def test_one_of_several_names_is_enough() -> None:
    """A plugin's or a metric's; of no pattern, and of no name, none is."""
    assert fits(["cpu"], "memory", "cpu")
    assert not fits(["cpu"], "memory", "disk")
    assert not fits([], "cpu")
    assert not fits(["*"])


def test_what_was_learnt_is_known() -> None:
    """And costs no second thought; what was not learnt is not known."""
    patterns = Patterns(["a*b"])
    assert patterns.known("ab") is None
    finish(patterns.learn("ab", "ba"))
    assert (patterns.known("ab"), patterns.known("ba"), patterns.known("b")) == (True, False, None)
    assert finish(patterns.learn("ab")) == (True, 1)


def test_what_is_known_is_bounded() -> None:
    """A plugin that invents names for ever takes no memory for ever."""
    patterns = Patterns(["x"])
    for number in range(NAMES_KEPT + 10):
        finish(patterns.learn(str(number)))
    assert len(patterns._known) <= NAMES_KEPT


@pytest.mark.parametrize(
    "pattern",
    ["*a" * 127 + "*b", "?*" * 127 + "b", "[!b]*" * 51 + "b", "[a-z]*" * 42 + "B", "a*" * 127 + "b", "[" * 255 + "b"],
)
def test_no_glob_takes_more_than_a_step_per_character(pattern: str) -> None:
    """The work grows with the patterns and the name, and not with their product, let alone a power of it.

    In places to interrupt: one for each pattern, one for each pattern and character that is new, and then one for
    some characters of the name.
    """
    patterns = [pattern + str(number) for number in range(64)]
    found, steps = finish(Patterns(patterns).learn("a" * 1000))
    assert not found
    assert steps <= 64 + 64 + 1000 // 32 + 1
