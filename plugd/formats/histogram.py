"""What must hold of all samples of one point of an OpenMetrics histogram together."""

from plugd.formats.reading import MalformedError, Reading

INFINITY = float("inf")


class HistogramPoint:
    """The samples of one histogram at one time: its buckets, sum and count, until all of them were seen.

    Args:
        line: where the first of them stands.
    """

    def __init__(self, line: int) -> None:
        self.line = line
        self.readings: list[Reading] = []
        self.skipped = 0
        self._broken = False
        self._threshold: float | None = None  # Of the last bucket.
        self._value = 0.0  # Of the last bucket.
        self._count: float | None = None
        self._sum: float | None = None
        self._is_gauge = False
        self._below_zero = False

    def add(self, suffix: str, value: float, threshold: float) -> None:
        """Take the next sample; ``threshold`` is of buckets only.

        Raises:
            MalformedError: it is a bucket that does not go on from the last one.
        """
        if suffix == "_bucket":
            self._add_bucket(threshold, value)
        elif suffix in ("_count", "_gcount"):
            self._count = value
        elif suffix in ("_sum", "_gsum"):
            self._sum = value
            self._is_gauge = suffix == "_gsum"

    def spoil(self) -> None:
        """Note that a line of this point was malformed: what the others say of it means nothing now."""
        self._broken = True

    def fault(self) -> str | None:
        """Return what is wrong with the whole; an empty text where that was told before."""
        if self._broken:
            return ""
        if self._threshold != INFINITY:
            return "no +Inf bucket"
        if self._count is not None and self._count != self._value:
            return "the count is not the value of the +Inf bucket"
        if (self._sum is None) != (self._count is None):
            return "sum and count must come together"
        if self._sum is not None:
            if self._below_zero and not self._is_gauge:
                return "a sum where buckets are below zero"
            if self._sum < 0 and not self._below_zero:
                return "a sum below zero where no bucket is"
        return None

    def _add_bucket(self, threshold: float, value: float) -> None:
        if self._threshold is not None and threshold <= self._threshold:
            raise MalformedError("the thresholds of the buckets (le) do not increase")
        if value < self._value:
            raise MalformedError("a bucket holds less than the one before it: they are cumulative")
        self._threshold, self._value = threshold, value
        self._below_zero = self._below_zero or threshold < 0
