"""Whom plugctl trusts: which daemon it asks, and nobody's text to drive the terminal."""

import json
import os
import pwd
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_daemon import CPU, DISK, Connection, FakeDaemon, Refusal, Run, answering

import plugctl.client
import plugctl.completion
from plugctl.cli import main
from plugctl.verbs import VERBS

STRANGER = next(each for each in pwd.getpwall() if each.pw_uid not in (0, os.geteuid()))
NAME, UID = STRANGER.pw_name, STRANGER.pw_uid

# Listens as another user, and tells how much it was sent by how many connections.
OTHER = """
import os, socket, sys
with socket.socket(fileno=int(sys.argv[1])) as listener:
    os.setgroups([]); os.setuid(int(sys.argv[2]))
    listener.listen()  # who does this is whom the kernel tells of
    print("listening", flush=True)
    with listener.accept()[0] as stream:
        print(len(stream.recv(65536)), flush=True)
"""


@pytest.fixture
def anothers(socket_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """A daemon of another user at ``socket_path``; its output is how many bytes it was sent."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to be another user")
    import socket

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(socket_path))
        command = [sys.executable, "-c", OTHER, str(listener.fileno()), str(UID)]
        process = subprocess.Popen(command, pass_fds=[listener.fileno()], stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "listening\n"
            yield process
        finally:
            process.kill()


@pytest.fixture
def of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel says of every daemon that it is somebody else's."""
    monkeypatch.setattr(plugctl.client, "_peer_uid", lambda connection: UID)


def test_nothing_is_sent_to_a_daemon_of_another_user(run: Run, anothers: "subprocess.Popen[str]") -> None:
    """Status 4, and it has got nothing but a connection that was closed."""
    outcome = run("load", "secret")
    assert (outcome.status, outcome.out) == (4, "")
    assert anothers.communicate(timeout=10)[0] == "0\n"


@pytest.mark.parametrize("user", [str(UID), NAME])
def test_a_user_that_is_named_is_trusted(run: Run, anothers: "subprocess.Popen[str]", user: str) -> None:
    """By name or number: the request is sent."""
    run("--daemon-user", user, "ping")
    assert int(anothers.communicate(timeout=10)[0]) > 0


@pytest.mark.usefixtures("of_another")
def test_who_is_not_trusted_is_told(run: Run, socket_path: Path) -> None:
    """With the socket, the user and what to do about it; with --json as an error object."""
    message = (
        f"the daemon at '{socket_path}' runs as user {UID} ({NAME}), which is neither root nor you; "
        "--daemon-user NAME trusts it"
    )
    with answering(socket_path, {"ping": "pong"}) as daemon:
        outcome = run("ping", "--json")
    assert (outcome.status, outcome.err) == (4, f"plugctl: {message}\n")
    assert json.loads(outcome.out) == {
        "code": "client.untrusted",
        "message": message,
        "data": {"socket": str(socket_path), "uid": UID, "user": NAME},
    }
    assert daemon.requests == []


def test_a_user_without_a_name_is_told_by_number(run: Run, socket_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container."""
    monkeypatch.setattr(plugctl.client, "_peer_uid", lambda connection: 4_000_000_123)
    with answering(socket_path, {}):
        assert "runs as user 4000000123, which is" in run("ping").err


@pytest.mark.parametrize(("uid", "euid", "status"), [(0, 1234, 0), (1234, 1234, 0), (1234, 0, 4), (1234, 1235, 4)])
def test_root_and_oneself_are_trusted(
    run: Run, socket_path: Path, monkeypatch: pytest.MonkeyPatch, uid: int, euid: int, status: int
) -> None:
    """And nobody else, also by root."""
    monkeypatch.setattr(plugctl.client, "_peer_uid", lambda connection: uid)
    monkeypatch.setattr(os, "geteuid", lambda: euid)
    with answering(socket_path, {"ping": "pong"}):
        assert run("ping").status == status


def test_the_kernel_is_asked(run: Run, socket_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon of this very user is not trusted by one who is somebody else."""
    uid = os.geteuid()
    monkeypatch.setattr("plugctl.session.os.geteuid", lambda: uid + 1)
    with answering(socket_path, {"ping": "pong"}):
        assert run("ping").status == (0 if uid == 0 else 4)


@pytest.mark.usefixtures("of_another")
@pytest.mark.parametrize(
    ("variable", "option", "status"),
    [
        (NAME, None, 0),
        (str(UID), None, 0),
        ("", None, 4),
        ("4321", None, 4),
        (NAME, "4321", 4),
        ("4321", NAME, 0),
        (NAME, "", 4),
        ("no-such-user", None, 2),
        (None, "no-such-user", 2),
        (None, "9" * 5000, 2),
    ],
)
def test_one_more_user_can_be_trusted(
    run: Run, socket_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, option: str | None, status: int
) -> None:
    """That of the option, else that of the environment; there must be such a user."""
    if variable is not None:
        monkeypatch.setenv("PLUGD_DAEMON_USER", variable)
    arguments = [] if option is None else ["--daemon-user", option]
    with answering(socket_path, {"ping": "pong"}):
        outcome = run("ping", *arguments)
    assert outcome.status == status
    if status == 2:
        assert "there is no user" in outcome.err


def test_the_database_of_users_is_asked_only_where_it_matters(run: Run, socket_path: Path) -> None:
    """A daemon of root, or one's own, is asked at once."""
    with answering(socket_path, {"ping": "pong"}):
        assert run("ping", "--daemon-user", "no-such-user").out == "pong\n"


@pytest.mark.usefixtures("of_another")
def test_none_is_tried_in_the_place_of_one_that_is_not_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the usual places, the first at which somebody listens decides."""
    places = [str(tmp_path / name) for name in ("none", "theirs", "ours")]
    monkeypatch.setattr("plugd.rpc.address.control_socket_candidates", lambda environ, uid: places)
    monkeypatch.setattr(
        plugctl.client, "_peer_uid", lambda connection: UID if connection.getpeername() == places[1] else 0
    )
    with answering(tmp_path / "theirs", {}) as theirs, answering(tmp_path / "ours", {"ping": "pong"}) as ours:
        assert main(["ping"]) == 4
    assert f"the daemon at '{places[1]}'" in capsys.readouterr().err
    assert theirs.requests == ours.requests == []


def test_the_option_is_completed_with_users() -> None:
    """By bash, and by fish."""
    assert '--daemon-user) COMPREPLY=($(compgen -u -- "$current"))' in plugctl.completion.bash()
    assert "-l daemon-user -r -a '(__fish_complete_users)'" in plugctl.completion.fish()


HOSTILE = (
    "\x1b]0;x\x07\u202e\x1b[2J"
    + "".join(map(chr, range(0x20)))
    + "\x7f\x80\x85\x9b31m\xad\u061c\u200b\u200e\u2028\u2029\ufeff"
    "\u202a\u202b\u202c\u202d\u2066\u2067\u2068\u2069\U000e0041"
)
OURS = re.compile(r"\x1b\[(?:[0-9]+)?m")  # colours

METRIC = {"name": "a.b", "kind": "gauge", "unit": "s", "labels": ["one"], "help": "helps"}
PARAMETER = {"name": "word", "type": "str", "required": False, "default": "x"}
SETTING = {"name": "period", "type": "int", "value": 5, "default": 1, "help": "helps", "minimum": 1, "maximum": 9}
SETTING |= {"origin": "saved", "ignored": "why not"}
EVENT = {"time": 1.7e9, "plugin": "cpu", "generation": 1, "from": "running", "to": "failed", "cause": "why"}
ERROR = {"code": "plugin.invalid", "message": "cannot load it", "data": {"plugin": "x", "name": "x"}}
STATUS = {
    "version": "1.2.3",
    "pid": 1,
    "uid": 0,
    "time": 1.7e9,
    "uptime": 60.0,
    "started_at": 1.7e9,
    "socket": "/s",
    "config": "/c",
    "plugin_dirs": ["/d"],
    "plugins": {"total": 2, "states": {"running": 1, "failed": 1}},
    "problems": [{"name": "disk", "state": "failed", "last_error": "boom"}],
    "series": 3,
    "connections": 1,
    "memory_bytes": 2**20,
    "cpu_seconds": 1.0,
    "notes": ["a note"],
}
COST = ("collects", "failures", "timeouts", "skipped", "restarts", "duration_last", "duration_p50", "duration_p99")
SAMPLE = {
    "plugin": "cpu",
    "name": "a.b",
    "kind": "counter",
    "unit": "By",
    "labels": {"one": "two"},
    "value": 5.0,
    "time": 1.7e9,
    "rate": 1.5,
}
ANSWERS: dict[str, Any] = {
    "list": [CPU, DISK],
    "status": STATUS,
    "stats": {
        "time": 1.7e9,
        "uptime": 1.0,
        "plugins": {"cpu": {"state": "running", **dict.fromkeys((*COST, "cpu_seconds", "memory_bytes", "series"), 1)}},
        "metrics": [SAMPLE],
    },
    "describe": {
        **CPU,
        "timeout": 1.0,
        "requires": ["disk"],
        "unconfined": ["why not"],
        "metrics": [METRIC],
        "commands": [{"name": "echo", "help": "helps", "parameters": [PARAMETER]}],
        "settings": [SETTING, {**SETTING, "choices": ["a", "b"]}],
        "options": {"a": "b"},
        "options_schema": None,
    },
    "why": {
        "name": "cpu",
        "state": "failed",
        "generation": 1,
        "summary": "cpu is failed.",
        "last_error": "boom",
        "traceback": "Traceback:\n  line",
        "since": 1.7e9,
        "pid": 1,
        "exit": "signal 9",
        "output": ["a line"],
        "next_retry": 1.7e9,
        "events": [EVENT],
    },
    "logs": [{"time": 1.7e9, "level": "info", "event": "said", "plugin": "cpu", "fields": {"a": "b", "c": ["d"]}}],
    "check": {
        "name": "cpu",
        "ok": True,
        "faults": [{"message": "bad", "path": "/p", "line": 3}],
        "samples": 3,
        "duration": 0.1,
    },
    "load": {"loaded": ["x"], "failed": [{"name": "y", "error": ERROR}]},
    "unload": {"unloaded": ["x"], "failed": [{"name": "y", "error": ERROR}]},
    "reload": {
        "loaded": ["a"],
        "reloaded": ["b"],
        "unloaded": ["c"],
        "unchanged": ["d"],
        "failed": [{"name": "y", "error": ERROR}],
    },
    "pause": {"paused": ["cpu"]},
    "resume": {"resumed": ["cpu"]},
    "get": {"period": 5, "word": "x", "many": ["a", {"b": "c"}]},
    "set": "x",
    "call": [{"a": "b", "c": 1}, {"a": "d", "c": 2}],
    "ping": "pong",
    "version": {"version": "1", "api": 1, "protocol": 1, "python": "3", "platform": "p", "client": "c"},
}
SAMPLES = {"subscription": 1, "plugin": "cpu", "time": 1.7e9, "dropped": 2, "samples": [SAMPLE]}
NOTIFIED = {"sample": SAMPLES, "event": {"subscription": 1, **EVENT}}
ARGUMENTS = {"describe": ["cpu"], "why": ["cpu"], "check": ["cpu"], "load": ["x"], "unload": ["x"], "get": ["cpu"]}
ARGUMENTS |= {"set": ["cpu", "period", "5"], "call": ["cpu", "echo"]}
LOCAL = {"watch", "completion", "help", "lock", "verify"}


def hostile(thing: Any) -> Iterator[Any]:
    """Yield variants of a thing: in each, one of its values or keys is hostile; in the last, all texts are."""
    yield from _one(thing)
    yield _all(thing)


def _one(thing: Any) -> Iterator[Any]:
    yield HOSTILE
    yield HOSTILE.encode()
    if isinstance(thing, dict):
        for key, value in thing.items():
            yield {HOSTILE if name == key else name: item for name, item in thing.items()}
            for variant in _one(value):
                yield {**thing, key: variant}
    elif isinstance(thing, list):
        for position, value in enumerate(thing):
            for variant in _one(value):
                yield [*thing[:position], variant, *thing[position + 1 :]]


def _all(thing: Any) -> Any:
    if isinstance(thing, dict):
        return {key: _all(value) for key, value in thing.items()}
    if isinstance(thing, list):
        return [_all(item) for item in thing]
    return HOSTILE if isinstance(thing, str) else thing


def assert_harmless(text: str, *, coloured: bool = False) -> None:
    """Assert that there is nothing a terminal would obey but line ends, and our own colours."""
    shown = OURS.sub("", text) if coloured else text
    assert all(character.isprintable() or character == "\n" for character in shown), ascii(text)


def answers_in_turn(socket_path: Path, method: str, answers: list[Any]) -> Any:
    """A daemon that gives one answer after the other; other methods are refused."""
    rest = iter(answers)

    def answer(params: dict[str, Any]) -> Any:
        return next(rest)

    refused = Refusal("auth.denied", HOSTILE)
    return answering(socket_path, {**dict.fromkeys(ANSWERS, refused), "subscribe": refused, method: answer})


def test_every_verb_has_an_answer_here() -> None:
    """A new verb is held to the same."""
    assert set(ANSWERS) | LOCAL == set(VERBS)


@pytest.mark.parametrize("method", ANSWERS)
def test_no_field_of_an_answer_drives_the_terminal(run: Run, socket_path: Path, method: str) -> None:
    """Whatever the daemon or a plugin puts into any field of any verb's result, text and JSON are harmless."""
    variants = list(hostile(ANSWERS[method]))
    arguments = [method, *ARGUMENTS.get(method, [])]
    with answers_in_turn(socket_path, method, [variant for variant in variants for _ in range(2)]):
        for _ in variants:
            text, objects = run(*arguments), run("--json", *arguments)
            assert {text.status, objects.status} <= {0, 1}
            for stream in (*text[1:], *objects[1:]):
                assert_harmless(stream)
            assert objects.out.isascii()
            for line in objects.out.splitlines():
                json.loads(line)
            if method not in ("ping", "get", "set", "call"):  # whose result may be a text of several lines
                assert not re.search(r"^\\x0b", text.out, re.MULTILINE), "a field has forged a line"


@pytest.mark.usefixtures("terminal")
@pytest.mark.parametrize("method", ANSWERS)
def test_nor_does_it_on_a_terminal_with_colours(run: Run, socket_path: Path, method: str) -> None:
    """Where plugctl itself writes escape sequences, they are its own alone."""
    variants = list(hostile(ANSWERS[method]))
    with answers_in_turn(socket_path, method, variants):
        for _ in variants:
            for stream in run(method, *ARGUMENTS.get(method, []))[1:]:
                assert_harmless(stream, coloured=True)


def test_nor_do_values_with_their_origins(run: Run, socket_path: Path) -> None:
    """Whatever a setting's value is, and wherever it is said to be from."""
    values = {name: {"value": value, "origin": "saved"} for name, value in ANSWERS["get"].items()}
    variants = list(hostile(values))
    with answers_in_turn(socket_path, "get", [variant for variant in variants for _ in range(2)]):
        for _ in variants:
            for arguments in (["get", "cpu", "--origin"], ["get", "cpu", "--origin", "--json"]):
                for stream in run(*arguments)[1:]:
                    assert_harmless(stream)


def test_nor_does_a_lock(run: Run, socket_path: Path, tmp_path: Path) -> None:
    """Nor what differs from it, or is no lock."""
    lock = tmp_path / "plugins.lock"
    lock.write_text(json.dumps({"cpu": "cd" * 32, HOSTILE: "ab" * 32}))
    for variant in hostile([CPU, DISK]):
        socket_path.unlink(missing_ok=True)
        with answering(socket_path, {"version": ANSWERS["version"] | {"version": HOSTILE}, "list": variant}):
            outcomes = [run(*line) for line in (["lock"], ["verify", str(lock)], ["verify", str(lock), "--json"])]
        for outcome in outcomes:
            for stream in outcome[1:]:
                assert_harmless(stream)
    lock.write_text(json.dumps([HOSTILE]))
    assert_harmless(run("verify", str(lock)).err)
    assert_harmless(run("verify", HOSTILE.replace("\0", "")).err)


def test_nor_does_the_short_status(run: Run, socket_path: Path) -> None:
    """That of plugctl alone."""
    variants = list(hostile(STATUS))
    with answers_in_turn(socket_path, "status", variants):
        for _ in variants:
            for stream in run()[1:]:
                assert_harmless(stream)


@pytest.mark.parametrize("arguments", [[], ["--json"]])
@pytest.mark.parametrize("method", NOTIFIED)
def test_nor_does_a_notification(run: Run, socket_path: Path, method: str, arguments: list[str]) -> None:
    """Each is shown by `watch`, harmless, or tells that it cannot be."""
    for variant in hostile(NOTIFIED[method]):

        def handle(connection: Connection, identifier: int, asked: str, params: dict[str, Any]) -> None:
            connection.respond(identifier, None, {"subscription": 1})
            connection.stream.sendall(_packed([2, method, [variant]]))  # noqa: B023
            connection.stream.shutdown(2)

        socket_path.unlink(missing_ok=True)
        with FakeDaemon(socket_path, handle):
            outcome = run("watch", *arguments)
        assert outcome.status == 1
        for stream in outcome[1:]:
            assert_harmless(stream)


@pytest.mark.parametrize("method", [name for name in VERBS if name not in ("completion", "help", "verify")])
def test_nor_does_an_error(run: Run, socket_path: Path, method: str) -> None:
    """Code, message and data are anybody's words."""
    arguments = [method, *ARGUMENTS.get(method, [])]
    for error in hostile(ERROR):

        def handle(connection: Connection, identifier: int, asked: str, params: dict[str, Any]) -> None:
            connection.respond(identifier, error, None)  # noqa: B023

        socket_path.unlink(missing_ok=True)
        with FakeDaemon(socket_path, handle):
            for outcome in (run(*arguments), run("--json", *arguments)):
                assert outcome.status == 1
                for stream in outcome[1:]:
                    assert_harmless(stream)


def test_text_that_is_no_utf8_is_no_answer(run: Run, socket_path: Path) -> None:
    """Half a surrogate, which msgpack's text cannot have, does not come through."""

    def handle(connection: Connection, identifier: int, method: str, params: dict[str, Any]) -> None:
        connection.stream.sendall(b"\x94\x01\x01\xc0\xa3\xed\xb0\x80")

    with FakeDaemon(socket_path, handle):
        for arguments in (["ping"], ["ping", "--json"]):
            outcome = run(*arguments)
            assert outcome.status == 1
            assert "does not speak msgpack-RPC" in outcome.err
            assert_harmless(outcome.out + outcome.err)


def _packed(frame: list[Any]) -> bytes:
    import msgpack

    packed: bytes = msgpack.packb(frame)
    return packed
