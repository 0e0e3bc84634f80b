"""The steps of an installation: what each is called, and how it is done."""

from collections.abc import Callable
from typing import NamedTuple

from plugd.install.errors import EXIT_FAILED, InstallError
from plugd.install.manager import Manager
from plugd.install.tree import Tree

# What a step is called in --json; what it is called when it has been done, and when it would be.
MAKE, WRITE, UPDATE, OFFER, LINK = "make", "write", "update", "offer", "link"
REMOVE, REMOVE_DIRECTORY, REMOVE_ALL = "remove", "remove_directory", "remove_all"
ADD_USERS, MAKE_RUNTIME, REMOVE_USERS = "add_users", "make_runtime", "remove_users"
RELOAD, ENABLE, DISABLE, START, RESTART, STOP = "reload", "enable", "disable", "start", "restart", "stop"

WORDS = {
    MAKE: ("made", "make"),
    WRITE: ("wrote", "write"),
    UPDATE: ("updated", "update"),
    OFFER: ("wrote", "write"),
    LINK: ("linked", "link"),
    REMOVE: ("removed", "remove"),
    REMOVE_DIRECTORY: ("removed", "remove"),
    REMOVE_ALL: ("removed", "remove"),
    ADD_USERS: ("added", "add"),
    MAKE_RUNTIME: ("made", "make"),
    REMOVE_USERS: ("removed", "remove"),
    RELOAD: ("reloaded", "reload"),
    ENABLE: ("enabled", "enable"),
    DISABLE: ("disabled", "disable"),
    START: ("started", "start"),
    RESTART: ("restarted", "restart"),
    STOP: ("stopped", "stop"),
}


class Step(NamedTuple):
    """One change.

    Attributes:
        action: one of WORDS.
        targets: paths, units or kinds of users: what it is done to.
        note: why, or to where, for the reader.
        data: a file's bytes, or a link's target.
    """

    action: str
    targets: tuple[str, ...]
    note: str = ""
    data: bytes = b""

    def text(self, *, done: bool) -> str:
        """Return the step as a line: "wrote …", or "would write …"."""
        past, infinitive = WORDS[self.action]
        note = f" ({self.note})" if self.note else ""
        return f"{past if done else f'would {infinitive}'} {self._what()}{note}"

    def as_dict(self) -> dict[str, object]:
        """Return the step as --json has it."""
        shown: dict[str, object] = {"action": self.action, "targets": list(self.targets)}
        return shown | ({"note": self.note} if self.note else {})

    def _what(self) -> str:
        if self.action in (ADD_USERS, REMOVE_USERS):
            return " and ".join(f"{kind} plugd" for kind in self.targets)
        return "systemd" if self.action == RELOAD else " ".join(self.targets)


def perform(step: Step, tree: Tree, manager: Manager) -> None:
    """Do a step.

    Raises:
        InstallError: it failed; the status is EXIT_FAILED.
    """
    try:
        _PERFORM[step.action](step, tree, manager)
    except OSError as error:
        reason = error.strerror or str(error)
        what = f"cannot {WORDS[step.action][1]} {' '.join(step.targets)}: {reason}"
        raise InstallError(what, EXIT_FAILED, _REMEDY) from error
    except InstallError as error:  # such as a program that is missing: by now something has been changed
        remedy = _LOG if step.action in (START, RESTART) else _REMEDY
        raise InstallError(str(error), EXIT_FAILED, error.remedy or remedy) from error


_REMEDY = "once that is mended, run it again: it goes on from here"
_LOG = "journalctl -u plugd tells why; everything else is done"


def _write(step: Step, tree: Tree, _manager: Manager) -> None:
    tree.write(step.targets[0], step.data)


_PERFORM: dict[str, Callable[[Step, Tree, Manager], None]] = {
    MAKE: lambda step, tree, _: tree.make(step.targets[0]),
    WRITE: _write,
    UPDATE: _write,
    OFFER: _write,
    LINK: lambda step, tree, _: tree.link(step.targets[0], step.data.decode()),
    REMOVE: lambda step, tree, _: tree.remove(step.targets[0]),
    REMOVE_DIRECTORY: lambda step, tree, _: tree.remove_directory(step.targets[0]),
    REMOVE_ALL: lambda step, tree, _: tree.remove_all(step.targets[0]),
    ADD_USERS: lambda step, _, manager: manager.add_users(step.data),
    MAKE_RUNTIME: lambda step, _, manager: manager.make_directories(step.data),
    REMOVE_USERS: lambda step, _, manager: manager.remove_users(list(step.targets)),
    RELOAD: lambda _, __, manager: manager.systemctl("daemon-reload"),
    ENABLE: lambda step, _, manager: manager.systemctl("enable", *step.targets),
    DISABLE: lambda step, _, manager: manager.systemctl("disable", *step.targets),
    START: lambda step, _, manager: manager.systemctl("start", *step.targets),
    RESTART: lambda step, _, manager: manager.systemctl("restart", *step.targets),
    STOP: lambda step, _, manager: manager.systemctl("stop", *step.targets),
}
