"""plugctl against a daemon that answers what a test wants: output, errors, exit statuses."""

import json
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest
from fake_daemon import CPU, DISK, Connection, FakeDaemon, Refusal, Run, answering

import plugctl.advice
from plugctl.cli import main


def test_list_is_a_table_for_people(run: Run, socket_path: Path) -> None:
    """One request without parameters, a line for each plugin, status 0, and no colour in a pipe."""
    with answering(socket_path, {"list": [CPU, DISK]}) as daemon:
        outcome = run("list")
    assert outcome.status == 0
    assert [line.split()[0] for line in outcome.out.splitlines()] == ["NAME", "cpu", "disk"]
    assert "\x1b" not in outcome.out
    assert outcome.err == ""
    assert daemon.requests == [("list", {})]


def test_json_is_what_the_wire_has(run: Run, socket_path: Path) -> None:
    """In one line where no terminal is; the flag may stand on either side of the verb."""
    with answering(socket_path, {"list": [CPU, DISK]}):
        before, behind = run("--json", "list"), run("list", "--json")
    assert before == behind
    assert json.loads(before.out) == [CPU, DISK]
    assert before.out.count("\n") == 1


@pytest.mark.usefixtures("terminal")
def test_json_on_a_terminal_is_indented(run: Run, socket_path: Path) -> None:
    """For eyes."""
    with answering(socket_path, {"ping": {"a": 1}}):
        assert run("ping", "--json").out == '{\n  "a": 1\n}\n'


@pytest.mark.usefixtures("terminal")
@pytest.mark.parametrize(
    ("variable", "value", "coloured"),
    [("LANG", "C", True), ("NO_COLOR", "1", False), ("TERM", "dumb", False), ("NO_COLOR", "", True)],
)
def test_colour_is_for_terminals_that_want_it(
    run: Run, socket_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, coloured: bool
) -> None:
    """NO_COLOR and TERM=dumb have the last word."""
    monkeypatch.setenv(variable, value)
    with answering(socket_path, {"list": [CPU]}):
        assert ("\x1b[32mrunning\x1b[0m" in run("list").out) is coloured


@pytest.mark.parametrize(
    ("line", "method", "params", "answer", "shown"),
    [
        ("ping", "ping", {}, "pong", "pong\n"),
        ("get cpu", "get", {"name": "cpu"}, {"period": 5}, "period  5\n"),
        ("get cpu period", "get", {"name": "cpu", "setting": "period"}, 5, "5\n"),
        ("set cpu period -5", "set", {"name": "cpu", "setting": "period", "value": "-5"}, -5, "-5\n"),
        ("set cpu period=-5", "set", {"name": "cpu", "setting": "period", "value": "-5"}, -5, "-5\n"),
        ("set cpu I=a=b", "set", {"name": "cpu", "setting": "I", "value": "a=b"}, "a=b", "a=b\n"),
        ("set cpu word=", "set", {"name": "cpu", "setting": "word", "value": ""}, "", "\n"),
        ("load x", "load", {"names": ["x"]}, {"loaded": ["x"], "failed": []}, "loaded  x\n"),
        (
            "unload x --cascade",
            "unload",
            {"names": ["x"], "cascade": True},
            {"unloaded": ["x", "y"], "failed": []},
            "unloaded  x, y\n",
        ),
        (
            "reload --dry-run",
            "reload",
            {"dry_run": True},
            {"loaded": [], "reloaded": ["x"], "unloaded": [], "unchanged": ["y", "z"], "failed": []},
            "would be reloaded  x\nunchanged  2 plugins\n",
        ),
        (
            "pause x --for 20m --reason why",
            "pause",
            {"names": ["x"], "duration": 1200.0, "reason": "why"},
            {"paused": ["x"]},
            "paused  x\n",
        ),
        ("resume", "resume", {}, {"resumed": []}, "resumed  nothing\n"),
        (
            "call x echo 1 word=a=b 2x=c --json",
            "call",
            {"name": "x", "command": "echo", "args": ["1", "2x=c"], "kwargs": {"word": "a=b"}},
            [1],
            "[1]\n",
        ),
        ("call x nothing", "call", {"name": "x", "command": "nothing"}, None, ""),
        ("logs x -n 3", "logs", {"name": "x", "lines": 3}, [], ""),
    ],
)
def test_a_verb_is_a_request_and_its_answer_is_shown(
    run: Run, socket_path: Path, line: str, method: str, params: dict[str, Any], answer: Any, shown: str
) -> None:
    """With the parameters that were given, and no others."""
    with answering(socket_path, {method: answer}) as daemon:
        outcome = run(*line.split())
    assert daemon.requests == [(method, params)]
    assert (outcome.status, outcome.out, outcome.err) == (0, shown, "")


def test_a_setting_without_a_value_is_a_usage_error(run: Run, socket_path: Path) -> None:
    """Nothing is asked for; with ``set NAME SETTING=VALUE`` the value is part of the word."""
    with answering(socket_path, {"set": 1}) as daemon:
        outcome = run("set", "cpu", "period")
    assert daemon.requests == []
    assert (outcome.status, outcome.err.splitlines()[0]) == (2, "plugctl: set: VALUE is missing")


def test_alone_it_tells_how_the_daemon_is(run: Run, socket_path: Path) -> None:
    """In a few lines."""
    status = {
        "version": "1.2.3",
        "uptime": 60.0,
        "plugins": {"total": 1, "states": {"running": 1}},
        "problems": [],
        "series": 3,
        "memory_bytes": 2**20,
    }
    with answering(socket_path, {"status": status}):
        outcome = run()
    assert outcome.status == 0
    assert outcome.out.startswith("plugd 1.2.3, up 1m\n1 plugin: 1 running; 3 series, 1.0 MiB of memory\n")


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("plugin.not_found", 5),
        ("auth.denied", 4),
        ("plugin.timeout", 1),
        ("plugin.invalid", 1),
        ("busy", 1),
        ("internal", 1),
        ("of.tomorrow", 1),
    ],
)
def test_the_status_tells_the_kind_of_failure(run: Run, socket_path: Path, code: str, status: int) -> None:
    """For scripts; the message goes to stderr on one line."""
    with answering(socket_path, {"reload": Refusal(code, "cannot reload plugin 'x': no\nsuch thing")}):
        outcome = run("reload", "x")
    assert outcome.status == status
    assert outcome.out == ""
    assert outcome.err.startswith("plugctl: cannot reload plugin 'x': no\\x0asuch thing")
    assert outcome.err.count("\n") == 1


def test_with_json_the_error_object_goes_to_stdout_too(run: Run, socket_path: Path) -> None:
    """As the wire has it."""
    with answering(socket_path, {"why": Refusal("plugin.not_found", "no plugin 'x'", {"plugin": "x"})}):
        outcome = run("why", "x", "--json")
    assert json.loads(outcome.out) == {"code": "plugin.not_found", "message": "no plugin 'x'", "data": {"plugin": "x"}}
    assert outcome.err == "plugctl: no plugin 'x' (try: plugctl list)\n"
    assert outcome.status == 5


@pytest.mark.parametrize(
    ("line", "code", "hint"),
    [
        ("load x", "plugin.already_loaded", "(try: plugctl reload x)"),
        ("unload x", "plugin.in_use", "(try: plugctl unload x --cascade)"),
        ("reload x", "plugin.invalid", "(try: plugctl check x)"),
        ("call x c", "plugin.crashed", "(try: plugctl why x)"),
        ("list", "request.unknown_method", "try: plugctl version)"),
        ("list", "plugin.crashed", "message"),
        ("check x", "plugin.invalid", "message"),
    ],
)
def test_a_failure_says_what_to_try(run: Run, socket_path: Path, line: str, code: str, hint: str) -> None:
    """Where there is something that has not just been tried."""
    with answering(socket_path, {line.split()[0]: Refusal(code, "message")}):
        assert run(*line.split()).err.endswith(f"{hint}\n")


def test_plugins_that_failed_are_told_each(run: Run, socket_path: Path) -> None:
    """What worked goes to stdout, what did not to stderr, and the status is 1."""
    error = {"code": "plugin.invalid", "message": "cannot reload plugin 'x': line 3", "data": {"plugin": "x"}}
    result = {
        "loaded": [],
        "reloaded": ["cpu"],
        "unloaded": [],
        "unchanged": [],
        "failed": [{"name": "x", "error": error}],
    }
    with answering(socket_path, {"reload": result}):
        people, scripts = run("reload"), run("reload", "--json")
    assert people.out == "reloaded  cpu\n"
    assert people.err == scripts.err == "plugctl: cannot reload plugin 'x': line 3 (try: plugctl check x)\n"
    assert people.status == scripts.status == 1
    assert json.loads(scripts.out) == result


def test_a_faulty_file_fails_the_check(run: Run, socket_path: Path) -> None:
    """The faults are its answer."""
    faults = [{"message": "no class X", "path": "/p/x.py", "line": 1}]
    with answering(socket_path, {"check": {"name": "x", "ok": False, "faults": faults, "samples": None}}):
        outcome = run("check", "x")
    assert (outcome.status, outcome.out) == (1, "/p/x.py:1: no class X\nx invalid\n")


@pytest.mark.usefixtures("terminal")
def test_a_reload_of_many_is_shown_as_it_goes(run: Run, socket_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal, by the events that come before the answer."""
    monkeypatch.setenv("NO_COLOR", "1")
    event = {"subscription": 1, "time": 0.0, "plugin": "cpu", "from": "starting", "to": "running", "cause": "reload"}

    def handle(connection: Connection, identifier: int, method: str, params: dict[str, Any]) -> None:
        if method == "subscribe":
            connection.respond(identifier, None, {"subscription": 1})
        else:
            connection.notify("event", event)
            connection.notify("event", {**event, "plugin": "other"})
            connection.respond(identifier, None, {"reloaded": ["cpu", "disk"], "failed": []})

    with FakeDaemon(socket_path, handle) as daemon:
        outcome = run("reload", "cpu", "disk")
    first, last = outcome.out.splitlines()
    assert first.endswith("cpu  starting → running: reload")
    assert last == "reloaded  cpu, disk"
    assert daemon.requests == [
        ("subscribe", {"patterns": [], "events": True}),
        ("reload", {"names": ["cpu", "disk"]}),
    ]


@pytest.mark.usefixtures("terminal")
@pytest.mark.parametrize("line", ["reload cpu", "reload --json", "reload --dry-run", "unload a b"])
def test_nothing_is_subscribed_to_where_nothing_would_be_shown(run: Run, socket_path: Path, line: str) -> None:
    """One request is all."""
    with answering(socket_path, {"reload": {"failed": []}, "unload": {"failed": []}}) as daemon:
        run(*line.split())
    assert len(daemon.requests) == 1


def test_no_socket_is_status_3(run: Run, socket_path: Path) -> None:
    """With a hint, and with a code for scripts."""
    outcome = run("list", "--json")
    assert outcome.status == 3
    assert json.loads(outcome.out)["code"] == "client.no_daemon"
    assert outcome.err.startswith(
        f"plugctl: cannot reach plugd at '{socket_path}': no such file or directory (is plugd"
    )


def test_a_socket_that_nobody_listens_on_is_status_3(run: Run, socket_path: Path) -> None:
    """As a killed daemon leaves it."""
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(socket_path))
        assert run("list").status == 3


@pytest.mark.parametrize("path", ["/dev/null", "/dev/null/x", "/" + "x" * 200])
def test_a_path_that_cannot_be_a_socket_is_status_3(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    """There is no daemon there either; too long a path is one of them."""
    assert main(["--socket", path, "list"]) == 3
    assert capsys.readouterr().err.startswith(f"plugctl: cannot reach plugd at '{path}': ")


@pytest.fixture
def as_nobody() -> Iterator[None]:
    """Root may open any socket: be somebody else."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_socket_that_may_not_be_opened_is_status_4(
    socket_path: Path, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    """EACCES is no absence."""
    assert plugctl.advice  # imported while we may read it
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(socket_path))
        listener.listen()
        socket_path.chmod(0)
        request.getfixturevalue("as_nobody")
        assert main(["--socket", str(socket_path), "list"]) == 4
    assert f"cannot open socket '{socket_path}': permission denied" in capsys.readouterr().err


def test_the_environment_names_the_socket(
    socket_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where no option does; the option wins."""
    monkeypatch.setenv("PLUGD_SOCKET", str(socket_path))
    with answering(socket_path, {"ping": "pong"}):
        assert main(["ping"]) == 0
        assert main(["ping", "--socket", "/nowhere"]) == 3
    assert capsys.readouterr().out == "pong\n"


def test_the_usual_places_are_tried_in_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first that answers is taken."""
    places = [str(tmp_path / "none"), str(tmp_path / "second")]
    monkeypatch.setattr("plugd.rpc.address.control_socket_candidates", lambda environ, uid: places)
    with answering(tmp_path / "second", {"ping": "pong"}):
        assert main(["ping"]) == 0
    assert main(["ping"]) == 3
    assert all(place in capsys.readouterr().err for place in places[:1])


def test_an_answer_that_does_not_come_is_status_6(run: Run, socket_path: Path) -> None:
    """After --timeout, though the daemon is there and half of an answer has come."""

    def handle(connection: Connection, identifier: int, method: str, params: dict[str, Any]) -> None:
        connection.stream.sendall(msgpack.packb([1, identifier, None, "x" * 1000])[:500])
        connection.wait_closed()

    with FakeDaemon(socket_path, handle):
        outcome = run("list", "--timeout", "50ms", "--json")
    assert outcome.status == 6
    assert json.loads(outcome.out)["code"] == "client.timeout"
    assert "no answer to 'list'" in outcome.err


def test_a_daemon_that_does_not_accept_is_status_6(run: Run, socket_path: Path) -> None:
    """With its backlog full, connecting waits, and not for ever."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(socket_path))
        listener.listen(0)
        waiting = socket.socket(socket.AF_UNIX)
        with waiting:
            waiting.connect(str(socket_path))
            outcome = run("list", "--timeout", "50ms")
    assert outcome.status == 6
    assert "cannot connect" in outcome.err


def test_an_answer_may_come_in_pieces(run: Run, socket_path: Path) -> None:
    """Of a byte each."""

    def handle(connection: Connection, identifier: int, method: str, params: dict[str, Any]) -> None:
        for byte in msgpack.packb([1, identifier, None, [CPU]]):
            connection.stream.sendall(bytes([byte]))

    with FakeDaemon(socket_path, handle):
        assert json.loads(run("list", "--json").out) == [CPU]


def test_a_connection_that_ends_is_status_1(run: Run, socket_path: Path) -> None:
    """With the reason."""
    with FakeDaemon(socket_path, lambda connection, *_: connection.stream.shutdown(socket.SHUT_RDWR)):
        outcome = run("list")
    assert outcome.status == 1
    assert outcome.err == "plugctl: plugd closed the connection before it answered 'list'\n"


def test_an_error_without_an_id_is_ours(run: Run, socket_path: Path) -> None:
    """A daemon that is full, or cannot read us, knows no id."""
    error = {"code": "busy", "message": "too many connections", "data": {}}
    with FakeDaemon(socket_path, lambda connection, *_: connection.respond(None, error, None)):
        outcome = run("list")
    assert (outcome.status, outcome.err) == (1, "plugctl: too many connections (try again in a moment)\n")


@pytest.mark.parametrize("data", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\xc1", b"\x93\x01\x01\x01", b"\x90"])
def test_what_is_no_plugd_is_told(run: Run, socket_path: Path, data: bytes) -> None:
    """Whatever it sends."""
    with FakeDaemon(socket_path, lambda connection, *_: connection.stream.sendall(data)):
        outcome = run("list")
    assert outcome.status == 1
    assert "does not speak msgpack-RPC" in outcome.err


def test_an_answer_of_another_shape_is_told(run: Run, socket_path: Path) -> None:
    """A daemon of another version is no reason for a traceback."""
    with answering(socket_path, {"list": [{"name": "cpu"}]}):
        outcome = run("list")
    assert outcome.status == 1
    assert outcome.err.startswith("plugctl: cannot show the answer: KeyError: 'state'")


@pytest.mark.parametrize("line", ["lisst", "load", "list --what", "--json list --timeout"])
def test_wrong_usage_is_status_2(run: Run, line: str) -> None:
    """The reason, and then how it is used."""
    outcome = run(*line.split())
    assert outcome.status == 2
    reason, usage = outcome.err.splitlines()
    assert reason.startswith("plugctl: ")
    assert usage.startswith("usage: plugctl ")


@pytest.mark.parametrize(
    ("line", "start"),
    [
        ("--help", "usage: plugctl [--socket"),
        ("help", "usage: plugctl [--socket"),
        ("help reload", "usage: plugctl reload"),
        ("reload --help", "usage: plugctl reload"),
        ("why -h", "usage: plugctl why"),
        ("--version", "plugctl 0."),
        ("completion bash", "# bash"),
        ("completion zsh", "#compdef"),
        ("completion fish", "# fish"),
    ],
)
def test_help_and_the_like_need_no_daemon(run: Run, line: str, start: str) -> None:
    """They go to stdout, with status 0."""
    outcome = run(*line.split())
    assert outcome.status == 0
    assert outcome.out.startswith(start)


def test_version_shows_both(run: Run, socket_path: Path) -> None:
    """And plugctl's own, with status 3, where there is no daemon."""
    answer = {"version": "9.9", "api": 1, "protocol": 1, "python": "3.11.7", "platform": "Linux"}
    with answering(socket_path, {"version": answer}):
        people, scripts = run("version"), run("version", "--json")
    socket_path.unlink()
    alone = run("version")
    assert people.out.splitlines()[1] == "plugd 9.9 (api 1, protocol 1, Python 3.11.7, Linux)"
    assert json.loads(scripts.out).items() >= answer.items()
    assert alone.status == 3
    assert alone.out == people.out.splitlines()[0] + "\n"


def test_a_locale_without_the_letters_is_no_failure(run: Run, socket_path: Path) -> None:
    """They are shown as escapes."""
    sys.stdout.reconfigure(encoding="ascii")  # type: ignore[union-attr]
    with answering(socket_path, {"ping": "µ"}):
        outcome = run("ping")
    assert (outcome.status, outcome.out) == (0, "\\xb5\n")
