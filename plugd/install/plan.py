"""What ``plugd install`` has to do: from what is there, what was made before, and what is to be."""

import os
from typing import NamedTuple

from plugd.install import steps
from plugd.install.manager import Manager
from plugd.install.manifest import Entry, Manifest
from plugd.install.pieces import DIRECTORIES, SERVICE, SOCKET, SYSUSERS, TMPFILES, UNITS, Piece, directories_of
from plugd.install.program import Program
from plugd.install.steps import Step
from plugd.install.tree import ABSENT, Tree, file_content, link_content
from plugd.paths import SEARCH_PATH

LINKS = "/usr/local/bin"
NEW = ".new"  # what is added to a file's name, for the one that is written beside it
UNIT_NAMES = (SERVICE, SOCKET)


class Plan(NamedTuple):
    """What is to be done.

    Attributes:
        steps: in their order; empty if all is as it should be.
        manifest: what is to be written down before the first of them.
        notes: what the administrator should know, though nothing is done about it.
        faults: why none of it may be done.
    """

    steps: list[Step]
    manifest: Manifest
    notes: list[str]
    faults: list[str]


def plan_install(
    tree: Tree, manager: Manager, before: Manifest, wanted: list[Piece], program: Program, version: str, *, now: bool
) -> Plan:
    """Return what is to be done for all these files to be there, and for systemd to run plugd.

    Args:
        tree: what is installed into.
        manager: its systemd.
        before: what has been made there already.
        wanted: every file.
        program: the plugd that is to run.
        version: its version.
        now: whether it is to run at once.

    Raises:
        InstallError: systemd cannot be asked.
        OSError: the tree cannot be read.
    """
    plan = Plan([], before.copy(), [], [])
    files = _Files(tree, plan)
    for piece in wanted:
        files.place(piece)
    for name, target in program.paths.items():
        files.place_link(f"{LINKS}/{name}", target)
    files.drop({piece.path for piece in wanted} | {f"{LINKS}/{name}" for name in program.paths})
    for path in DIRECTORIES:
        files.directory(path)
    _system(tree, manager, before, plan, wanted, now=now, upgraded=before.version not in ("", version))
    plan.manifest.version = version
    return plan


def decide(data: bytes, entry: Entry | None, there: str, *, seed: bool) -> str:
    """Return what is to be done about a file: WRITE, UPDATE, OFFER (beside the one there), or nothing.

    Args:
        data: what it should be.
        entry: what is known of it; None: nothing.
        there: its content, as Tree.content() says it.
        seed: one that is there is left alone, unless it is known and as it was written.
    """
    new = file_content(data)
    if there == ABSENT:
        return steps.WRITE
    if there == new:
        return ""
    if entry is None:
        return "" if seed else steps.OFFER
    if entry.is_own(there):
        return steps.UPDATE
    # The administrator has changed it. That is worth a word once, and when there is something new to be taken over.
    return "" if new in (entry.content, entry.offered) else steps.OFFER


class _Files:
    """Plans the files, with the directories that they need."""

    def __init__(self, tree: Tree, plan: Plan) -> None:
        self._tree = tree
        self._plan = plan
        self._made: set[str] = set()

    def place(self, piece: Piece) -> None:
        """Plan a file."""
        entries, there, new = self._plan.manifest.entries, self._tree.content(piece.path), file_content(piece.data)
        entry = entries.get(piece.path)
        action = decide(piece.data, entry, there, seed=piece.seed)
        if action == steps.OFFER:
            # Nothing of it is plugd's: what was there before may have been made by anybody.
            entries[piece.path] = Entry(content=entry.content if entry else ABSENT, offered=new)
            entries[piece.path + NEW] = Entry(content=new)
            self._step(steps.OFFER, piece.path + NEW, f"{piece.path} has been changed, and is kept", piece.data)
        elif there == new or action:
            if entry is not None and entry.offered:
                self._withdraw(piece.path + NEW)
            if action:
                self._step(action, piece.path, "", piece.data)
            entries[piece.path] = Entry(content=new, previous=there if action == steps.UPDATE else ABSENT)

    def place_link(self, path: str, target: str) -> None:
        """Plan a link to a program, unless the program is found by its name already."""
        name, entries = os.path.basename(path), self._plan.manifest.entries
        there, entry = self._tree.content(path), entries.get(path)
        if there in (ABSENT, link_content(target)) or (entry is not None and entry.is_own(there)):
            if entry is None and self._found(name, target):
                return
            if there != link_content(target):
                self._step(steps.LINK, path, f"to {target}", target.encode())
            previous = there if there != link_content(target) else ABSENT
            entries[path] = Entry(content=link_content(target), previous=previous)
        elif self._leads(path, target):
            entries.pop(path, None)  # It is of pip's making, or pipx's.
        else:
            self._plan.faults.append(f"{path} is there, and is not of this plugd: move it away")

    def drop(self, wanted: set[str]) -> None:
        """Plan the end of files that an earlier version has brought, and this one does not."""
        for path, entry in list(self._plan.manifest.entries.items()):
            if path in wanted or path.removesuffix(NEW) in wanted:
                continue
            if entry.is_own(self._tree.content(path)):
                self._step(steps.REMOVE, path, "no longer part of plugd")
            else:
                del self._plan.manifest.entries[path]

    def directory(self, path: str) -> None:
        """Plan a directory, and those that it is in."""
        if path in self._made or self._tree.is_directory(path):
            return
        self.directory(os.path.dirname(path))
        self._made.add(path)
        self._plan.steps.append(Step(steps.MAKE, (path,)))
        if path not in self._plan.manifest.directories:
            self._plan.manifest.directories.append(path)

    def _step(self, action: str, path: str, note: str, data: bytes = b"") -> None:
        if action != steps.REMOVE:
            self.directory(os.path.dirname(path))
        self._plan.steps.append(Step(action, (path,), note, data))

    def _withdraw(self, path: str) -> None:
        """Plan the end of a file that was written beside another one, which now is what it should be."""
        entry = self._plan.manifest.entries.get(path)
        if entry is not None and entry.is_own(self._tree.content(path)):
            self._step(steps.REMOVE, path, "no longer needed")

    def _found(self, name: str, target: str) -> bool:
        """Whether a program of that name is in the system's PATH, and is this one."""
        for directory in SEARCH_PATH.split(":"):
            if self._tree.exists(f"{directory}/{name}"):
                return self._leads(f"{directory}/{name}", target)
        return False

    def _leads(self, path: str, target: str) -> bool:
        there = self._tree.content(path)
        if path == target or there == link_content(target):
            return True
        return self._tree.is_own and os.path.realpath(path) == os.path.realpath(target)


def _system(
    tree: Tree, manager: Manager, before: Manifest, plan: Plan, wanted: list[Piece], *, now: bool, upgraded: bool
) -> None:
    """Plan what systemd is to be told."""
    written = {target for step in plan.steps for target in step.targets}
    changed = [name for name in UNIT_NAMES if f"{UNITS}/{name}" in written]
    missing = manager.missing_users()
    if missing:
        plan.steps.append(Step(steps.ADD_USERS, tuple(missing), "", _in_force(tree, wanted, SYSUSERS, written)))
        plan.manifest.users = sorted({*before.users, *missing})
    if manager.live:
        tmpfiles = _in_force(tree, wanted, TMPFILES, written)
        absent = tuple(path for path in directories_of(tmpfiles) if not tree.is_directory(path))
        if absent:
            plan.steps.append(Step(steps.MAKE_RUNTIME, absent, "", tmpfiles))
    if manager.live and (changed or any(manager.unread(unit) for unit in UNIT_NAMES)):
        plan.steps.append(Step(steps.RELOAD, UNIT_NAMES))
    states = {unit: manager.enabled(unit) for unit in UNIT_NAMES}
    masked = [unit for unit, state in states.items() if state.startswith("masked")]
    if masked:
        plan.notes.append(f"plugd is neither enabled nor started, since somebody has masked {' and '.join(masked)}")
        return
    left = [unit for unit, state in states.items() if state == "disabled" and before.enabled and not now]
    if left:
        plan.notes.append(f"plugd is not enabled, since somebody has disabled {' and '.join(left)} (--now enables it)")
    disabled = tuple(unit for unit, state in states.items() if state != "enabled" and unit not in left)
    if disabled:
        plan.steps.append(Step(steps.ENABLE, disabled))
    _run(manager, plan, {*changed, SERVICE} if upgraded else set(changed), now=now)


def _run(manager: Manager, plan: Plan, changed: set[str], *, now: bool) -> None:
    """Plan that plugd runs, if it is to, and as it is now."""
    for unit in UNIT_NAMES:
        source = manager.source(unit)
        if source and os.path.dirname(source) != UNITS:
            plan.notes.append(f"{source} is in force instead of {UNITS}/{unit}")
    runs = {unit: manager.invocation(unit) for unit in (SOCKET, SERVICE)}
    before = plan.manifest.outdated
    outdated = {unit: run for unit, run in runs.items() if run and (unit in changed or before.get(unit) == run)}
    plan.manifest.outdated = {} if now else outdated
    due = [unit for unit, run in runs.items() if not run or unit in outdated]
    # A socket that stays keeps the connections that wait for the service.
    units = (SOCKET, SERVICE) if SOCKET in due else (SERVICE,)
    if now and due and manager.live:
        plan.steps.append(Step(steps.RESTART if outdated or runs[SERVICE] else steps.START, units))
    elif outdated:
        plan.notes.append(f"plugd runs as it was before: plugd install --now, or systemctl restart {' '.join(units)}")


def _in_force(tree: Tree, wanted: list[Piece], path: str, written: set[str]) -> bytes:
    """Return the bytes that a file will have when all files are written: the administrator's, if they are kept."""
    if path in written or not tree.exists(path):
        return next(piece.data for piece in wanted if piece.path == path)
    return tree.read(path)
