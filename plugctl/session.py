"""Which daemon a call talks to."""

from __future__ import annotations

import os

from plugctl.client import Client, connect

TYPE_CHECKING = False
if TYPE_CHECKING:
    from plugctl.arguments import Call


def session(call: Call) -> Client:
    """Connect to the daemon of ``--socket``, of ``PLUGD_SOCKET``, or of the usual places.

    Raises:
        CallError: there is none, it may not be reached, or it takes too long.
    """
    path = call.options.get("socket") or os.environ.get("PLUGD_SOCKET")
    if path:
        return connect([path], call.timeout)
    from plugd.rpc.address import control_socket_candidates

    return connect(control_socket_candidates(os.environ, os.getuid()), call.timeout)
