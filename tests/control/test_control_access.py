"""Roles: by uid and groups, from credentials that the kernel states."""

import grp
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from harness import Daemons

from plugd.control.access import AccessPolicy, Peer, Role

ROOT_ONLY = pytest.mark.skipif(os.getuid() != 0, reason="takes root: it becomes other users")


def peer(uid: int, *groups: int) -> Peer:
    return Peer(pid=1, uid=uid, gid=groups[0] if groups else uid, groups=frozenset(groups))


POLICY = AccessPolicy(daemon_uid=500, operators=frozenset({20, 21}), admins=frozenset({30}))


@pytest.mark.parametrize(
    ("who", "role"),
    [
        (peer(0), Role.ADMIN),
        (peer(500), Role.ADMIN),
        (peer(1000), Role.READ),
        (peer(1000, 1000, 21), Role.OPERATE),
        (peer(1000, 20), Role.OPERATE),
        (peer(1000, 1000, 30), Role.ADMIN),
        (peer(1000, 20, 30), Role.ADMIN),
        (peer(20, 5), Role.READ),
        (peer(30, 5), Role.READ),
        (peer(1000, 0), Role.READ),
        (peer(4294967294, 4294967294), Role.READ),
    ],
)
def test_a_peer_has_the_highest_role_that_it_is_given(who: Peer, role: Role) -> None:
    """Root and the daemon's user are admins, members of groups what these are, everybody else reads."""
    assert POLICY.role_of(who) == role


def test_roles_are_ordered() -> None:
    """Each role includes the one before, and is called as it is on the wire."""
    assert Role.READ < Role.OPERATE < Role.ADMIN
    assert [str(role) for role in Role] == ["read", "operate", "admin"]


def test_groups_are_found_by_name() -> None:
    """The names of the configuration become ids; one that does not exist gives nobody a role."""
    first = grp.getgrall()[0]
    policy = AccessPolicy.of(500, [first.gr_name, "no-such-group-here"], ["nor-this"])
    assert policy == AccessPolicy(500, frozenset({first.gr_gid}), frozenset())


def test_without_groups_nobody_is_more_than_a_reader() -> None:
    """The default policy knows two admins: root, and the daemon's own user."""
    policy = AccessPolicy.of(500, [], [])
    assert [policy.role_of(peer(uid, uid)) for uid in (0, 500, 499, 65534)] == [
        Role.ADMIN,
        Role.ADMIN,
        Role.READ,
        Role.READ,
    ]


def test_the_kernel_states_the_peer(tmp_path: Path) -> None:
    """pid, uid, gid and groups of a real connection are those of the process that made it."""
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        client.connect(str(tmp_path / "s"))
        accepted, _ = listener.accept()
        with accepted:
            who = Peer.of(accepted)
    assert (who.pid, who.uid, who.gid) == (os.getpid(), os.getuid(), os.getgid())
    assert who.groups == {*os.getgroups(), os.getgid()}


CLIENT = """
import msgpack, os, socket, sys
path, uid, gid, groups = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
os.setgroups([int(group) for group in groups.split(",") if group])
os.setresgid(gid, gid, gid)
os.setresuid(uid, uid, uid)
with socket.socket(socket.AF_UNIX) as sock:
    sock.connect(path)
    sock.sendall(msgpack.packb([0, 1, "hello", []]))
    answer = msgpack.unpackb(sock.recv(65536))[3]
    print(answer["uid"], answer["role"])
"""


def told(path: Path, uid: int, gid: int, *groups: int) -> str:
    """Return the uid and the role that the daemon tells a process of this user and these groups."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", CLIENT, str(path), str(uid), str(gid), ",".join(map(str, groups))],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout.strip()


@ROOT_ONLY
def test_other_users_have_the_roles_of_their_groups(daemon: Daemons) -> None:
    """A daemon of root's, asked by other users: groups of the configuration count, main or further ones."""
    operators, admins = [group for group in grp.getgrall() if group.gr_gid > 0][:2]
    running = daemon(
        plugins={},
        config=f"""
[control]
mode = "0666"
operators = ["{operators.gr_name}"]
admins = ["{admins.gr_name}"]
""",
    )
    running.directory.chmod(0o755)
    assert told(running.socket, 65534, 65534) == "65534 read"
    assert told(running.socket, 65534, operators.gr_gid) == "65534 operate"
    assert told(running.socket, 65534, 65534, operators.gr_gid) == "65534 operate"
    assert told(running.socket, 65534, 65534, operators.gr_gid, admins.gr_gid) == "65534 admin"
    assert told(running.socket, 0, 65534) == "0 admin"


@ROOT_ONLY
def test_the_sockets_mode_keeps_others_out(daemon: Daemons) -> None:
    """With mode 0660 a user outside of the group cannot connect at all."""
    running = daemon(plugins={})
    running.directory.chmod(0o755)
    with pytest.raises(subprocess.CalledProcessError) as failure:
        told(running.socket, 65534, 65534)
    assert "PermissionError" in failure.value.stderr
