"""Installs and uninstalls: looks whether it may, plans, writes down what it is about to do, and does it."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from plugd import __version__
from plugd.install import steps
from plugd.install.errors import EXIT_FAILED, EXIT_NOT_ROOT, EXIT_REFUSED, InstallError
from plugd.install.manager import Manager
from plugd.install.manifest import PATH, Manifest, load, locked, save
from plugd.install.pieces import pieces
from plugd.install.plan import Plan, plan_install
from plugd.install.program import Program, this_program
from plugd.install.removal import plan_removal
from plugd.install.soundness import fault
from plugd.install.steps import Step, perform
from plugd.install.tree import ABSENT, Tree

_SYSTEM = ("/etc", "/usr", "/var/lib")  # what a file system has that a system is in


class Installer:
    """One installation, or its end.

    Args:
        tree: what is installed into.
        manager: its systemd.
        uid: who does it.
        dry_run: whether nothing is to be changed.
        tell: called with each step, when it has been done; in a dry run, when it has been planned.

    All methods return what the administrator should know beside the steps, and raise InstallError.
    """

    def __init__(self, tree: Tree, manager: Manager, uid: int, *, dry_run: bool, tell: Callable[[Step], None]) -> None:
        self._tree = tree
        self._manager = manager
        self._uid = uid
        self._dry_run = dry_run
        self._tell = tell

    def install(self, *, now: bool) -> list[str]:
        """Have all files there, and systemd run plugd; ``now`` or at the next start of the system."""
        self._check("install")
        package = self._manager.package()
        if package is not None:
            raise InstallError(
                f"cannot install: plugd is installed already, by {package}", EXIT_REFUSED, "remove that first"
            )
        program = this_program()
        self._check_program(program)
        with self._manifest() as before:
            wanted = pieces(program)
            plan = plan_install(self._tree, self._manager, before, wanted, program, __version__, now=now)
            if plan.faults:
                raise InstallError(f"cannot install: {'; '.join(plan.faults)}", EXIT_REFUSED)
            if not self._carry_out(plan, before):
                return plan.notes
            # From here on it is the administrator's word that counts whether plugd is enabled.
            plan.manifest.enabled |= any(step.action == steps.ENABLE for step in plan.steps)
            save(self._tree, _settled(self._tree, plan.manifest))
        if not self._tree.is_own and not all(self._tree.exists(path) for path in program.paths.values()):
            plan.notes.append(f"{program.paths['plugd']} is not in {self._tree.root} yet")
        return plan.notes

    def uninstall(self, *, purge: bool) -> list[str]:
        """Take away what was installed; with ``purge`` configuration, secrets, state and users, too."""
        self._check("uninstall")
        package = self._manager.package()
        if purge and package is not None:
            raise InstallError(
                f"cannot purge: configuration and state are now those of {package}",
                EXIT_REFUSED,
                "plugd uninstall, without --purge",
            )
        with self._manifest() as before:
            plan = plan_removal(self._tree, self._manager, before, purge=purge)
            if not self._carry_out(plan, before):
                return plan.notes
            if purge:
                self._tree.remove(PATH)
            elif before != Manifest():
                save(self._tree, plan.manifest)
        if plan.steps:
            plan.notes.append(f"the program stays: {sys.prefix} is for pip or pipx to take away")
        return plan.notes

    def _check(self, verb: str) -> None:
        """See that this user may, and that there is a system that it can be done to."""
        if self._tree.is_own and self._uid != 0 and not self._dry_run:
            raise InstallError(
                f"cannot {verb}: only root can. A service of a user's own (systemctl --user) is not supported",
                EXIT_NOT_ROOT,
                f"sudo plugd {verb}, or run plugd itself, in the foreground",
            )
        if self._manager.live and not self._manager.runs():
            raise InstallError(
                f"cannot {verb}: systemd does not run here",
                EXIT_REFUSED,
                f"plugd {verb} --root DIR for the file system of another system; --root / in a chroot or an image",
            )
        missing = [path for path in _SYSTEM if not self._tree.is_directory(path)]
        if missing:
            raise InstallError(
                f"cannot {verb}: {self._tree.root} holds no system, there is no {missing[0]} in it", EXIT_REFUSED
            )

    def _check_program(self, program: Program) -> None:
        if not self._tree.is_own:
            return  # What will be at these paths there is for those to say who put it there.
        reason = fault(program)
        if reason is not None:
            what, _, remedy = reason.partition("; try: ")
            raise InstallError(f"cannot install: a service must not run this plugd: {what}", EXIT_REFUSED, remedy)

    @contextmanager
    def _manifest(self) -> Iterator[Manifest]:
        """Give the manifest to the block, alone with it unless nothing is changed."""
        try:
            if self._dry_run:
                yield load(self._tree)
            else:
                with locked(self._tree):
                    yield load(self._tree)
        except OSError as error:
            name = f"{error.filename}: " if error.filename else ""
            raise InstallError(f"cannot go on: {name}{error.strerror or error}", EXIT_FAILED) from error

    def _carry_out(self, plan: Plan, before: Manifest) -> bool:
        """Do the steps of a plan; return whether it was not only told of them."""
        if not self._dry_run and plan.steps:
            # Written down first: whatever ends this process, the next one knows what may be its own.
            save(self._tree, _both(before, plan.manifest))
        for step in plan.steps:
            if not self._dry_run:
                perform(step, self._tree, self._manager)
            self._tell(step)
        return not self._dry_run


def _both(before: Manifest, after: Manifest) -> Manifest:
    """Return what may be found while the steps are under way."""
    both = after.copy()
    both.entries = before.entries | after.entries
    both.directories = list(dict.fromkeys([*before.directories, *after.directories]))
    both.users = sorted({*before.users, *after.users})
    both.enabled = before.enabled
    return both


def _settled(tree: Tree, manifest: Manifest) -> Manifest:
    """Return a manifest when all has been done: nothing is on its way any more."""
    settled = manifest.copy()
    settled.entries = {path: entry for path, entry in settled.entries.items() if tree.exists(path)}
    for entry in settled.entries.values():
        entry.previous = ABSENT
    return settled
