"""Turning clients away who wait at a socket of systemd's for a daemon that will not come.

Were they left in the backlog, the socket unit would start plugd for them again as soon as it has ended, and again, as
fast as it can: ``Restart=`` and ``RestartPreventExitStatus=`` have no say in that; systemd.socket(5).
"""

import contextlib
import socket
from collections.abc import Iterable

from plugd.errors import CommandError
from plugd.rpc.codec import encode_response
from plugd.systemd import HandedOver

MOST = 4096  # connections; more than a backlog holds, and an end


def turn_away(handed: Iterable[HandedOver], error: CommandError) -> int:
    """Tell all who wait at these sockets the error, hang up on them, and close the sockets; never blocks.

    Returns: how many they were.
    """
    answer = encode_response(None, error.as_dict(), None)  # None: what they ask is not read
    count = 0
    for each in handed:
        if each.listener is not None:
            with each.listener as listener:
                listener.setblocking(False)
                count += _turn_away(listener, answer)
    return count


def _turn_away(listener: socket.socket, answer: bytes) -> int:
    for count in range(MOST):
        try:
            client, _ = listener.accept()
        except OSError:
            return count  # Mostly that nobody waits any more
        with client, contextlib.suppress(OSError):  # It has gone.
            client.send(answer, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
    return MOST
