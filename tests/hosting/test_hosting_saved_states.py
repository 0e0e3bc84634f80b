"""The files of states and events: what is read of them, whoever wrote it, and how long a plugin is held back."""

import json
import math
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugd.hosting import saved_events, saved_states
from plugd.hosting.events import KEPT, PLUGINS, Actor, Event, EventLog
from plugd.hosting.rows import LATEST, TEXT_CHARACTERS, bounded
from plugd.hosting.saved_events import EVENTS, SavedEvents
from plugd.hosting.saved_states import PluginState, SavedStates, wall_times

HUGE = "9" * 400  # beyond any float


def states(text: str | bytes, directory: Path) -> tuple[SavedStates, list[str]]:
    """Return what is made of such a file, and the notes."""
    notes: list[str] = []
    (directory / "states.json").write_bytes(text.encode() if isinstance(text, str) else text)
    return SavedStates(str(directory), notes), notes


def events(text: str | bytes, directory: Path) -> tuple[EventLog, list[str]]:
    notes: list[str] = []
    (directory / "events.json").write_bytes(text.encode() if isinstance(text, str) else text)
    log = EventLog()
    SavedEvents(str(directory), log, notes)
    return log, notes


def rows(*each: dict[str, Any], **head: Any) -> str:
    return "".join(json.dumps(row) + "\n" for row in ({"version": 1, "rows": len(each), **head}, *each))


def one_state(**fields: Any) -> str:
    return rows({"name": "a", "state": {"generation": 3, **fields}})


def one_event(**fields: Any) -> str:
    row = {"time": 1.0, "plugin": "a", "generation": 1, "from": None, "to": "running", "cause": "why"}
    return rows(row | {"uid": 0, "pid": 1} | fields)


NONE = {
    "empty": "",
    "truncated": one_state()[:-20],
    "truncated at a line": rows(rows=1),
    "foreign": b"\x7fELF\xff\xfe\x00\n",
    "of another version": rows(version=2),
    "of no version": '{"rows": 0}\n',
    "a list": "[]\n",
    "nested": "[" * 200_000 + "\n",
    "nested where nobody looks": rows(more="NESTED").replace('"NESTED"', "[" * 200_000),
    "large": b" " * (saved_states.MAXIMUM_BYTES + 1),
    "of many lines": rows(rows=10**6) + "\n" * 10**6,
}
BAD_STATES = {
    "a state": one_state(state="running"),
    "a number": one_state(generation=-1),
    "a large number": one_state(generation=10**20),
    "a huge time": one_state(since="HUGE").replace('"HUGE"', HUGE),
    "a time beyond": one_state(state="paused", since=0.0, until=1e300),
    "an offence": one_state(offences=[-1.0]),
    "many offences": one_state(offences=[1.0] * 101),
    "a cause": one_state(cause="x" * 100_000),
    "a row that is none": rows({"name": "a"}),
}
BAD_EVENTS = {
    "a huge time": one_event(time="HUGE").replace('"HUGE"', HUGE),
    "a plugin": one_event(plugin=5),
    "a cause": one_event(cause="x" * 100_000),
    "a user": one_event(uid=-5),
    "a number": one_event(generation=2**80),
}


@pytest.mark.parametrize("text", (NONE | BAD_STATES).values(), ids=(NONE | BAD_STATES).keys())
def test_states_that_are_none_are_put_aside(tmp_path: Path, text: str | bytes) -> None:
    """Whatever somebody has written: nothing of it is taken, and it is kept for people."""
    saved, notes = states(text, tmp_path)
    assert saved.of("a") == PluginState()
    assert len(notes) == 1
    assert os.listdir(tmp_path) == ["states.json.broken"]


@pytest.mark.parametrize("text", (NONE | BAD_EVENTS).values(), ids=(NONE | BAD_EVENTS).keys())
def test_events_that_are_none_are_put_aside(tmp_path: Path, text: str | bytes) -> None:
    """The same."""
    log, notes = events(text, tmp_path)
    assert log.of("a") == []
    assert len(notes) == 1
    assert os.listdir(tmp_path) == ["events.json.broken"]


def test_what_is_right_is_taken(tmp_path: Path) -> None:
    """The files that the others differ from, so that those are refused for what they are meant to be."""
    saved, notes = states(one_state(state="paused", since=1.0, until=9.0, cause="paused", more=[1]), tmp_path)
    assert (saved.of("a").generation, saved.of("a").until, notes) == (3, 9.0, [])
    log, notes = events(one_event(), tmp_path)
    assert (log.of("a"), notes) == ([Event(1.0, "a", 1, "", "running", "why", Actor(0, 1))], [])


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("/dev/zero", path)])
def test_what_is_no_file_is_put_aside(tmp_path: Path, make: Callable[[str], None]) -> None:
    """And nobody waits for what a FIFO might bring."""
    for name in ("states.json", "events.json"):
        make(str(tmp_path / name))
    notes: list[str] = []
    SavedStates(str(tmp_path), notes)
    SavedEvents(str(tmp_path), EventLog(), notes)
    assert len(notes) == 2
    assert sorted(os.listdir(tmp_path)) == ["events.json.broken", "states.json.broken"]


def test_a_large_file_takes_no_more_than_it_has(tmp_path: Path) -> None:
    """Many small things would be many objects: lines are counted first, and what nobody asked for is not made."""
    many = rows(rows=2_000_000).encode() + b"{}\n" * 2_000_000
    wide = rows({"name": "a", "state": {}, "more": [[]] * 1_000_000}).encode()
    for text in (many, wide):
        tracemalloc.start()
        try:
            states(text, tmp_path)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 3 * saved_states.MAXIMUM_BYTES


times = st.floats(0.0, 2e9)


@given(since=times, length=st.floats(0.0, 1e7), now=times)
def test_a_pause_is_never_longer_than_it_was_meant_to_be(since: float, length: float, now: float) -> None:
    """Whatever the clock says by now; once it is over it stays so."""
    left = PluginState(state="paused", since=since, until=since + length).left(now)
    assert left is not None
    assert 0.0 <= left <= (since + length) - since
    if now >= since + length:
        assert left == 0.0
    elif now >= since:
        assert left == since + length - now


def test_what_has_no_end_goes_on() -> None:
    """Nothing but somebody's word ends it."""
    assert PluginState(state="paused").left(1e12) is None


def test_what_was_heard_of_last_is_kept() -> None:
    """Of too many plugins, those go of which nothing has been heard for longest."""
    saved = SavedStates()
    for number in range(saved_states.PLUGINS):
        saved.put(str(number), PluginState(generation=1))
    saved.put("0", PluginState(generation=2))
    saved.put("one more", PluginState(generation=1))
    assert [saved.of(name).generation for name in ("0", "1", "2", "one more")] == [2, 0, 1, 1]


def test_forgetting_leaves_the_number() -> None:
    """No generation has it again."""
    saved = SavedStates()
    saved.put("a", PluginState(generation=5, state="paused"))
    saved.forget("a")
    saved.forget("b")
    assert (saved.of("a"), saved.of("b")) == (PluginState(generation=5), PluginState())


def test_what_is_sealed_does_not_change() -> None:
    """A daemon that stops ends every plugin; that is not how they stood."""
    saved = SavedStates()
    saved.put("a", PluginState(generation=5, state="paused"))
    saved.seal()
    saved.put("a", PluginState(generation=5))
    saved.forget("a")
    assert saved.of("a").state == "paused"


def test_text_is_what_a_file_can_hold() -> None:
    """A path may have bytes that are no text."""
    text = bounded("caf\udce9 " + "x" * 5000)
    assert text.startswith("caf? x")
    assert len(text) == TEXT_CHARACTERS


def test_a_clock_may_say_anything(tmp_path: Path) -> None:
    """Before 1970, or after the end of time: what is written can be read."""
    (tmp_path / "events.json").write_bytes(
        saved_events._encode([Event(time, "a", 1, "", "failed", "", None) for time in (-5.0, 1e300, math.inf)])
    )
    log, notes = EventLog(), []
    SavedEvents(str(tmp_path), log, notes)
    assert ([event.time for event in log.of("a")], notes) == ([0.0, LATEST, 0.0], [])
    assert wall_times([1e12]) == (0.0,)


def test_the_largest_record_can_be_read(tmp_path: Path) -> None:
    """As many events as there may be, each as long as it may be, are a file that the next daemon takes."""
    log = EventLog()
    for number in range(EVENTS):
        log.restore([Event(1.0, f"plugin{number % 100}", 1, "", "failed", "\x01" * 5000, None)])
    (tmp_path / "events.json").write_bytes(saved_events._encode(log.latest(EVENTS)))
    again, notes = EventLog(), []
    SavedEvents(str(tmp_path), again, notes)
    assert (len(again.latest(EVENTS)), notes) == (EVENTS, [])


def test_a_plugin_displaces_no_others_events() -> None:
    """The last twenty of each are there, however often another changes."""
    log = EventLog()
    log.record("quiet", 1, "", "running", "once", None)
    for number in range(1000):
        log.record("busy", 1, "", "running", str(number), None)
    assert [event.cause for event in log.of("quiet")] == ["once"]
    assert [event.cause for event in log.of("busy")] == [str(number) for number in range(980, 1000)]
    assert [event.plugin for event in log.latest(21)] == ["quiet"] + ["busy"] * 20
    assert [event.plugin for event in log.latest(20)] == ["busy"] * 20


def test_of_too_many_plugins_the_silent_ones_are_forgotten() -> None:
    """What a thousand plugins did is kept."""
    log = EventLog()
    for number in range(PLUGINS + 1):
        log.record(f"p{number}", 1, "", "running", "", None)
        log.record("p0", 1, "", "running", "", None)
    assert (len(log.of("p0")), log.of("p1"), len(log.of("p2"))) == (KEPT, [], 1)


def test_who_was_killed_lives_on_in_the_record() -> None:
    """Remarks that are no change of state do not count."""
    log = EventLog()
    assert not log.lives("a")
    log.record("a", 1, "", "running", "plugd started", None)
    log.record("a", 1, "", "", "a remark", None)
    assert log.lives("a")
    log.record("a", 1, "running", "stopping", "plugd is stopping", None)
    log.record("a", 1, "stopping", "", "plugd is stopping", None)
    assert not log.lives("a")
