"""Who a worker is: its user, its groups and its capabilities; see capabilities(7) and credentials(7)."""

import ctypes
import os
import struct
from typing import NamedTuple

from plugd.prctl import PR_CAP_AMBIENT, PR_CAPBSET_DROP, PR_SET_KEEPCAPS, prctl

CAP_DAC_READ_SEARCH = 2  # linux/capability.h; to read any file, and to write none

_HEADER = struct.pack("=Ii", 0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, of this process
_CAP_AMBIENT_RAISE, _CAP_AMBIENT_CLEAR_ALL = 2, 4

_libc = ctypes.CDLL(None, use_errno=True)


class Identity(NamedTuple):
    """A user as the kernel knows one."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    capabilities: frozenset[int]  # that it keeps of the daemon's


def own_identity(uid: int) -> Identity:
    """The identity of a worker that has a user to itself: reads what root can read, and changes nothing."""
    return Identity(uid, uid, (), frozenset({CAP_DAC_READ_SEARCH}))


def identity_of(user: str | int) -> Identity:
    """Return the identity of a user by name or number, with the groups of the databases; without capabilities.

    Raises:
        LookupError: there is no user of that name. A number needs no entry: its group is the same number then.
    """
    import pwd  # Few plugins have a user by name: the others do without its pages.

    try:
        entry = pwd.getpwnam(user) if isinstance(user, str) else pwd.getpwuid(user)
    except KeyError:
        if not isinstance(user, int):
            raise LookupError(f"there is no user {user!r}") from None  # noqa: TRY004 - a name is no wrong type
        return Identity(user, user, (), frozenset())
    groups = os.getgrouplist(entry.pw_name, entry.pw_gid)
    return Identity(entry.pw_uid, entry.pw_gid, tuple(groups), frozenset())


def become(identity: Identity) -> None:
    """Change to an identity for good, with all three of its user and group IDs; the bounding set is dropped.

    The kernel forgets the parent-death signal at this, and makes the process one that cannot be dumped.

    Raises:
        OSError: this process may not.
    """
    capabilities = identity.capabilities & _permitted()
    prctl(PR_SET_KEEPCAPS, 1)
    _drop_bounding_set(capabilities)
    os.setgroups(identity.groups)
    os.setresgid(identity.gid, identity.gid, identity.gid)
    os.setresuid(identity.uid, identity.uid, identity.uid)
    prctl(PR_SET_KEEPCAPS, 0)
    prctl(PR_CAP_AMBIENT, _CAP_AMBIENT_CLEAR_ALL)
    mask = sum([1 << capability for capability in capabilities])
    low, high = mask & 0xFFFFFFFF, mask >> 32
    _set_capabilities(struct.pack("=6I", low, low, low, high, high, high))
    for capability in capabilities:  # What the plugin starts by exec has them by this only.
        prctl(PR_CAP_AMBIENT, _CAP_AMBIENT_RAISE, capability)


def rehearse() -> None:
    """Run what changes nothing of it: for the forkserver."""
    _permitted()
    prctl(PR_SET_KEEPCAPS, 0)
    _drop_bounding_set(frozenset(range(63)))  # There is no 63.
    try:
        _set_capabilities(_capabilities())
        os.setresgid(-1, -1, -1)
        os.setresuid(-1, -1, -1)
    except PermissionError:
        pass  # A service that is not root may have no such calls at all: SystemCallFilter=~@privileged.


def _permitted() -> frozenset[int]:
    _, low, _, _, high, _ = struct.unpack("=6I", _capabilities())
    mask = low | high << 32
    return frozenset([bit for bit in range(64) if mask >> bit & 1])


def _capabilities() -> bytes:
    """The effective, permitted and inheritable set, 32 bits of each, and then the higher 32: capget(2)."""
    data = ctypes.create_string_buffer(24)
    if _libc.capget(_HEADER, data):
        number = ctypes.get_errno()
        raise OSError(number, f"capget: {os.strerror(number)}")
    return data.raw


def _set_capabilities(data: bytes) -> None:
    if _libc.capset(_HEADER, data):
        number = ctypes.get_errno()
        raise OSError(number, f"capset: {os.strerror(number)}")


def _drop_bounding_set(kept: frozenset[int]) -> None:
    for capability in range(64):
        if capability in kept:
            continue
        try:
            prctl(PR_CAPBSET_DROP, capability)
        except OSError:
            # The one after the last that the kernel knows; or there is no CAP_SETPCAP, and it stays as it is, which
            # gives nothing to a process that can gain no privileges.
            return
