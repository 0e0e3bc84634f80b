"""When to try a failed plugin again: pure arithmetic, with the clock passed in.

Exponential delays with a cap and jitter; a repeat offender is quarantined for a while. A crash costs a few
milliseconds of CPU, and there is at most one a second, and a handful before the quarantine.
"""

import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class BackoffPolicy:
    """Durations in seconds."""

    first: float = 2.0
    factor: float = 2.0
    cap: float = 300.0
    jitter: float = 0.1  # of the delay, to either side
    settled: float = 60.0  # of good behaviour, after which the past is forgotten
    offences: int = 5  # within the window: quarantine
    window: float = 600.0
    quarantine: float = 3600.0


class Verdict(NamedTuple):
    """What happens now: try again after ``delay`` seconds, in quarantine or not."""

    delay: float
    quarantined: bool


class Backoff:
    """The offences of one plugin."""

    def __init__(self, policy: BackoffPolicy, source: random.Random | None = None) -> None:
        self._policy = policy
        self._random = source or random.Random()  # noqa: S311 - spreads load, guards nothing
        self._offences: deque[float] = deque(maxlen=policy.offences)
        self._consecutive = 0
        self._well_since: float | None = None

    @property
    def recent(self) -> int:
        """How many offences are remembered."""
        return len(self._offences)

    def offend(self, now: float) -> Verdict:
        """Note a failure at ``now``, in seconds of any steady clock; return what follows."""
        policy = self._policy
        if self._well_since is not None and now - self._well_since >= policy.settled:
            self._consecutive = 0
        self._well_since = None
        self._offences.append(now)
        self._consecutive += 1
        if len(self._offences) == policy.offences and now - self._offences[0] <= policy.window:
            self.forgive()
            return Verdict(policy.quarantine, quarantined=True)
        doublings = min(self._consecutive - 1, 64)  # beyond it the power is no number any more
        delay = min(policy.first * policy.factor**doublings, policy.cap)
        spread = self._random.uniform(1 - policy.jitter, 1 + policy.jitter)
        return Verdict(min(delay * spread, policy.cap), quarantined=False)

    def behave(self, now: float) -> None:
        """Note that the plugin runs well as of ``now``."""
        if self._well_since is None:
            self._well_since = now

    def ages(self, now: float) -> list[float]:
        """Return how many seconds ago the offences were that still count, the oldest first."""
        return [now - each for each in self._offences if now - each <= self._policy.window]

    @property
    def consecutive(self) -> int:
        """How many offences there were in a row."""
        return self._consecutive

    def restore(self, ages: Sequence[float], consecutive: int, now: float) -> None:
        """Remember offences that were before this process."""
        self._offences.extend(sorted(now - age for age in ages))
        self._consecutive = consecutive if ages else 0

    def forgive(self) -> None:
        """Forget all offences: somebody has looked after it."""
        self._offences.clear()
        self._consecutive = 0
        self._well_since = None
