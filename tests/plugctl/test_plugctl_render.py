"""Renderers: pure functions from what the daemon answers to lines."""

import re
from typing import Any

import pytest
from fake_daemon import CPU, DISK

from plugctl.changes import summary
from plugctl.jsontext import json_text
from plugctl.render import daemon, metrics, plugins, values
from plugctl.text import Style

PLAIN = Style(now=1700000100.0)
COLOURFUL = Style(colour=True)
EVIL = "\x1b]0;owned\x07\n"

STATS: dict[str, Any] = {
    "time": 1700000000.0,
    "uptime": 60.0,
    "plugins": {
        "cpu": {
            "state": "running",
            "collects": 6,
            "failures": 0,
            "timeouts": 0,
            "skipped": 1,
            "restarts": 0,
            "duration_last": 0.0004,
            "duration_p50": 0.0004,
            "duration_p99": None,
            "cpu_seconds": 1.5,
            "memory_bytes": 2 * 2**20,
            "series": 8,
        }
    },
    "metrics": [
        {
            "plugin": "cpu",
            "name": "system.cpu.time",
            "kind": "counter",
            "unit": "s",
            "labels": {"cpu.mode": "user", "cpu": "0"},
            "value": 90.0,
            "time": 1700000000.0,
            "rate": 0.25,
        },
        {
            "plugin": "memory",
            "name": "system.memory.usage",
            "kind": "gauge",
            "unit": "By",
            "labels": {},
            "value": 2**30,
            "time": 1700000000.0,
            "rate": None,
        },
    ],
}
STATUS: dict[str, Any] = {
    "version": "1.2.3",
    "pid": 7,
    "uid": 0,
    "time": 1700000060.0,
    "uptime": 273600.0,
    "started_at": 1700000000.0,
    "socket": "/run/plugd/control.sock",
    "config": None,
    "plugin_dirs": ["/etc/plugd/plugins"],
    "plugins": {"total": 10, "states": {"running": 9, "failed": 1}},
    "problems": [{"name": "disk", "state": "failed", "last_error": "boom"}],
    "series": 1234,
    "connections": 2,
    "memory_bytes": 21.7 * 2**20,
    "cpu_seconds": 12.0,
    "notes": ["no configuration"],
}
WHY: dict[str, Any] = {
    "name": "disk",
    "state": "backoff",
    "generation": 2,
    "summary": "its worker died of signal 11",
    "last_error": {"code": "plugin.crashed", "message": "killed by SIGSEGV", "data": {}},
    "traceback": "Traceback:\n  line one",
    "since": 1700000000.0,
    "pid": None,
    "exit": "signal 11",
    "output": ["last words"],
    "next_retry": 1700000130.0,
    "events": [
        {
            "time": 1700000000.0,
            "plugin": "disk",
            "generation": 2,
            "from": "running",
            "to": "backoff",
            "cause": "crashed",
            "uid": None,
            "pid": None,
        }
    ],
}
DESCRIPTION: dict[str, Any] = {
    **CPU,
    "timeout": None,
    "offset": 0.5,
    "unconfined": ["user: the worker is root"],
    "requires": ["load"],
    "metrics": [{"name": "system.cpu.time", "kind": "counter", "unit": "s", "labels": ["cpu.mode"], "help": "Time."}],
    "commands": [
        {
            "name": "reset",
            "help": "Start again.",
            "parameters": [
                {"name": "hard", "type": "boolean", "required": False, "default": False},
                {"name": "core", "type": "integer", "required": True, "default": None},
            ],
        }
    ],
    "settings": [
        {
            "name": "period",
            "type": "number",
            "value": 5,
            "origin": "saved",
            "ignored": None,
            "default": 1,
            "help": "Seconds.",
            "minimum": 1,
            "maximum": 60,
            "choices": None,
        }
    ],
    "options": {"percpu": True},
    "options_schema": None,
}


def text(lines: list[str]) -> str:
    return re.sub(" +", " ", "\n".join(lines))


def test_the_list_shows_a_line_for_each_plugin() -> None:
    """One in trouble shows its error where others have their description."""
    assert plugins.plugins([CPU, DISK], PLAIN) == [
        "NAME  STATE    KIND    VERSION   PID  EVERY  COLLECTS  FAILURES  DESCRIPTION",
        "cpu   running  python  1.0.0    4711   10 s     12345         0  CPU time of the host.",
        "disk  failed   python  1.0.0       -   10 s     12345         3  boom",
    ]


def test_states_have_their_colours() -> None:
    """What runs is green, what failed is red."""
    lines = plugins.plugins([CPU, DISK], COLOURFUL)
    assert "\x1b[32mrunning\x1b[0m" in lines[1]
    assert "\x1b[31mfailed\x1b[0m" in lines[2]


def test_stats_show_costs_and_metrics_in_their_units() -> None:
    """Rates stand beside totals; what is not known yet is a dash."""
    shown = text(metrics.stats(STATS, PLAIN))
    assert "cpu running 6 0 0 1 0 400 µs 400 µs - 1.5 s 2.0 MiB 8" in shown
    assert "cpu system.cpu.time 1m 30s 25.0% cpu.mode=user,cpu=0" in shown
    assert "memory system.memory.usage 1.0 GiB - -" in shown


@pytest.mark.parametrize(("name", "value"), [("system.cpu.utilization", "50.0%"), ("test.level", "0.5")])
def test_percent_are_shown_of_what_is_named_a_share(name: str, value: str) -> None:
    """In the table and in the line of a sample alike; another number of unit 1 is shown as it is."""
    metric = {**STATS["metrics"][1], "name": name, "unit": "1", "value": 0.5}
    assert f"{name} {value} - -" in text(metrics.stats({**STATS, "metrics": [metric]}, PLAIN))
    assert text(metrics.samples({"samples": [metric]}, PLAIN)).endswith(f"{name} {value}")


def test_the_status_tells_how_the_daemon_is() -> None:
    """With its problems, and what it noted."""
    shown = text(daemon.status(STATUS, PLAIN))
    for part in ("plugd 1.2.3, up 3d 4h", "10 plugins: 9 running, 1 failed", "memory 21.7 MiB", "disk failed boom"):
        assert part in shown
    assert "note: no configuration" in shown


def test_the_brief_status_is_a_few_lines() -> None:
    """Nothing wrong: three of them."""
    lines = daemon.brief({**STATUS, "problems": [], "notes": []}, PLAIN)
    assert len(lines) == 3
    assert lines[1] == "10 plugins: 9 running, 1 failed; 1,234 series, 21.7 MiB of memory"


def test_why_starts_with_the_reason() -> None:
    """Then come the times, the error, the traceback, the last output and the history."""
    shown = text(plugins.reasons(WHY, PLAIN))
    assert shown.startswith("its worker died of signal 11\n")
    for part in ("(1m 40s ago)", "(in 30 s)", "killed by SIGSEGV", "Traceback:\n line one", "last words", "crashed"):
        assert part in shown


def test_a_description_shows_all_that_can_be_used() -> None:
    """Metrics, commands with their parameters, settings with their bounds, options."""
    shown = text(plugins.description(DESCRIPTION, PLAIN))
    for part in (
        "requires load",
        "system.cpu.time counter s cpu.mode Time.",
        "reset [hard: boolean = False], core: integer Start again.",
        "period number 5 saved 1 1 … 60 Seconds.",
        "percpu True",
    ):
        assert part in shown


def test_a_description_tells_what_a_plugin_is_not_kept_from() -> None:
    """A line for each reason; none where it is confined."""
    reasons = ["sandbox: the kernel has none", "user: the worker is root"]
    lines = plugins.description({**DESCRIPTION, "unconfined": reasons}, PLAIN)
    assert [line for line in lines if "unconfined" in line] == [f"unconfined  {reason}" for reason in reasons]
    assert "unconfined" not in text(plugins.description({**DESCRIPTION, "unconfined": []}, PLAIN))


def test_faults_are_shown_as_compilers_do() -> None:
    """Editors can jump to them."""
    faults = [{"message": "no class", "path": "/p/x.py", "line": 3}, {"message": "odd", "path": None, "line": None}]
    result = {"name": "x", "ok": False, "faults": faults, "samples": None, "duration": None}
    assert plugins.check(result, PLAIN) == ["/p/x.py:3: no class", "odd", "x invalid"]


def test_a_sound_plugin_tells_what_it_measured() -> None:
    """The proof that it works."""
    result = {"name": "x", "ok": True, "faults": [], "samples": 5, "duration": 0.002}
    assert plugins.check(result, PLAIN) == ["x ok: 5 samples in 2 ms"]


def test_log_lines_show_their_facts_as_keys() -> None:
    """Values with blanks are quoted."""
    entry = {"time": 0.0, "level": "error", "event": "plugin_failed", "plugin": "x", "fields": {"why": "a b", "n": 1}}
    assert daemon.logs([entry], PLAIN)[0].endswith("error    plugin_failed plugin=x why='a b' n=1")


@pytest.mark.parametrize(
    ("value", "lines"),
    [
        (None, []),
        ("pong", ["pong"]),
        (True, ["true"]),
        (1.5, ["1.5"]),
        ("", [""]),
        ("two\nlines", ["two", "lines"]),
        (["a", 1], ["a", "1"]),
        ([], []),
        ({"a": 1, "long": None}, ["a     1", "long  -"]),
        ([{"a": 1}, {"a": 2}], ["A", "1", "2"]),
        ({"a": {"b": 1}}, ["{", '  "a": {', '    "b": 1', "  }", "}"]),
        (b"\xffx", ["\\xffx"]),
    ],
)
def test_any_value_can_be_shown(value: object, lines: list[str]) -> None:
    """Commands return what they like."""
    assert values.value(value, PLAIN) == lines


def test_a_reload_is_summed_up() -> None:
    """In the words of what will be, where it was only tried."""
    result = {"loaded": [], "reloaded": ["cpu", "disk"], "unloaded": [], "unchanged": ["load"], "failed": []}
    assert summary(result, PLAIN) == ["reloaded  cpu, disk", "unchanged  1 plugin"]
    assert summary(result, PLAIN, dry=True)[0] == "would be reloaded  cpu, disk"
    assert summary({"loaded": [], "failed": []}, PLAIN) == ["nothing to do"]


def evil(thing: Any) -> Any:
    """The same answer of a daemon, or a plugin, that wants to take over the terminal."""
    if isinstance(thing, dict):
        return {(key if key in KEYS else key + EVIL): evil(value) for key, value in thing.items()}
    if isinstance(thing, list):
        return [evil(item) for item in thing]
    return thing + EVIL if isinstance(thing, str) else thing


def keys(thing: Any) -> set[str]:
    if isinstance(thing, dict):
        return set(thing).union(*map(keys, thing.values()))
    return set().union(*map(keys, thing)) if isinstance(thing, list) else set()


LOGS = [{"time": 0.0, "level": "info", "event": "e", "plugin": "p", "fields": {"label": "x"}}]
EVENT = {"subscription": 1, **WHY["events"][0]}
CHECK = {"name": "x", "ok": False, "faults": [{"message": "m", "path": "p", "line": 1}]}
OTHERS = {"samples": [], "paused": [], "loaded": [], "failed": []}
KEYS = keys([CHECK, OTHERS, CPU, STATS, STATUS, WHY, DESCRIPTION, LOGS, EVENT, STATS["metrics"]]) - {
    "cpu",
    "cpu.mode",
    "label",
    "percpu",
}


@pytest.mark.parametrize(
    ("render", "result"),
    [
        (plugins.plugins, [CPU, DISK]),
        (plugins.description, DESCRIPTION),
        (plugins.reasons, WHY),
        (plugins.check, CHECK),
        (metrics.stats, STATS),
        (metrics.samples, {"samples": STATS["metrics"]}),
        (metrics.event, EVENT),
        (daemon.status, STATUS),
        (daemon.brief, STATUS),
        (daemon.logs, LOGS),
        (values.value, {"a": "b"}),
        (values.value, [{"a": "b"}]),
        (values.value, {"a": {"b": ["c"]}}),
        (values.value, ["a"]),
        (values.value, "a"),
        (values.paused, {"paused": ["a"]}),
        (summary, {"loaded": ["a"], "failed": []}),
    ],
)
def test_nothing_that_others_wrote_reaches_the_terminal_raw(render: Any, result: Any) -> None:
    """Names, messages, labels, causes: all of them come from plugins, and none can move the cursor."""
    lines = render(evil(result), PLAIN)
    assert lines
    assert all(line.isprintable() for line in lines), lines


def test_json_is_ascii_and_has_no_numbers_of_its_own() -> None:
    """Parsers refuse NaN; a terminal would obey a raw escape."""
    assert json_text({"a": [float("nan"), float("inf"), 1.5], 1: b"\xff", "\x1b\x9b": "µ"}) == (
        '{"a":[null,null,1.5],"1":"\\\\xff","\\u001b\\u009b":"\\u00b5"}'
    )


@pytest.mark.parametrize(
    ("cgroups", "line"),
    [
        (["cpu", "memory"], "cgroups      one for each plugin, with limits on cpu, memory"),
        ([], "cgroups      one for each plugin, without limits"),
    ],
)
def test_cgroups_are_told_where_there_are_some(cgroups: list[str], line: str) -> None:
    """Which limits the kernel holds plugins to; and nothing of it elsewhere."""
    assert line in daemon.status({**STATUS, "cgroups": cgroups}, PLAIN)
    assert not any("cgroup" in each for each in daemon.status({**STATUS, "cgroups": None}, PLAIN))
