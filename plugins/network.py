"""Traffic, errors and drops of every network interface, and connections by state.

Sources: /proc/net/dev (proc(5)); for connections sock_diag(7), the kernel's own filter of sockets that ss(8) uses, and
/proc/net/udp and udp6. To read /proc/net/tcp instead takes twenty times as long, even on a host with no connections,
because the kernel walks its whole hash table to write it: that is for where sock_diag is denied.

All of it shows one network namespace: this process's. Where that holds nothing but the loopback, as in a service with
PrivateNetwork=yes, the namespace of process 1 is read instead (/proc/1/net), which is the host's; sock_diag is of no
use then.
"""

import os
import socket
import struct
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import NamedTuple

import psutil

from plugd.plugin import Counter, Gauge, Plugin, Sample

INTERFACE = {"interface": "network.interface.name", "direction": "network.io.direction"}

# include/net/tcp_states.h; the twelfth, a request for a connection, is shown as the third.
TCP_STATES = {
    1: "established",
    2: "syn_sent",
    3: "syn_received",
    4: "fin_wait_1",
    5: "fin_wait_2",
    6: "time_wait",
    7: "closed",
    8: "close_wait",
    9: "last_ack",
    10: "listen",
    11: "closing",
}
# UDP knows no connections: a socket has a fixed peer, or it has none.
UDP_STATES = {1: "established", 7: "unconnected"}

# linux/netlink.h, linux/sock_diag.h, linux/inet_diag.h
NETLINK_SOCK_DIAG = 4
SOCK_DIAG_BY_FAMILY = 20
NLM_F_REQUEST_DUMP = 0x301
NLMSG_ERROR = 2
NLMSG_DONE = 3
HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
REQUEST = struct.Struct("=BBBBI48x")  # family, protocol, extensions, padding, wanted states, no socket in particular
ALL_STATES = 0xFFFFFFFF
RECEIVE_BYTES = 65536  # the kernel sends 32 KiB at once at most


class Traffic(NamedTuple):
    """What one interface did in one direction since it came up."""

    size_bytes: int
    packets: int
    errors: int
    dropped: int


class Network(Plugin):
    """The network interfaces and connections of the host."""

    version = "1.0.0"
    interval = 5.0  # seconds

    io = Counter("system.network.io", unit="By", labels=INTERFACE, help="Bytes received and sent.")
    packets = Counter(
        "system.network.packet.count",
        unit="{packet}",
        labels={"interface": "system.device", "direction": "network.io.direction"},
        help="Packets received and sent.",
    )
    errors = Counter(
        "system.network.errors", unit="{error}", labels=INTERFACE, help="Errors in receiving and in sending."
    )
    dropped = Counter(
        "system.network.packet.dropped",
        unit="{packet}",
        labels=INTERFACE,
        help="Packets dropped though nothing was wrong with them.",
    )
    # Without the interface that the conventions have: a socket belongs to addresses, not to an interface.
    connections = Gauge(
        "system.network.connection.count",
        unit="{connection}",
        labels={"state": "network.connection.state", "transport": "network.transport"},
        help="Sockets by state, IPv4 and IPv6 together.",
    )

    class Options:
        """Which interfaces to report, as shell patterns of their names, and whether to count connections."""

        include: tuple[str, ...] = ("*",)
        exclude: tuple[str, ...] = ("veth*",)
        """Containers' ends by default: their names are random, and so their series would never end."""
        connections: bool = True
        """Counting takes some microseconds for each socket of the host."""

    def start(self) -> None:
        """Decide whose network to look at."""
        self.directory = network_directory(psutil.PROCFS_PATH)

    def collect(self) -> Iterable[Sample]:
        """Yield the traffic of every interface that the options select, then the connections."""
        for name, received, sent in parse_dev(read(f"{self.directory}/dev")):
            if not selected(name, self.options.include, self.options.exclude):
                continue
            for direction, traffic in (("receive", received), ("transmit", sent)):
                yield self.io(traffic.size_bytes, interface=name, direction=direction)
                yield self.packets(traffic.packets, interface=name, direction=direction)
                yield self.errors(traffic.errors, interface=name, direction=direction)
                yield self.dropped(traffic.dropped, interface=name, direction=direction)
        if self.options.connections:
            yield from self.collect_connections()

    def collect_connections(self) -> Iterable[Sample]:
        """Yield the number of sockets in every state, zeros included; nothing of an absent protocol."""
        tcp = diagnose_tcp() if self.directory == "/proc/net" else None  # sock_diag knows no other namespace
        for transport, states, counts in (
            ("tcp", TCP_STATES, count_tables(self.directory, "tcp") if tcp is None else tcp),
            ("udp", UDP_STATES, count_tables(self.directory, "udp")),
        ):
            if counts is not None:
                for code, state in states.items():
                    yield self.connections(counts.get(code, 0), state=state, transport=transport)


def network_directory(procfs: str) -> str:
    """Return the directory that shows the host's network: ``net``, or ``1/net`` if this process has none."""
    if interfaces(f"{procfs}/net") <= {"lo"} <= interfaces(f"{procfs}/1/net") and not same_namespace(procfs):
        return f"{procfs}/1/net"
    return f"{procfs}/net"


def same_namespace(procfs: str) -> bool:
    """Whether this process and process 1 have the same network.

    To compare /proc/PID/ns/net one must be allowed to trace the process. These files of theirs can be seen by all, and
    are the same file in the same namespace only.
    """
    try:
        return os.path.samefile(f"{procfs}/net/dev", f"{procfs}/1/net/dev")
    except OSError:
        return True  # There is no other to be seen.


def interfaces(directory: str) -> set[str]:
    """Return the names of the interfaces that a directory such as /proc/net shows."""
    return {name for name, _, _ in parse_dev(read(f"{directory}/dev"))}


def read(path: str) -> str:
    """Return a file's text; empty where the host lacks the file or hides it."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def parse_dev(text: str) -> list[tuple[str, Traffic, Traffic]]:
    """Return name, received and sent traffic of every interface in /proc/net/dev."""
    rows = []
    for line in text.splitlines():
        name, colon, rest = line.rpartition(":")  # the name of an alias has a colon too
        fields = rest.split()
        if colon and len(fields) >= 12:
            values = [int(field) for field in fields]
            rows.append((name.strip(), Traffic(*values[0:4]), Traffic(*values[8:12])))
    return rows


def diagnose_tcp() -> dict[int, int] | None:
    """Ask the kernel for the number of TCP sockets by state; None where it does not answer.

    The address family may be denied to a service, and the kernel may lack the module tcp_diag.
    """
    counts: dict[int, int] = {}
    try:
        for family in (socket.AF_INET, socket.AF_INET6):
            with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as channel:
                request = REQUEST.pack(family, socket.IPPROTO_TCP, 0, 0, ALL_STATES)
                header = HEADER.pack(HEADER.size + len(request), SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST_DUMP, 1, 0)
                channel.sendall(header + request)
                while count_diagnosed(channel.recv(RECEIVE_BYTES), counts):
                    pass
    except OSError:
        return None
    return counts


def count_diagnosed(data: bytes, counts: dict[int, int]) -> bool:
    """Add the sockets of one datagram to the counts by state; False if it was the last, or empty.

    Raises:
        OSError: the kernel reports an error.
    """
    offset = 0
    while offset + HEADER.size <= len(data):
        length, kind, _, _, _ = HEADER.unpack_from(data, offset)
        if kind == NLMSG_DONE:
            return False
        if kind == NLMSG_ERROR or length < HEADER.size:
            raise OSError("cannot list sockets: the kernel refused")
        if kind == SOCK_DIAG_BY_FAMILY:
            state = data[offset + HEADER.size + 1]  # struct inet_diag_msg: family, state, …
            counts[state] = counts.get(state, 0) + 1
        offset += (length + 3) & ~3  # messages are aligned to 4 bytes
    return bool(data)


def count_tables(directory: str, transport: str) -> dict[int, int] | None:
    """Count the sockets in the tables of both IP versions by state; None if there is neither."""
    counts: dict[int, int] = {}
    # Either is absent where its protocol is, and IPv6 can be switched off.
    found = [count_states(f"{directory}/{transport}{suffix}", counts) for suffix in ("", "6")]
    return counts if any(found) else None


def count_states(path: str, counts: dict[int, int]) -> bool:
    """Add a socket table's sockets to the counts by state; False if there is no such table.

    The table is read line by line: a busy host's has some hundred thousand of them.
    """
    try:
        with open(path, "rb") as lines:
            next(lines, None)  # the heading
            for line in lines:
                fields = line.split(None, 4)
                if len(fields) == 5:
                    state = int(fields[3], 16)
                    counts[state] = counts.get(state, 0) + 1
    except OSError:
        return False
    return True


def selected(name: str, include: Iterable[str], exclude: Iterable[str]) -> bool:
    """Whether a name matches a pattern of ``include`` and none of ``exclude``."""
    return any(fnmatchcase(name, each) for each in include) and not any(fnmatchcase(name, each) for each in exclude)
