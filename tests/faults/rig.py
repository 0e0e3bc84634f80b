"""The rig of the fault matrix: a real daemon, nine well-behaved plugins at 100 ms, a probe, one fault at a time."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, Self

import harness
from harness import Client, Daemon, Daemons, RpcError

HERE = Path(__file__).parent
PLUGINS = HERE / "plugins"
NEIGHBOURS = tuple(f"good_{letter}" for letter in "abcdefghi")
INTERVAL = 0.1  # seconds, of the neighbours
PATIENCE = 15.0  # seconds for a fault to be seen and dealt with; the slowest, a hanging import, takes ten
STEP = 0.02  # seconds


class Fault(NamedTuple):
    """One fault, and what becomes of it.

    Attributes:
        name: of the plugin, and of its file in ``plugins`` unless ``place`` puts something else there.
        state: the plugin's state in the end.
        why: regular expression that the answer to ``why`` must match: it names the cause.
        config: further lines of its table in the configuration.
        logged: regular expression that its log records must match.
        place: puts the plugin in its place, where that is not a plain copy of its file.
        before: is called before it is loaded.
        act: is called with its pid when it has collected twice: what is done to it from outside.
        check: is called when all this has come true; asserts what else must hold.
        unprivileged: whether it is also tried where the test is root and the daemon is not.
        needs_root: whether only root can bring it about.
    """

    name: str
    state: str
    why: str
    config: str = 'timeout = "300ms"'
    logged: str = ""
    place: "Callable[[Rig, str], None] | None" = None
    before: "Callable[[Rig], None] | None" = None
    act: "Callable[[Rig, int], None] | None" = None
    check: "Callable[[Rig, str], None] | None" = None
    unprivileged: bool = False
    needs_root: bool = False


class Outcome(NamedTuple):
    """What became of a fault; times in seconds."""

    name: str
    state: str
    why: str
    problems: list[str]
    seconds: float  # from the load to the last trace of it
    skipped: int  # ticks of the neighbours, by the daemon's own count
    probe: dict[str, Any]  # see probe.py


class UserDaemon(Daemon):
    """A plugd of another user; the test is root. ``directory`` is given to that user."""

    def __init__(self, directory: Path, uid: int, arguments: tuple[str, ...]) -> None:
        self.directory = directory
        self.plugin_dir = None
        self.socket = directory / "control.sock"
        self._log = directory / f"log-{uuid.uuid4().hex[:8]}"
        self._before = set(harness.children(os.getpid()))
        os.chown(directory, uid, uid)
        flags = ["--socket", str(self.socket), "--state-dir", str(directory / "state"), *arguments]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [harness.BIN / "plugd", *flags],
                cwd=directory,
                env=harness.clean_environ(directory),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=uid,
                group=uid,
                extra_groups=[],
            )


class Probe:
    """The probe beside the daemon: see probe.py."""

    def __init__(self, path: Path) -> None:
        command = [sys.executable, "-I", str(HERE / "probe.py"), str(path), "good_*"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def figures(self) -> dict[str, Any]:
        """Return the figures since the last time."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()
        figures: dict[str, Any] = json.loads(self.process.stdout.readline())
        return figures

    def close(self) -> None:
        """End it."""
        self.process.communicate()


class Rig:
    """A daemon with its neighbours and the probe; a context manager.

    Args:
        directory: its own, short enough for a socket's path.
        faults: those whose tables the configuration has.
        uid: the user whom the daemon runs as; None: that of the test.
    """

    def __init__(self, directory: Path, faults: tuple[Fault, ...], uid: int | None = None) -> None:
        self.directory = directory
        self.uid = uid
        self.plugin_dir = directory / "plugins"
        self.loose_dir = directory / "loose"  # that anybody may write
        for each in (self.plugin_dir, self.loose_dir, directory / "etc"):
            each.mkdir()
        self.loose_dir.chmod(0o777)
        for name in NEIGHBOURS:
            self.install(name, good(name))
        self.config = directory / "etc" / "plugd.toml"
        # Not enabled: they come and go by request, and have their tables all the time.
        self.config.write_text("".join(f"[plugins.{each.name}]\nenabled = false\n{each.config}\n" for each in faults))
        self.notes: dict[str, Any] = {}  # from one step of a fault to the next
        self.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start the daemon and the probe."""
        directories = ("--plugin-dir", str(self.plugin_dir), "--plugin-dir", str(self.loose_dir))
        flags = ("--config", str(self.config), *directories)
        if self.uid is None:
            self.daemon = Daemon(self.directory, flags)
        else:
            self.daemon = UserDaemon(self.directory, self.uid, flags)
        Daemons.pids.add(self.daemon.pid)
        self.daemon.wait_ready()
        self.client = Client(self.daemon.socket)
        self.probe = Probe(self.daemon.socket)
        self.wait(lambda: self.probe.figures()["samples"], lambda: "the probe hears nothing")

    def stop(self) -> None:
        """End both."""
        self.client.socket.close()
        self.probe.close()
        harness.adopt_orphans(wanted=True)  # They show what the daemon has left.
        try:
            self.daemon.close()
        finally:
            harness.adopt_orphans(wanted=False)
            Daemons.pids.discard(self.daemon.pid)

    def install(self, name: str, source: str) -> Path:
        """Put a plugin's file in its place."""
        return harness.write_plugin(self.plugin_dir, name, source)

    def row(self, name: str) -> dict[str, Any]:
        """Return a plugin's row of ``list``; {} where it is not loaded."""
        return next((row for row in self.client.call("list") if row["name"] == name), {})

    def stats(self, name: str) -> dict[str, Any]:
        """Return a plugin's own figures."""
        figures: dict[str, Any] = self.client.call("stats", patterns=[name])["plugins"][name]
        return figures

    def values(self, name: str) -> dict[tuple[str, ...], float]:
        """Return a plugin's latest values, by metric and label values."""
        rows = self.client.call("stats", patterns=[name])["metrics"]
        return {(row["name"], *row["labels"].values()): row["value"] for row in rows}

    def skipped(self) -> int:
        """Return how many ticks the neighbours have skipped so far."""
        return sum(self.stats(name)["skipped"] for name in NEIGHBOURS)

    def pids(self) -> dict[str, int]:
        """Return the neighbours' workers."""
        return {row["name"]: row["pid"] for row in self.client.call("list") if row["name"] in NEIGHBOURS}

    def forkserver(self) -> int:
        """Return the pid of the forkserver."""
        (pid,) = (pid for pid, name in self.processes().items() if name == "plugd:forksrv")
        return pid

    def processes(self) -> dict[int, str]:
        """Return the daemon's descendants with their names, zombies included: whatever flees becomes its child."""
        parents: dict[int, list[tuple[int, str]]] = {}
        for pid, name, parent in all_processes():
            parents.setdefault(parent, []).append((pid, name))
        found: dict[int, str] = {}
        waiting = [self.daemon.pid]
        while waiting:
            children = parents.get(waiting.pop(), [])
            found.update(children)
            waiting += [pid for pid, _ in children]
        return found

    def descriptors(self) -> int:
        """Return how many descriptors the daemon has."""
        return self.daemon.descriptors()

    def wait(self, condition: Callable[[], Any], what: Callable[[], str]) -> None:
        """Wait until something is true.

        Raises:
            AssertionError: it does not become true; the text says what is.
        """
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end, what()
            time.sleep(STEP)


def run_fault(rig: Rig, fault: Fault, *, linger: float = 0.0) -> Outcome:
    """Load the plugin, wait for what must become of it, mend it, unload it; look at what the others felt.

    ``linger``: seconds for which the fault is let be once it has come to what must become of it.
    """
    rig.client.call("ping")  # Or the daemon is gone, which is not this fault's doing.
    rig.notes.clear()
    before = _Before(rig)
    rig.probe.figures()
    began = time.monotonic()
    problems: list[str] = []
    try:
        with _told(problems):
            _provoke(rig, fault)
            if fault.check is not None:
                fault.check(rig, fault.name)
        row, why = rig.row(fault.name), _why(rig, fault.name)
        if not problems:
            time.sleep(linger)
        with _told(problems):
            if fault.state != "running" and not linger:
                before.wait_gone(rig, "after it had been dealt with")
        with _told(problems):
            _recover(rig, fault)
        with _told(problems):
            _unload(rig, fault)
            before.wait_gone(rig, "after it had been unloaded")
            before.compare(rig)
        skipped = rig.skipped() - before.skipped
        probe = rig.probe.figures()
    except (OSError, ValueError) as error:
        status = rig.daemon.process.poll()
        rig.stop()
        rig.start()
        return Outcome(fault.name, "?", "", [*problems, f"the daemon died (status {status}): {error}"], 0, 0, {})
    return Outcome(fault.name, row.get("state", "?"), why, problems, time.monotonic() - began, skipped, probe)


class _Before:
    """What there was before a fault."""

    def __init__(self, rig: Rig) -> None:
        self.processes = rig.processes()
        self.pids = rig.pids()
        self.descriptors = rig.descriptors()
        self.skipped = rig.skipped()

    def left(self, rig: Rig) -> dict[int, str]:
        """Return the processes that are new; a new forkserver may be."""
        found = rig.processes()
        return {pid: name for pid, name in found.items() if pid not in self.processes and name != "plugd:forksrv"}

    def wait_gone(self, rig: Rig, when: str) -> None:
        rig.wait(lambda: not self.left(rig), lambda: f"left behind {when}: {self.left(rig)}")

    def compare(self, rig: Rig) -> None:
        rig.wait(
            lambda: rig.descriptors() <= self.descriptors,
            lambda: f"the daemon had {self.descriptors} descriptors and has {rig.descriptors()}",
        )
        assert rig.pids() == self.pids, "a neighbour's worker is another one"


def _provoke(rig: Rig, fault: Fault) -> None:
    if fault.before is not None:
        fault.before(rig)
    place = fault.place or _copy
    place(rig, fault.name)
    with suppress(RpcError):  # What does not even start is told by its state.
        rig.client.call("load", names=[fault.name])
    if fault.act is not None:
        rig.wait(lambda: rig.row(fault.name)["collects"] >= 2, lambda: f"it does not run: {rig.row(fault.name)}")
        fault.act(rig, rig.row(fault.name)["pid"])

    def seen() -> bool:
        return (
            rig.row(fault.name).get("state") == fault.state
            and re.search(fault.why, _why(rig, fault.name)) is not None
            and re.search(fault.logged, _logs(rig, fault.name)) is not None
        )

    def instead() -> str:
        state = rig.row(fault.name).get("state")
        text = f"{state}, because: {_why(rig, fault.name)}; expected {fault.state}, {fault.why!r}"
        return text + (f"; log: {_logs(rig, fault.name)}; expected {fault.logged!r}" if fault.logged else "")

    rig.wait(seen, instead)


def _copy(rig: Rig, name: str) -> None:
    rig.install(name, (PLUGINS / f"{name}.py").read_text())


def _why(rig: Rig, name: str) -> str:
    try:
        answer = rig.client.call("why", name=name)
    except RpcError as error:
        return str(error)
    text: str = answer["summary"]
    return text


def _logs(rig: Rig, name: str) -> str:
    return "\n".join(f"{row['event']} {row['fields']}" for row in rig.client.call("logs", name=name, lines=200))


def _recover(rig: Rig, fault: Fault) -> None:
    """One reload to a good version, and it runs."""
    path = rig.plugin_dir / f"{fault.name}.py"
    with suppress(OSError):
        path.rmdir()  # Where the fault is a directory.
    path.unlink(missing_ok=True)
    (rig.loose_dir / f"{fault.name}.py").unlink(missing_ok=True)
    rig.install(fault.name, good(fault.name))
    answer = rig.client.call("reload", names=[fault.name])
    assert answer["failed"] == [], f"not mended by a good version: {answer['failed']}"
    collects = rig.row(fault.name)["collects"]
    rig.wait(
        lambda: (row := rig.row(fault.name))["state"] == "running" and row["collects"] >= collects + 2,
        lambda: f"not mended by a good version: {rig.row(fault.name)}",
    )


def _unload(rig: Rig, fault: Fault) -> None:
    if rig.row(fault.name):
        rig.client.call("unload", names=[fault.name])
    (rig.plugin_dir / f"{fault.name}.py").unlink(missing_ok=True)
    assert not rig.values(fault.name), "its series are still there"


@contextmanager
def _told(problems: list[str]) -> Iterator[None]:
    try:
        yield
    except (AssertionError, RpcError) as error:
        problems.append(str(error))


def all_processes() -> Iterator[tuple[int, str, int]]:
    """Yield pid, name and parent of every process: proc_pid_stat(5)."""
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with suppress(OSError):  # It has ended meanwhile.
                name, _, rest = Path(f"/proc/{entry}/stat").read_text().partition("(")[2].rpartition(")")
                yield int(entry), name, int(rest.split()[1])


def good(name: str) -> str:
    """Return the source of a well-behaved plugin of this name."""
    return (HERE / "good.py").read_text().replace("class Good(", f"class {class_name(name)}(")


def class_name(name: str) -> str:
    """Return the class that a plugin's file must hold."""
    return "".join(part.capitalize() for part in name.split("_"))


def stop_for(pid: int, seconds: float) -> None:
    """Stop a process for so long."""
    os.kill(pid, signal.SIGSTOP)
    try:
        time.sleep(seconds)
    finally:
        os.kill(pid, signal.SIGCONT)
