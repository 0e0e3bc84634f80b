"""The control socket in the file system: whose it is, how it is made, what is left of it."""

import contextlib
import grp
import os
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import Daemons, wait_until

from plugd.control.listener import SocketError, SocketInUse, listening_socket


@pytest.fixture
def path() -> Iterator[Path]:
    """A path that is short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="pt-") as name:
        yield Path(name) / "control.sock"


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def connects(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(path))
        except OSError:
            return False
        return True


def test_listens_and_leaves_no_socket(path: Path) -> None:
    """One can connect while the context lasts; afterwards there is no socket."""
    with listening_socket(str(path), 0o660, None) as listener:
        assert connects(path)
        assert not listener.getblocking()
    assert not path.exists()
    assert not Path(f"{path}.new").exists()


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666])
@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077, 0o777])
def test_the_mode_is_the_configured_one(path: Path, mode: int, mask: int) -> None:
    """Whatever the umask is, the socket has the mode that was asked for, and the umask stays as it was."""
    before = os.umask(mask)
    try:
        with listening_socket(str(path), mode, None):
            assert mode_of(path) == mode
        assert os.umask(mask) == mask
    finally:
        os.umask(before)


def test_the_mode_is_never_wider(path: Path) -> None:
    """No name under which the socket can be opened has, at any instant, more rights than were asked for."""
    seen: set[int] = set()
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            for entry in path.parent.iterdir():
                if not entry.name.endswith(".lock"):
                    with contextlib.suppress(OSError):
                        seen.add(mode_of(entry))

    watcher = threading.Thread(target=look)
    before = os.umask(0)
    watcher.start()
    try:
        for _ in range(200):
            with listening_socket(str(path), 0o600, None):
                pass
    finally:
        os.umask(before)
        done.set()
        watcher.join()
    assert seen <= {0o000, 0o600}


def test_nobody_can_open_it_before_it_is_ready(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until its mode is set it has none, whatever the umask is: the moment that the test above may miss."""
    before_it_was_set: list[int] = []
    chmod = os.chmod

    def look(target: str, mode: int) -> None:
        before_it_was_set.append(mode_of(Path(target)))
        chmod(target, mode)

    monkeypatch.setattr(os, "chmod", look)
    before = os.umask(0)
    try:
        with listening_socket(str(path), 0o600, None):
            pass
    finally:
        os.umask(before)
    assert before_it_was_set == [0]


def test_the_group_is_the_configured_one(path: Path) -> None:
    """The socket is given to the group."""
    group = grp.getgrgid(os.getgid())
    with listening_socket(str(path), 0o660, group.gr_name):
        assert path.stat().st_gid == group.gr_gid


def test_an_unknown_group_is_a_clear_error(path: Path) -> None:
    """A group that does not exist is named, and nothing listens."""
    with (
        pytest.raises(SocketError, match="no-such-group"),
        listening_socket(str(path), 0o660, "no-such-group"),
    ):
        pass
    assert not path.exists()


def test_a_failure_leaves_nothing_but_the_lock(path: Path) -> None:
    """Nothing half made stays in the directory when the socket cannot be made."""
    with pytest.raises(SocketError), listening_socket(str(path), 0o660, "no-such-group"):
        pass
    assert {entry.name for entry in path.parent.iterdir()} == {f"{path.name}.lock"}


def test_a_stale_socket_is_taken_over(path: Path) -> None:
    """The socket of a daemon that was killed is no obstacle."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        dead.listen()
    assert path.exists()
    with listening_socket(str(path), 0o660, None):
        assert connects(path)


def test_a_half_made_socket_is_no_obstacle(path: Path) -> None:
    """What a daemon that was killed while it started has left is replaced."""
    Path(f"{path}.new").write_text("")
    with listening_socket(str(path), 0o660, None):
        assert connects(path)


def test_a_second_owner_is_refused(path: Path) -> None:
    """A path that has an owner keeps it, and the owner goes on listening."""
    with listening_socket(str(path), 0o660, None):
        with pytest.raises(SocketInUse), listening_socket(str(path), 0o660, None):
            pass
        assert connects(path)
    with listening_socket(str(path), 0o660, None):
        assert connects(path)


def test_a_socket_of_somebody_without_the_lock_is_not_stolen(path: Path) -> None:
    """A program that listens there without plugd's lock is left alone, even with a full backlog."""
    with socket.socket(socket.AF_UNIX) as other, contextlib.ExitStack() as clients:
        other.bind(str(path))
        other.listen(0)
        inode = path.stat().st_ino
        for _ in range(3):
            client = clients.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                client.connect(str(path))
            with pytest.raises(SocketInUse), listening_socket(str(path), 0o660, None):
                pass
        assert path.stat().st_ino == inode


def test_the_lock_is_private(path: Path) -> None:
    """Nobody else can take the lock and so keep the daemon out."""
    before = os.umask(0)
    try:
        with listening_socket(str(path), 0o666, None):
            assert mode_of(Path(f"{path}.lock")) == 0o600
    finally:
        os.umask(before)


def test_the_lock_is_no_link(path: Path) -> None:
    """A link in the lock's place is not followed."""
    target = path.parent / "target"
    Path(f"{path}.lock").symlink_to(target)
    with pytest.raises(SocketError), listening_socket(str(path), 0o660, None):
        pass
    assert not target.exists()


def test_the_directory_is_made_private(path: Path) -> None:
    """Missing directories are made, and others cannot write to them."""
    below = path.parent / "run" / "plugd" / "control.sock"
    before = os.umask(0)
    try:
        with listening_socket(str(below), 0o660, None):
            assert mode_of(below.parent) == (0o750 if os.getuid() == 0 else 0o700)
            assert connects(below)
    finally:
        os.umask(before)


def test_a_file_in_the_directorys_place_is_a_clear_error(path: Path) -> None:
    """The path is named, and what is wrong with it."""
    path.parent.joinpath("file").write_text("")
    with (
        pytest.raises(SocketError, match="cannot make the control socket"),
        listening_socket(str(path.parent / "file" / "control.sock"), 0o660, None),
    ):
        pass


def test_what_another_has_put_in_its_place_stays(path: Path) -> None:
    """On leaving, only the own socket is removed."""
    with listening_socket(str(path), 0o660, None):
        path.unlink()
        path.write_text("not a socket")
    assert path.read_text() == "not a socket"


def test_the_lock_ends_with_its_holder(path: Path) -> None:
    """A holder that is killed leaves socket and lock file behind, and neither keeps the next one out."""
    program = f"""
import sys, time
from plugd.control.listener import listening_socket
with listening_socket({str(path)!r}, 0o660, None):
    print("listening", flush=True)
    time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-I", "-c", program], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "listening\n"
        with pytest.raises(SocketInUse), listening_socket(str(path), 0o660, None):
            pass
        holder.kill()
    assert path.exists()
    with listening_socket(str(path), 0o660, None):
        assert connects(path)


def test_a_second_daemon_exits_and_the_first_serves_on(daemon: Daemons) -> None:
    """The second one's exit status is 69, EX_UNAVAILABLE."""
    first = daemon(plugins={})
    second = daemon(plugins={}, wait=False)
    assert wait_until(second.process.poll, "the second's end") == 69
    assert first.call("ping") == "pong"


def test_a_daemon_takes_over_from_one_that_was_killed(daemon: Daemons) -> None:
    """After SIGKILL the next daemon has the same socket."""
    first = daemon(plugins={})
    first.process.kill()
    first.process.wait()
    assert first.socket.exists()
    assert daemon(plugins={}).call("ping") == "pong"
