"""What the benchmarks share: a daemon of their own, and what processes cost, read from /proc.

Nothing of the host's plugd is touched: directories, socket and configuration are temporary, and only processes
that were started here are ended.
"""

import compileall
import contextlib
import importlib.util
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgpack

ROOT = pathlib.Path(__file__).resolve().parent.parent
HERE = pathlib.Path(__file__).resolve().parent
PACKAGES = ("plugd", "plugctl", "msgpack", "msgspec", "anyio", "structlog", "psutil")
EIGHT = ("cpu", "disk", "filesystem", "load", "memory", "network", "processes", "system")
TEN = (*EIGHT, "plugd", "sensors")
START_TIMEOUT = 20.0  # seconds
STOP_TIMEOUT = 10.0  # seconds
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def compile_bytecode() -> None:
    """Compile what is imported, as an installation does: a start is not to pay for it."""
    for package in PACKAGES:
        spec = importlib.util.find_spec(package)
        for directory in (spec and spec.submodule_search_locations) or ():
            compileall.compile_dir(directory, quiet=2)


class Daemon:
    """A running plugd; a context manager, ended with all its processes on leaving.

    Args:
        plugins: names of shipped plugins.
        configuration: TOML.
        sources: of plugins that only the benchmark has, by name.
    """

    def __init__(
        self, plugins: tuple[str, ...], configuration: str = "", sources: dict[str, str] | None = None
    ) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="plugd-bench-")
        directory = pathlib.Path(self._directory.name)
        self.socket = str(directory / "control.sock")
        self.plugins = (*plugins, *(sources or ()))
        self.plugin_dir = directory / "plugins"
        self.plugin_dir.mkdir(mode=0o755)
        for name in plugins:
            shutil.copyfile(ROOT / "plugins" / f"{name}.py", self.plugin_dir / f"{name}.py")
        for name, source in (sources or {}).items():
            (self.plugin_dir / f"{name}.py").write_text(source)
        (directory / "plugd.toml").write_text(configuration)
        self._log = directory / "log"
        self._command = [
            *(sys.executable, "-I", "-m", "plugd"),
            *("--config", str(directory / "plugd.toml"), "--plugin-dir", str(self.plugin_dir)),
            *("--socket", self.socket, "--state-dir", str(directory / "state")),
        ]
        self._process: subprocess.Popen[bytes]

    def __enter__(self) -> "Daemon":
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            self._wait_until_running()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                self._process.kill()  # Its workers die with it.
                self._process.wait()
        self._directory.cleanup()

    @property
    def pid(self) -> int:
        return self._process.pid

    def roles(self) -> dict[int, str]:
        """Return the pids of its processes, each with its role: daemon, forkserver or worker."""
        roles = {self.pid: "daemon"}
        for pid in children(self.pid):
            roles[pid] = "forkserver" if command_name(pid) == "plugd:forksrv" else "worker"
        return roles

    def request(self, method: str) -> Any:
        """Ask the daemon once, on a connection of its own."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(START_TIMEOUT)
            client.connect(self.socket)
            client.sendall(msgpack.packb([0, 1, method, []]))
            unpacker = msgpack.Unpacker(strict_map_key=False)
            while data := client.recv(65536):
                unpacker.feed(data)
                for _, _, error, result in unpacker:
                    if error is not None:
                        raise RuntimeError(f"{method}: {error}")
                    return result
        raise RuntimeError(f"{method}: the daemon closed the connection")

    def _wait_until_running(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        states: object = "no answer"
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            with contextlib.suppress(OSError, RuntimeError):
                states = {row["name"]: row["state"] for row in self.request("list")}
                if states == dict.fromkeys(self.plugins, "running"):
                    return
            time.sleep(0.05)
        log = self._log.read_text(errors="replace")[-2000:]
        raise RuntimeError(f"the daemon is not ready: {states}\n{log}")


class Cost(NamedTuple):
    """What a process has cost so far."""

    cpu_ns: int  # on a processor, all threads: /proc/PID/task/*/schedstat, or the 10 ms ticks of /proc/PID/stat
    switches: int  # voluntary: each is one time that it went to sleep, and was woken
    preemptions: int


def cost_of(pid: int) -> Cost:
    """Return what a process and all its threads have cost. Threads that ended meanwhile are in the ticks alone."""
    cpu_ns = switches = preemptions = 0
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            cpu_ns += int((task / "schedstat").read_text().split()[0])
            status = (task / "status").read_text()
            switches += int(re.findall(r"^voluntary_ctxt_switches:\s*(\d+)", status, re.MULTILINE)[0])
            preemptions += int(re.findall(r"^nonvoluntary_ctxt_switches:\s*(\d+)", status, re.MULTILINE)[0])
    return Cost(cpu_ns or ticks_ns(pid), switches, preemptions)


def ticks_ns(pid: int) -> int:
    """Return utime + stime of /proc/PID/stat."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * 1_000_000_000 // TICKS_PER_SECOND


class Memory(NamedTuple):
    """Bytes of memory, from /proc/PID/smaps_rollup."""

    pss: int  # shared pages divided among all who map them, other programs included
    private: int  # what its end would give back


def memory_of(pid: int) -> Memory:
    text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
    sizes = {name: int(size) * 1024 for name, size in re.findall(r"^(\w+):\s+(\d+) kB", text, re.MULTILINE)}
    return Memory(sizes["Pss"], sizes["Private_Clean"] + sizes["Private_Dirty"])


def children(pid: int) -> list[int]:
    """Return the pids of a process's children."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                fields = pathlib.Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
                if int(fields[1]) == pid:
                    found.append(int(entry))
    return found


def command_name(pid: int) -> str:
    return pathlib.Path(f"/proc/{pid}/comm").read_text().strip()


@contextlib.contextmanager
def program(*arguments: str, output: int = subprocess.PIPE) -> Iterator[subprocess.Popen[str]]:
    """Run a program of this directory beside the benchmark; killed on leaving."""
    command = [sys.executable, "-I", str(HERE / arguments[0]), *arguments[1:]]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=output, text=True) as process:
        try:
            yield process
        finally:
            process.kill()
