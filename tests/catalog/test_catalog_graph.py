"""Who requires whom: requirements, versions, orders, cycles."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugd.catalog.graph import (
    MAXIMUM_REQUIREMENTS,
    VERSION_CHARACTERS,
    CycleError,
    cycle_through,
    dependents_of,
    in_use,
    levels,
    name_of,
    parse_requirement,
    parse_requirements,
    parse_version,
)
from plugd.worker.validation import REQUIREMENT

NUMBERS = st.lists(st.integers(0, 10**9), min_size=1, max_size=5)
NAMES = st.sampled_from("abcdef")
GRAPHS = st.dictionaries(NAMES, st.lists(NAMES, max_size=3))


def text_of(numbers: list[int]) -> str:
    return ".".join(map(str, numbers))


@pytest.mark.parametrize(
    ("text", "name", "constraints"),
    [
        ("cpu", "cpu", ()),
        ("disk@data", "disk@data", ()),
        ("disk-io.x_2", "disk-io.x_2", ()),
        ("cpu>=1.2", "cpu", ((">=", (1, 2)),)),
        ("cpu >= 1.2 , < 2.0", "cpu", ((">=", (1, 2)), ("<", (2,)))),
        ("cpu!=1.2rc1", "cpu", (("!=", (1, 2)),)),
    ],
)
def test_a_requirement_is_a_name_and_versions(text: str, name: str, constraints: object) -> None:
    """Spaces are free, as in what PEP 508 calls a version specifier."""
    assert parse_requirement(text) == (text, name, constraints)
    assert name_of(text) == name


@pytest.mark.parametrize("text", ["", "Cpu", "cpu>", "cpu>=x", "cpu~=1", "cpu 1", "cpu>=1 cpu", "cpu>=1\n<x", "ä"])
def test_what_is_no_requirement_is_refused(text: str) -> None:
    """The text is named in the error."""
    with pytest.raises(ValueError, match="not a requirement"):
        parse_requirement(text)


@given(st.from_regex(REQUIREMENT, fullmatch=True, alphabet=st.characters(min_codepoint=32, max_codepoint=126)))
def test_what_the_worker_lets_through_is_understood(text: str) -> None:
    """A plugin that is valid in its worker has no requirement that the daemon cannot read, but for absurd versions."""
    if len(text) <= VERSION_CHARACTERS:
        assert parse_requirement(text).name == name_of(text)


def test_requirements_have_a_largest_number() -> None:
    """What a worker says of itself may be anything."""
    with pytest.raises(ValueError, match="requirements; at most"):
        parse_requirements(["cpu"] * (MAXIMUM_REQUIREMENTS + 1))


@given(NUMBERS, NUMBERS)
def test_versions_compare_as_their_numbers(left: list[int], right: list[int]) -> None:
    """Number by number, and 1.2 is 1.2.0."""
    length = max(len(left), len(right))
    expected = [*left, *[0] * (length - len(left))], [*right, *[0] * (length - len(right))]
    comparisons = {
        "<": expected[0] < expected[1],
        "<=": expected[0] <= expected[1],
        "==": expected[0] == expected[1],
        "!=": expected[0] != expected[1],
        ">=": expected[0] >= expected[1],
        ">": expected[0] > expected[1],
    }
    for comparison, holds in comparisons.items():
        assert parse_requirement(f"x{comparison}{text_of(right)}").accepts(text_of(left)) == holds


@given(NUMBERS, st.text(st.characters(exclude_categories=["Nd"], exclude_characters="."), max_size=5))
def test_what_follows_the_numbers_does_not_count(numbers: list[int], rest: str) -> None:
    """1.2rc1 and 1.2+local are 1.2: the release alone is compared."""
    assert parse_version(text_of(numbers) + rest) == parse_version(text_of(numbers))


@pytest.mark.parametrize("version", ["", "x", "v1", "-1", "٣", "1" * 65, "1." * 5000])
def test_a_version_without_a_number_satisfies_only_who_asks_for_none(version: str) -> None:
    """Nor does one that is absurdly long; neither is an exception in the daemon."""
    assert parse_requirement("x").accepts(version)
    assert not parse_requirement("x>=0").accepts(version)


def test_levels_are_a_load_order() -> None:
    """Each level requires only those before; what is not there is left out."""
    assert levels({"a": ["b", "c"], "b": ["c"], "c": ["elsewhere"], "d": []}) == [["c", "d"], ["b"], ["a"]]


@given(GRAPHS)
def test_there_is_an_order_or_a_cycle(requires: dict[str, list[str]]) -> None:
    """Every name stands in the order once, after all that it requires; otherwise a cycle is named, step by step."""
    if any(cycle_through(name, lambda each: requires.get(each, [])) for name in requires):
        with pytest.raises(CycleError) as caught:
            levels(requires)
        path = caught.value.path
        assert path[0] == path[-1]
        assert all(there in requires[here] for here, there in pairwise(path))
        assert str(caught.value) == " -> ".join(path)
        return
    ordered = levels(requires)
    place = {name: number for number, level in enumerate(ordered) for name in level}
    assert sorted(place) == sorted(requires)
    assert sum(map(len, ordered)) == len(requires)
    assert all(place[each] < place[name] for name in requires for each in requires[name] if each in requires)


@given(GRAPHS, NAMES)
def test_a_cycle_through_a_plugin_is_the_shortest(requires: dict[str, list[str]], name: str) -> None:
    """It exists exactly where the plugin is among its own dependents' requirements, and each step is one."""
    path = cycle_through(name, lambda each: requires.get(each, []))
    reachable, new = set(), set(requires.get(name, []))
    rounds = 1
    while new and name not in new:
        reachable |= new
        new = {each for there in new for each in requires.get(there, [])} - reachable
        rounds += 1
    if path is None:
        assert name not in new
        return
    assert path[0] == path[-1] == name
    assert len(path) == rounds + 1
    assert all(there in requires[here] for here, there in pairwise(path))


def test_dependents_are_found_through_others() -> None:
    """Those that require them directly and those that require these; without the plugins themselves."""
    requires = {"a": ["b"], "b": ["c"], "c": [], "d": ["disk@data"], "disk": []}
    assert dependents_of(["c"], requires) == {"a", "b"}
    assert dependents_of(["c", "a"], requires) == {"b"}
    assert dependents_of(["disk"], requires) == set()
    assert dependents_of(["disk@data"], requires) == {"d"}


def test_a_plugin_is_in_use_by_those_that_stay() -> None:
    """Plugins that leave together do not keep each other; one that stays keeps all that it requires."""
    requires = {"a": ["b"], "b": ["c"], "c": [], "d": ["c"]}
    assert in_use(["a"], requires) == {}
    assert in_use(["a", "b"], requires) == {}
    assert in_use(["b"], requires) == {"b": ["a"]}
    assert in_use(["a", "b", "c"], requires) == {"c": ["d"]}
