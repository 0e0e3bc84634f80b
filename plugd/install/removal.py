"""What ``plugd uninstall`` has to do: to take away what was made, and no more."""

from plugd.install import steps
from plugd.install.manager import Manager
from plugd.install.manifest import Entry, Manifest
from plugd.install.pieces import CONFIGURATION, RUNTIME, SERVICE, SOCKET, STATE, UNITS
from plugd.install.plan import Plan
from plugd.install.steps import Step
from plugd.install.tree import ABSENT, Tree

UNIT_NAMES = (SERVICE, SOCKET)
_OVERRIDES = [f"/etc/systemd/system/{unit}{suffix}" for unit in UNIT_NAMES for suffix in ("", ".d")]
LEFTOVERS = (CONFIGURATION, STATE)  # what is only taken away with --purge


def plan_removal(tree: Tree, manager: Manager, before: Manifest, *, purge: bool) -> Plan:
    """Return what is to be done for nothing of plugd to be there; without ``purge``, configuration and state stay.

    Args:
        tree: what was installed into.
        manager: its systemd.
        before: what has been made there. If it is empty, there is nothing to be done.
        purge: whether configuration, secrets, state, the user and the group go as well, and files that have been
            changed.

    Raises:
        InstallError: systemd cannot be asked.
        OSError: the tree cannot be read.
    """
    plan = Plan([], before.copy(), [], [])
    if before == Manifest():
        return plan
    stopped = _stop(tree, manager, before, plan)
    removed = _files(tree, before, plan, purge=purge)
    _directories(tree, before, plan, removed)
    if manager.live and any(f"{UNITS}/{unit}" in removed for unit in UNIT_NAMES):
        plan.steps.append(Step(steps.RELOAD, UNIT_NAMES))
    # It is made anew at every start of the system, but not by a socket or a service that is not plugd's.
    if manager.live and tree.exists(RUNTIME) and (stopped or purge or not tree.names(RUNTIME)):
        plan.steps.append(Step(steps.REMOVE_ALL, (RUNTIME,)))
    if purge:
        plan.steps.extend(Step(steps.REMOVE_ALL, (path,)) for path in LEFTOVERS if tree.exists(path))
        users = tuple(kind for kind in ("user", "group") if kind in set(before.users) - set(manager.missing_users()))
        if users:
            plan.steps.append(Step(steps.REMOVE_USERS, users))
    else:
        plan.notes.append(
            f"configuration, state and the user plugd stay, in {CONFIGURATION} and {STATE}: --purge ends them"
        )
    plan.notes.extend(f"{path} is kept: it is the administrator's own" for path in _OVERRIDES if tree.exists(path))
    plan.manifest.enabled = False
    return plan


def _stop(tree: Tree, manager: Manager, before: Manifest, plan: Plan) -> bool:
    """Plan that nothing of plugd runs, nor will; return whether anything did."""
    # Units of a package, or of the administrator's own, are not what was installed here.
    own = [unit for unit in UNIT_NAMES if f"{UNITS}/{unit}" in before.entries and tree.exists(f"{UNITS}/{unit}")]
    active = tuple(unit for unit in (SERVICE, SOCKET) if unit in own and manager.active(unit))
    if active:
        plan.steps.append(Step(steps.STOP, active))
    enabled = tuple(unit for unit in own if manager.enabled(unit) == "enabled")
    if enabled:
        plan.steps.append(Step(steps.DISABLE, enabled))
    return bool(active)


def _files(tree: Tree, before: Manifest, plan: Plan, *, purge: bool) -> set[str]:
    """Plan the end of files and links; return those that will be gone."""
    gone = set()
    for path, entry in before.entries.items():
        there = tree.content(path)
        inside = _is_configuration(path)  # taken away as a whole, or not at all
        if there == ABSENT:
            gone.add(path)
        elif inside and not purge:
            continue
        elif entry.is_own(there) or (purge and entry.content != ABSENT):
            if not inside:
                plan.steps.append(Step(steps.REMOVE, (path,), "" if entry.is_own(there) else "it had been changed"))
            gone.add(path)
        else:
            plan.notes.append(_kept(path, entry))
        if path in gone:
            del plan.manifest.entries[path]
    return gone


def _kept(path: str, entry: Entry) -> str:
    return f"{path} is kept: it {'has been changed' if entry.content else 'was not written by plugd install'}"


def _directories(tree: Tree, before: Manifest, plan: Plan, removed: set[str]) -> None:
    """Plan the end of directories that were made, inner ones first, and will be empty."""
    gone = set(removed)
    for path in reversed(before.directories):
        if _is_configuration(path):
            continue
        if {f"{path}/{name}" for name in tree.names(path)} <= gone:
            if tree.is_directory(path):
                plan.steps.append(Step(steps.REMOVE_DIRECTORY, (path,)))
            gone.add(path)
            plan.manifest.directories.remove(path)


def _is_configuration(path: str) -> bool:
    return path == CONFIGURATION or path.startswith(f"{CONFIGURATION}/")
