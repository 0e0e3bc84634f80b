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


ADOPT = """
import os, socket, sys
unix, other, plain = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX), os.open("/dev/null", os.O_RDONLY)
unix.bind(sys.argv[1]); unix.listen()
for fd, wanted in ((unix.fileno(), 13), (other.fileno(), 14), (plain, 15)):
    os.dup2(fd, wanted)
os.closerange(3, 13)
for number in range(3):
    os.dup2(13 + number, 3 + number)
os.closerange(13, 16)
environ = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "4", "LISTEN_FDNAMES": "a:b:c:d", "KEPT": "1"}
from plugd.systemd import listen_sockets
(listener,) = listen_sockets(environ)
assert listener.fileno() == 3 and listener.getsockname() == sys.argv[1] and not listener.get_inheritable()
assert environ == {"KEPT": "1"}, environ
for fd in (4, 5):
    try:
        os.fstat(fd)
    except OSError:
        continue
    raise SystemExit(f"{fd} is open")
assert listen_sockets(environ) == []
os._exit(0)
"""


def test_listening_sockets_are_adopted(tmp_path: Path) -> None:
    """Listening sockets are taken and kept from children; anything else is closed; the environment is cleared."""
    result = subprocess.run(
        [sys.executable, "-c", ADOPT, str(tmp_path / "s")], capture_output=True, text=True, timeout=30, check=False
    )
    assert (result.returncode, result.stderr) == (0, "")


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
