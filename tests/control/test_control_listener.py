"""The control socket in the file system: whose it is, how it is made, what is left of it."""

import contextlib
import errno
import grp
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import harness
import pytest
import structlog
from harness import Daemon, Daemons, clean_environ, plugctl, wait_until

from plugd.control.listener import SocketError, SocketInUse, inherited_socket, listening_socket
from plugd.systemd import HandedOver

ROOT = os.geteuid() == 0
NOBODY = 65534


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
        below = path.parent / "made" / path.name
        for place in (path, below):
            with listening_socket(str(place), mode, None):
                assert mode_of(place) == mode
                assert mode_of(Path(f"{place}.lock")) == 0o600
                assert mode_of(below.parent if place == below else path.parent) in (0o700, 0o750, 0o751)
        assert os.umask(mask) == mask
    finally:
        os.umask(before)


@pytest.mark.parametrize("mode", [0o600, 0o666])
def test_no_mode_is_ever_wider(path: Path, mode: int) -> None:
    """Neither socket, lock nor directory has, at any instant and by any name, more rights than were asked for."""
    seen: dict[str, set[int]] = {"control.sock": set(), "control.sock.lock": set(), "control.sock.new": set()}
    directory = path.parent / "made"
    directories: set[int] = set()
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            with contextlib.suppress(OSError):
                directories.add(mode_of(directory))
            for name, modes in seen.items():
                with contextlib.suppress(OSError):
                    modes.add(mode_of(directory / name))

    watcher = threading.Thread(target=look)
    before, switches = os.umask(0), sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # Or one of the two threads would run while the other waits.
    watcher.start()
    starts = 0
    end = time.monotonic() + harness.DEADLINE
    try:
        while starts < 50 or not (directories and all(seen.values())):
            assert time.monotonic() < end, "something was not seen even once"
            starts += 1
            with listening_socket(str(directory / "control.sock"), mode, None):
                assert mode_of(directory / "control.sock") == mode
            (directory / "control.sock.lock").unlink()
            directory.rmdir()
    finally:
        os.umask(before)
        sys.setswitchinterval(switches)
        done.set()
        watcher.join()
    assert directories <= {0o700, 0o750 if mode == 0o600 else 0o751}
    assert seen["control.sock"] <= {mode}
    assert seen["control.sock.lock"] <= {0o600}
    assert seen["control.sock.new"] <= {0o000, mode}


def test_nobody_can_open_it_before_it_is_ready(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until its mode is set it has none, whatever the umask is: the moment that the test above may miss."""
    before_it_was_set: list[int] = []
    chmod = os.chmod

    def look(target: str, mode: int) -> None:
        before_it_was_set.append(stat.S_IMODE(os.stat(target).st_mode))
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


@pytest.mark.parametrize("step", ["chmod", "rename"])
def test_a_failure_leaves_nothing_but_the_lock(path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """Nothing half made stays in the directory when the socket cannot be made."""

    def fail(*_: object) -> None:
        raise OSError(errno.EROFS, "it went wrong")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(SocketError, match="it went wrong"), listening_socket(str(path), 0o660, None):
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
            assert mode_of(below.parent) == mode_of(below.parent.parent) == 0o750
            assert connects(below)
    finally:
        os.umask(before)


def test_others_may_pass_where_they_may_open_the_socket(path: Path) -> None:
    """A socket for everybody is in a directory that everybody may pass through, and nobody else may list."""
    below = path.parent / "run" / "control.sock"
    with listening_socket(str(below), 0o666, None):
        assert mode_of(below.parent) == 0o751


@pytest.mark.skipif(not ROOT, reason="needs a group that is not our own")
def test_the_directory_is_for_the_group(path: Path) -> None:
    """Members of the configured group, and nobody else, reach the socket in a directory that was made for it."""
    below = path.parent / "run" / "control.sock"
    path.parent.chmod(0o755)
    group = next(each for each in grp.getgrall() if each.gr_gid not in (0, NOBODY))
    program = """
import os, socket, sys
os.setgroups([]); os.setgid(int(sys.argv[2])); os.setuid(65534)
try:
    socket.socket(socket.AF_UNIX).connect(sys.argv[1])
except PermissionError:
    raise SystemExit(13)
"""
    with listening_socket(str(below), 0o660, group.gr_name):
        assert below.parent.stat().st_gid == group.gr_gid
        statuses = [
            subprocess.run([sys.executable, "-c", program, str(below), str(gid)], check=False).returncode
            for gid in (group.gr_gid, NOBODY)
        ]
    assert statuses == [0, 13]


def test_a_directory_that_is_there_stays_as_it_is(path: Path) -> None:
    """Its mode is its owner's affair."""
    path.parent.chmod(0o711)
    with structlog.testing.capture_logs() as logs, listening_socket(str(path), 0o666, None):
        assert mode_of(path.parent) == 0o711
    assert logs == []


@pytest.mark.parametrize(("mode", "owner", "warned"), [
    (0o777, None, True), (0o1777, None, False), (0o775, None, False), (0o755, NOBODY, True), (0o1777, NOBODY, True),
])  # fmt: skip
def test_a_directory_that_others_rule_is_logged(path: Path, mode: int, owner: int | None, warned: bool) -> None:
    """Where others can put something else in the socket's place, the log names the directory, and plugd serves."""
    if owner is not None:
        if not ROOT:
            pytest.skip("needs root")
        os.chown(path.parent, owner, -1)
    path.parent.chmod(mode)
    with structlog.testing.capture_logs() as logs, listening_socket(str(path), 0o660, None):
        assert connects(path)
    assert [(each["event"], each["directory"]) for each in logs] == (
        [("socket_directory_unsafe", str(path.parent))] if warned else []
    )


def test_a_failure_leaves_no_directory_half_made(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next start would take it as it is."""

    def fail(*_: object) -> None:
        raise OSError(errno.EPERM, "it went wrong")

    monkeypatch.setattr(os, "chmod", fail)
    below = path.parent / "run" / "control.sock"
    with pytest.raises(SocketError, match="it went wrong"), listening_socket(str(below), 0o660, None):
        pass
    assert not below.parent.exists()


def test_a_directory_that_vanishes_is_a_clear_error(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between its making and its use."""
    below = path.parent / "run" / "control.sock"
    rename = os.rename

    def vanish(source: str, target: str) -> None:
        rename(below.parent, path.parent / "elsewhere")
        rename(source, target)

    monkeypatch.setattr(os, "rename", vanish)
    with pytest.raises(SocketError, match="No such file"), listening_socket(str(below), 0o660, None):
        pass


def test_one_can_leave_when_the_directory_has_gone(path: Path) -> None:
    """There is nothing to remove, then."""
    below = path.parent / "run" / "control.sock"
    with listening_socket(str(below), 0o660, None):
        below.parent.rename(path.parent / "elsewhere")
    assert (path.parent / "elsewhere" / "control.sock").exists()


def test_a_directory_where_nothing_can_be_made_is_a_clear_error(path: Path) -> None:
    """As one that is read-only: the lock is named, and the reason."""
    with pytest.raises(SocketError, match=r"'/proc/self/control.sock.lock': No such"), \
            listening_socket("/proc/self/control.sock", 0o660, None):  # fmt: skip
        pass


@pytest.mark.parametrize("bad", ["", "@abstract", "\0abstract", "relative.sock", "./x.sock", "/tmp/", "/tmp/a\0b"])
def test_only_an_absolute_path_will_do(bad: str) -> None:
    """An abstract socket has no permissions; whoever is first has it, and everybody may open it."""
    with pytest.raises(SocketError, match="absolute path"), listening_socket(bad, 0o660, None):
        pass


@pytest.mark.parametrize("name_bytes", [3, 40])
@pytest.mark.parametrize("path_bytes", [103, 104, 107])
def test_the_longest_path_is_the_kernels(path: Path, path_bytes: int, name_bytes: int) -> None:
    """All 107 bytes can be used, though the socket has a longer name at first; nothing of that stays."""
    directory = path.parent / ("d" * (path_bytes - name_bytes - len(str(path.parent)) - 2))
    longest = directory / ("s" * name_bytes)
    assert len(str(longest)) == path_bytes
    with listening_socket(str(longest), 0o660, None):
        assert connects(longest)
        assert mode_of(longest) == 0o660
    assert {entry.name for entry in directory.iterdir()} == {f"{longest.name}.lock"}


def test_a_longer_path_is_a_clear_error(path: Path) -> None:
    """It is told before anything is made."""
    longer = path.parent / ("s" * (107 - len(str(path.parent))))
    with pytest.raises(SocketError, match="107 bytes at most"), listening_socket(str(longer), 0o660, None):
        pass
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("what", ["directory", "link", "dangling", "datagram"])
def test_what_is_no_stale_socket_stays(path: Path, what: str) -> None:
    """Whatever has the socket's name already is named in the error, and left alone."""
    with contextlib.ExitStack() as stack:
        if what == "directory":
            path.mkdir()
        elif what == "datagram":
            stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)).bind(str(path))
        else:
            path.symlink_to(path.parent / "target")
            if what == "link":
                (path.parent / "target").write_text("precious")
        kind = stat.S_IFMT(path.lstat().st_mode)
        with (
            pytest.raises(SocketError, match="there is something else of that name"),
            listening_socket(str(path), 0o660, None),
        ):
            pass
        assert stat.S_IFMT(path.lstat().st_mode) == kind


def test_a_link_to_a_living_socket_is_one_in_use(path: Path) -> None:
    """Somebody answers there: nothing is put in the link's place."""
    with listening_socket(str(path.parent / "target"), 0o660, None):
        path.symlink_to(path.parent / "target")
        with pytest.raises(SocketInUse), listening_socket(str(path), 0o660, None):
            pass
    assert path.is_symlink()


@pytest.mark.parametrize("what", ["file", "link"])
def test_a_half_made_socket_is_never_followed(path: Path, what: str) -> None:
    """What has the name of the half made socket is removed; a link's target is not touched."""
    target = path.parent / "target"
    target.write_text("precious")
    target.chmod(0o600)
    half = Path(f"{path}.new")
    half.symlink_to(target) if what == "link" else half.write_text("")
    with listening_socket(str(path), 0o666, None):
        assert connects(path)
    assert (target.read_text(), mode_of(target)) == ("precious", 0o600)


def test_a_directory_of_the_half_made_sockets_name_is_named(path: Path) -> None:
    """It is not ours to remove."""
    Path(f"{path}.new").mkdir()
    with pytest.raises(SocketError, match=r"control\.sock\.new': Is a directory"), \
            listening_socket(str(path), 0o660, None):  # fmt: skip
        pass


def test_a_link_that_takes_the_half_made_sockets_place_is_not_followed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where others may write to the directory, they can be quick: no file of theirs is given other rights."""
    target = path.parent / "target"
    target.write_text("precious")
    target.chmod(0o600)
    bind = socket.socket.bind

    class Slow(socket.socket):
        def bind(self, address: object) -> None:  # type: ignore[override]
            bind(self, address)  # type: ignore[arg-type]
            os.unlink(str(address))
            os.symlink(target, str(address))

    monkeypatch.setattr("socket.socket", Slow)
    with pytest.raises(SocketError, match="something else in its place"), listening_socket(str(path), 0o666, None):
        pass
    assert mode_of(target) == 0o600


@pytest.mark.skipif(not ROOT, reason="needs another user")
def test_a_socket_that_may_not_be_tried_is_left_alone(path: Path) -> None:
    """Nobody can tell whether somebody else's socket is alive: it is not replaced."""
    path.parent.chmod(0o777)
    program = f"""
import os
from plugd.control.listener import SocketError, listening_socket
os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})
try:
    with listening_socket({str(path)!r}, 0o660, None):
        pass
except SocketError as error:
    print(error)
"""
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        path.chmod(0o600)
        other.listen()
        said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
        assert "there is a socket of user 0, who may be serving on it" in said
        assert connects(path)


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


def test_of_twenty_that_start_at_once_one_serves(path: Path) -> None:
    """The others exit with 69, and the one goes on serving."""
    program = """
import sys
from plugd import cli, daemon
sys.stdin.read()  # until all are there
raise SystemExit(cli.main(sys.argv[1:]))
"""
    directory = path.parent
    flags = ["--socket", str(path), "--state-dir", str(directory / "state"), "--plugin-dir", str(directory)]
    processes: list[subprocess.Popen[bytes]] = []
    read, write = map(os.fdopen, os.pipe(), "rw")
    try:
        for _ in range(20):
            command = [sys.executable, "-c", program, *flags]
            quiet = subprocess.DEVNULL
            processes.append(
                subprocess.Popen(command, stdin=read, stdout=quiet, stderr=quiet, env=clean_environ(directory))
            )
        write.close()
        wait_until(lambda: sum(each.poll() is not None for each in processes) >= 19, "the end of all but one")
        assert sorted([each.poll() or 0 for each in processes]) == [0] + [69] * 19
        (serving,) = [each for each in processes if each.poll() is None]
        assert plugctl("--socket", str(path), "ping", directory=directory).stdout == "pong\n"
        serving.send_signal(signal.SIGTERM)
        assert serving.wait(harness.DEADLINE) == 0
    finally:
        read.close()
        write.close()
        for each in processes:
            each.kill()
            each.wait()


@contextlib.contextmanager
def handed_over(*paths: Path, mode: int = 0o600) -> Iterator[list[HandedOver]]:
    """Listening sockets, as systemd makes them and hands them over."""
    handed = []
    with contextlib.ExitStack() as stack:
        for each in paths:
            listener = stack.enter_context(socket.socket(socket.AF_UNIX))
            listener.bind(str(each))
            each.chmod(mode)
            listener.listen()
            handed.append(HandedOver(listener.fileno(), listener, str(each)))
        yield handed


def test_an_inherited_socket_is_served_on_and_stays(path: Path) -> None:
    """It is its manager's: it has not been made anew, and is there afterwards."""
    with handed_over(path) as handed:
        inode = path.stat().st_ino
        with structlog.testing.capture_logs() as logs:
            with inherited_socket(handed, str(path), 0o660) as (listener, found):
                assert connects(path)
                listener.accept()[0].close()
                assert not listener.getblocking()
            assert found == str(path)
        assert path.stat().st_ino == inode
        assert logs == []


def test_of_several_the_configured_one_is_served_on(path: Path) -> None:
    """By whatever name; the others are closed and logged."""
    other, link = path.parent / "other", path.parent / "link"
    link.symlink_to(path.parent)
    with (
        handed_over(other, path) as handed,
        structlog.testing.capture_logs() as logs,
        inherited_socket(handed, str(link / path.name), 0o660) as (_, found),
    ):
        assert found == str(path)
        assert connects(path)
        assert not connects(other)
    assert [(each["event"], each["socket"]) for each in logs] == [("socket_not_used", str(other))]


def test_of_several_others_the_first_is_served_on(path: Path) -> None:
    """What cannot be served on does not count, and is logged with the reason."""
    first, second = path.parent / "first", path.parent / "second"
    with handed_over(first, second) as handed, structlog.testing.capture_logs() as logs:
        bad = HandedOver(99, None, fault="it is no socket")
        with inherited_socket([bad, *handed], str(path), 0o660) as (_, found):
            assert found == str(first)
    assert [(each["descriptor"], each["socket"]) for each in logs] == [(99, None), (handed[1].descriptor, str(second))]
    assert logs[0]["reason"] == "it is no socket"


def test_nothing_to_serve_on_is_a_clear_error(path: Path) -> None:
    """It names every descriptor and what is wrong with it; no socket is made instead."""
    handed = [HandedOver(3, None, fault="it is no socket"), HandedOver(4, None, fault="it is no Unix socket")]
    with (
        pytest.raises(SocketError, match="descriptor 3: it is no socket; descriptor 4: it is no Unix socket"),
        inherited_socket(handed, str(path), 0o660),
    ):
        pass
    assert not path.exists()


@pytest.mark.parametrize(("mode", "warned"), [(0o660, False), (0o600, False), (0o666, True), (0o662, True)])
def test_an_inherited_socket_with_a_wider_mode_is_logged(path: Path, mode: int, warned: bool) -> None:
    """It is served on all the same: its permissions are its unit's."""
    with (
        handed_over(path, mode=mode) as handed,
        structlog.testing.capture_logs() as logs,
        inherited_socket(handed, str(path), 0o660),
    ):
        assert mode_of(path) == mode
    told = {"event": "socket_mode_wider", "log_level": "warning", "socket": str(path), "configured": "0660"}
    assert logs == ([told | {"mode": f"{mode:04o}"}] if warned else [])


def test_an_inherited_socket_that_has_been_removed_is_logged(path: Path) -> None:
    """Nobody can reach it; it may be put back."""
    with handed_over(path) as handed, structlog.testing.capture_logs() as logs:
        path.unlink()
        with inherited_socket(handed, str(path), 0o660):
            pass
    assert [each["event"] for each in logs] == ["socket_unreachable"]


def test_an_inherited_socket_keeps_others_out(path: Path) -> None:
    """Those that would make one at its path, and those that were handed the same."""
    with handed_over(path) as handed, inherited_socket(handed, str(path), 0o660):
        with pytest.raises(SocketInUse), listening_socket(str(path), 0o660, None):
            pass
        with socket.socket(fileno=os.dup(handed[0].descriptor)) as again:
            second = [HandedOver(again.fileno(), again, str(path))]
            with pytest.raises(SocketInUse), inherited_socket(second, str(path), 0o660):
                pass
        assert connects(path)


def test_an_inherited_socket_needs_no_lock(path: Path) -> None:
    """Its directory may be its manager's alone; a second daemon then finds that somebody answers."""
    Path(f"{path}.lock").mkdir()
    with handed_over(path) as handed, inherited_socket(handed, str(path), 0o660):
        assert connects(path)
        Path(f"{path}.lock").rmdir()
        with pytest.raises(SocketInUse), listening_socket(str(path), 0o660, None):
            pass


MANAGER = """#!{python}
# Hands sockets over, as systemd does, and becomes plugd.
import json, os, socket, sys
fds = []
for path in json.loads(os.environ["HAND_OVER"]):
    listener = socket.socket(socket.AF_UNIX)
    if path.startswith("/"):
        if os.path.lexists(path):
            os.unlink(path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
    listener.bind(path.replace("@", chr(0)))
    if path.startswith("/"):
        os.chmod(path, 0o666)
    listener.listen()
    fds.append(listener.detach())
assert fds == list(range(3, 3 + len(fds))), fds
for fd in fds:
    os.set_inheritable(fd, True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(fds)), LISTEN_FDNAMES="plugd.socket")
os.execv({plugd!r}, [{plugd!r}, *sys.argv[1:]])
"""


@pytest.fixture
def activated(daemon: Daemons, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Daemon]:
    """Call it with paths of sockets to start a plugd that is handed them."""
    manager = daemon.directory / "bin" / "plugd"
    manager.parent.mkdir()
    manager.write_text(MANAGER.format(python=sys.executable, plugd=str(harness.BIN / "plugd")))
    manager.chmod(0o755)

    def start(*paths: str, wait: bool = True) -> Daemon:
        with monkeypatch.context() as patched:
            patched.setattr(harness, "BIN", manager.parent)
            return daemon(plugins={}, environ={"HAND_OVER": json.dumps(paths)}, wait=wait)

    return start


def test_a_daemon_serves_on_the_socket_that_it_is_handed(activated: Callable[..., Daemon], daemon: Daemons) -> None:
    """Status names its path, also after a reload; plugctl finds it; its mode is logged; it stays at the end."""
    path = daemon.directory / "unit" / "plugd.sock"
    running = activated(str(path), wait=False)
    running.socket = path
    running.wait_ready()
    assert running.call("status")["socket"] == str(path)
    running.call("reload")
    assert running.call("status")["socket"] == str(path)
    assert plugctl("--socket", str(path), "ping", directory=daemon.directory).stdout == "pong\n"
    assert [each["socket"] for each in running.records("socket_mode_wider")] == [str(path)]
    assert not (daemon.directory / "control.sock").exists()
    assert running.stop() == 0
    assert path.exists()


def test_a_second_daemon_yields_to_one_with_an_inherited_socket(
    activated: Callable[..., Daemon], daemon: Daemons
) -> None:
    """Its status is 69, and the first serves on."""
    first = activated(str(daemon.directory / "control.sock"))
    second = daemon(plugins={}, wait=False)
    assert wait_until(second.process.poll, "the second's end") == 69
    assert second.records("socket_in_use")[0]["socket"] == str(first.socket)
    assert first.call("ping") == "pong"


def test_a_daemon_that_is_handed_an_abstract_socket_refuses_it(activated: Callable[..., Daemon]) -> None:
    """With status 73 and the reason; it makes no other."""
    refused = activated(f"@plugd-test-{os.getpid()}", wait=False)
    assert wait_until(refused.process.poll, "its end") == 73
    assert "descriptor 3: its address is abstract" in refused.records("socket_failed")[0]["reason"]
    assert not refused.socket.exists()
