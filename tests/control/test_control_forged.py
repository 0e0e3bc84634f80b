"""Clients that give themselves a telling name: who somebody is, the kernel says, and nothing that they have chosen.

snapd once took the uid from text in which the name of the client's own socket stood as well, and whoever bound it to
a path with ``;uid=0;`` in it was root: CVE-2019-7304.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import Daemon, daemons

NOBODY = 65534
FORGED = [
    ";uid=0;",
    "x;uid=0;gid=0;pid=1;",
    "pid=1;uid=0;socket=control.sock;",
    "uid=0",
    "0",
    "root",
    "admin",
    "@;uid=0;",
    "\n;uid=0;\n",
]

CLIENT = """
import json
import os
import socket
import sys

import msgpack

path, name, uid = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3])
sock = socket.socket(socket.AF_UNIX)
if uid >= 0:
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)
sock.bind(name)
sock.connect(path)
unpacker = msgpack.Unpacker()
answers = []
for method, params in (("hello", []), ("reload", []), ("load", [{"names": ["nosuch"]}])):
    sock.sendall(msgpack.packb([0, 1, method, params]))
    while not (frames := list(unpacker)):
        data = sock.recv(65536)
        assert data
        unpacker.feed(data)
    answers.append(frames[0][2:])
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def running() -> Iterator[Daemon]:
    """A daemon that everybody may connect to."""
    with daemons() as start:
        yield start(plugins={}, config='[control]\nmode = "0666"\n')


def ask_as(running: Daemon, name: str, uid: int) -> list[tuple[Any, Any]]:
    """Return error and result of hello, reload and load, asked by a client that is bound to this name."""
    done = subprocess.run(
        [sys.executable, "-c", CLIENT, running.socket, json.dumps(name), str(uid)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [(error, result) for error, result in json.loads(done.stdout)]


@pytest.fixture
def names(running: Daemon) -> Iterator[list[str]]:
    """Names of both kinds: paths, in a directory in which everybody may bind, and abstract ones."""
    directory = running.directory / "a;uid=0;"
    directory.mkdir(exist_ok=True)
    directory.chmod(0o777)
    yield [f"{directory}/{each}" for each in FORGED] + [f"\0{directory}/{each}" for each in FORGED]
    for path in Path(directory).iterdir():
        path.unlink()


def test_a_name_gives_nobody_a_role(running: Daemon, names: list[str]) -> None:
    """Another user stays who they are, and may only read, whatever path or abstract name they are bound to."""
    if os.getuid() != 0:
        pytest.skip("takes root: it becomes another user")
    for name in names:
        (_, hello), (reloading, _), (loading, _) = ask_as(running, name, NOBODY)
        assert (hello["uid"], hello["role"]) == (NOBODY, "read"), name
        assert (reloading["code"], loading["code"]) == ("auth.denied", "auth.denied"), name


def test_a_name_takes_no_role_away(running: Daemon, names: list[str]) -> None:
    """The daemon's own user is admin under any name."""
    for name in names[:: len(FORGED) - 1]:
        (_, hello), (reloading, _), (loading, _) = ask_as(running, name, -1)
        assert (hello["uid"], hello["role"]) == (os.getuid(), "admin"), name
        assert (reloading, loading["code"]) == (None, "plugin.not_found"), name
