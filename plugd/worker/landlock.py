"""Landlock: a process limits itself, and all that it starts, to named paths; see landlock(7).

The kernel checks a path when it is opened: descriptors that are open already go on working. A process in such a
domain can also no longer trace processes outside of it, which takes from it what proc(5) guards by the same check:
/proc/PID/fd/*, io, environ, maps, smaps, exe, cwd of others. From outside it can be traced and killed as before.
"""

import ctypes
import os
import struct
import sys
from collections.abc import Iterable, Sequence

from plugd.worker.paths_around import paths_around

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # of every architecture: asm-generic/unistd.h
_CREATE_RULESET_VERSION = 1
_RULE_PATH_BENEATH = 1

# linux/landlock.h
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_REMOVE_AND_MAKE = sum(1 << bit for bit in range(4, 13))  # REMOVE_DIR to MAKE_SYM
_REFER, _TRUNCATE, _IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV  # no others are taken for what is no directory
_READ = _EXECUTE | _READ_FILE | _READ_DIR
_SCOPE_ABSTRACT_SOCKETS, _SCOPE_SIGNALS = 1 << 0, 1 << 1

_ABI_REFER, _ABI_TRUNCATE, _ABI_IOCTL_DEV, _ABI_SCOPE = 2, 3, 5, 6

DEVICES = ("/dev/null", "/dev/zero", "/dev/full")  # written by whoever wants nothing written
PYTHON_READS = (
    "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc/ld.so.cache", "/etc/localtime", "/etc/passwd",
    "/etc/group", "/etc/nsswitch.conf", "/etc/hosts", "/etc/resolv.conf", "/proc", "/sys", "/dev/random",
    "/dev/urandom",
)  # fmt: skip

_libc = ctypes.CDLL(None, use_errno=True)


def abi() -> int:
    """Return the version of Landlock that the kernel has; 0 where it has none, or where it was switched off."""
    version = _libc.syscall(
        ctypes.c_long(_CREATE_RULESET), None, ctypes.c_size_t(0), ctypes.c_uint32(_CREATE_RULESET_VERSION)
    )
    return max(0, int(version))


def restrict(
    write: Iterable[str],
    read: Iterable[str] | None,
    hidden: Sequence[str] = (),
    credentials: str | None = None,
) -> list[str]:
    """Let this process write to nothing but these paths, and signal nobody but what it starts.

    It must have given up new privileges (PR_SET_NO_NEW_PRIVS).

    Args:
        write: files, and directories with all that is below them, which can also be read.
        read: the same for reading and executing, besides what Python needs; None: everything.
        hidden: directories, by their real paths, whose files cannot be read unless ``read`` or ``write`` names them;
            see ``plugd.worker.paths_around`` for what this costs.
        credentials: a directory below them whose files can be read all the same.

    Returns: what this kernel cannot do of it, and paths that could not be opened, one sentence each.

    Raises:
        OSError: the kernel has Landlock, and refused.
    """
    version = abi()
    if version == 0:
        what = "writing, and reading other plugins' credentials, are" if hidden else "writing is"
        return [f"sandbox: this kernel has no Landlock: {what} up to the user's permissions"]
    ruleset, missing = _ruleset(version, write, read, hidden, credentials)
    try:
        _call(_RESTRICT_SELF, ctypes.c_int(ruleset), 0)
    finally:
        os.close(ruleset)
    return missing


def rehearse() -> None:
    """Run what changes nothing of it: for the forkserver."""
    version = abi()
    if version:
        os.close(_ruleset(version, (), None, (), None)[0])


def _ruleset(
    version: int, write: Iterable[str], read: Iterable[str] | None, hidden: Sequence[str], credentials: str | None
) -> tuple[int, list[str]]:
    """Return a ruleset's descriptor, and what it lacks."""
    writing, scopes, missing = _handled(version)
    # Directories can be listed in any case where nothing but what is hidden is to be kept from being read.
    reading = _READ if read is not None else _READ_FILE if hidden else 0
    attributes = struct.pack("=QQQ", writing | reading, 0, scopes)  # files, network, scopes
    ruleset = _call(_CREATE_RULESET, attributes, ctypes.c_size_t(_known_bytes(version)), 0)
    try:
        for path in (*DEVICES, *write):
            around = paths_around(path, hidden)
            rights = writing | reading if around is None else writing
            missing += _allow(ruleset, path, rights, optional=path in DEVICES)
            _allow_all(ruleset, around or (), reading)
        for path in ("/",) if read is None and hidden else read or ():
            around = paths_around(path, hidden)
            if around is None:
                missing += _allow(ruleset, path, reading, optional=False)
            _allow_all(ruleset, around or (), reading)
        for path in {*PYTHON_READS, *_python_paths()} if read is not None else ():
            around = paths_around(path, hidden)
            _allow_all(ruleset, [path] if around is None else around, reading)
        if credentials is not None and reading:
            missing += _allow(ruleset, credentials, reading, optional=False)
    except BaseException:
        os.close(ruleset)
        raise
    return ruleset, missing


def _allow_all(ruleset: int, paths: Iterable[str], rights: int) -> None:
    for path in paths:
        _allow(ruleset, path, rights, optional=True)


def _handled(version: int) -> tuple[int, int, list[str]]:
    """Return the rights to write and the scopes that this version knows, and what there is to say of the rest."""
    writing = _WRITE_FILE | _REMOVE_AND_MAKE
    missing = []
    if version >= _ABI_REFER:
        writing |= _REFER
    if version >= _ABI_TRUNCATE:
        writing |= _TRUNCATE
    else:
        missing.append("sandbox: this kernel cannot keep files from being truncated (that came with Linux 6.2)")
    if version >= _ABI_IOCTL_DEV:
        writing |= _IOCTL_DEV
    if version < _ABI_SCOPE:
        missing.append("sandbox: this kernel does not confine signals (that came with Linux 6.12)")
        return writing, 0, missing
    return writing, _SCOPE_ABSTRACT_SOCKETS | _SCOPE_SIGNALS, missing


def _known_bytes(version: int) -> int:
    """The size of the attributes: with the network since version 4, with scopes since version 6."""
    return 24 if version >= _ABI_SCOPE else 8


def _allow(ruleset: int, path: str, rights: int, *, optional: bool) -> list[str]:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError as error:
        return [] if optional else [f"sandbox: {path!r} cannot be allowed: {error.strerror}"]
    try:
        if not os.path.isdir(f"/proc/self/fd/{descriptor}"):
            rights &= _OF_FILES
        rule = struct.pack("=Qi", rights, descriptor)
        _call(_ADD_RULE, ctypes.c_int(ruleset), ctypes.c_int(_RULE_PATH_BENEATH), rule, 0)
    finally:
        os.close(descriptor)
    return []


def _python_paths() -> set[str]:
    """Where modules and shared libraries of this very Python are."""
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    prefixes = {sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix}
    return {package, *prefixes, *filter(os.path.isabs, sys.path)}


def _call(number: int, *arguments: object) -> int:
    result = int(_libc.syscall(ctypes.c_long(number), *arguments))
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"Landlock: {os.strerror(error)}")
    return result
