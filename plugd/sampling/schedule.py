"""When a plugin is due: pure arithmetic, with the clock passed in.

Ticks lie at whole multiples of the interval since the epoch of the time line, plus the offset, so that plugins
of one interval tick together and no tick depends on when the last one came: nothing can drift.
"""

import math
from typing import NamedTuple


class Schedule(NamedTuple):
    """Every ``interval`` seconds, ``offset`` seconds behind the aligned instant; the interval is above 0."""

    interval: float
    offset: float = 0.0

    def after(self, now: float) -> float:
        """Return the first tick that is later than ``now``."""
        number = math.floor((now - self.offset) / self.interval)
        # The division may round to either side of a whole number: the first is then this one, or the one after next.
        while (tick := self.offset + number * self.interval) <= now:
            number += 1
        return tick

    def missed(self, due: float, now: float) -> int:
        """Return how many ticks between the one at ``due`` and :meth:`after` have passed by ``now``."""
        return max(0, round((self.after(now) - due) / self.interval) - 1)


class TimeLine:
    """Monotonic time laid over wall-clock time, so that ticks fall on whole seconds and never jump.

    The two are compared at every wake-up. Slewing by NTP is followed when it has come to ``TOLERANCE``; a clock
    that was set, or a suspended machine, is such a difference as well.

    Args:
        monotonic: seconds of a clock that cannot be set.
        wall: Unix seconds.
    """

    TOLERANCE = 0.5  # seconds

    def __init__(self, monotonic: float, wall: float) -> None:
        self._ahead = wall - monotonic

    def at(self, monotonic: float) -> float:
        """Return the instant on the line that this monotonic time is."""
        return monotonic + self._ahead

    def monotonic(self, instant: float) -> float:
        """Return the monotonic time of an instant on the line."""
        return instant - self._ahead

    def resynchronise(self, monotonic: float, wall: float) -> float:
        """Follow the wall clock if it has gone elsewhere; return the jump in seconds, 0.0 for none."""
        jump = wall - monotonic - self._ahead
        if abs(jump) < self.TOLERANCE:
            return 0.0
        self._ahead += jump
        return jump
