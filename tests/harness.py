"""A real daemon in a process of its own, and what tests ask of it: started, called, ended, looked for afterwards."""

import contextlib
import ctypes
import functools
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import msgpack

DEADLINE = 20.0  # seconds, for what must happen; a test never waits so long unless it fails
BIN = Path(os.environ.get("PLUGD_TEST_BIN") or os.path.dirname(sys.executable)).absolute()
"""Where the plugd and plugctl under test are: those of the wheel in ``make test``, else the tests' own."""

ROOT = Path(__file__).parents[1]
SHIPPED = ROOT / "plugins"

PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


def wait_until(condition: Callable[[], Any], what: str = "it") -> Any:
    """Wait until a condition is true, and return its value; fail at the deadline."""
    end = time.monotonic() + DEADLINE
    while not (value := condition()):
        assert time.monotonic() < end, f"{what} did not come true within {DEADLINE:.0f} s"
        time.sleep(0.01)
    return value


class RpcError(Exception):
    """The daemon answered with an error."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(f"{error['code']}: {error['message']}")
        self.code: str = error["code"]
        self.message: str = error["message"]
        self.data: dict[str, Any] = error["data"]


class Client:
    """A blocking client that knows nothing of plugd's own code."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(DEADLINE)
        try:
            self.socket.connect(str(path))
        except BaseException:
            self.socket.close()
            raise
        self._unpacker = msgpack.Unpacker(strict_map_key=False)
        self._last_id = 0
        self.notifications: list[tuple[str, dict[str, Any]]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def call(self, method: str, **params: Any) -> Any:
        """Return a method's result; raise RpcError where the answer is an error."""
        self._last_id += 1
        self.socket.sendall(msgpack.packb([0, self._last_id, method, [params] if params else []]))
        while True:
            frame = self._receive()
            if frame[0] == 2:
                self.notifications.append((frame[1], frame[2][0]))
            elif frame[1] == self._last_id:
                if frame[2] is not None:
                    raise RpcError(frame[2])
                return frame[3]

    def next_notification(self) -> tuple[str, dict[str, Any]]:
        """Return the next notification, one that came before an answer first."""
        while not self.notifications:
            frame = self._receive()
            assert frame[0] == 2, frame
            self.notifications.append((frame[1], frame[2][0]))
        return self.notifications.pop(0)

    def _receive(self) -> list[Any]:
        while True:
            for frame in self._unpacker:
                return frame
            data = self.socket.recv(65536)
            if not data:
                raise ConnectionError("plugd closed the connection")
            self._unpacker.feed(data)


class Daemon:
    """A running plugd.

    Args:
        directory: its own, short enough for a socket's path; the daemon's files are all below it.
        arguments: further flags.
        plugin_dir: its only directory of plugins; None: those of its configuration and the shipped ones.
        environ: further variables.
        uid: the user, if it is another; the directory is given to that one.
    """

    def __init__(
        self,
        directory: Path,
        arguments: tuple[str, ...] = (),
        plugin_dir: Path | None = None,
        environ: Mapping[str, str] | None = None,
        uid: int | None = None,
    ) -> None:
        self.directory = directory
        self.plugin_dir = plugin_dir
        self.socket = directory / "control.sock"
        self.config = directory / "etc" / "plugd.toml"
        self._log = directory / f"log-{uuid.uuid4().hex[:8]}"
        self._before = set(children(os.getpid()))
        flags = ["--socket", str(self.socket), "--state-dir", str(directory / "state"), *arguments]
        if plugin_dir is not None:
            flags += ["--plugin-dir", str(plugin_dir)]
        if uid is not None:
            os.chown(directory, uid, uid)
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [BIN / "plugd", *flags],
                cwd=directory,
                env=clean_environ(directory) | dict(environ or {}),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=uid,
                group=uid,
                extra_groups=None if uid is None else [],
            )

    @property
    def pid(self) -> int:
        """The daemon's process."""
        return self.process.pid

    @property
    def log(self) -> str:
        """All that it has written."""
        return self._log.read_text(errors="replace")

    def records(self, event: str) -> list[dict[str, Any]]:
        """Return the log records of an event; the log is JSON, as it is where no terminal is."""
        rows = [json.loads(line) for line in self.log.splitlines() if line.startswith("{") and line.endswith("}")]
        return [row for row in rows if row.get("event") == event]

    def client(self) -> Client:
        """Connect; the caller closes it."""
        return Client(self.socket)

    def call(self, method: str, **params: Any) -> Any:
        """Return a method's result, over a connection of its own; raise RpcError where the answer is an error."""
        with self.client() as client:
            return client.call(method, **params)

    def plugctl(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run plugctl against this daemon."""
        return plugctl("--socket", str(self.socket), *arguments, directory=self.directory, **environ)

    def plugctl_json(self, *arguments: str) -> Any:
        """Run plugctl with --json, which must succeed; return what it prints."""
        done = self.plugctl("--json", *arguments)
        assert done.returncode == 0, done
        return json.loads(done.stdout)

    def plugin(self, name: str) -> dict[str, Any]:
        """Return a plugin's row of ``list``."""
        return next(row for row in self.call("list") if row["name"] == name)

    def wait_ready(self) -> None:
        """Wait until it has started everything that it starts."""

        def ready() -> bool:
            assert self.process.poll() is None, f"plugd exited with {self.process.returncode}:\n{self.log}"
            return "plugd_ready" in self.log

        wait_until(ready, "plugd_ready")
        assert self.call("ping") == "pong"

    def processes(self) -> dict[int, str]:
        """Return every process that descends from this daemon, itself included, with its name.

        When it is dead, what it has left are children of this process, which is a subreaper: none can escape.
        """
        if self.process.poll() is None:
            return {self.pid: "plugd", **descendants(self.pid)}
        left = {}
        for pid, (name, state) in children(os.getpid()).items():
            if pid in self._before or pid in Daemons.pids:
                continue
            if state == "Z":
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)  # It came here to be reaped.
            else:
                left[pid] = name
            left |= descendants(pid)
        return left

    def descriptors(self) -> int:
        """Return how many descriptors it has open, but for files that it is just writing: they come and go."""
        state, count = str(self.directory / "state"), 0
        for entry in os.listdir(f"/proc/{self.pid}/fd"):
            with contextlib.suppress(FileNotFoundError):  # It has been closed meanwhile.
                count += not os.readlink(f"/proc/{self.pid}/fd/{entry}").startswith(state)
        return count

    def wait_gone(self) -> None:
        """Wait until no process of it is left."""
        end = time.monotonic() + DEADLINE
        while left := self.processes():
            assert time.monotonic() < end, f"left behind: {left}"
            time.sleep(0.01)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal that ends it; return its exit status once all its processes have gone."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        status = self.process.wait(DEADLINE)
        self.wait_gone()
        return status

    def close(self) -> None:
        """End it and all that is left of it; fail where something had to be killed."""
        try:
            self.stop()
        finally:
            self.process.kill()  # Nothing, where it has been reaped.
            self.process.wait(DEADLINE)
            for pid in self.processes():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


class Daemons:
    """Starts daemons, and ends those that are left at the end: a call starts one and waits until it is ready."""

    pids: ClassVar[set[int]] = set()  # of all daemons under test

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._started: list[Daemon] = []

    def __call__(
        self,
        *arguments: str,
        plugins: Mapping[str, str | Path] | None = None,
        config: str | None = None,
        environ: Mapping[str, str] | None = None,
        wait: bool = True,
        uid: int | None = None,
    ) -> Daemon:
        """Start a daemon.

        Args:
            arguments: further flags of plugd.
            plugins: sources, or files to copy, by plugin name: they are all that there is, in ``plugin_dir``.
                None: the shipped plugins.
            config: text of ``plugd.toml``.
            environ: further variables of its environment.
            wait: whether to wait until it is ready.
            uid: the user that it runs as, if it is another.
        """
        plugin_dir = None
        if plugins is not None:
            plugin_dir = self.directory / "plugins"
            plugin_dir.mkdir(exist_ok=True)
            for name, source in plugins.items():
                write_plugin(plugin_dir, name, source)
        if config is not None:
            (self.directory / "etc").mkdir(exist_ok=True)
            (self.directory / "etc" / "plugd.toml").write_text(config)
        daemon = Daemon(self.directory, arguments, plugin_dir, environ, uid)
        self._started.append(daemon)
        self.pids.add(daemon.pid)
        if wait:
            daemon.wait_ready()
        return daemon

    def close(self) -> None:
        """End them all."""
        with contextlib.ExitStack() as stack:
            for daemon in self._started:
                stack.callback(self.pids.discard, daemon.pid)
                stack.callback(daemon.close)


@contextlib.contextmanager
def daemons() -> Iterator[Daemons]:
    """A directory, and the daemons started in it; nothing of them is left afterwards."""
    adopt_orphans(wanted=True)
    # Not below pytest's own directories: a socket's path has at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="pt-") as name:
        Path(name).chmod(0o755)  # Workers may have a user of their own.
        started = Daemons(Path(name))
        try:
            yield started
        finally:
            started.close()
            adopt_orphans(wanted=False)


@functools.cache
def runs_as(uid: int) -> bool:
    """Whether that user can run plugd where it is installed; the test is root."""
    command = [BIN / "plugd", "--version"]
    try:
        done = subprocess.run(command, user=uid, group=uid, extra_groups=[], cwd="/", capture_output=True, check=False)
    except PermissionError:
        return False
    return done.returncode == 0


def adopt_orphans(*, wanted: bool) -> None:
    """Have processes whose parent has died become this process's children, or not: prctl(2)."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, int(wanted), 0, 0, 0)


def write_plugin(directory: Path, name: str, source: str | Path) -> Path:
    """Put a plugin's file in its place, as a careful author does: whole, by a rename."""
    text = source.read_text() if isinstance(source, Path) else source
    target = directory / f"{name}.py"
    temporary = directory / f".{name}.new"
    temporary.write_text(text)
    temporary.rename(target)
    return target


def plugctl(*arguments: str, directory: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run plugctl."""
    return subprocess.run(
        [BIN / "plugctl", *arguments],
        cwd=directory,
        env=clean_environ(directory) | environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def children(parent: int) -> dict[int, tuple[str, str]]:
    """Return the processes whose parent that one is, each with its name and its state: /proc/PID/stat."""
    return {pid: (name, state) for pid, (name, state, its_parent) in _processes().items() if its_parent == parent}


def descendants(ancestor: int) -> dict[int, str]:
    """Return the living processes below that one, each with its name."""
    every = _processes()
    below = {ancestor}
    while more := {pid for pid, (_, _, parent) in every.items() if parent in below} - below:
        below |= more
    return {pid: every[pid][0] for pid in below - {ancestor} if every[pid][1] != "Z"}


def _processes() -> dict[int, tuple[str, str, int]]:
    found = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                status = Path(f"/proc/{entry}/stat").read_text(errors="replace")
            except OSError:
                continue  # It has ended meanwhile.
            name, _, rest = status.partition("(")[2].rpartition(")")
            state, parent, *_ = rest.split()
            found[int(entry)] = (name, state, int(parent))
    return found


def clean_environ(directory: Path) -> dict[str, str]:
    """Return an environment in which neither this machine's configuration nor its language matters."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(directory),
        "LANG": "C.UTF-8",
        "CONFIGURATION_DIRECTORY": str(directory / "etc"),
        "RUNTIME_DIRECTORY": str(directory / "run"),
        "STATE_DIRECTORY": str(directory / "state"),
    }
