"""What a worker does to itself before it runs anything of a plugin: its user, its limits, its files.

All of it holds for what the plugin starts as well, and none of it can be taken back. What only measuring can limit,
resident memory and CPU time, is up to the daemon.
"""

import _thread
import os
import resource
import time
from collections.abc import Mapping
from typing import Any

from plugd.prctl import PR_SET_CHILD_SUBREAPER, PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS, prctl
from plugd.worker import cgroup, credentials, landlock

THREAD_STACK_BYTES = 2 * 1024 * 1024  # of Python's threads; by default 8 MiB each would count as allocated
REHEARSALS = 20  # the interpreter specialises code that has run a few times
OOM_SCORE = 500  # added, of 1000: the kernel ends workers before it ends the daemon; proc_pid_oom_score_adj(5)


class ConfinementError(Exception):
    """The worker cannot become what the configuration says it must be; the message says why."""


def confine(rules: Mapping[str, Any]) -> list[str]:
    """Confine this process, which must be single-threaded.

    Args:
        rules: ``uid`` (a user that nobody else has) or ``user`` (a name or number) or neither; ``environment``;
            ``cgroup``: what ``cgroup.enter`` takes, or None; ``memory`` (bytes), ``open_files``, ``processes``;
            ``sandbox``: what ``landlock.restrict`` takes, or None; ``notes``: what the daemon has to add to the result.

    Returns: what could not be applied, a sentence each.

    Raises:
        ConfinementError: it could not become the user.
    """
    unconfined = list(rules["notes"])
    pids_limited = _enter_cgroup(rules["cgroup"], unconfined)
    _take_environment(rules["environment"])
    _prefer_to_be_killed(unconfined)
    uid_before = os.getuid()
    _become(rules)
    _limit(rules, unconfined, pids_limited)
    prctl(PR_SET_CHILD_SUBREAPER, 1)  # What it starts stays below it, and is found there.
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    if os.getuid() != uid_before:
        prctl(PR_SET_DUMPABLE, 1)  # Or its own /proc/self would be root's.
    os.chdir("/")
    if rules["sandbox"] is not None:
        try:
            unconfined += landlock.restrict(**rules["sandbox"])
        except OSError as error:
            unconfined.append(f"sandbox: {error.strerror}")
    return unconfined


def rehearse() -> None:
    """Do what changes nothing of it in the forkserver, so that its pages are shared by all workers."""
    for _ in range(REHEARSALS):
        _take_environment(dict(os.environ))
        _read("/proc/self/oom_score_adj")
        _data_bytes()
        _set_limit(resource.RLIMIT_CORE, resource.getrlimit(resource.RLIMIT_CORE)[0])
        credentials.rehearse()
        landlock.rehearse()


def _enter_cgroup(rules: Mapping[str, Any] | None, unconfined: list[str]) -> bool:
    """Enter the cgroup that there is for this worker; return whether that limits processes."""
    if rules is None:
        return False
    failed = cgroup.enter(rules)
    unconfined += failed
    return not failed and "pids.max" in rules["limits"]


def _take_environment(environment: Mapping[str, str]) -> None:
    """Replace the environment; what is right already is left alone, as the forkserver's nearly is."""
    for name in os.environ.keys() - environment.keys():
        del os.environ[name]
    for name, value in environment.items():
        if os.environ.get(name) != value:
            os.environ[name] = value
            if name == "TZ":
                time.tzset()


def _prefer_to_be_killed(unconfined: list[str]) -> None:
    path = "/proc/self/oom_score_adj"
    try:
        score = min(int(_read(path)) + OOM_SCORE, 1000)
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, str(score).encode())
        finally:
            os.close(descriptor)
    except OSError as error:
        unconfined.append(f"oom_score_adj: {error.strerror}")


def _become(rules: Mapping[str, Any]) -> None:
    uid, user = rules["uid"], rules["user"]
    if uid is None and user is None:
        return
    try:
        identity = credentials.own_identity(uid) if uid is not None else credentials.identity_of(user)
        if identity.uid != os.getuid():
            credentials.become(identity)
    except (OSError, LookupError) as error:
        reason = error.strerror if isinstance(error, OSError) else error.args[0]
        raise ConfinementError(f"cannot run as user {uid if user is None else user!r}: {reason}") from error


def _limit(rules: Mapping[str, Any], unconfined: list[str], pids_limited: bool) -> None:
    """Set soft and hard limits alike: getrlimit(2)."""
    _thread.stack_size(THREAD_STACK_BYTES)
    _set_limit(resource.RLIMIT_CORE, 0)
    _set_limit(resource.RLIMIT_NOFILE, rules["open_files"])
    _set_limit(resource.RLIMIT_DATA, _data_bytes() + rules["memory"])
    if pids_limited:
        return  # The cgroup counts this plugin's own, and root's too.
    if os.getuid() == 0:
        unconfined.append("limits.processes: the kernel sets root no such limit")
    else:
        # The kernel counts all tasks of a user. Others than these must not keep this one from working: what a user
        # runs that is no plugin, or the generation before, which may be at its limit and about to be replaced.
        others = count_tasks(os.getuid()) - 1
        _set_limit(resource.RLIMIT_NPROC, others + rules["processes"])


def _set_limit(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(kind, (value, value))


def _data_bytes() -> int:
    """What RLIMIT_DATA counts, as it is now: /proc/self/statm, data."""
    return int(_read("/proc/self/statm").split()[5]) * resource.getpagesize()


def _read(path: str) -> bytes:
    """Read a small file of /proc without the buffers of a file object, which this process would keep."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, 4096)
    finally:
        os.close(descriptor)


def count_tasks(uid: int) -> int:
    """Return how many processes and threads a user has; the owner of /proc/PID is the effective user."""
    count = 0
    with os.scandir("/proc") as entries:
        for entry in entries:
            try:
                if entry.name.isdigit() and entry.stat().st_uid == uid:
                    count += len(os.listdir(f"/proc/{entry.name}/task"))
            except (FileNotFoundError, ProcessLookupError):
                continue  # It has ended meanwhile.
    return count
