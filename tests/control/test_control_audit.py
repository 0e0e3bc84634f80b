"""The audit: one line for whatever may have changed something, which nobody can forge, and nobody can flood."""

import ctypes
import errno
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import structlog
from control_rig import DEMO, HOLD, PLAIN, Wire, as_user, release, serving
from harness import Daemon, Daemons, RpcError, daemons, wait_until
from test_control_requests import METHODS, required

from plugd.control import caller as caller_module
from plugd.control.access import Peer, Role
from plugd.control.audit import BURST, Audit
from plugd.control.caller import Caller, caller_of, unit_in

NOBODY = 65534
SECRET = "hunter2"
WRITES = [name for name, (role, _) in METHODS.items() if role != "read"]
HEAD = {"time", "level", "event", "uid", "gid", "pid", "unit", "command", "method", "outcome", "duration_seconds"}
PR_SET_NAME, PR_GET_NAME = 15, 16  # linux/prctl.h

Request = tuple[str, dict[str, Any]]


@pytest.fixture(scope="module")
def running() -> Iterator[Daemon]:
    """A daemon that everybody may connect to."""
    plugins = {"demo": DEMO, "hold": HOLD, "one": PLAIN.format(title="One")}
    with daemons() as start:
        yield start(plugins=plugins, config='[control]\nmode = "0666"\n')


@pytest.fixture(params=["json", "text"])
def told(request: pytest.FixtureRequest, daemon: Daemons) -> Daemon:
    """A daemon for each form of the log."""
    return daemon("--log-format", request.param, plugins={"demo": DEMO})


def audited(running: Daemon, requests: list[Request], wire: Wire | None = None) -> list[dict[str, Any]]:
    """Make requests, one after the other; return the lines of the audit that were written meanwhile."""
    before = len(running.records("audit"))
    with wire or Wire(running.socket) as asking:
        for number, (method, params) in enumerate(requests):
            asking.ask(method, params, id=number)
    # The log is written before the answer is sent.
    return running.records("audit")[before:]


def own_unit() -> str | None:
    return unit_in(Path("/proc/self/cgroup").read_text())


def own_command() -> str:
    return Path("/proc/self/comm").read_text().rstrip("\n")


DONE: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("reload", {"names": ["one"]}, {"plugins": ["one"]}),
    ("reload", {"dry_run": True}, {}),
    ("pause", {"names": ["one", "demo"], "duration": 3600}, {"plugins": ["one", "demo"]}),
    ("pause", {}, {}),
    ("resume", {}, {}),
    ("resume", {"names": ["one"]}, {"plugins": ["one"]}),
    ("call", {"name": "demo", "command": "echo", "args": [SECRET]}, {"plugin": "demo", "plugin_command": "echo"}),
    (
        "call",
        {"name": "demo", "command": "echo", "kwargs": {"value": SECRET}},
        {"plugin": "demo", "plugin_command": "echo"},
    ),
    ("set", {"name": "demo", "setting": "gain", "value": "7.125"}, {"plugin": "demo", "setting": "gain"}),
    ("unset", {"name": "demo", "setting": "gain"}, {"plugin": "demo", "setting": "gain"}),
    ("check", {"name": "demo"}, {"plugin": "demo"}),
    ("unload", {"names": ["one"], "cascade": True}, {"plugins": ["one"]}),
    ("load", {"names": ["one"], "request_key": SECRET}, {"plugins": ["one"]}),
]
FAILED: list[tuple[str, dict[str, Any], str, dict[str, Any]]] = [
    ("reload", {"names": ["nosuch"]}, "plugin.not_found", {"plugins": ["nosuch"]}),
    ("pause", {"names": ["nosuch"]}, "plugin.not_found", {"plugins": ["nosuch"]}),
    ("resume", {"names": ["nosuch"]}, "plugin.not_found", {"plugins": ["nosuch"]}),
    (
        "call",
        {"name": "demo", "command": "nosuch", "args": [SECRET]},
        "request.invalid",
        {"plugin": "demo", "plugin_command": "nosuch"},
    ),
    ("call", {"name": "demo", "command": "fail"}, "plugin.crashed", {"plugin": "demo", "plugin_command": "fail"}),
    (
        "set",
        {"name": "demo", "setting": "colour", "value": SECRET},
        "request.invalid",
        {"plugin": "demo", "setting": "colour"},
    ),
    (
        "set",
        {"name": "demo", "setting": "gain", "value": SECRET, "expect_generation": 99},
        "plugin.changed",
        {"plugin": "demo", "setting": "gain"},
    ),
    (
        "unset",
        {"name": "demo", "setting": "gain", "expect_generation": 99},
        "plugin.changed",
        {"plugin": "demo", "setting": "gain"},
    ),
    ("check", {"name": "nosuch"}, "plugin.not_found", {"plugin": "nosuch"}),
    ("load", {"names": ["demo"]}, "plugin.already_loaded", {"plugins": ["demo"]}),
    ("unload", {"names": ["nosuch"]}, "plugin.not_found", {"plugins": ["nosuch"]}),
    ("set", {"name": SECRET}, "request.invalid", {}),
]


def test_what_is_done_is_written_down(running: Daemon) -> None:
    """One line for each request, with who asked, what for, and what it was about; nothing of what was passed."""
    assert {method for method, _, _ in DONE} == set(WRITES)
    lines = audited(running, [(method, params) for method, params, _ in DONE])
    assert [(line["method"], line["outcome"]) for line in lines] == [(method, "ok") for method, _, _ in DONE]
    for line, (_, _, subject) in zip(lines, DONE, strict=True):
        assert {key: line[key] for key in set(line) - HEAD} == subject
        assert set(line) >= HEAD
        assert (line["uid"], line["gid"], line["pid"]) == (os.getuid(), os.getgid(), os.getpid())
        assert (line["unit"], line["command"]) == (own_unit(), own_command())
        assert line["duration_seconds"] >= 0
    assert SECRET not in json.dumps(lines)
    assert "7.125" not in json.dumps(lines)


def test_what_fails_is_written_down(running: Daemon) -> None:
    """With the code of its error, and with what it was about as far as that was understood."""
    assert {method for method, _, _, _ in FAILED} == set(WRITES)
    lines = audited(running, [(method, params) for method, params, _, _ in FAILED])
    assert [(line["method"], line["outcome"]) for line in lines] == [(method, code) for method, _, code, _ in FAILED]
    for line, (_, _, _, subject) in zip(lines, FAILED, strict=True):
        assert {key: line[key] for key in set(line) - HEAD - {"left_out"}} == subject
    assert SECRET not in running.log


def test_what_is_cancelled_is_written_down(running: Daemon) -> None:
    """Be it by a request, or because its client has gone: the plugin may have done it."""
    before = len(running.records("audit"))
    request = [0, 1, "call", [{"name": "hold", "command": "hold"}]]
    for by_request in (True, False):
        with Wire(running.socket) as wire:
            wire.send(request)
            assert wire.ask("ping", id=2) == (None, "pong")
            if by_request:
                wire.send([0, 3, "cancel", [{"request": 1}]])
                assert {wire.frame()[1], wire.frame()[1]} == {1, 3}
    wait_until(lambda: len(running.records("audit")) == before + 2, "both lines")
    for line in running.records("audit")[before:]:
        assert (line["method"], line["outcome"]) == ("call", "cancelled")
        assert (line["plugin"], line["plugin_command"]) == ("hold", "hold")
        assert (line["pid"], line["command"]) == (os.getpid(), own_command())
    release(running, "hold")
    assert running.call("call", name="hold", command="hold") == 3


def test_what_is_denied_is_written_down(running: Daemon) -> None:
    """With who was denied what; what it would have been about was not looked at."""
    with as_user(NOBODY):
        wire = Wire(running.socket)
    lines = audited(running, [(method, required(method)) for method in WRITES], wire)
    assert [(line["method"], line["outcome"]) for line in lines] == [(method, "auth.denied") for method in WRITES]
    assert all(set(line) == HEAD for line in lines)
    assert {(line["uid"], line["gid"], line["pid"]) for line in lines} == {(NOBODY, NOBODY, os.getpid())}


@pytest.mark.anyio
@pytest.mark.parametrize("role", Role)
async def test_each_denial_of_each_role_is_a_line(role: Role) -> None:
    """As many as were answered auth.denied, and for the same methods."""
    async with serving(role) as server:
        client = await server.connect()
        denied = []
        with structlog.testing.capture_logs() as lines:
            for method in METHODS:
                error, _ = await client.ask(method, **required(method))
                denied += [method] * (error is not None and error["code"] == "auth.denied")
        assert [line["method"] for line in lines if line.get("outcome") == "auth.denied"] == denied


def test_what_changes_nothing_gives_no_line(running: Daemon) -> None:
    """Neither reads, nor what is no method, nor what is no request."""
    reads = [(name, required(name)) for name, (role, _) in METHODS.items() if role == "read"]
    wire = Wire(running.socket)
    wire.send([0, 9, "ping", 1], [2, "unload", [{"names": ["demo"]}]], [3])
    assert [wire.frame()[0] for _ in range(2)] == [1, 1]
    lines = audited(running, [*reads, ("nosuch", {}), ("Load", {}), ("check", {"name": "nosuch"})], wire)
    assert [line["method"] for line in lines] == ["check"]


def test_a_repetition_gives_no_line(running: Daemon) -> None:
    """What is answered a second time was done once."""
    request = ("call", {"name": "demo", "command": "add", "args": [1], "request_key": "audited once"})
    assert len(audited(running, [request] * 3)) == 1


# A name that is not one's own


def name_thread(name: bytes) -> bytes:
    """Give this process another command name, which prctl(2) lets everybody do; return the one before."""
    before = ctypes.create_string_buffer(16)
    libc = ctypes.CDLL(None)
    libc.prctl(PR_GET_NAME, before, 0, 0, 0)
    libc.prctl(PR_SET_NAME, ctypes.c_char_p(name), 0, 0, 0)
    return before.value


FACT = re.compile(r' ([^ =]+)=("(?:[^"\\]|\\.)*"|[^ "]*)')


def facts_of(line: str) -> list[tuple[str, Any]]:
    """Return the facts of a line of text, as a careful reader takes them."""
    if line.startswith("{"):
        record: dict[str, Any] = json.loads(line, object_pairs_hook=list)  # A key that is there twice stays so.
        return [(key, value) for key, value in record if key not in ("time", "level", "event")]
    tail = line.partition(" audit")[2]
    facts = FACT.findall(tail)
    assert "".join(f" {key}={value}" for key, value in facts) == tail, tail
    return [(key, value_of(value)) for key, value in facts]


def value_of(text: str) -> Any:
    """Return a value as it stands in a line of text: JSON, with escapes of Python's where JSON has none; or a word."""
    text = re.sub(r"\\(x)(..)|\\[^x]", lambda match: f"\\u00{match[2]}" if match[1] else match[0], text)
    return json.loads(text) if text[0] in '"[0123456789' or text in ("null", "true", "false") else text


HOSTILE = [
    b"x uid=0",
    b'" uid=0 x="',
    b"x\n audit uid=0",
    b'\n{"uid":0}\n',
    b"\x1b[2J\x1b[31muid=0",
    b"\r\x08\x7f\x9b uid=0",
    b"\\",
    b'\\" uid=0',
    b"\xff\xfe uid=0",
    "\u202eu\u2028=0".encode(),
]


def test_a_name_forges_no_line(told: Daemon) -> None:
    """Whatever a client calls itself, its requests are one line each, whose uid is its own, and stands there once."""
    for name in HOSTILE:
        before = len(told.log.split("\n"))
        own = name_thread(name)
        try:
            told.call("call", name="demo", command="add", args=[1])
        finally:
            name_thread(own)
        lines = told.log.split("\n")
        (line,) = lines[before - 1 : -1]
        assert line.isprintable()
        facts = facts_of(line)
        assert [value for key, value in facts if key == "uid"] == [os.getuid()]
        assert len(dict(facts)) == len(facts)
        assert dict(facts)["command"] == name[:15].rstrip(b"\n").decode(errors="backslashreplace")


def test_what_is_asked_for_forges_no_line(told: Daemon) -> None:
    """Nor does the name of a setting or a command, which may be any text."""
    for text in [name.decode(errors="replace") for name in HOSTILE]:
        before = len(told.log.split("\n"))
        with pytest.raises(RpcError):
            told.call("call", name="demo", command=text)
        with pytest.raises(RpcError):
            told.call("set", name="demo", setting=text, value=1)
        for line in told.log.split("\n")[before - 1 : -1]:
            assert line.isprintable()
            facts = facts_of(line)
            assert len(dict(facts)) == len(facts)
            assert (dict(facts)["uid"], dict(facts).get("setting", text)) == (os.getuid(), text)


# How many there are


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def outcomes(audit: Audit, uid: int, *named: str) -> list[dict[str, Any]]:
    """Return the lines that these outcomes give."""
    peer = Peer(1, uid, uid, frozenset())
    with structlog.testing.capture_logs() as lines:
        for outcome in named:
            audit.record(peer, Caller(None, None), "load", outcome, 0.0, {})
    return [dict(line) for line in lines]


def test_refusals_are_written_down_at_a_bounded_rate() -> None:
    """A number of them at once, then one a second; the next one tells how many there were between."""
    audit = Audit(clock := Clock())
    assert len(outcomes(audit, 1, *["auth.denied"] * (BURST + 5))) == BURST
    clock.now += 3.0
    lines = outcomes(audit, 1, *["auth.denied"] * 10)
    assert [line.get("left_out") for line in lines] == [5, None, None]
    clock.now += 1.0
    assert [line.get("left_out") for line in outcomes(audit, 1, "request.invalid")] == [7]
    clock.now += 3600.0
    assert len(outcomes(audit, 1, *["busy"] * (BURST + 5))) == BURST


def test_refusals_of_one_user_hide_none_of_another() -> None:
    """Each has lines of their own."""
    audit = Audit(Clock())
    outcomes(audit, 1, *["auth.denied"] * 100)
    assert len(outcomes(audit, 2, "auth.denied")) == 1


@pytest.mark.parametrize("outcome", ["ok", "cancelled", "plugin.crashed", "plugin.timeout", "internal"])
def test_refusals_hide_nothing_that_was_done(outcome: str) -> None:
    """Who was refused often does something: it is a line, also where it has failed, since it may be half done."""
    audit = Audit(Clock())
    outcomes(audit, 1, *["auth.denied"] * 100)
    assert len(outcomes(audit, 1, *[outcome] * 50)) == 50


def test_many_users_cost_little() -> None:
    """Of whom nothing has been heard for long, nothing is kept."""
    audit = Audit(Clock())
    outcomes(audit, 0, *["auth.denied"] * 100)
    for uid in range(1, 3000):
        assert len(outcomes(audit, uid, "auth.denied")) == 1
    assert len(audit._allowances) <= 1024


def test_a_client_that_is_always_refused_fills_no_log(running: Daemon) -> None:
    """Of a thousand refusals few are lines; none of the answers is missing."""
    wire = Wire(running.socket)
    lines = audited(running, [("load", {})] * 1000, wire)
    assert 0 < len(lines) < 200


@pytest.mark.anyio
async def test_a_connection_that_is_refused_is_a_line() -> None:
    """With whose it was, and with the limit."""
    async with serving(config="[control.limits]\nconnections_per_uid = 1\n") as server:
        assert await (await server.connect()).call("ping") == "pong"
        with structlog.testing.capture_logs() as lines:
            refused = await server.connect()
            assert (await refused.frame())[2]["code"] == "busy"
        (line,) = lines
        assert (line["event"], line["method"], line["outcome"]) == ("audit", "connect", "busy")
        assert (line["uid"], line["pid"], line["limit"]) == (os.getuid(), os.getpid(), "connections_per_uid")


# Which program it is

CONNECT = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); print(flush=True); input()"


@pytest.fixture
def accepted(tmp_path: Path) -> Iterator[tuple[socket.socket, "subprocess.Popen[str]"]]:
    """A connection, and the process at its other end, which ends when its input does."""
    os.chdir(tmp_path)  # For a path that is short enough.
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        listener.listen()
        with subprocess.Popen(
            [sys.executable, "-S", "-c", CONNECT, "socket"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            sock, _ = listener.accept()
            with sock:
                yield sock, process


def test_a_living_peer_is_told(accepted: tuple[socket.socket, "subprocess.Popen[str]"]) -> None:
    """Its unit and its command."""
    sock, process = accepted
    name = Path(f"/proc/{process.pid}/comm").read_text().strip()
    assert caller_of(sock, Peer.of(sock)) == Caller(own_unit(), name)


def test_nothing_is_told_of_a_peer_that_has_ended(accepted: tuple[socket.socket, "subprocess.Popen[str]"]) -> None:
    """Neither while it has not been reaped nor afterwards: its number may be somebody else's."""
    sock, process = accepted
    peer = Peer.of(sock)
    assert process.stdin is not None
    process.stdin.close()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert Path(f"/proc/{process.pid}/comm").exists()
    assert caller_of(sock, peer) == Caller(None, None)
    process.wait()
    assert caller_of(sock, peer) == Caller(None, None)


class Answering:
    """A socket whose kernel does not have a pidfd for it."""

    def __init__(self, number: int) -> None:
        self.number = number

    def getsockopt(self, *_: int) -> int:
        raise OSError(self.number, os.strerror(self.number))


@pytest.mark.parametrize(
    ("number", "known"), [(errno.ENOPROTOOPT, True), (errno.ESRCH, False), (errno.EINVAL, False), (errno.EMFILE, False)]
)
def test_nothing_is_told_where_the_kernel_knows_no_process(number: int, known: bool) -> None:
    """Where SO_PEERPIDFD says that it has ended, or fails, a living process of its number is a stranger."""
    stranger = Peer(os.getpid(), 0, 0, frozenset())
    told = Caller(own_unit(), own_command())
    assert caller_of(cast("socket.socket", Answering(number)), stranger) == (told if known else Caller(None, None))


def test_an_older_kernel_has_no_pidfd(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before 6.5 the peer is told by its number."""
    monkeypatch.setattr(caller_module, "SO_PEERPIDFD", 9999)
    one, other = socket.socketpair()
    with one, other:
        assert caller_of(one, Peer.of(one)) == Caller(own_unit(), own_command())


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("0::/system.slice/backup.service\n", "backup.service"),
        ("0::/system.slice/system-getty.slice/getty@tty1.service\n", "getty@tty1.service"),
        ("0::/user.slice/user-1000.slice/session-3.scope\n", "session-3.scope"),
        ("0::/system.slice/backup.service/worker/7\n", "backup.service"),
        ("0::/system.slice/docker-0123.scope\n", "docker-0123.scope"),
        ("0::/user.slice\n", "user.slice"),
        ("12:pids:/x.service\n1:name=systemd:/system.slice/cron.service\n0::/y.service\n", "cron.service"),
        ("1:name=systemd:/\n0::/system.slice/cron.service\n", "cron.service"),
        ("12:pids:/x.service\n", None),
        ("1:name=other:/x.service\n", None),
        ("0::/\n", None),
        ("0::/../../x.service\n", "x.service"),
        ("0::/a:b/x:y.service\n", "x:y.service"),
        ("", None),
        ("\n\n", None),
        ("0\n0:\n0::\n:\n::\n:::\n", None),
        ("garbage .service\n", None),
        (b"0::/system.slice/\xff.service\n".decode(errors="backslashreplace"), "\\xff.service"),
        # What kernels take for a part of a name, and Python for the end of a line.
        ("5:cpu:/a\r0::b.service\n1:name=systemd:/system.slice/cron.service\n", "cron.service"),
        ("5:cpu:/a\u20280::b.service\x0c0::b.service\x850::b.service\n0::/\n", None),
        # Cut off where the file was longer than what is read of it.
        ("0::/system.slice/" + "x" * 4000, "system.slice"),
    ],
)
def test_the_unit_is_what_the_kernel_names(text: str, unit: str | None) -> None:
    """The part of the path that is a unit's name, a slice's only where there is no other; none where there is none."""
    assert unit_in(text) == unit


def test_a_users_own_unit_does_not_pass_for_the_systems() -> None:
    """Everybody names the units of their own service manager as they like: they are told with that one's."""
    manager = "0::/user.slice/user-1000.slice/user@1000.service"
    assert unit_in(f"{manager}/app.slice/x.scope\n") == "user@1000.service/x.scope"
    assert unit_in(f"{manager}/app.slice/backup.service/cgroup\n") == "user@1000.service/backup.service"
    assert unit_in(f"{manager}/init.scope\n") == "user@1000.service/init.scope"
    assert unit_in(f"{manager}/app.slice\n") == "user@1000.service"
