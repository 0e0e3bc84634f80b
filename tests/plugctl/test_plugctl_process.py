"""plugctl as a process: what it imports, how it streams, how it ends."""

import fcntl
import json
import os
import re
import signal
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import pytest
from fake_daemon import CPU, DEADLINE, Connection, FakeDaemon, answering, wait_until

MAIN = "from plugctl.cli import main; main()"
ROOT = Path(__file__).parents[2]

SAMPLE = {
    "subscription": 1,
    "plugin": "cpu",
    "time": 0.0,
    "dropped": 0,
    "samples": [
        {
            "plugin": "cpu",
            "name": "system.cpu.utilization",
            "kind": "gauge",
            "unit": "1",
            "labels": {"mode": "user"},
            "value": 0.5,
            "time": 0.0,
            "rate": None,
        }
    ],
}
EVENT = {
    "subscription": 1,
    "time": 0.0,
    "plugin": "cpu",
    "generation": 1,
    "from": "running",
    "to": "paused",
    "cause": "c",
}

# Each is slow to import, and not needed to ask one thing and to draw a table.
HEAVY = {
    "argparse",
    "asyncio",
    "contextlib",
    "dataclasses",
    "enum",
    "functools",
    "importlib",
    "inspect",
    "json",
    "logging",
    "pathlib",
    "re",
    "selectors",
    "shutil",
    "signal",
    "socket",
    "subprocess",
    "traceback",
    "typing",
    "unicodedata",
    "plugd.plugin",
    "plugd.metric",
    "plugctl.usage",
}


def start(daemon: FakeDaemon, *arguments: str, python: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *python, "-c", MAIN, "--socket", daemon.path, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONUNBUFFERED": ""},
    )


def streaming(*notifications: tuple[str, dict[str, Any]], end: bool) -> Any:
    """A handler that answers a subscription, sends notifications, and then hangs up or waits."""

    def handle(connection: Connection, identifier: int, method: str, params: dict[str, Any]) -> None:
        connection.notify(*notifications[0])  # one that overtakes the answer
        connection.respond(identifier, None, {"subscription": 1})
        for notification in notifications[1:]:
            connection.notify(*notification)
        if end:
            connection.stream.shutdown(2)
        else:
            connection.wait_closed()

    return handle


def imported(report: str) -> set[str]:
    """The modules in what ``-X importtime`` wrote."""
    return {line.rpartition("|")[2].strip() for line in report.splitlines() if line.startswith("import time:")}


def test_a_list_imports_next_to_nothing(socket_path: Path) -> None:
    """A call's latency is its imports; what the interpreter itself imports at its start does not count."""
    bare = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", "pass"], capture_output=True, text=True, check=True, cwd=ROOT
    )
    with (
        answering(socket_path, {"list": [CPU]}) as daemon,
        start(daemon, "list", python=("-X", "importtime")) as process,
    ):
        out, report = process.communicate(timeout=DEADLINE)
    assert "cpu" in out
    modules = imported(report) - imported(bare.stderr)
    assert {"plugctl.cli", "msgpack"} <= modules
    assert not modules & HEAVY
    assert {name for name in modules if name.startswith("plugd")} == set()  # the socket was named


def test_watch_streams_one_object_a_line(socket_path: Path) -> None:
    """Each as it comes: the process is still running when they are read."""
    handler = streaming(("sample", SAMPLE), ("event", EVENT), ("ping", {}), ("sample", SAMPLE), end=False)
    with FakeDaemon(socket_path, handler) as daemon, start(daemon, "watch", "cpu", "--events", "--json") as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(3)]
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        rest, err = process.communicate(timeout=DEADLINE)
    assert [json.loads(line) for line in lines] == [SAMPLE, EVENT, SAMPLE]
    assert daemon.requests == [("subscribe", {"patterns": ["cpu"], "events": True})]
    assert (process.returncode, rest, err) == (130, "", "")


def test_watch_is_a_line_for_each_sample_and_ends_with_the_daemon(socket_path: Path) -> None:
    """Lost samples are told; a daemon that goes away is status 1."""
    handler = streaming(("sample", SAMPLE), ("sample", {**SAMPLE, "dropped": 7}), ("event", EVENT), end=True)
    with FakeDaemon(socket_path, handler) as daemon, start(daemon, "watch") as process:
        out, err = process.communicate(timeout=DEADLINE)
    lines = out.splitlines()
    assert lines[0].endswith("  cpu  system.cpu.utilization{mode=user}  50.0%")
    assert lines[1] == "… 7 samples lost: too slow to show them"
    assert lines[3].endswith("  cpu  running → paused: c")
    assert (process.returncode, err) == (1, "plugctl: plugd closed the connection\n")


def test_interrupted_it_is_quiet(socket_path: Path) -> None:
    """Status 130, and no traceback."""
    silent = FakeDaemon(socket_path, lambda connection, *_: connection.wait_closed())
    with silent as daemon, start(daemon, "list") as process:
        wait_until(lambda: bool(daemon.requests))
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=DEADLINE)
    assert (process.returncode, out, err) == (130, "", "")


def test_a_reader_that_goes_away_is_no_error(socket_path: Path) -> None:
    """As in ``plugctl list | head -1``: quiet, with the status that shells give for SIGPIPE."""
    with answering(socket_path, {"list": [CPU] * 5000}) as daemon, start(daemon, "list") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(DEADLINE) == 141


def test_a_full_disk_is_told(socket_path: Path) -> None:
    """Status 1, and not a lost answer."""
    with answering(socket_path, {"list": [CPU]}) as daemon, Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", MAIN, "--socket", daemon.path, "list"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            timeout=DEADLINE,
            check=False,
        )
    assert (done.returncode, done.stderr) == (1, "plugctl: cannot write the output: No space left on device\n")


def test_closed_streams_are_no_error(socket_path: Path) -> None:
    """As daemons start their children: the status alone tells."""
    with answering(socket_path, {"ping": "pong"}) as daemon:
        line = 'exec "$0" -c "$1" --socket "$2" ping >&- 2>&-; exit 9'
        done = subprocess.run(
            ["/bin/sh", "-c", line, sys.executable, MAIN, daemon.path], cwd=ROOT, timeout=DEADLINE, check=False
        )
    assert done.returncode == 0


@pytest.mark.parametrize("shell", ["bash"])
def test_the_completion_script_is_sound(shell: str) -> None:
    """It parses, and completes verbs and the flags of a verb."""
    script = subprocess.run(
        [sys.executable, "-c", MAIN, "completion", shell], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout
    probe = script + (
        'COMP_WORDS=(plugctl --socket /x rel); COMP_CWORD=3; _plugctl; echo "${COMPREPLY[@]}"\n'
        'COMP_WORDS=(plugctl load --js); COMP_CWORD=2; _plugctl; echo "${COMPREPLY[@]}"\n'
        'COMP_WORDS=(plugctl set --per); COMP_CWORD=2; _plugctl; echo "${COMPREPLY[@]}"\n'
        'COMP_WORDS=(plugctl verify pyproj); COMP_CWORD=2; _plugctl; echo "${COMPREPLY[@]}"\n'
    )
    done = subprocess.run(["bash", "-c", probe], capture_output=True, text=True, check=True, timeout=DEADLINE, cwd=ROOT)
    assert (done.stdout, done.stderr) == ("reload\n--json\n--persist\npyproject.toml\n", "")


def test_on_a_real_terminal_states_have_colours(socket_path: Path) -> None:
    """And the last column ends at its edge."""
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    with (
        answering(socket_path, {"list": [{**CPU, "description": "long " * 40}]}) as daemon,
        os.fdopen(ours, "rb") as screen,
    ):
        environ = {**os.environ, "TERM": "xterm"}
        line = [sys.executable, "-c", MAIN, "--socket", daemon.path, "list"]
        with subprocess.Popen(line, stdout=theirs, cwd=ROOT, env=environ) as process:
            os.close(theirs)
            shown = [screen.readline().decode() for _ in range(2)]
        assert process.returncode == 0
    assert "\x1b[32mrunning\x1b[0m" in shown[1]
    assert shown[1].endswith("…\r\n")
    assert len(re.sub("\x1b\\[[0-9]*m", "", shown[1]).rstrip()) <= 80
