"""Clients that are killed, as a program: ``killed_clients.py SOCKET STEP COUNT``.

Each client is a process of its own, which gets as far as the step and sends itself SIGKILL. Run as a program, so that
it is forked from a small one that has neither threads nor descriptors of a test's.
"""

import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable

AT_ONCE = 8  # clients

PING = b"\x94\x00\x01\xa4ping\x90"
LARGE = b"\x94\x00\x02\xa4call\x91\x82\xa4name\xa5large\xa7command\xa4give"
SUBSCRIBE = b"\x94\x00\x03\xa9subscribe\x91\x81\xa6events\xc3"
HOLD = b"\x94\x00\x04\xa4call\x91\x82\xa4name\xa4hold\xa7command\xa4hold"
CHECK = b"\x94\x00\x05\xa5check\x91\x81\xa4name\xa4demo"
LOGS = b"\x94\x00\x06\xa4logs\x91\x81\xa5lines\x0a"


def connected(_client: socket.socket, _number: int) -> None:
    pass


def partial(client: socket.socket, number: int) -> None:
    """At each byte of a request in turn."""
    client.sendall(HOLD[: 1 + number % (len(HOLD) - 1)])


def partial_pipelined(client: socket.socket, number: int) -> None:
    """The same behind requests that are complete."""
    client.sendall(PING * 3 + LOGS[: 1 + number % (len(LOGS) - 1)])


def asked(client: socket.socket, _number: int) -> None:
    client.sendall(PING)


def asked_much(client: socket.socket, _number: int) -> None:
    client.sendall((PING + LOGS) * 20)


def reading(client: socket.socket, number: int) -> None:
    """In the middle of an answer that is larger than what a socket holds."""
    client.sendall(LARGE)
    client.recv(1 + number % 2000)


def subscribed(client: socket.socket, _number: int) -> None:
    client.sendall(SUBSCRIBE * 3)
    client.recv(1)


def half_closed(client: socket.socket, _number: int) -> None:
    client.sendall(PING + LOGS)
    client.shutdown(socket.SHUT_WR)


def half_closed_subscribed(client: socket.socket, _number: int) -> None:
    client.sendall(SUBSCRIBE)
    client.shutdown(socket.SHUT_WR)
    client.recv(1)


def calling(client: socket.socket, _number: int) -> None:
    """With a call under way, which the ping's answer shows to have begun."""
    client.sendall(HOLD + PING)
    client.recv(1)


def checking(client: socket.socket, _number: int) -> None:
    """With a check under way."""
    client.sendall(CHECK + PING)
    client.recv(1)


STEPS: dict[str, Callable[[socket.socket, int], None]] = {
    step.__name__: step
    for step in (
        connected,
        partial,
        partial_pipelined,
        asked,
        asked_much,
        reading,
        subscribed,
        half_closed,
        half_closed_subscribed,
        calling,
        checking,
    )
}


def be_killed(path: str, step: Callable[[socket.socket, int], None], number: int) -> None:
    """Be one client, up to its end."""
    try:
        while True:
            try:
                client = socket.socket(socket.AF_UNIX)
                client.connect(path)
                step(client, number)
                os.kill(os.getpid(), signal.SIGKILL)
            except (BrokenPipeError, ConnectionResetError):
                time.sleep(0.01)  # It was refused: those before it that had half closed are not yet missed.
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)  # Only a client that has come to grief gets so far.


def main(path: str, step: str, count: int) -> int:
    living = set()
    for number in range(count):
        pid = os.fork()
        if pid == 0:
            be_killed(path, STEPS[step], number)
        living.add(pid)
        while len(living) >= (AT_ONCE if number < count - 1 else 1):
            ended, status = os.wait()
            if os.waitstatus_to_exitcode(status) != -signal.SIGKILL:
                return 1
            living.discard(ended)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
