"""A throw-away machine with a real systemd as its PID 1, and what an operator does on it."""

import contextlib
import os
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cgroups
import tree
from harness import wait_until
from tree import Release, UnavailableError

BOOTING = 60.0  # seconds
POWERING_OFF = 20.0  # seconds, until what is left is killed
COMMAND = 120.0  # seconds that a command may take

# The mounts are those of a namespace that ends with the machine, and what is written to it is in memory: of a run
# that is killed, nothing is left but an empty directory. nspawn's own files go to a /run that is private too.
# When this process dies, nspawn is asked to end the machine; when nspawn dies, the kernel kills all that is in it.
START = """
for group in $GROUPS_OF_MACHINE; do echo $$ >"$group/cgroup.procs"; done
mount -t tmpfs -o mode=0700 plugd-test "$LAYERS"
cd "$LAYERS"
mkdir tree changes work root
mount --bind "$TREE" tree
mount -t overlay -o "lowerdir=$LAYERS/tree,upperdir=$LAYERS/changes,workdir=$LAYERS/work" overlay root 2>/dev/null ||
    cp -a --reflink=auto tree/. root
mount -t tmpfs -o mode=0755 plugd-test /run
exec setpriv --pdeathsig TERM -- "$@" --directory="$LAYERS/root"
"""

ENTER = 'for group in $GROUPS_OF_COMMANDS; do echo $$ >"$group/cgroup.procs"; done; unset GROUPS_OF_COMMANDS; exec "$@"'
# This shell stays outside of the machine's PID namespace. nsenter itself would stop with what it has started, when
# systemd stops all processes before it ends them: it would not reap that, and the machine would never be gone.
# With env, since what is built into the shell would be done outside: "kill" above all.
INSIDE = 'env -- "$@"; exit $?'
ENVIRON = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
    "TERM": "dumb",
    "SYSTEMD_COLORS": "0",
    "SYSTEMD_PAGER": "",
    "DEBIAN_FRONTEND": "noninteractive",
}

TOOLS = {
    "systemd-nspawn": "systemd-container",
    "nsenter": "util-linux",
    "setpriv": "util-linux",
    "unshare": "util-linux",
    "mount": "mount",
}


class Machine:
    """A booted machine; :func:`booted` makes one.

    Attributes:
        name: its host name.
        release: what is installed on it.
        leader: its PID 1, as it is numbered here.
    """

    def __init__(self, name: str, release: Release, groups: cgroups.Groups, process: subprocess.Popen[bytes]) -> None:
        self.name = name
        self.release = release
        self.leader = 0
        self._groups = groups
        self._process = process

    @property
    def root(self) -> Path:
        """Its root directory, as it is seen from here: a symbolic link below it may lead out of it."""
        return Path(f"/proc/{self.leader}/root")

    def popen(self, *command: str, user: str = "root", **options: Any) -> "subprocess.Popen[str]":
        """Start a command on the machine; whoever does so ends it by its input, or with ``kill`` on the machine.

        Args:
            command: a program and its arguments.
            user: who runs it, with the groups that they are in.
            options: of ``Popen``.
        """
        if user != "root":
            command = ("runuser", "-u", user, "--", *command)
        enter = ["nsenter", f"--target={self.leader}", "--all", "--no-fork", "--", "env", "--chdir=/"]
        environ = ENVIRON | {"GROUPS_OF_COMMANDS": " ".join(self._groups.for_commands)}
        return subprocess.Popen(
            ["sh", "-euc", ENTER, "sh", *enter, "sh", "-c", INSIDE, "sh", *command], env=environ, text=True, **options
        )

    def run(
        self, *command: str, user: str = "root", input: str | None = None, check: bool = False, timeout: float = COMMAND
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command on the machine and return what came of it, whatever that is.

        Args:
            command: a program and its arguments.
            user: who runs it, with the groups that they are in.
            input: text for its standard input.
            check: whether it must succeed.
            timeout: seconds after which it is killed.
        """
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        with self.popen(*command, user=user, stdin=subprocess.PIPE, **pipes) as process:
            try:
                output, errors = process.communicate(input, timeout=timeout)
            except BaseException:
                self._groups.kill_commands()  # all of them: something is wrong, or everything ends
                raise
        done = subprocess.CompletedProcess(command, process.returncode, output, errors)
        assert not check or done.returncode == 0, explained(done)
        return done

    def output(self, *command: str, user: str = "root", input: str | None = None, timeout: float = COMMAND) -> str:
        """Return what a command prints, which must succeed; without white space at the end."""
        return self.run(*command, user=user, input=input, check=True, timeout=timeout).stdout.rstrip()

    def shell(self, script: str, user: str = "root") -> str:
        """Return what a script of sh prints, of which each command must succeed."""
        return self.output("sh", "-euc", script, user=user)

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file of root's, with the directories above it; no part of the path may be a symbolic link."""
        target = self.root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        target.chmod(mode)

    def copy_in(self, source: Path, path: str) -> None:
        """Copy a file or a directory to a path on the machine, of which no part may be a symbolic link."""
        target = self.root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            shutil.copy(source, target)

    def show(self, unit: str, name: str) -> str:
        """Return one property of a unit: org.freedesktop.systemd1(5)."""
        return self.output("systemctl", "show", "--property", name, "--value", unit)

    def processes_of(self, user: str) -> list[str]:
        """Return the command line of every process of a user."""
        done = self.run("pgrep", "--list-full", "--uid", user)
        assert done.returncode in {0, 1}, explained(done)
        return done.stdout.splitlines()

    def journal(self, *arguments: str) -> list[str]:
        """Return the messages of the journal, oldest first; ``arguments`` choose some of them: journalctl(1)."""
        self.output("journalctl", "--sync")
        return self.output("journalctl", "--no-pager", "--output=cat", *arguments).splitlines()

    def files(self) -> dict[str, str]:
        """Return every file of the machine's file system, with its kind, mode, owner and target of a link."""
        found = self.output("find", "/", "-xdev", "-printf", r"%p\t%y %m %u:%g %l\n")
        return dict(line.split("\t", 1) for line in found.splitlines())

    def _boot(self, notifications: socket.socket, console: Path) -> None:
        # systemd-nspawn(1), --notify-ready: it passes on what the machine's systemd says, when it has booted.
        end = time.monotonic() + BOOTING
        while not self._is_ready(notifications):
            if self._process.poll() is not None or time.monotonic() > end:
                last = "\n".join(console.read_text(errors="replace").splitlines()[-30:])
                raise AssertionError(f"cannot boot {self.release.name} within {BOOTING:.0f} s:\n{last}")
        # Some are still on their way when systemd calls itself ready.
        wait_until(lambda: self.run("systemctl", "is-system-running").stdout != "starting\n", "the boot")

    def _is_ready(self, notifications: socket.socket) -> bool:
        try:
            lines = notifications.recv(4096).decode().splitlines()
        except TimeoutError:
            return False
        for line in lines:
            if line.startswith("X_NSPAWN_LEADER_PID="):
                self.leader = int(line.partition("=")[2])
        return "READY=1" in lines

    def _power_off(self) -> None:
        # systemd would wait in vain to be told of their end, since they are not its children.
        self._groups.kill_commands()
        if self.leader and self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.leader, signal.SIGRTMIN + 4)  # systemd(1)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(POWERING_OFF)
        self._groups.kill()
        self._process.wait()


def require_means() -> None:
    """Return if machines can be had here.

    Raises:
        UnavailableError: if not; it says why, and what helps.
    """
    if os.geteuid() != 0:
        raise UnavailableError("only root can boot a machine: sudo make test ARGS=tests/systemd", preventable=False)
    missing = {package: tool for tool, package in TOOLS.items() if shutil.which(tool) is None}
    if missing:
        tools, packages = ", ".join(missing.values()), " ".join(missing)
        raise UnavailableError(f"there is no {tools}: apt-get install {packages}", preventable=True)
    done = subprocess.run(
        ["unshare", "--mount", "--propagation=private", "mount", "-t", "tmpfs", "plugd-test", "/mnt"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        last = done.stderr.strip().rpartition("\n")[2]
        message = f"nothing can be mounted here, even as root, which a container needs --privileged for: {last}"
        raise UnavailableError(message, preventable=False)
    with cgroups.groups(cgroups.new_name()):
        pass


@contextlib.contextmanager
def booted(release: Release, *packages: str) -> Iterator[Machine]:
    """Yield a machine of its own, booted; at the end it is powered off, and nothing of it is left here.

    Args:
        release: what is on it.
        packages: what is installed besides.

    Raises:
        UnavailableError: if the tree that it is made of cannot be had; see :func:`require_means` for the rest.
    """
    _remove_left()
    name = cgroups.new_name()
    with (
        tree.tree(release, *packages) as path,
        tempfile.TemporaryDirectory(prefix=f"{name}-") as directory,
        cgroups.groups(name) as groups,
    ):
        Path(directory, "layers").mkdir()
        console = Path(directory, "console")
        with contextlib.ExitStack() as ending:
            # Closed when it has booted: nspawn passes on whatever systemd says, and waits for it to be read.
            with _notifications(Path(directory, "notify")) as notifications:
                process = _start(name, path, Path(directory), groups, console)
                machine = Machine(name, release, groups, process)
                ending.callback(machine._power_off)
                machine._boot(notifications, console)
            yield machine


def explained(done: "subprocess.CompletedProcess[str]") -> str:
    """Return a command with all that came of it, for a test that fails."""
    return f"$ {shlex.join(done.args)}\n{done.stdout}{done.stderr}exit status {done.returncode}"


def _start(name: str, path: Path, directory: Path, groups: cgroups.Groups, console: Path) -> "subprocess.Popen[bytes]":
    environ = ENVIRON | {
        "GROUPS_OF_MACHINE": " ".join(map(str, groups.paths)),
        "TREE": str(path),
        "LAYERS": str(directory / "layers"),
        "NOTIFY_SOCKET": str(directory / "notify"),
        "SYSTEMD_NSPAWN_LOCK": "0",  # the directory is this machine's own
    }
    if groups.unified:
        environ["SYSTEMD_NSPAWN_UNIFIED_HIERARCHY"] = "1"  # alone, also where this machine has the old ones too
    command = [
        "systemd-nspawn",
        "--quiet",
        "--boot",
        "--register=no",
        "--keep-unit",
        f"--machine={name}",
        "--private-network",
        "--notify-ready=yes",
        "--resolv-conf=off",
        "--timezone=off",
        "--link-journal=no",
        "--console=read-only",
        # Landlock, which a machine of one's own does not forbid; systemd 252 has no name for the three together.
        "--system-call-filter=landlock_create_ruleset landlock_add_rule landlock_restrict_self",
    ]
    private = ["unshare", "--mount", "--propagation=private", "--", "sh", "-euc", START, "sh"]
    with console.open("wb") as log:
        return subprocess.Popen(
            [*private, *command], env=environ, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
        )


@contextlib.contextmanager
def _notifications(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(path))
        receiver.settimeout(0.1)
        yield receiver


def _remove_left() -> None:
    """Remove the directories of runs that were killed: nothing is mounted there any more."""
    for path in Path(tempfile.gettempdir()).glob(f"{cgroups.PREFIX}-*-*-*"):
        if cgroups.is_left(path.name) and path.lstat().st_uid == 0:
            shutil.rmtree(path, ignore_errors=True)
