"""The forkserver: a small, single-threaded process that forks workers on request.

Started by exec, so that it shares nothing with the daemon; what workers need is imported here once, and
shared with them by copy-on-write. It reads requests from a SOCK_SEQPACKET socket, one packet each:
``[sequence, name, rules]`` with three descriptors, the worker's RPC socket, stdout and stderr, and for a native
plugin a fourth, the sealed copy of its file. The answer is ``[sequence, pid, error]`` with a pidfd of the worker.
``[sequence]`` alone asks whether it is there, and is answered with ``[sequence, 0, nil]``.

It forks twice. The intermediate process answers and ends, and the worker becomes a child of the daemon,
which is a child subreaper: the daemon learns the exit status at first hand, and the forkserver's own death
is nothing to a worker.
"""

import array
import gc
import os
import signal
import socket
import sys
from typing import Any, NamedTuple

import msgpack

from plugd import leftovers
from plugd.worker import process
from plugd.worker.confine import rehearse
from plugd.worker.main import run
from plugd.worker.searchpath import clean_search_path
from plugd.worker.warmup import warm_up

PACKET_BYTES = 64 * 1024
DESCRIPTORS = 4


class SpawnRequest(NamedTuple):
    """One request, as it is on the wire."""

    sequence: int
    name: str
    rules: dict[str, Any]


def main() -> None:
    """Run on descriptor 0 until the daemon closes it, or dies; then end what plugins have left behind."""
    daemon_pid = int(sys.argv[1])
    own_mark = os.environ[leftovers.VARIABLE]
    leftovers.kill_marked(lambda mark: mark != own_mark and leftovers.is_of_dead_daemon(mark))
    process.set_process_name("plugd:forksrv")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    clean_search_path()
    rehearse()
    warm_up()
    gc.freeze()  # What is here stays: a collection in a worker shall not touch, and so copy, its pages.
    with socket.socket(fileno=os.dup(0)) as channel:
        serve(channel, daemon_pid)
    leftovers.kill_marked(lambda mark: mark == own_mark)


def serve(channel: socket.socket, daemon_pid: int) -> None:
    """Answer requests until the channel is closed."""
    while True:
        try:
            packet, descriptors, _, _ = socket.recv_fds(channel, PACKET_BYTES, DESCRIPTORS)
        except ConnectionError:
            return
        if not packet:
            return
        sequence, *spawn = msgpack.unpackb(packet)
        try:
            if spawn:
                fork_worker(channel, daemon_pid, SpawnRequest(sequence, *spawn), descriptors)
            else:
                channel.send(msgpack.packb([sequence, 0, None]))
        finally:
            for descriptor in descriptors:
                os.close(descriptor)


def fork_worker(channel: socket.socket, daemon_pid: int, request: SpawnRequest, descriptors: list[int]) -> None:
    """Fork a worker by way of an intermediate process, which answers for it."""
    try:
        intermediate = os.fork()
    except OSError as error:
        channel.send(msgpack.packb([request.sequence, None, f"cannot fork: {error.strerror}"]))
        return
    if intermediate:
        os.waitpid(intermediate, 0)
        return
    status = 1
    try:
        _fork_from_intermediate(channel, daemon_pid, request, descriptors)
        status = 0
    finally:
        os._exit(status)


def _fork_from_intermediate(
    channel: socket.socket, daemon_pid: int, request: SpawnRequest, descriptors: list[int]
) -> None:
    intermediate = os.getpid()
    try:
        worker = os.fork()
    except OSError as error:
        channel.send(msgpack.packb([request.sequence, None, f"cannot fork: {error.strerror}"]))
        return
    if worker:
        # It cannot be reaped, and its pid not be given to another, before this process ends.
        pidfd = os.pidfd_open(worker)
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [pidfd]))]
        channel.sendmsg([msgpack.packb([request.sequence, worker, None])], rights)
        return
    status = 1
    try:
        run(request.name, request.rules, daemon_pid, intermediate, descriptors)
        status = 0
    finally:
        os._exit(status)


if __name__ == "__main__":
    main()
