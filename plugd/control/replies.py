"""What was answered to requests that carry a key: a client whose answer got lost asks again, and hears the same."""

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from plugd.errors import REQUEST_INVALID, CommandError

KEPT_SECONDS = 600.0
KEPT_REPLIES = 1024  # of all users
KEPT_BYTES = 4 * 1024 * 1024  # of answers, of all users

Reply = asyncio.Future[bytes | None]
"""A response without its id, once there is one; None: the request was cancelled."""


class _Kept(NamedTuple):
    method: str
    print: bytes  # of method and parameters: these may be large
    reply: Reply
    until: float = 0.0
    size: int = 0


class Replies:
    """The answers by user and key: bounded in number, bytes and time, the oldest go first.

    Args:
        clock: seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._under_way: dict[tuple[int, str], _Kept] = {}
        self._done: OrderedDict[tuple[int, str], _Kept] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._under_way) + len(self._done)

    def find(self, uid: int, key: str, method: str, params: Any) -> Reply | None:
        """Return the answer for this key of this user, be it given or under way.

        Raises:
            CommandError: ``request.invalid``: the key was another request's.
        """
        self._forget_old()
        kept = self._under_way.get((uid, key)) or self._done.get((uid, key))
        if kept is None:
            return None
        if kept.print != _print_of(method, params):
            what = f"cannot {method}: request_key {key!r} was that of another request"
            raise CommandError(REQUEST_INVALID, what, {"method": kept.method})
        return kept.reply

    def begin(self, uid: int, key: str, method: str, params: Any) -> None:
        """Keep a place for the answer to come; :meth:`end` must follow."""
        self._under_way[uid, key] = _Kept(method, _print_of(method, params), asyncio.get_running_loop().create_future())

    def end(self, uid: int, key: str, answer: bytes | None) -> None:
        """Take the answer; None: there is none, and a repetition is to be carried out."""
        kept = self._under_way.pop((uid, key))
        kept.reply.set_result(answer)
        if answer is not None:
            self._done[uid, key] = kept._replace(until=self._clock() + KEPT_SECONDS, size=len(answer))
            self._bytes += len(answer)
            self._forget_old()

    def _forget_old(self) -> None:
        now = self._clock()
        while self._done:
            oldest = next(iter(self._done.values()))
            if oldest.until > now and len(self._done) <= KEPT_REPLIES and self._bytes <= KEPT_BYTES:
                return
            self._bytes -= oldest.size
            self._done.popitem(last=False)


def _print_of(method: str, params: Any) -> bytes:
    """Return what tells a request from others; the order of a map's keys is none of it."""
    given = msgspec.structs.asdict(params) if isinstance(params, msgspec.Struct) else params
    return hashlib.sha256(repr((method, _in_order(given))).encode()).digest()


def _in_order(value: Any) -> Any:
    if isinstance(value, dict):
        return sorted((repr(key), _in_order(item)) for key, item in value.items())
    return [_in_order(item) for item in value] if isinstance(value, list) else value
