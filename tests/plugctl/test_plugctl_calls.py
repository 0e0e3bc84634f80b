"""call, get and set: deadlines, the line that tells how far a command is, cancelling, origins."""

import fcntl
import json
import os
import signal
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import pytest
from fake_daemon import DEADLINE, Connection, FakeDaemon, Outcome, Run, answering, wait_until

from plugctl.progress import fitted, told

MAIN = "from plugctl.cli import main; main()"
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("line", "params"),
    [
        ("call x go", {"name": "x", "command": "go"}),
        ("call --deadline 2m x go 1", {"name": "x", "command": "go", "args": ["1"], "timeout": 120.0}),
        ("call x go --deadline=0.5 a=b", {"name": "x", "command": "go", "kwargs": {"a": "b"}, "timeout": 0.5}),
    ],
)
def test_a_deadline_is_the_daemons_to_keep(run: Run, socket_path: Path, line: str, params: dict[str, Any]) -> None:
    """It is sent, and this process waits longer than that."""
    with answering(socket_path, {"call": 7}) as daemon:
        assert run(*line.split()) == Outcome(0, "7\n", "")
    assert daemon.requests == [("call", params)]


def test_a_timeout_is_its_own(run: Run, socket_path: Path) -> None:
    """Who says how long to wait is not made to wait longer."""
    with FakeDaemon(socket_path, lambda connection, *_: connection.wait_closed()):
        outcome = run("call", "x", "go", "--deadline", "1h", "--timeout", "0.05")
    assert outcome.status == 6


def test_without_a_terminal_progress_is_silent(run: Run, socket_path: Path) -> None:
    """Neither stream has anything of it, with --json as without."""

    def handle(connection: Connection, identifier: int, method: str, params: dict[str, Any]) -> None:
        connection.notify("progress", {"request": identifier, "done": 1.0, "total": 2.0, "text": "x"})
        connection.respond(identifier, None, {"a": 1})

    with FakeDaemon(socket_path, handle):
        assert run("call", "x", "go") == Outcome(0, "a  1\n", "")
        assert run("call", "x", "go", "--json") == Outcome(0, '{"a":1}\n', "")


def on_terminal(daemon: FakeDaemon, *arguments: str, interrupt: bool = False) -> tuple[int, str, str]:
    """Run plugctl with stderr on a terminal of 40 columns; return its status, stdout, and what the terminal got."""
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 40, 0, 0))
    with os.fdopen(ours, "rb", buffering=0) as screen:
        line = [sys.executable, "-c", MAIN, "--socket", daemon.path, *arguments]
        environ = {**os.environ, "TERM": "xterm"}
        with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=theirs, cwd=ROOT, env=environ, text=True) as process:
            os.close(theirs)
            if interrupt:
                wait_until(lambda: bool(daemon.requests))
                process.send_signal(signal.SIGINT)
            out, _ = process.communicate(timeout=DEADLINE)
        shown = b""
        try:
            while data := screen.read(4096):
                shown += data
        except OSError:
            pass  # EIO: the other end is closed, and all has been read
    return process.returncode, out, shown.decode()


def progressing(connection: Connection, identifier: int, method: str, params: dict[str, Any]) -> None:
    for number, text in enumerate(["begun", "\x1b[31mred\n", "x" * 300]):
        connection.notify("progress", {"request": identifier, "done": float(number), "total": 3.0, "text": text})
    connection.notify("event", {"plugin": "x"})
    connection.respond(identifier, None, "done")


def test_on_a_terminal_there_is_a_line_and_it_is_gone_at_the_end(socket_path: Path) -> None:
    """Each progress is drawn over the one before, harmless, and within the line."""
    with FakeDaemon(socket_path, progressing) as daemon:
        status, out, shown = on_terminal(daemon, "call", "x", "go")
    clear = "\r\x1b[K"
    assert (status, out) == (0, "done\n")
    lines = shown.split(clear)
    assert lines[:3] == ["", "x go  0 %  begun", "x go  33 %  \\x1b[31mred\\x0a"]
    assert lines[3] == ("x go  67 %  " + "x" * 300)[:39]
    assert lines[4:] == [""]


def test_on_a_terminal_json_is_silent_about_it(socket_path: Path) -> None:
    """What reads JSON speaks to the socket, if it wants to know."""
    with FakeDaemon(socket_path, progressing) as daemon:
        assert on_terminal(daemon, "--json", "call", "x", "go") == (0, '"done"\n', "")


def test_ctrl_c_cancels_the_command(socket_path: Path) -> None:
    """It is asked for by the request's id; the status is that of an interruption, and nothing else is shown."""

    def handle(connection: Connection, identifier: int, method: str, params: dict[str, Any]) -> None:
        if method == "cancel":
            connection.respond(identifier, None, {"cancelled": True})
            connection.respond(params["request"], {"code": "busy", "message": "call was cancelled", "data": {}}, None)

    with FakeDaemon(socket_path, handle) as daemon:
        assert on_terminal(daemon, "call", "x", "go", interrupt=True) == (130, "", "")
    assert daemon.requests == [("call", {"name": "x", "command": "go"}), ("cancel", {"request": 1})]


def test_ctrl_c_does_not_wait_for_a_daemon_that_is_silent(socket_path: Path) -> None:
    """For a moment; then the connection's end is as good."""
    with FakeDaemon(socket_path, lambda *_: None) as daemon:
        assert on_terminal(daemon, "call", "x", "go", interrupt=True) == (130, "", "")


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({"done": 1.0, "total": 3.0, "text": ""}, "33 %"),
        ({"done": 5.0, "total": 3.0, "text": "x"}, "100 %  x"),
        ({"done": -5.0, "total": 3.0, "text": "x"}, "0 %  x"),
        ({"done": 17.0, "total": None, "text": "x"}, "17  x"),
        ({"done": 123456789.0, "total": 0.0, "text": ""}, "123456789"),
        ({"done": None, "total": 3.0, "text": "x"}, "x"),
        ({"done": float("nan"), "total": 3.0}, ""),
        ({"done": "5", "total": [], "text": 7}, "7"),
        ({}, ""),
    ],
)
def test_progress_in_words(params: dict[str, Any], text: str) -> None:
    """Percent where a total is known; whatever a daemon sends."""
    assert told(params) == text


def test_wide_characters_take_two_columns() -> None:
    """A line that wraps cannot be cleared."""
    assert fitted("\u6f22" * 40, 11) == "\u6f22" * 5


def test_get_shows_where_values_are_from(run: Run, socket_path: Path) -> None:
    """With --origin; one setting or all, as a table or as JSON."""
    row = {"value": 5, "origin": "saved"}
    answer = {"level": row, "names": {"value": ["a", "b"], "origin": "default"}, "no": {"value": None, "origin": "set"}}
    with answering(socket_path, {"get": lambda params: row if "setting" in params else answer}) as daemon:
        outcome = run("get", "x", "--origin")
        assert outcome.out.splitlines() == [
            "SETTING  VALUE      FROM",
            "level    5          saved",
            'names    ["a","b"]  default',
            "no       -          set",
        ]
        assert run("get", "x", "level", "--origin").out.splitlines() == [
            "SETTING  VALUE  FROM",
            "level    5      saved",
        ]
        assert json.loads(run("get", "x", "level", "--origin", "--json").out) == row
    assert daemon.requests[0] == ("get", {"name": "x", "origin": True})


def test_set_may_last_and_may_be_forgotten(run: Run, socket_path: Path) -> None:
    """--persist is a parameter, --unset a method of its own."""
    with answering(socket_path, {"set": 5, "unset": 1}) as daemon:
        assert run("set", "--persist", "x", "level", "5") == Outcome(0, "5\n", "")
        assert run("set", "--unset", "x", "level") == Outcome(0, "1\n", "")
    assert daemon.requests == [
        ("set", {"name": "x", "setting": "level", "value": "5", "persist": True}),
        ("unset", {"name": "x", "setting": "level"}),
    ]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("set x level", "VALUE is missing"),
        ("set --unset x level 5", "--unset goes without VALUE"),
        ("set --unset --persist x level", "--unset goes without --persist"),
    ],
)
def test_set_with_too_little_or_too_much_is_not_sent(run: Run, line: str, reason: str) -> None:
    """Status 2, with the usage."""
    outcome = run(*line.split())
    assert outcome.status == 2
    assert f"plugctl: set: {reason}\n" in outcome.err
    assert "usage: plugctl set" in outcome.err
