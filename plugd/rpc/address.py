"""Where the control socket is, unless somebody says otherwise: the daemon and its client must agree."""

import os
from collections.abc import Mapping

SYSTEM_SOCKET = "/run/plugd/control.sock"


def control_socket_candidates(environ: Mapping[str, str], uid: int) -> list[str]:
    """Return the paths at which a control socket may be, the likeliest first.

    The first is where a daemon of this user listens; a client tries them in turn. systemd's
    ``RUNTIME_DIRECTORY`` wins; then ``/run/plugd`` for root, and for others ``$XDG_RUNTIME_DIR/plugd``, or
    ``/tmp/plugd-UID`` where there is no such directory, or only somebody else's, as after ``su``.
    """
    candidates = []
    unit_directory = environ.get("RUNTIME_DIRECTORY", "").split(":")[0]
    if unit_directory:
        candidates.append(f"{unit_directory}/control.sock")
    if uid != 0:
        runtime = environ.get("XDG_RUNTIME_DIR", "") or f"/run/user/{uid}"
        if _belongs_to(runtime, uid):
            candidates.append(f"{runtime}/plugd/control.sock")
        candidates.append(f"/tmp/plugd-{uid}/control.sock")  # noqa: S108 - the daemon makes it 0750 and checks its owner
    candidates.append(SYSTEM_SOCKET)
    return candidates


def _belongs_to(directory: str, uid: int) -> bool:
    try:
        return os.stat(directory).st_uid == uid
    except OSError:
        return False
