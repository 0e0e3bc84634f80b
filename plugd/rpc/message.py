"""The three messages of msgpack-RPC.

https://github.com/msgpack-rpc/msgpack-rpc/blob/master/spec.md
"""

from typing import Any, NamedTuple

REQUEST = 0
RESPONSE = 1
NOTIFICATION = 2


class Request(NamedTuple):
    """``[0, id, method, params]``: answered by a response with the same id."""

    id: int
    method: str
    params: list[Any]


class Response(NamedTuple):
    """``[1, id, error, result]``; the id is None when the request was too broken to have one."""

    id: int | None
    error: Any
    result: Any


class Notification(NamedTuple):
    """``[2, method, params]``: never answered."""

    method: str
    params: list[Any]


Message = Request | Response | Notification
