"""Why a call did not do what was asked, and with which status plugctl says so."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

OK = 0
FAILED = 1
USAGE = 2
NO_DAEMON = 3
DENIED = 4
NOT_FOUND = 5
TIMED_OUT = 6
INTERRUPTED = 130  # 128 + SIGINT, as shells have it
BROKEN_PIPE = 141  # 128 + SIGPIPE

_STATUSES = {
    "client.no_daemon": NO_DAEMON,
    "client.denied": DENIED,
    "client.untrusted": DENIED,
    "auth.denied": DENIED,
    "plugin.not_found": NOT_FOUND,
    "client.timeout": TIMED_OUT,  # plugin.timeout is the plugin's, and an answer like any other
    "client.usage": USAGE,
}


class CallError(Exception):
    """A call failed, at the daemon's word or before it had one.

    Attributes:
        code: the daemon's code, or one of ``client.no_daemon``, ``client.denied``, ``client.untrusted``,
            ``client.timeout``, ``client.closed``, ``client.protocol``, ``client.usage``.
        message: one sentence.
        data: particulars.
    """

    def __init__(self, code: str, message: str, data: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data or {}

    @property
    def status(self) -> int:
        """The status to exit with."""
        return _STATUSES.get(self.code, FAILED)

    def as_dict(self) -> dict[str, Any]:
        """Return the error as the wire has it: ``{code, message, data}``."""
        return {"code": self.code, "message": self.message, "data": self.data}


def error_of(error: Any) -> CallError:
    """Return the error that an error object of the wire tells, whatever its shape."""
    if isinstance(error, dict):
        data = error.get("data")
        message = str(error.get("message") or "the request failed")
        return CallError(str(error.get("code", "internal")), message, data if isinstance(data, dict) else None)
    return CallError("internal", str(error))
