"""What plugd tells systemd, and what it takes from it."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from plugd import systemd


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        receiver.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield receiver


def test_ready_is_sent(manager: socket.socket) -> None:
    """READY=1, with a status line where there is one."""
    systemd.notify_ready("9 plugins")
    assert manager.recv(4096) == b"READY=1\nSTATUS=9 plugins"


def test_stopping_is_sent(manager: socket.socket) -> None:
    """STOPPING=1."""
    systemd.notify_stopping()
    assert manager.recv(4096) == b"STOPPING=1"


def test_reloading_has_the_monotonic_time(manager: socket.socket) -> None:
    """systemd takes RELOADING=1 only with the time at which it began."""
    systemd.notify_reloading()
    first, second = manager.recv(4096).decode().splitlines()
    assert first == "RELOADING=1"
    assert second.startswith("MONOTONIC_USEC=")
    assert second.partition("=")[2].isdigit()


def test_a_status_cannot_smuggle_in_another_assignment(manager: socket.socket) -> None:
    """A status is one line, whatever is in it."""
    systemd.notify_status("a\nMAINPID=1")
    assert manager.recv(4096) == b"STATUS=a MAINPID=1"


def test_an_abstract_socket_is_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    """An address that begins with @ is in the abstract namespace."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind("")  # the kernel chooses an abstract name
        receiver.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + receiver.getsockname()[1:].decode())
        systemd.notify_ready()
        assert receiver.recv(4096) == b"READY=1"


@pytest.mark.parametrize(
    "address", ["", "/nonexistent/notify", "relative", "vsock:2:3", "/" + "a" * 200, "@" + "a" * 200]
)
def test_without_a_manager_nothing_happens(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No systemd, or one that does not listen, is no failure."""
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    systemd.notify_ready()


def test_a_manager_that_does_not_read_does_not_block(manager: socket.socket) -> None:
    """Notifications beyond its queue are lost, and the daemon goes on."""
    for _ in range(10_000):
        systemd.notify_status("x")
    assert manager.recv(4096) == b"STATUS=x"


HAND_OVER = """
import os, socket, sys
made = []
for position, what in enumerate(sys.argv[2:]):
    kind = socket.SOCK_SEQPACKET if what == "seqpacket" else socket.SOCK_STREAM
    one = socket.socket(socket.AF_INET if what == "inet" else socket.AF_UNIX, kind)
    if what == "abstract":
        one.bind("")  # the kernel chooses a name
    elif what == "relative":
        os.chdir(os.path.dirname(sys.argv[1]))
        one.bind(f"relative{position}")
    elif what == "inet":
        one.bind(("127.0.0.1", 0))
    else:
        one.bind(f"{sys.argv[1]}{position}")
    if what != "bound":
        one.listen()
    made.append(one.detach())
    if what == "file":
        os.close(made[-1])
        os.open("/dev/null", os.O_RDONLY)
assert made == list(range(3, 3 + len(made))), made
if "closed" in sys.argv:
    os.close(3 + sys.argv[2:].index("closed"))
environ = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(made)), "LISTEN_FDNAMES": "a:b", "KEPT": "1"}
from plugd.systemd import listen_sockets
handed = listen_sockets(environ)
for position, each in enumerate(handed):
    assert each.descriptor == 3 + position
    if each.listener is not None:
        assert each.listener.fileno() == each.descriptor and not each.listener.get_inheritable()
        print(f"path {each.path}")
        continue
    print(f"fault {each.fault}")
    try:
        os.fstat(each.descriptor)
    except OSError:
        continue
    raise SystemExit(f"{each.descriptor} is open")
assert environ == {"KEPT": "1"}, environ
assert listen_sockets(environ) == []
sys.stdout.flush()
os._exit(0)
"""


def handed_over(directory: Path, *what: str) -> list[str]:
    """Return, for each, what a process that was handed these makes of it."""
    result = subprocess.run(
        [sys.executable, "-c", HAND_OVER, str(directory / "s"), *what],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout.splitlines()


def test_listening_sockets_are_adopted(tmp_path: Path) -> None:
    """In their order, with their paths; they are kept from children, and the environment is cleared."""
    assert handed_over(tmp_path, "path", "path") == [f"path {tmp_path}/s0", f"path {tmp_path}/s1"]


@pytest.mark.parametrize(
    ("what", "fault"),
    [
        ("closed", "it is not open"),
        ("file", "it is no socket"),
        ("inet", "it is no Unix socket"),
        ("seqpacket", "it is no stream socket"),
        ("bound", "it does not listen; a socket unit must have Accept=no"),
        ("abstract", "its address is abstract, which no permissions guard; it must be a path"),
        ("relative", "its path is not absolute: 'relative0'"),
    ],
)
def test_what_nobody_can_be_served_on_is_told_and_closed(tmp_path: Path, what: str, fault: str) -> None:
    """With what is wrong with it; others beside it are adopted all the same."""
    assert handed_over(tmp_path, what, "path") == [f"fault {fault}", f"path {tmp_path}/s1"]


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"LISTEN_FDS": "1"},
        {"LISTEN_PID": "1", "LISTEN_FDS": "1"},
        {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "x"},
        {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "-1"},
        {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "0"},
    ],
)
def test_sockets_meant_for_nobody_or_another_are_left_alone(environ: dict[str, str]) -> None:
    """Variables inherited from a parent that did not clear them are not believed."""
    assert systemd.listen_sockets(environ) == []
    assert environ == {}
