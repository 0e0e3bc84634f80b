"""Who requires whom, in which versions, and what order follows from it: pure functions over names.

Where a mapping is called ``requires``, it has for each plugin the names of those that it requires.
"""

import graphlib
import operator
import re
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import NamedTuple

MAXIMUM_REQUIREMENTS = 64  # of one plugin; what a worker says of itself may be anything
VERSION_CHARACTERS = 64

# Those that plugd.worker.validation lets through.
_REQUIREMENT = re.compile(r"([a-z][a-z0-9_.\-]{0,63}(?:@[a-z0-9_.\-]{1,64})?)\s*(.*)", re.ASCII)
_CONSTRAINT = re.compile(r"(>=|<=|==|!=|>|<)\s*([0-9][\w.]*)\s*,?\s*", re.ASCII)
_NUMBERS = re.compile(r"[0-9]+(?:\.[0-9]+)*", re.ASCII)

_COMPARISONS: Mapping[str, Callable[[tuple[int, ...], tuple[int, ...]], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}


class CycleError(ValueError):
    """Plugins require each other; ``path`` begins and ends with the same name."""

    def __init__(self, path: list[str]) -> None:
        super().__init__(" -> ".join(path))
        self.path = path


class Requirement(NamedTuple):
    """What one plugin asks of another.

    Attributes:
        text: as its author wrote it.
        name: of the other plugin; an instance is ``disk@data``.
        constraints: comparisons with versions, all of which must hold.
    """

    text: str
    name: str
    constraints: tuple[tuple[str, tuple[int, ...]], ...]

    def accepts(self, version: str) -> bool:
        """Whether a version will do. One without a number does only where none is asked for."""
        if not self.constraints:
            return True
        try:
            numbers = parse_version(version)
        except ValueError:
            return False
        return all(_COMPARISONS[comparison](numbers, wanted) for comparison, wanted in self.constraints)


def parse_requirement(text: str) -> Requirement:
    """Return the requirement that a text such as ``cpu``, ``cpu>=1.2`` or ``cpu>=1.2,<2`` is.

    Raises:
        ValueError: it is none.
    """
    match = _REQUIREMENT.fullmatch(text)
    if match is None:
        raise ValueError(f"not a requirement: {text[:200]!r}")
    name, rest = match.groups()
    constraints = []
    position = 0
    while position < len(rest):
        constraint = _CONSTRAINT.match(rest, position)
        if constraint is None:
            raise ValueError(f"not a requirement: {text[:200]!r}")
        constraints.append((constraint[1], parse_version(constraint[2])))
        position = constraint.end()
    return Requirement(text, name, tuple(constraints))


def parse_requirements(texts: Collection[str]) -> tuple[Requirement, ...]:
    """Return the requirements of one plugin.

    Raises:
        ValueError: one of them is none, or they are too many.
    """
    if len(texts) > MAXIMUM_REQUIREMENTS:
        raise ValueError(f"{len(texts)} requirements; at most {MAXIMUM_REQUIREMENTS} are possible")
    return tuple([parse_requirement(text) for text in texts])


def parse_version(text: str) -> tuple[int, ...]:
    """Return the numbers of a version, without zeros at the end: ``1.2`` is ``1.2.0``.

    Only the release counts, as PEP 440 calls the numbers that it begins with: ``1.2rc1`` is ``1.2``.

    Raises:
        ValueError: it begins with no number, or is too long.
    """
    match = _NUMBERS.match(text) if len(text) <= VERSION_CHARACTERS else None
    if match is None:
        raise ValueError(f"not a version: {text[:VERSION_CHARACTERS]!r}")
    numbers = list(map(int, match.group().split(".")))
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def name_of(requirement: str) -> str:
    """Return the plugin's name in a requirement such as ``cpu>=1.2``; a text that is none, as it is."""
    match = _REQUIREMENT.match(requirement)
    return match[1] if match else requirement


def levels(requires: Mapping[str, Iterable[str]]) -> list[list[str]]:
    """Return all the names in load order: each level requires only those before it.

    What is required and no key of ``requires`` is left out.

    Raises:
        CycleError: there is no such order.
    """
    sorter = graphlib.TopologicalSorter(
        {name: [each for each in wanted if each in requires] for name, wanted in requires.items()}
    )
    try:
        sorter.prepare()
    except graphlib.CycleError as error:
        # There each is required by the next; people read "requires" from left to right.
        raise CycleError(list(reversed(error.args[1]))) from error
    ordered = []
    while sorter.is_active():
        ready = sorter.get_ready()
        ordered.append(sorted(ready))
        sorter.done(*ready)
    return ordered


def cycle_through(name: str, requires: Callable[[str], Iterable[str]]) -> list[str] | None:
    """Return the shortest way from a plugin back to itself, ``["a", "b", "a"]``; None if there is none.

    Args:
        name: the plugin's.
        requires: gives the names of those that one requires.
    """
    came_from: dict[str, str] = {}
    waiting = deque([name])
    while waiting:
        here = waiting.popleft()
        for there in requires(here):
            if there == name:
                path = [name]
                while here != name:
                    path.append(here)
                    here = came_from[here]
                return [name, *reversed(path)]
            if there not in came_from:
                came_from[there] = here
                waiting.append(there)
    return None


def dependents_of(names: Iterable[str], requires: Mapping[str, Iterable[str]]) -> set[str]:
    """Return all that require one of these, directly or by way of others; without these themselves."""
    required_by: dict[str, set[str]] = {}
    for name, wanted in requires.items():
        for each in wanted:
            required_by.setdefault(each, set()).add(name)
    start = set(names)
    found: set[str] = set()
    waiting = list(start)
    while waiting:
        new = required_by.get(waiting.pop(), set()) - found
        found |= new
        waiting.extend(new)
    return found - start


def in_use(leaving: Collection[str], requires: Mapping[str, Iterable[str]]) -> dict[str, list[str]]:
    """Return which of these cannot leave, each with its dependents that stay, sorted."""
    staying = {name: dependents_of([name], requires).difference(leaving) for name in leaving}
    return {name: sorted(dependents) for name, dependents in staying.items() if dependents}
