"""What each method answers, in the shapes of the wire's contract."""

import hashlib
import os
import platform
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
from control_rig import DEMO, PLAIN
from harness import Daemon, Daemons, RpcError, daemons, wait_until, write_plugin

from plugd import __version__

BROKEN = PLAIN.format(title="Broken").replace("yield self.value(1)", "raise RuntimeError('no luck')")
NUMBER = (int, float)
STATES = {"starting", "running", "backoff", "paused", "quarantined", "failed", "stopping"}


@pytest.fixture(scope="module")
def running() -> Iterator[Daemon]:
    """A daemon that is only asked; what changes it has one of its own."""
    with daemons() as start:
        yield start(
            plugins={"demo": DEMO, "broken": BROKEN, "wrong": '"""No class."""\n'},
            config="""
[plugins.demo]
timeout = "8s"
[plugins.demo.options]
limit = 4
[plugins.off]
enabled = false
""",
        )


def refusal(running: Daemon, method: str, **params: Any) -> RpcError:
    with pytest.raises(RpcError) as caught:
        running.call(method, **params)
    return caught.value


def test_hello(running: Daemon) -> None:
    """Versions, the role, whose the connection is, this run of the daemon, and the limits."""
    answer = running.call("hello", client="test 1.0")
    assert len(answer.pop("boot_id")) >= 16
    assert answer.pop("limits") == {
        "request_bytes": 65536,
        "depth": 32,
        "elements": 4096,
        "partial_request_seconds": 5.0,
        "unread_bytes": 8388608,
        "write_seconds": 30.0,
        "idle_seconds": 600.0,
        "ping_seconds": 30.0,
        "connections": 256,
        "connections_per_uid": 32,
        "requests_in_flight": 64,
        "subscriptions": 16,
        "subscriptions_per_uid": 64,
        "queue": 256,
    }
    assert answer == {
        "name": "plugd",
        "version": __version__,
        "api": 1,
        "protocol": 1,
        "role": "admin",
        "uid": os.getuid(),
        "pid": running.pid,
    }


def test_the_boot_id_is_of_one_run(daemon: Daemons, running: Daemon) -> None:
    """It is the same as long as the daemon runs, and another one in another daemon."""
    own = running.call("hello")["boot_id"]
    assert running.call("hello")["boot_id"] == own
    assert daemon(plugins={}).call("hello")["boot_id"] != own


def test_ping(running: Daemon) -> None:
    """The answer is pong."""
    assert running.call("ping") == "pong"


def test_version(running: Daemon) -> None:
    """plugd's, the API's, the protocol's, Python's, and the platform."""
    answer = running.call("version")
    assert answer.pop("platform").startswith(f"Linux {os.uname().release}")
    assert answer == {"version": __version__, "api": 1, "protocol": 1, "python": platform.python_version()}


def test_methods(running: Daemon) -> None:
    """Every method with its role, a description, and its parameters' JSON Schema."""
    rows = running.call("methods")
    assert len({row["name"] for row in rows}) == len(rows)
    for row in rows:
        assert set(row) == {"name", "role", "description", "parameters"}
        assert row["role"] in ("read", "operate", "admin")
        assert row["description"].endswith(".")
        schema = row["parameters"]
        assert schema["type"] == "object"
        assert schema["additionalProperties"] is False
        assert set(schema.get("required", [])) <= set(schema["properties"])


def test_list(running: Daemon) -> None:
    """One row for each plugin, by name."""
    rows = {row["name"]: row for row in running.call("list")}
    assert list(rows) == ["broken", "demo", "wrong"]
    demo = rows["demo"]
    assert time.time() - 3600 < demo.pop("loaded_at") <= time.time()
    assert demo.pop("pid") in running.processes()
    assert demo == {
        "name": "demo",
        "kind": "python",
        "state": "running",
        "version": "1.2.3",
        "api": 1,
        "description": "A plugin with everything.",
        "path": f"{running.plugin_dir}/demo.py",
        "sha256": hashlib.sha256(DEMO.encode()).hexdigest(),
        "generation": 1,
        "interval": 3600.0,
        "collects": 1,
        "failures": 0,
        "last_error": None,
    }
    for name in ("broken", "wrong"):
        row = rows[name]
        assert set(row) == {*demo, "loaded_at", "pid"}
        assert row["state"] in ("backoff", "starting", "failed", "quarantined")
        assert row["last_error"]
        assert (row["pid"], row["loaded_at"], row["collects"]) == (None, None, 0)


def test_status(running: Daemon) -> None:
    """The daemon in brief."""
    answer = running.call("status")
    assert answer["version"] == __version__
    assert (answer["pid"], answer["uid"]) == (running.pid, os.getuid())
    assert answer["socket"] == str(running.socket)
    assert answer["config"] == str(running.config)
    assert answer["plugin_dirs"] == [str(running.plugin_dir)]
    assert answer["started_at"] <= answer["time"] <= time.time()
    assert 0 < answer["uptime"] < 3600
    assert answer["plugins"]["total"] == 3
    assert answer["plugins"]["states"]["running"] == 1
    assert sum(answer["plugins"]["states"].values()) == 3
    assert set(answer["plugins"]["states"]) <= STATES
    assert {row["name"] for row in answer["problems"]} == {"broken", "wrong"}
    for row in answer["problems"]:
        assert set(row) == {"name", "state", "last_error"}
    assert (answer["series"], answer["connections"]) == (3, 1)
    assert answer["memory_bytes"] > 1_000_000
    assert answer["cpu_seconds"] > 0
    assert all(isinstance(note, str) for note in answer["notes"])


def test_status_without_a_configuration(daemon: Daemons) -> None:
    """`config` is null where there is no file; no plugin is no problem."""
    answer = daemon(plugins={}).call("status")
    assert (answer["config"], answer["problems"], answer["plugins"]["total"]) == (None, [], 0)


def test_stats(running: Daemon) -> None:
    """Each plugin's own figures, and every latest sample."""
    answer = running.call("stats")
    assert set(answer) == {"time", "uptime", "plugins", "metrics"}
    assert set(answer["plugins"]) == {"broken", "demo", "wrong"}
    figures = {
        "state", "collects", "failures", "timeouts", "skipped", "restarts", "duration_last", "duration_p50",
        "duration_p99", "cpu_seconds", "memory_bytes", "series",
    }  # fmt: skip
    for row in answer["plugins"].values():
        assert figures <= set(row)
        for figure in figures - {"state"}:
            assert isinstance(row[figure], NUMBER) or (figure.startswith("duration") and row[figure] is None)
    demo = answer["plugins"]["demo"]
    assert (demo["state"], demo["collects"], demo["series"]) == ("running", 1, 3)
    assert demo["memory_bytes"] > 1_000_000
    assert 0 < demo["duration_last"] == demo["duration_p50"] == demo["duration_p99"]
    assert answer["plugins"]["wrong"]["duration_last"] is None
    for row in answer["metrics"]:
        assert 0 <= answer["time"] - row.pop("time") < 3600
    assert answer["metrics"] == [
        {
            "plugin": "demo",
            "name": "test.level",
            "kind": "gauge",
            "unit": "By",
            "labels": {"place": "here", "number": "0"},
            "value": 12.0,
        },
        {
            "plugin": "demo",
            "name": "test.level",
            "kind": "gauge",
            "unit": "By",
            "labels": {"place": "there", "number": "1"},
            "value": 0.5,
        },
        {
            "plugin": "demo",
            "name": "test.events",
            "kind": "counter",
            "unit": "{event}",
            "labels": {"event.kind": "good"},
            "value": 7.0,
            "rate": None,
        },
    ]
    assert all(type(row["value"]) is float for row in answer["metrics"])


@pytest.mark.parametrize(
    ("patterns", "plugins", "metrics"),
    [
        ([], {"broken", "demo", "wrong"}, 3),
        (["demo"], {"demo"}, 3),
        (["test.level"], {"demo"}, 2),
        (["*.events", "broken"], {"demo", "broken"}, 1),
        (["nosuch"], set(), 0),
    ],
)
def test_stats_of_some(running: Daemon, patterns: list[str], plugins: set[str], metrics: int) -> None:
    """Patterns choose plugins and metrics; none at all is everything."""
    answer = running.call("stats", patterns=patterns)
    assert set(answer["plugins"]) == plugins
    assert len(answer["metrics"]) == metrics


def test_describe(running: Daemon) -> None:
    """All that there is to know of a plugin."""
    answer = running.call("describe", name="demo")
    schema = answer.pop("options_schema")
    assert set(schema["properties"]) == {"greeting", "limit"}
    assert answer == {
        "name": "demo",
        "kind": "python",
        "version": "1.2.3",
        "api": 1,
        "description": "A plugin with everything.",
        "path": f"{running.plugin_dir}/demo.py",
        "sha256": hashlib.sha256(DEMO.encode()).hexdigest(),
        "state": "running",
        "generation": 1,
        "interval": 3600.0,
        "timeout": 8.0,
        "offset": 0.0,
        "unconfined": [],
        "requires": [],
        "metrics": [
            {
                "name": "test.level",
                "kind": "gauge",
                "unit": "By",
                "labels": ["place", "number"],
                "help": "How high it stands.",
            },
            {
                "name": "test.events",
                "kind": "counter",
                "unit": "{event}",
                "labels": ["event.kind"],
                "help": "How many there were.",
            },
        ],
        "commands": [
            {
                "name": "add",
                "help": "Add two numbers.",
                "parameters": [
                    {"name": "first", "type": "int", "required": True, "default": None},
                    {"name": "second", "type": "int", "required": False, "default": 2},
                ],
            },
            {
                "name": "echo",
                "help": "Give back what was given.",
                "parameters": [{"name": "value", "type": "Any", "required": True, "default": None}],
            },
            {"name": "fail", "help": "", "parameters": []},
            {"name": "impossible", "help": "", "parameters": []},
        ],
        "settings": [
            {
                "name": "colour",
                "type": "str",
                "value": "red",
                "origin": "default",
                "ignored": None,
                "default": "red",
                "help": "Of the display.",
                "minimum": None,
                "maximum": None,
                "choices": ["red", "green"],
            },
            {
                "name": "gain",
                "type": "float",
                "value": 1.5,
                "origin": "default",
                "ignored": None,
                "default": 1.5,
                "help": "",
                "minimum": 0.0,
                "maximum": 10.0,
                "choices": [],
            },
            {
                "name": "loud",
                "type": "bool",
                "value": False,
                "origin": "default",
                "ignored": None,
                "default": False,
                "help": "",
                "minimum": None,
                "maximum": None,
                "choices": [],
            },
        ],
        "options": {"greeting": "hello", "limit": 4},
    }


def test_describe_of_a_plugin_that_does_not_run(running: Daemon) -> None:
    """It has the same keys, with what is known of it."""
    answer = running.call("describe", name="wrong")
    assert set(answer) == set(running.call("describe", name="demo"))
    assert (answer["state"], answer["metrics"], answer["commands"], answer["version"]) == ("failed", [], [], None)
    assert answer["options_schema"] is None


def test_why(running: Daemon) -> None:
    """Of a plugin that runs: since when, and how it came to that."""
    answer = running.call("why", name="demo")
    keys = {
        "name", "state", "generation", "summary", "last_error", "traceback", "since", "pid", "exit", "output",
        "next_retry", "events",
    }  # fmt: skip
    assert keys <= set(answer)
    assert (answer["name"], answer["state"], answer["generation"]) == ("demo", "running", 1)
    assert (answer["last_error"], answer["traceback"], answer["exit"], answer["next_retry"]) == (None,) * 4
    assert answer["summary"].startswith("demo is running")
    assert answer["output"] == ["collecting"]
    assert answer["pid"] == running.plugin("demo")["pid"]
    assert answer["since"] <= time.time()
    assert [(event["from"], event["to"], event["cause"]) for event in answer["events"]] == [
        (None, "starting", "plugd started"),
        ("starting", "running", "plugd started"),
    ]
    for event in answer["events"]:
        assert set(event) == {"time", "plugin", "generation", "from", "to", "cause", "uid", "pid"}
        assert (event["plugin"], event["uid"], event["pid"]) == ("demo", None, None)


def test_why_of_a_plugin_that_failed(running: Daemon) -> None:
    """The cause in plain words, with its traceback, and when it is tried again."""
    answer = running.call("why", name="broken")
    assert "no luck" in answer["summary"]
    assert "RuntimeError: no luck" in answer["last_error"]
    assert f'File "{running.plugin_dir}/broken.py", line 12, in collect' in answer["traceback"]
    assert answer["state"] in ("backoff", "starting", "quarantined")
    assert answer["next_retry"] is None or answer["next_retry"] > answer["since"]
    assert running.call("why", name="wrong")["state"] == "failed"


def test_logs(running: Daemon) -> None:
    """The latest records, the oldest first, of one plugin where one is named."""
    answer = running.call("logs", name="demo")
    for record in answer:
        assert set(record) == {"time", "level", "event", "plugin", "fields"}
        assert record["plugin"] == "demo"
    assert [record["time"] for record in answer] == sorted(record["time"] for record in answer)
    (line,) = [record for record in answer if record["event"] == "plugin_output"]
    assert line["level"] == "info"
    assert line["fields"] == line["fields"] | {"stream": "stdout", "line": "collecting", "generation": 1}
    assert len(running.call("logs", lines=2)) == 2
    assert [record["event"] for record in running.call("logs", name="demo", lines=1)] == [answer[-1]["event"]]
    assert any(record["plugin"] is None for record in running.call("logs", lines=500))
    assert refusal(running, "logs", lines=501).code == "request.invalid"


def test_get(running: Daemon) -> None:
    """One setting's value, or all by name."""
    assert running.call("get", name="demo") == {"colour": "red", "gain": 1.5, "loud": False}
    assert running.call("get", name="demo", setting="gain") == 1.5
    assert refusal(running, "get", name="demo", setting="nosuch").code == "request.invalid"


@pytest.mark.parametrize(
    ("setting", "value", "expected"),
    [
        ("gain", 3, 3.0),
        ("gain", "2.5", 2.5),
        ("colour", "green", "green"),
        ("loud", "true", True),
        ("loud", True, True),
    ],
)
def test_set(daemon: Daemons, setting: str, value: Any, expected: Any) -> None:
    """The answer is the new value, converted; it outlives a reload."""
    own = daemon(plugins={"demo": DEMO})
    answer = own.call("set", name="demo", setting=setting, value=value)
    assert (answer, type(answer)) == (expected, type(expected))
    assert own.call("get", name="demo", setting=setting) == expected
    own.call("reload", names=["demo"])
    assert own.call("get", name="demo", setting=setting) == expected


@pytest.mark.parametrize(
    ("setting", "value"),
    [("gain", 11), ("gain", -1), ("gain", "much"), ("gain", None), ("colour", "blue"), ("loud", "perhaps"), ("x", 1)],
)
def test_set_refuses(running: Daemon, setting: str, value: Any) -> None:
    """What the setting does not allow is invalid, and the old value stays."""
    error = refusal(running, "set", name="demo", setting=setting, value=value)
    assert error.code == "request.invalid"
    assert running.call("get", name="demo") == {"colour": "red", "gain": 1.5, "loud": False}


def test_call(running: Daemon) -> None:
    """Arguments are converted to what the command takes; its result is the answer."""
    assert running.call("call", name="demo", command="add", args=[1]) == 3
    assert running.call("call", name="demo", command="add", args=["1", "5"]) == 6
    assert running.call("call", name="demo", command="add", kwargs={"first": 1, "second": "1"}) == 2
    assert running.call("call", name="demo", command="echo", args=[{"a": [1]}]) == {"a": [1]}


@pytest.mark.parametrize(
    "params",
    [
        {"command": "nosuch"},
        {"command": "collect"},
        {"command": "__init__"},
        {"command": "add"},
        {"command": "add", "args": ["one"]},
        {"command": "add", "args": [1, 2, 3]},
        {"command": "add", "args": [1], "kwargs": {"third": 1}},
        {"command": "add", "args": [1], "kwargs": {"first": 1}},
    ],
)
def test_call_refuses(running: Daemon, params: dict[str, Any]) -> None:
    """What is no command, or not its arguments, is invalid; only what is marked as a command is one."""
    assert refusal(running, "call", name="demo", **params).code == "request.invalid"


def test_check(running: Daemon) -> None:
    """Tells whether a plugin would run, and changes nothing."""
    before = running.call("list")
    answer = running.call("check", name="demo")
    assert answer.pop("duration") > 0
    assert answer == {"name": "demo", "ok": True, "faults": [], "samples": 3}
    after = running.call("list")
    assert [row["generation"] for row in before] == [row["generation"] for row in after]


@pytest.mark.parametrize("name", ["broken", "wrong"])
def test_check_of_a_faulty_plugin(running: Daemon, name: str) -> None:
    """Every fault with file and line."""
    answer = running.call("check", name=name)
    assert (answer["ok"], answer["samples"], answer["duration"]) == (False, None, None)
    assert answer["faults"]
    for fault in answer["faults"]:
        assert set(fault) == {"message", "path", "line"}
        assert fault["path"] == f"{running.plugin_dir}/{name}.py"
        assert fault["line"] is None or type(fault["line"]) is int


def test_check_of_a_plugin_that_is_not_loaded(daemon: Daemons) -> None:
    """A file is enough."""
    own = daemon(plugins={})
    assert own.plugin_dir is not None
    write_plugin(own.plugin_dir, "plain", PLAIN.format(title="Plain"))
    assert own.call("check", name="plain")["ok"]
    assert own.call("list") == []


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("describe", {"name": "nosuch"}),
        ("why", {"name": "nosuch"}),
        ("get", {"name": "nosuch"}),
        ("set", {"name": "nosuch", "setting": "a", "value": 1}),
        ("unset", {"name": "nosuch", "setting": "a"}),
        ("call", {"name": "nosuch", "command": "a"}),
        ("check", {"name": "nosuch"}),
        ("load", {"names": ["nosuch"]}),
        ("unload", {"names": ["nosuch"]}),
        ("reload", {"names": ["nosuch"]}),
        ("reload", {"names": ["demo", "nosuch"]}),
        ("pause", {"names": ["nosuch"]}),
        ("resume", {"names": ["nosuch"]}),
    ],
)
def test_a_plugin_that_is_not_there_is_not_found(running: Daemon, method: str, params: dict[str, Any]) -> None:
    """The error names it, and nothing has been done to others."""
    error = refusal(running, method, **params)
    assert (error.code, error.data["name"]) == ("plugin.not_found", "nosuch")
    assert "'nosuch'" in error.message
    assert error.message.startswith("cannot ")
    assert running.plugin("demo")["generation"] == 1


def test_load_and_unload(daemon: Daemons) -> None:
    """The answers name what was done; with several plugins, what failed and why."""
    own = daemon(plugins={"one": PLAIN.format(title="One")})
    assert own.plugin_dir is not None
    assert refusal(own, "load", names=["one"]).code == "plugin.already_loaded"
    write_plugin(own.plugin_dir, "two", PLAIN.format(title="Two"))
    assert own.call("load", names=["two"]) == {"loaded": ["two"], "failed": []}
    assert own.call("unload", names=["two"]) == {"unloaded": ["two"], "failed": []}
    assert [row["name"] for row in own.call("list")] == ["one"]
    answer = own.call("load", names=["one", "two", "nosuch"])
    assert answer["loaded"] == ["two"]
    assert [(row["name"], row["error"]["code"]) for row in answer["failed"]] == [
        ("one", "plugin.already_loaded"),
        ("nosuch", "plugin.not_found"),
    ]
    assert all(set(row["error"]) == {"code", "message", "data"} for row in answer["failed"])
    answer = own.call("unload", names=["nosuch", "one", "two", "one"], cascade=True)
    assert answer["unloaded"] == ["one", "two"]
    assert [(row["name"], row["error"]["code"]) for row in answer["failed"]] == [("nosuch", "plugin.not_found")]
    assert own.call("stats")["metrics"] == []


def test_a_load_that_fails_says_why(daemon: Daemons) -> None:
    """With a single name the plugin's error is the request's; what is wrong is all told."""
    own = daemon(plugins={})
    assert own.plugin_dir is not None
    write_plugin(own.plugin_dir, "wrong", '"""No class."""\n')
    error = refusal(own, "load", names=["wrong"])
    assert error.code == "plugin.invalid"
    assert error.message.startswith("cannot load plugin 'wrong': ")
    assert error.data["name"] == "wrong"
    assert error.data["faults"]
    write_plugin(own.plugin_dir, "broken", BROKEN)
    assert refusal(own, "load", names=["broken"]).code == "plugin.crashed"


def test_reload(daemon: Daemons) -> None:
    """Without names, what has changed; a dry run says it first, and does nothing."""
    own = daemon(plugins={name.lower(): PLAIN.format(title=name) for name in ("Edit", "Gone", "Same")})
    assert own.plugin_dir is not None
    nothing = {"loaded": [], "reloaded": [], "unloaded": [], "unchanged": ["edit", "gone", "same"], "failed": []}
    assert own.call("reload") == nothing
    os.utime(own.plugin_dir / "same.py")
    assert own.call("reload") == nothing
    write_plugin(own.plugin_dir, "edit", PLAIN.format(title="Edit").replace("self.value(1)", "self.value(2)"))
    write_plugin(own.plugin_dir, "more", PLAIN.format(title="More"))
    (own.plugin_dir / "gone.py").unlink()
    plan = {"loaded": ["more"], "reloaded": ["edit"], "unloaded": ["gone"], "unchanged": ["same"], "failed": []}
    before = own.call("list")
    assert own.call("reload", dry_run=True) == plan
    assert own.call("list") == before
    assert own.call("reload") == plan
    assert {row["name"]: row["generation"] for row in own.call("list")} == {"edit": 2, "more": 1, "same": 1}
    assert own.call("reload", names=["same"])["reloaded"] == ["same"]
    assert own.plugin("same")["generation"] == 2


def test_a_reload_that_fails_says_why(daemon: Daemons) -> None:
    """The plugin is named with its error, and the others are reloaded."""
    own = daemon(plugins={name.lower(): PLAIN.format(title=name) for name in ("Bad", "Good")})
    assert own.plugin_dir is not None
    for name in ("Bad", "Good"):
        edited = PLAIN.format(title=name).replace("self.value(1)", "self.value(2)")
        write_plugin(own.plugin_dir, name.lower(), edited if name == "Good" else edited + "\n1 +\n")
    answer = own.call("reload")
    assert answer["reloaded"] == ["good"]
    (failed,) = answer["failed"]
    assert (failed["name"], failed["error"]["code"]) == ("bad", "plugin.invalid")
    assert failed["error"]["message"].startswith("cannot reload plugin 'bad': ")
    assert own.plugin("bad")["state"] == "running"


def test_pause_and_resume(daemon: Daemons) -> None:
    """The answers name the plugins; without names it is all of them."""
    own = daemon(plugins={name.lower(): PLAIN.format(title=name) for name in ("One", "Two")})
    assert own.call("pause", names=["two", "two"], duration=3600, reason="tea") == {"paused": ["two"]}
    assert own.plugin("two")["state"] == "paused"
    assert "tea" in own.call("why", name="two")["summary"]
    assert own.call("why", name="two")["next_retry"] > time.time()
    assert own.call("resume", names=["two"])["resumed"] == ["two"]
    assert own.plugin("two")["state"] == "running"
    assert own.call("pause") == {"paused": ["one", "two"]}
    assert own.call("resume")["resumed"] == ["one", "two"]


def test_any_msgpack_client_is_a_client(running: Daemon) -> None:
    """A request written by hand is answered, with no hello, though its sender has closed its own half."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(running.socket))
        client.sendall(b"\x94\x00\x01\xa4list\x90")
        client.shutdown(socket.SHUT_WR)
        data = b"".join(iter(lambda: client.recv(65536), b""))
    assert data.startswith(b"\x94\x01\x01\xc0\x93")


def test_who_asked_is_part_of_the_event(daemon: Daemons) -> None:
    """The peer's uid and pid are recorded with the change that it asked for."""
    own = daemon(plugins={"one": PLAIN.format(title="One")})
    own.call("pause", names=["one"])
    event = own.call("why", name="one")["events"][-1]
    assert (event["to"], event["uid"], event["pid"]) == ("paused", os.getuid(), os.getpid())
    wait_until(lambda: own.records("plugin_paused"), "the log line")
