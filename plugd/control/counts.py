"""What the control server has done and refused: a counter of each limit, and of each kind of refusal."""

import time
from typing import Final

from plugd.errors import AUTH_DENIED, REQUEST_INVALID, REQUEST_UNKNOWN_METHOD, CommandError

LIMITS: Final = (
    "request_bytes",
    "depth",
    "elements",
    "partial_request",
    "write",
    "unread_bytes",
    "idle",
    "connections",
    "connections_per_uid",
    "requests_in_flight",
    "subscriptions",
    "subscriptions_per_uid",
    "queue",
)
"""The keys of ``[control.limits]`` that something can be refused for; ``ping`` refuses nothing."""

EVICTED: Final = "evicted"  # idle, and closed for somebody else's sake
NO_CREDENTIALS: Final = "no_credentials"  # the kernel did not say whose a connection is
ACCEPT_FAILED: Final = "accept_failed"  # no descriptors, or no memory

_REFUSALS = (*LIMITS, AUTH_DENIED, REQUEST_INVALID, REQUEST_UNKNOWN_METHOD, EVICTED, NO_CREDENTIALS, ACCEPT_FAILED)


class Counts:
    """The counters, all there from the start, as ``status`` shows them under ``control``."""

    def __init__(self) -> None:
        self._counts = {"accepted": 0, **{f"refused.{reason}": 0 for reason in _REFUSALS}}

    def accept(self) -> None:
        """Count a connection that was accepted."""
        self._counts["accepted"] += 1

    def refuse(self, reason: str, times: int = 1) -> None:
        """Count what was refused, closed or dropped, by the limit or the code that says why."""
        name = f"refused.{reason}"
        if name in self._counts:
            self._counts[name] += times

    def refuse_error(self, error: CommandError) -> None:
        """Count an error that is a refusal; a plugin's own failure is none."""
        self.refuse(error.data.get("limit", error.code))

    def samples(self) -> list[dict[str, object]]:
        """Return the counters as samples: ``{name, labels, value, time}`` each, the reason as a label."""
        now = time.time()
        samples: list[dict[str, object]] = []
        for name, count in self._counts.items():
            kind, _, reason = name.partition(".")
            labels = {"reason": reason} if reason else {}
            samples.append({"name": f"plugd.control.{kind}", "labels": labels, "value": float(count), "time": now})
        return samples

    def as_dict(self) -> dict[str, int]:
        """Return the counters by name."""
        return dict(self._counts)
