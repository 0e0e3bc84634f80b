"""Globs over the names of plugins and metrics, matched in a time that no pattern can make long.

The globs are those of :mod:`fnmatch`, with case: ``*``, ``?``, ``[abc]``, ``[a-z]``, ``[!abc]``. That module turns
each into a regular expression, which takes milliseconds to compile, may take long to fail, and is kept for all of
the process's life. Here all globs are one automaton, whose states are the bits of one number: a character of a name
costs a few operations on it.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from plugd.sampling.slices import Work

NAMES_KEPT = 10_000  # of whose match is known
STEP = 32  # characters of a name between two places to interrupt; each costs half a microsecond, or five

_SPECIAL = re.compile(r"[*?\[]")


class Patterns:
    """Globs, of which one has to fit; what they fit is found once for each name.

    Args:
        patterns: without one, nothing fits.
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        plain: set[str] = set()
        prefixes: set[str] = set()
        globs: dict[str, None] = {}
        for pattern in patterns:
            special = _SPECIAL.search(pattern)
            if special is None:
                plain.add(pattern)
            elif special.start() == len(pattern) - 1 and pattern[-1] == "*":
                prefixes.add(pattern[:-1])
            else:
                globs[pattern] = None
        self._plain = frozenset(plain)
        self._prefixes = tuple(prefixes)
        self._globs = tuple(globs)
        self._known: dict[str, bool] = {}

    def known(self, name: str) -> bool | None:
        """Return whether one of them fits the whole of a name that was learnt; None where it was not."""
        return self._known.get(name)

    def learn(self, *names: str) -> Work[bool]:
        """Find out what they fit; return whether it is one of the names."""
        found = False
        automaton: _Automaton | None = None  # It takes megabytes, and is needed for new names only.
        for name in names:
            fits = self._known.get(name)
            if fits is None:
                fits = name in self._plain or name.startswith(self._prefixes)
                if not fits and self._globs:
                    automaton = automaton or (yield from _Automaton.of(self._globs))
                    fits = yield from automaton.accepts(name)
                if len(self._known) >= NAMES_KEPT:
                    self._known.clear()
                self._known[name] = fits
            found = found or fits
        return found


class _Set(NamedTuple):
    """``[…]``: the characters, and the ranges of them, that it is made of."""

    negated: bool
    characters: frozenset[str]
    ranges: tuple[tuple[str, str], ...]

    def has(self, character: str) -> bool:
        inside = character in self.characters or any(low <= character <= high for low, high in self.ranges)
        return inside != self.negated


class _Glob:
    """One glob as an automaton: state n stands before its n-th character, the last behind all of them.

    Attributes:
        any: the states that every character leads on from.
        of: the states that a character leads on from, by character.
        sets: the same of sets.
        loops: the states that stay on whatever comes: those in front of a star's rest.
        length: the number of the last state.
    """

    __slots__ = ("any", "length", "loops", "of", "sets")

    def __init__(self, pattern: str) -> None:
        self.any = self.loops = 0
        self.of: dict[str, int] = {}
        self.sets: list[tuple[_Set, int]] = []
        position, bit = 0, 1
        while position < len(pattern):
            character = pattern[position]
            position += 1
            if character == "*":
                self.loops |= bit
                continue
            end = _end_of_set(pattern, position) if character == "[" else 0
            if end:
                self.sets.append((_parse_set(pattern[position:end]), bit))
                position = end + 1
            elif character == "?":
                self.any |= bit
            else:
                self.of[character] = self.of.get(character, 0) | bit
            bit <<= 1
        self.length = bit.bit_length() - 1

    def leads_on(self, character: str) -> int:
        """Return the states that a character leads on from."""
        states = self.any | self.of.get(character, 0)
        for each, bit in self.sets:
            if each.has(character):
                states |= bit
        return states


class _Automaton:
    """All globs side by side."""

    CHARACTERS_KEPT = 512

    def __init__(self, globs: Sequence[_Glob]) -> None:
        self._globs = globs
        self._start = self._final = self._loops = 0
        self._offsets = []
        offset = 0
        for glob in globs:
            self._offsets.append(offset)
            self._start |= 1 << offset
            self._final |= 1 << offset + glob.length
            self._loops |= glob.loops << offset
            offset += glob.length + 1
        self._leads_on: dict[str, int] = {}

    @classmethod
    def of(cls, patterns: Sequence[str]) -> Work["_Automaton"]:
        """Return the automaton of these globs."""
        globs = []
        for pattern in patterns:
            globs.append(_Glob(pattern))
            yield
        return cls(globs)

    def accepts(self, name: str) -> Work[bool]:
        """Whether one of the globs fits."""
        states, loops = self._start, self._loops
        for number, character in enumerate(name, 1):
            leads_on = self._leads_on.get(character)
            if leads_on is None:
                leads_on = yield from self._learn(character)
            states = (states & leads_on) << 1 | states & loops
            if not states:
                break
            if not number % STEP:
                yield
        return bool(states & self._final)

    def _learn(self, character: str) -> Work[int]:
        leads_on = 0
        for glob, offset in zip(self._globs, self._offsets, strict=True):
            leads_on |= glob.leads_on(character) << offset
            yield
        if len(self._leads_on) >= self.CHARACTERS_KEPT:
            self._leads_on.clear()
        self._leads_on[character] = leads_on
        return leads_on


def _end_of_set(pattern: str, start: int) -> int:
    """Return where the set ends whose bracket stands before ``start``; 0 where it does not: then it is no set."""
    end = start
    if pattern[end : end + 1] == "!":
        end += 1
    if pattern[end : end + 1] == "]":  # The first is one of its characters.
        end += 1
    return max(0, pattern.find("]", end))


def _parse_set(text: str) -> _Set:
    negated = text.startswith("!")
    if negated:
        text = text[1:]
    characters, ranges = set(), []
    position = 0
    while position < len(text):
        if text[position + 1 : position + 2] == "-" and position + 2 < len(text):
            ranges.append((text[position], text[position + 2]))
            position += 3
        else:
            characters.add(text[position])
            position += 1
    return _Set(negated, frozenset(characters), tuple(ranges))
