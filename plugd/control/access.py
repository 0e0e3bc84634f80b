"""Who may do what: roles from the peer's credentials, which the kernel states and nobody can forge."""

import array
import enum
import grp
import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

SO_PEERGROUPS = 59  # linux/socket.h; absent from the socket module
_UCRED = struct.Struct("iII")  # pid, uid, gid: unix(7), SO_PEERCRED
_OPTION_BYTES = 1024  # as much as Python's getsockopt gives: 256 groups


class Role(enum.IntEnum):
    """What a client may do; each includes the one before."""

    READ = 1
    OPERATE = 2
    ADMIN = 3

    def __str__(self) -> str:
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Peer:
    """The process at the other end, as it was when it connected."""

    pid: int
    uid: int
    gid: int
    groups: frozenset[int]

    @classmethod
    def of(cls, sock: socket.socket) -> Self:
        """Return the credentials of a connected Unix socket's peer: SO_PEERCRED and SO_PEERGROUPS.

        Raises:
            OSError: the kernel does not say; such a peer is to be refused.
        """
        pid, uid, gid = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
        groups = array.array("I")
        try:
            groups.frombytes(sock.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, _OPTION_BYTES))
        except OSError:
            pass  # More groups than there is room for: none of them counts, which can only take a role away.
        return cls(pid, uid, gid, frozenset(groups) | {gid})


@dataclass(frozen=True, slots=True)
class AccessPolicy:
    """The groups that have a role; root and the daemon's own user are admins."""

    daemon_uid: int
    operators: frozenset[int] = frozenset()
    admins: frozenset[int] = frozenset()

    @classmethod
    def of(cls, daemon_uid: int, operators: Iterable[str], admins: Iterable[str]) -> Self:
        """Return the policy of these groups, by name; a group that does not exist has no members."""
        return cls(daemon_uid, _group_ids(operators), _group_ids(admins))

    def role_of(self, peer: Peer) -> Role:
        """Return the role of a peer: read, unless something gives it more."""
        if peer.uid in (0, self.daemon_uid) or peer.groups & self.admins:
            return Role.ADMIN
        if peer.groups & self.operators:
            return Role.OPERATE
        return Role.READ


def _group_ids(names: Iterable[str]) -> frozenset[int]:
    ids = set()
    for name in names:
        try:
            ids.add(grp.getgrnam(name).gr_gid)
        except KeyError:
            continue  # Told by `plugd --check-config`; here it simply gives nobody a role.
    return frozenset(ids)
