"""What a worker is told to confine itself to: the daemon's half of ``plugd.worker.confine``."""

import os
import pwd
import zlib
from collections.abc import Mapping
from functools import cache
from typing import Any

from plugd import leftovers
from plugd.catalog.spec import PluginSpec
from plugd.paths import SEARCH_PATH

# The range that systemd takes its dynamic users from, and no distribution gives to anybody: systemd.exec(5).
FIRST_UID, LAST_UID = 61184, 65519
DYNAMIC_USERS = "/run/systemd/dynamic-uid"  # has an entry for each number that systemd has given away

TEMPORARY = "/tmp"  # noqa: S108 - as it is; who may do what in it, its own permissions say
PASSED_ON = ("TZ",)  # of the daemon's variables
CREDENTIALS = "CREDENTIALS_DIRECTORY"  # systemd.exec(5); a worker has one of its own, or none

_CAP_KILL, _CAP_SETGID, _CAP_SETUID = 5, 6, 7  # linux/capability.h
_NEEDED = {_CAP_SETUID: "CAP_SETUID", _CAP_SETGID: "CAP_SETGID", _CAP_KILL: "CAP_KILL"}


def rules_of(
    spec: PluginSpec,
    hidden: tuple[str, ...] = (),
    credentials: str | None = None,
    cgroup: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the rules for a worker of this plugin, as ``plugd.worker.confine.confine`` reads them.

    Args:
        spec: the plugin.
        hidden: directories that it may not read from.
        credentials: what it may all the same: the directory of its own secrets, if it has any.
        cgroup: the one that it is to make and be in, as ``plugd.worker.cgroup`` reads it; None: there are none.
    """
    uid: int | None = None
    user: str | int | None = None
    notes: list[str] = []
    if spec.user != "auto":
        user = spec.user
    elif os.geteuid() == 0:
        reason = why_no_own_users()
        if reason is None:
            uid = uid_of(spec.name)
        else:
            notes.append(f"user: the worker is root: {reason}")
    sandbox = spec.config.sandbox
    return {
        "uid": uid,
        "user": user,
        "environment": {
            **base_environment(os.environ),
            "PLUGD_PLUGIN": spec.name,
            **spec.config.environment,
            **({} if credentials is None else {CREDENTIALS: credentials}),
            **run_mark(),
        },
        "cgroup": cgroup,
        "memory": spec.limits.memory,
        "open_files": spec.limits.open_files,
        "processes": spec.limits.processes,
        "sandbox": {
            "write": _writable(spec),
            "read": _readable(spec),
            "hidden": hidden,
            "credentials": credentials,
        }
        if sandbox.enabled
        else None,
        "notes": notes,
        "modules": _modules(spec),
    }


def identity_of(spec: PluginSpec) -> tuple[int, int] | None:
    """Return the user and group that a plugin runs as; None: the daemon's own, or one that does not exist."""
    if os.geteuid() != 0:
        return None
    if spec.user == "auto":
        return None if why_no_own_users() is not None else (uid_of(spec.name),) * 2
    try:
        entry = pwd.getpwnam(spec.user) if isinstance(spec.user, str) else pwd.getpwuid(spec.user)
    except KeyError:
        return (spec.user, spec.user) if isinstance(spec.user, int) else None
    return entry.pw_uid, entry.pw_gid


def _modules(spec: PluginSpec) -> tuple[str, ...]:
    """Return what a worker imports while it can: as some users, it can read neither plugd's nor Python's own files."""
    if spec.command is None:
        return ()
    if spec.command.format == "plugd":
        return ("plugd.worker.stdio",)
    parser = f"plugd.formats.{spec.command.format}"
    return ("plugd.worker.command", parser)


def _writable(spec: PluginSpec) -> tuple[str, ...]:
    """Return what a plugin may write to; programs that were written for others take /tmp for granted."""
    if spec.command is None:
        return spec.config.sandbox.write
    state = () if spec.command.state is None else (spec.command.state,)
    return (TEMPORARY, *state, *spec.config.sandbox.write)


def _readable(spec: PluginSpec) -> tuple[str, ...] | None:
    read = spec.config.sandbox.read
    return read if read is None or spec.command is None else (*read, spec.command.program.path)


def base_environment(own: Mapping[str, str]) -> dict[str, str]:
    """Return what every worker has in its environment, whatever the daemon has in its own."""
    passed_on = {name: own[name] for name in PASSED_ON if name in own}
    return {"PATH": SEARCH_PATH, "LANG": "C.UTF-8", "HOME": "/", **passed_on}


def forkserver_environment(own: Mapping[str, str]) -> dict[str, str]:
    """Return the environment in which the forkserver's Python is started."""
    loader = {name: own[name] for name in ("LD_LIBRARY_PATH",) if name in own}  # A Python may need it to start at all.
    return {**base_environment(own), **loader, **run_mark()}


@cache
def run_mark() -> dict[str, str]:
    """Return the variable by which what plugins have started is known, should this daemon be killed."""
    return {leftovers.VARIABLE: leftovers.mark_of(os.getpid())}


_uids: dict[str, int] = {}  # by plugin: what has been given once stays, for generations that live side by side


def uid_of(name: str) -> int:
    """Return the user that the plugin of this name has to itself, the same in every run if nobody else has it."""
    if name not in _uids:
        size = LAST_UID - FIRST_UID + 1
        first = zlib.crc32(name.encode()) % size
        given = set(_uids.values())
        candidates = (FIRST_UID + (first + step) % size for step in range(size))
        free = (uid for uid in candidates if uid not in given and not os.path.lexists(f"{DYNAMIC_USERS}/{uid}"))
        _uids[name] = next(free, FIRST_UID + first)
    return _uids[name]


@cache
def why_no_own_users() -> str | None:
    """Return why workers of a daemon that is root cannot have users of their own; None if they can."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        fields = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    capabilities = int(fields["CapEff"], 16)
    missing = [name for number, name in _NEEDED.items() if not capabilities >> number & 1]
    if missing:
        return f"the daemon lacks {', '.join(missing)}"
    with open("/proc/self/uid_map", "rb") as file:
        users = _is_mapped(file.read())
    with open("/proc/self/gid_map", "rb") as file:
        groups = _is_mapped(file.read())
    return None if users and groups else "its user namespace does not have the users 61184 to 65519"


def _is_mapped(table: bytes) -> bool:
    """Whether one line of a uid_map covers the whole range: user_namespaces(7)."""
    ranges = [tuple(map(int, line.split())) for line in table.splitlines()]
    return any(inside <= FIRST_UID and inside + length > LAST_UID for inside, _, length in ranges)
