"""The errors that reach a client, and the codes that they carry."""

from collections.abc import Mapping
from typing import Any

# The stable codes; clients may depend on them.
PLUGIN_NOT_FOUND = "plugin.not_found"
PLUGIN_ALREADY_LOADED = "plugin.already_loaded"
PLUGIN_IN_USE = "plugin.in_use"
PLUGIN_INVALID = "plugin.invalid"
PLUGIN_TIMEOUT = "plugin.timeout"
PLUGIN_CRASHED = "plugin.crashed"
PLUGIN_CHANGED = "plugin.changed"
REQUEST_INVALID = "request.invalid"
REQUEST_UNKNOWN_METHOD = "request.unknown_method"
REQUEST_TOO_LARGE = "request.too_large"
CONFIG_INVALID = "config.invalid"
AUTH_DENIED = "auth.denied"
BUSY = "busy"
INTERNAL = "internal"

CODES = frozenset(value for name, value in globals().copy().items() if name.isupper() and isinstance(value, str))


class CommandError(Exception):
    """The only exception that becomes an answer on the control socket.

    Attributes:
        code: one of the codes of this module.
        message: one sentence, lowercase: "cannot load plugin 'x': …".
        data: msgpack-able particulars, such as the list of faults.
    """

    def __init__(self, code: str, message: str, data: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = dict(data or {})

    def as_dict(self) -> dict[str, Any]:
        """Return the error as the wire has it: ``{code, message, data}``."""
        return {"code": self.code, "message": self.message, "data": self.data}
