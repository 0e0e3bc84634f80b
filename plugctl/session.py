"""Which daemon a call talks to."""

from __future__ import annotations

import os

from plugctl.client import Client, connect
from plugctl.errors import CallError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from plugctl.arguments import Call


def session(call: Call) -> Client:
    """Connect to the daemon of ``--socket``, of ``PLUGD_SOCKET``, or of the usual places.

    It must run as root, as this user, or as that of ``--daemon-user`` or ``PLUGD_DAEMON_USER``.

    Raises:
        CallError: there is none, it may not be reached, it is somebody else's, or it takes too long.
    """
    user, place = call.options.get("daemon_user"), "option --daemon-user"
    if user is None:
        user, place = os.environ.get("PLUGD_DAEMON_USER", ""), "PLUGD_DAEMON_USER"

    def is_trusted(uid: int) -> bool:
        return uid in (0, os.geteuid()) or (user != "" and uid == _uid(user, place))

    path = call.options.get("socket") or os.environ.get("PLUGD_SOCKET")
    if path:
        return connect([path], call.timeout, is_trusted)
    from plugd.rpc.address import control_socket_candidates

    return connect(control_socket_candidates(os.environ, os.getuid()), call.timeout, is_trusted)


def _uid(user: str, place: str) -> int:
    """Return a user's number; asked for only where it matters, since the database of users may be a slow one."""
    import pwd

    try:
        if user.isascii() and user.isdigit():
            return int(user)
        return pwd.getpwnam(user).pw_uid
    except (KeyError, ValueError):  # ValueError: it cannot be a name, or is a number without an end
        raise CallError("client.usage", f"{place}: there is no user {user!r}") from None
