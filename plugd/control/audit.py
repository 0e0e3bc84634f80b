"""The audit: who asked for what, and what became of it, one log line each.

Every request that changes something is in it, done or failed, and every one that was refused for want of a role.
Refusals are in it at a bounded rate, so that nobody fills the disk by being refused; those left out are counted.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import structlog

from plugd.control.access import Peer
from plugd.control.caller import Caller
from plugd.errors import AUTH_DENIED, BUSY, PLUGIN_ALREADY_LOADED, PLUGIN_CHANGED, PLUGIN_NOT_FOUND, REQUEST_INVALID

log = structlog.get_logger()

OK = "ok"
CANCELLED = "cancelled"
REFUSALS = frozenset(  # Nothing was done; what has failed may be half done.
    {AUTH_DENIED, BUSY, PLUGIN_ALREADY_LOADED, PLUGIN_CHANGED, PLUGIN_NOT_FOUND, REQUEST_INVALID}
)
BURST = 20  # refusals of one user that are told at once
PER_SECOND = 1.0  # and then
USERS = 1024  # whose refusals are told apart


class Audit:
    """Writes the lines.

    Args:
        clock: seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._allowances: OrderedDict[int, _Allowance] = OrderedDict()

    def record(
        self, peer: Peer, caller: Caller, method: str, outcome: str, duration: float, subject: Mapping[str, Any]
    ) -> None:
        """Write down one request.

        Args:
            peer: who asked.
            caller: with which program.
            method: what for.
            outcome: ``ok``, ``cancelled``, or the code of the error.
            duration: seconds from the request to its answer.
            subject: what it is about, such as ``plugin``.
        """
        left_out = 0
        if outcome in REFUSALS:
            allowance = self._allowance_of(peer.uid)
            if not allowance.take(self._clock()):
                return
            left_out, allowance.left_out = allowance.left_out, 0
        facts = {**subject, "left_out": left_out} if left_out else subject
        write = log.warning if outcome in REFUSALS else log.info
        write(
            "audit",
            uid=peer.uid,
            gid=peer.gid,
            pid=peer.pid,
            unit=caller.unit,
            command=caller.command,
            method=method,
            outcome=outcome,
            duration_seconds=round(duration, 4),
            **facts,
        )

    def _allowance_of(self, uid: int) -> "_Allowance":
        allowance = self._allowances.get(uid)
        if allowance is None:
            if len(self._allowances) >= USERS:
                self._allowances.popitem(last=False)
            allowance = self._allowances[uid] = _Allowance(self._clock())
        self._allowances.move_to_end(uid)
        return allowance


class _Allowance:
    """A token bucket: how many lines there may be now."""

    __slots__ = ("_lines", "_since", "left_out")

    def __init__(self, now: float) -> None:
        self._lines = float(BURST)
        self._since = now
        self.left_out = 0

    def take(self, now: float) -> bool:
        self._lines = min(BURST, self._lines + (now - self._since) * PER_SECOND)
        self._since = now
        if self._lines < 1:
            self.left_out += 1
            return False
        self._lines -= 1
        return True
