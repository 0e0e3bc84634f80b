"""systemd, as it is asked and told: of the running system, or of one that is only files (``--root``)."""

import grp
import os
import pwd
import shutil
import subprocess

from plugd.install.errors import EXIT_FAILED, EXIT_REFUSED, InstallError
from plugd.install.tree import Tree
from plugd.paths import SEARCH_PATH

USER = "plugd"
"""The user and the group of the service."""

# An installed package's units, of whatever distribution.
_PACKAGED = ("/usr/lib/systemd/system/plugd.service", "/lib/systemd/system/plugd.service")
_ACCOUNTS = {"user": "/etc/passwd", "group": "/etc/group"}
_TIME = 180  # seconds for a command: the unit may take 90 to start, and 30 to stop


class Manager:
    """Asks and tells systemd.

    Args:
        tree: the file system that it is of.
        live: whether it runs: otherwise only its files are changed.

    Raises:
        InstallError: by every method: a program is missing, fails, or takes too long.
    """

    def __init__(self, tree: Tree, *, live: bool) -> None:
        self._tree = tree
        self.live = live

    def runs(self) -> bool:
        """Whether systemd runs this system: sd_booted(3)."""
        return os.path.isdir("/run/systemd/system")

    def package(self) -> str | None:
        """Return the package that plugd is installed by, or at least its unit; None: by none."""
        there = [path for path in _PACKAGED if self._tree.exists(path)]
        if self._tree.is_own and shutil.which("dpkg-query", path=SEARCH_PATH):
            for path in there:  # It knows a file by the one of both names that the package has.
                name = _run(["dpkg-query", "--search", path]).stdout.partition(":")[0]
                if name:
                    return f"the package {name}"
        return f"a package, as {there[0]}" if there else None

    def missing_users(self) -> list[str]:
        """Return which of "user" and "group" are not there."""
        if not self.live:
            return [kind for kind, path in _ACCOUNTS.items() if USER not in self._accounts(path)]
        missing = []
        try:
            pwd.getpwnam(USER)
        except KeyError:
            missing.append("user")
        try:
            grp.getgrnam(USER)
        except KeyError:
            missing.append("group")
        return missing

    def enabled(self, unit: str) -> str:
        """Return what ``systemctl is-enabled`` says: enabled, disabled, masked, static, …; not-found."""
        return self._systemctl("is-enabled", unit).stdout.strip() or "not-found"

    def active(self, unit: str) -> bool:
        """Whether a unit runs, or is about to."""
        return self.live and self._systemctl("is-active", unit).stdout.strip() in ("active", "activating", "reloading")

    def unread(self, unit: str) -> bool:
        """Whether systemd has not read a unit's files as they are now."""
        return self._property(unit, "NeedDaemonReload") == "yes"

    def source(self, unit: str) -> str:
        """Return the file that a unit is loaded from; empty if it is not loaded."""
        return self._property(unit, "FragmentPath")

    def invocation(self, unit: str) -> str:
        """Return what tells this run of a unit from all others, as systemd.exec(5) has it; empty if it does not run."""
        return self._property(unit, "InvocationID") if self.active(unit) else ""

    def systemctl(self, *arguments: str) -> None:
        """Run systemctl, which must succeed."""
        _succeed(self._systemctl(*arguments), f"systemctl {' '.join(arguments)}")

    def add_users(self, sysusers: bytes) -> None:
        """Make the users that a file of sysusers.d(5) tells of."""
        _succeed(_run(["systemd-sysusers", *self._root(), "-"], sysusers), "systemd-sysusers")

    def make_directories(self, tmpfiles: bytes) -> None:
        """Make what a file of tmpfiles.d(5) tells of."""
        _succeed(_run(["systemd-tmpfiles", "--create", *self._root(), "-"], tmpfiles), "systemd-tmpfiles")

    def remove_users(self, kinds: list[str]) -> None:
        """Remove the user and the group, as far as they are there."""
        prefix = [] if self._tree.is_own else ["--prefix", self._tree.root]
        there = [kind for kind in kinds if USER in self._accounts(_ACCOUNTS[kind])]
        if "user" in there:
            _succeed(_run(["userdel", *prefix, USER]), "userdel")
        # The user's own group goes with it, unless it has further members.
        if "group" in there and USER in self._accounts(_ACCOUNTS["group"]):
            _succeed(_run(["groupdel", *prefix, USER]), "groupdel")

    def _property(self, unit: str, name: str) -> str:
        return self._systemctl("show", "-p", name, unit).stdout.strip().partition("=")[2] if self.live else ""

    def _systemctl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return _run(["systemctl", *self._root(), *arguments], offline=not self.live)

    def _root(self) -> list[str]:
        return [] if self.live else [f"--root={self._tree.root}"]

    def _accounts(self, path: str) -> set[str]:
        if not self._tree.exists(path):
            return set()
        return {line.partition(":")[0] for line in self._tree.read(path).decode(errors="replace").splitlines()}


def _run(command: list[str], given: bytes = b"", *, offline: bool = False) -> subprocess.CompletedProcess[str]:
    program = shutil.which(command[0], path=SEARCH_PATH)
    if program is None:
        raise InstallError(
            f"cannot find the program {command[0]} in {SEARCH_PATH}",
            EXIT_REFUSED,
            "it belongs to systemd, or to shadow",
        )
    environ = {"PATH": SEARCH_PATH, "LC_ALL": "C.UTF-8", "SYSTEMD_COLORS": "0"}
    if offline:
        environ["SYSTEMD_OFFLINE"] = "1"
    try:
        done = subprocess.run(  # noqa: S603 - of a fixed PATH, with fixed arguments
            [program, *command[1:]], input=given, capture_output=True, env=environ, timeout=_TIME, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise InstallError(f"cannot go on: {command[0]} takes more than {_TIME} s", EXIT_FAILED) from error
    return subprocess.CompletedProcess(
        command, done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
    )


def _succeed(done: subprocess.CompletedProcess[str], what: str) -> None:
    if done.returncode:
        reason = next((line.strip() for line in done.stderr.splitlines() if line.strip()), "")
        raise InstallError(f"{what} failed: {reason or f'status {done.returncode}'}", EXIT_FAILED)
