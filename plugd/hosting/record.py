"""What a plugin has done, and what last went wrong with it."""

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from plugd.hosting.collection import Collection
from plugd.hosting.environment import Tick

DURATIONS_KEPT = 256  # collections, for the percentiles
TELL_AGAIN = 60.0  # seconds
LATE = 0.01  # seconds by which a tick is called late


@dataclass(slots=True)
class Counters:
    """What a plugin has done since it was loaded; durations in seconds."""

    collects: int = 0  # collections that were complete
    failures: int = 0  # collections that were not
    timeouts: int = 0  # of those, for want of time
    skipped: int = 0  # ticks without a collection
    late: int = 0  # ticks that came more than 10 ms late
    late_max: float = 0.0
    restarts: int = 0
    dropped: int = 0  # samples over a limit
    malformed: int = 0  # lines of a program's output
    duration_last: float | None = None
    durations: deque[float] = field(default_factory=lambda: deque(maxlen=DURATIONS_KEPT))
    ended_cpu_seconds: float = 0.0  # of workers that are gone

    def count_tick(self, tick: Tick) -> None:
        """Count what came with a tick: its lateness, and those that were lost before it."""
        self.skipped += tick.skipped
        self.late += tick.late > LATE
        self.late_max = max(self.late_max, tick.late)

    def count_collection(self, duration: float) -> None:
        """Count a complete collection."""
        self.collects += 1
        self.duration_last = duration
        self.durations.append(duration)


@dataclass(slots=True)
class Streak:
    """Failed collections in a row; of many, not each is worth a line of the log."""

    length: int = 0
    told: float = 0.0  # seconds of the clock that is passed in

    def fail(self, now: float) -> bool:
        """Count one; return whether to tell of it: the first, and then one a minute."""
        self.length += 1
        if self.length > 1 and now - self.told < TELL_AGAIN:
            return False
        self.told = now
        return True

    def end(self) -> int:
        """Return how many there were; there are none now."""
        length, self.length = self.length, 0
        return length


@dataclass(slots=True)
class Remarks:
    """What a program's output had beside samples."""

    notice: str | None = None  # its own words on how things are
    fault: str = ""  # the first malformed line of the last output that had any
    told: float | None = None  # when that was last logged, in seconds of the clock that is passed in

    def take(self, collection: Collection, now: float) -> bool:
        """Take those of a collection; return whether to log the malformed lines: the first, and then one a minute."""
        self.notice = collection.notice or self.notice
        if not collection.malformed:
            return False
        self.fault = collection.first_fault
        if self.told is not None and now - self.told < TELL_AGAIN:
            return False
        self.told = now
        return True


@dataclass(frozen=True, slots=True)
class Failure:
    """The last thing that went wrong; ``output`` is what the plugin had printed last."""

    time: float  # Unix seconds
    message: str
    traceback: str | None = None
    exit: str | None = None
    output: tuple[str, ...] = ()

    @classmethod
    def of(cls, message: str, data: Mapping[str, Any]) -> "Failure":
        """Return the failure that an error tells of; its data came from a worker, and may be anything."""
        trace, ended, output = data.get("traceback"), data.get("exit"), data.get("output")
        return cls(
            time.time(),
            message,
            trace if isinstance(trace, str) else None,
            ended if isinstance(ended, str) else None,
            tuple(map(str, output)) if isinstance(output, (list, tuple)) else (),
        )
