"""Clients that wait at a service manager's socket for a plugd whose configuration is invalid."""

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgpack
import pytest
from harness import BIN, DEADLINE, clean_environ
from service_manager import START

from plugd.control.refusal import turn_away
from plugd.errors import CONFIG_INVALID, CommandError
from plugd.systemd import HandedOver

SECRET = "hunter2"
CLIENTS = 20
REQUEST = msgpack.packb([0, 1, "list", []])


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    """A socket at a path, that listens and is accepted from by nobody."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "control.sock"))
        listener.listen(CLIENTS)
        yield listener


def connect(listener: socket.socket) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(DEADLINE)
    client.connect(listener.getsockname())
    return client


def start(listener: socket.socket, tmp_path: Path, *flags: str) -> "subprocess.CompletedProcess[str]":
    """Run plugd on the socket, with a configuration that it refuses."""
    config = tmp_path / "plugd.toml"
    config.write_text(f'[plugins.load]\ninterval = "{SECRET}"\n')
    return subprocess.run(
        ["/bin/sh", "-c", START, BIN / "plugd", "--config", str(config), *flags],
        stdin=listener,
        env=clean_environ(tmp_path) | {"LISTEN_FDS": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )


def is_closed(client: socket.socket) -> bool:
    """Whether the other side has hung up; with a request unread, that is a reset."""
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True


def is_empty(listener: socket.socket) -> bool:
    """Whether nobody waits."""
    listener.setblocking(False)
    try:
        listener.accept()[0].close()
    except BlockingIOError:
        return True
    return False


def test_they_are_told_and_leave_the_backlog(listener: socket.socket, tmp_path: Path) -> None:
    """Each is answered, whatever it has asked; systemd has no reason left to start plugd again."""
    clients = [connect(listener) for _ in range(CLIENTS)]
    try:
        for client in clients[::2]:
            client.sendall(REQUEST)
        clients.pop().close()
        done = start(listener, tmp_path)
        assert done.returncode == 78, done
        assert SECRET in done.stderr
        for client in clients:
            answer = client.recv(65536)
            [number, identity, error, result] = msgpack.unpackb(answer)
            assert (number, identity, error["code"], result) == (1, None, "config.invalid", None)
            # What is wrong with it is for those who can read the log.
            assert SECRET.encode() not in answer
            assert is_closed(client)
        assert is_empty(listener)
    finally:
        for client in clients:
            client.close()


def test_a_check_leaves_them_alone(listener: socket.socket, tmp_path: Path) -> None:
    """``--check-config`` is about the configuration only, wherever it is run."""
    with connect(listener):
        assert start(listener, tmp_path, "--check-config").returncode == 78
        assert not is_empty(listener)


def test_what_is_no_socket_is_passed_over(listener: socket.socket) -> None:
    """A descriptor that nobody can be served on keeps no client of another from its answer."""
    with connect(listener) as client:
        ours = socket.socket(fileno=os.dup(listener.fileno()))
        handed = [HandedOver(3, None, fault="it is no socket"), HandedOver(4, ours, listener.getsockname())]
        assert turn_away(handed, CommandError(CONFIG_INVALID, "no")) == 1
        assert msgpack.unpackb(client.recv(65536))[2]["message"] == "no"
        assert ours.fileno() == -1
