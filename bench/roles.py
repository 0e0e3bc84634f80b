"""Who may call what, as it is and as it should be: ``python bench/roles.py [--json]``.

Each method is called in each role. As root, that is a daemon of its own, and clients that are other users by fork and
setuid: one in no group of the daemon's, one in its group of operators, one in its group of admins, and root. Otherwise
it is a control server in this process that gives its clients the role. Nothing is changed: each request has a
parameter that no method takes, so that who may call the method is told of that, and who may not is told nothing.

The exit status is 1 if anybody may do anything else than ``plugd.control.commands`` says.
"""

import argparse
import grp
import json
import os
import pathlib
import socket
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import anyio
import msgpack
from harness import ROOT, Daemon

from plugd.control.access import Role
from plugd.control.commands import COMMANDS

USER = 60101  # a number that is nobody's
UNTAKEN = {"no_method_takes_this": 1}
TIMEOUT = 20.0  # seconds
ALLOWED, DENIED = "allowed", "denied"


class Client(NamedTuple):
    """Who asks: a user and their groups; the role that they should have."""

    title: str
    role: Role
    uid: int
    groups: tuple[int, ...] = ()


class Seen(NamedTuple):
    """What the daemon has said to one client."""

    client: Client
    role: str  # as ``hello`` tells it
    answers: dict[str, str]  # by method: allowed or denied


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    options = parser.parse_args()
    seen = of_users() if os.geteuid() == 0 else anyio.run(of_roles)
    wrong = [fault for each in seen for fault in faults(each)]
    if options.json:
        clients = [{"client": each.client.title, "role": each.role, "answers": each.answers} for each in seen]
        print(json.dumps({"clients": clients, "wrong": wrong}, indent=1))
    else:
        print(*table(seen), *verdict(seen, wrong), sep="\n")
    return 1 if wrong else 0


def of_users() -> list[Seen]:
    """Return what real users see of a daemon of their own."""
    operators, admins = some_groups(2)
    clients = (
        Client("a user", Role.READ, USER),
        Client(f"in {operators.gr_name}", Role.OPERATE, USER, (operators.gr_gid,)),
        Client(f"in {admins.gr_name}", Role.ADMIN, USER, (admins.gr_gid,)),
        Client("root", Role.ADMIN, 0),
    )
    configuration = f'[control]\nmode = "0666"\noperators = ["{operators.gr_name}"]\nadmins = ["{admins.gr_name}"]\n'
    with Daemon((), configuration) as daemon:
        pathlib.Path(daemon.socket).parent.chmod(0o711)  # They are other users.
        return [in_child(client, lambda: ask_all(daemon.socket)) for client in clients]


def some_groups(count: int) -> list[grp.struct_group]:
    """Return groups that the daemon can be told of by name; who is in them otherwise does not matter here."""
    groups = [each for each in grp.getgrall() if each.gr_gid not in (0, USER)]
    if len(groups) < count:
        sys.exit(f"roles.py: there are {len(groups)} groups besides root's in /etc/group, and it takes {count}")
    return groups[:count]


def in_child(client: Client, ask: Callable[[], tuple[str, dict[str, str]]]) -> Seen:
    """Ask as another user: a process of its own becomes that one, and comes back no more."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.close(reading)
            os.setgroups(client.groups)
            os.setgid(client.uid)
            os.setuid(client.uid)
            with os.fdopen(writing, "w") as file:
                json.dump(ask(), file)
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading) as file:
        text = file.read()
    if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]):
        sys.exit(f"roles.py: {client.title} could not ask")
    role, answers = json.loads(text)
    return Seen(client, role, answers)


def ask_all(path: str) -> tuple[str, dict[str, str]]:
    """Return the role that the daemon gives this process, and what it says to each method."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(TIMEOUT)
        sock.connect(path)
        unpacker = msgpack.Unpacker()

        def ask(identifier: int, method: str, params: dict[str, Any]) -> tuple[Any, Any]:
            sock.sendall(msgpack.packb([0, identifier, method, [params]]))
            while True:
                for kind, answered, error, result in unpacker:
                    if (kind, answered) != (1, identifier):
                        raise RuntimeError(f"{method}: {error}")
                    return error, result
                unpacker.feed(sock.recv(65536) or sys.exit("roles.py: plugd closed the connection"))

        role: str = ask(0, "hello", {})[1]["role"]
        answers = {
            method: outcome(method, *ask(number, method, UNTAKEN)) for number, method in enumerate(COMMANDS, start=1)
        }
        return role, answers


async def of_roles() -> list[Seen]:
    """Return what clients see that are given their role by the policy; they are all this user."""
    sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "control")]
    del sys.modules["harness"]  # The tests have one of the same name.
    from control_rig import serving

    seen = []
    for role in Role:
        async with serving(role) as server:
            client = await server.connect()
            answers = {}
            for method in COMMANDS:
                answers[method] = outcome(method, *await client.ask(method, **UNTAKEN))
            seen.append(Seen(Client(str(role), role, os.getuid()), (await client.call("hello"))["role"], answers))
    return seen


def outcome(method: str, error: Any, _result: Any) -> str:
    """Return what an answer means; one that has done something would be a fault of this program's."""
    if error is None:
        raise RuntimeError(f"{method} took {UNTAKEN}")
    return DENIED if error["code"] == "auth.denied" else ALLOWED


def should(client: Client, method: str) -> str:
    return ALLOWED if client.role >= COMMANDS[method].role else DENIED


def faults(seen: Seen) -> list[str]:
    """Return what is not as it should be."""
    client = seen.client
    found = [] if seen.role == str(client.role) else [f"{client.title} is {seen.role}, and should be {client.role}"]
    for method in COMMANDS:
        observed, expected = seen.answers[method], should(client, method)
        if observed != expected:
            found.append(f"{method} is {observed} for {client.title}, and should be {expected}")
    return found


def table(seen: list[Seen]) -> list[str]:
    """Return the matrix; what is not as it should be is marked."""
    titles = [f"{each.client.title}: {each.role}" for each in seen]
    widths = [max(len(title), len(ALLOWED) + 2) for title in titles]
    lines = [f"{'method':<12} {'takes':<8} " + "  ".join(map(str.ljust, titles, widths))]
    for method, command in COMMANDS.items():
        cells = [
            each.answers[method] + ("" if each.answers[method] == should(each.client, method) else " !")
            for each in seen
        ]
        lines.append(f"{method:<12} {command.role!s:<8} " + "  ".join(map(str.ljust, cells, widths)))
    return [line.rstrip() for line in lines]


def verdict(seen: list[Seen], wrong: list[str]) -> list[str]:
    how = "real users" if os.geteuid() == 0 else "roles given by the policy; as root: real users"
    count = sum(len(each.answers) for each in seen)
    return [
        "",
        *wrong,
        f"{count} answers ({how}): {len(wrong)} wrong" if wrong else f"{count} answers ({how}): all right",
    ]


if __name__ == "__main__":
    sys.exit(main())
