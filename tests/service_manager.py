"""A service manager, as far as plugd sees of one: it holds the socket, reads notifications, and starts plugd again."""

import os
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any, Self

from harness import BIN, DEADLINE, Client, children, clean_environ, wait_until

# The pid that LISTEN_PID and WATCHDOG_PID name is only known in the process itself.
START = 'exec 3<&0 0</dev/null; LISTEN_PID=$$; WATCHDOG_PID=$$; export LISTEN_PID WATCHDOG_PID; exec "$0" "$@"'


class Manager:
    """Starts plugd as a unit of Type=notify with a socket unit is started; a context manager that ends it.

    Args:
        directory: where socket, state and configuration are.
        plugin_dir: of the plugins.
        watchdog: seconds, as WatchdogSec; None: none.
    """

    def __init__(self, directory: Path, plugin_dir: Path, watchdog: float | None = None) -> None:
        self.path = directory / "run" / "control.sock"
        self.path.parent.mkdir(exist_ok=True)
        self.told: list[str] = []
        self._before = children(os.getpid()).keys()
        self._directory = directory
        self._plugin_dir = plugin_dir
        self._watchdog = watchdog
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.path))
        self._listener.listen(512)
        self._notifications = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notifications.bind(str(directory / "notify"))
        self._notifications.setblocking(False)
        self._log = (directory / "log").open("ab")
        self.process: subprocess.Popen[bytes]

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.stop()
        finally:
            self.process.kill()
            self.process.wait(DEADLINE)
            self._listener.close()
            self._notifications.close()
            self._log.close()
            for pid in children(os.getpid()).keys() - self._before:  # They came here to be reaped.
                os.waitpid(pid, 0)

    @property
    def log(self) -> str:
        """All that plugd has written."""
        return (self._directory / "log").read_text()

    def children(self) -> dict[int, str]:
        """Return the children of plugd, with their names."""
        return {pid: name for pid, (name, _) in children(self.process.pid).items()}

    def start(self) -> None:
        """Start plugd; return when it is ready."""
        environ = clean_environ(self._directory) | {
            "LISTEN_FDS": "1",
            "NOTIFY_SOCKET": str(self._directory / "notify"),
        }
        if self._watchdog is not None:
            environ["WATCHDOG_USEC"] = str(round(self._watchdog * 1e6))
        self.told, self._stopping = [], False
        self.process = subprocess.Popen(
            ["/bin/sh", "-c", START, BIN / "plugd", "--plugin-dir", str(self._plugin_dir)],
            stdin=self._listener,
            stdout=self._log,
            stderr=self._log,
            env=environ,
            cwd=self._directory,
        )
        self.wait_told("READY=1")

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End plugd; return its exit status."""
        self.begin_stop(number)
        return self.process.wait(DEADLINE)

    def begin_stop(self, number: int = signal.SIGTERM) -> None:
        """Tell plugd once to end."""
        if not self._stopping and self.process.poll() is None:
            self.process.send_signal(number)
        self._stopping = True

    def restart(self) -> None:
        """End it, and start it again when it has ended, as ``systemctl restart``."""
        assert self.stop() == 0, self.log
        self.start()

    def read(self) -> list[str]:
        """Return every assignment that plugd has sent since it started."""
        while True:
            try:
                self.told += self._notifications.recv(65536).decode().splitlines()
            except BlockingIOError:
                return self.told

    def wait_told(self, assignment: str, count: int = 1) -> None:
        """Wait until plugd has said something so many times."""

        def said() -> bool:
            assert self.process.poll() is None, self.log
            return self.read().count(assignment) >= count

        wait_until(said, f"{count} times {assignment}")

    def client(self) -> Client:
        """Connect; the caller closes it."""
        return Client(self.path)

    def call(self, method: str, **params: Any) -> Any:
        """Return a method's result, over a connection of its own."""
        with self.client() as client:
            return client.call(method, **params)
