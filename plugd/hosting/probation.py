"""The first collections of a new generation, in which it may not fail, or the one before comes back."""

from typing import Any, NamedTuple

from plugd.catalog.spec import PluginSpec

COLLECTIONS = 3


class Retired(NamedTuple):
    """The generation before, as long as it may have to come back: its code is kept here, not on disk."""

    spec: PluginSpec
    number: int
    state: Any


class Probation:
    """Knows the generation before until the new one has shown that it works."""

    def __init__(self) -> None:
        self._retired: Retired | None = None
        self._left = 0

    def __bool__(self) -> bool:
        """Whether a generation is on probation."""
        return self._retired is not None

    def begin(self, retired: Retired) -> None:
        """Put the successor of a generation on probation."""
        self._retired, self._left = retired, COLLECTIONS

    def count(self) -> None:
        """Count a complete collection, which may be the last that was needed."""
        self._left -= 1
        if self._left <= 0:
            self._retired = None

    def end(self) -> Retired | None:
        """End it; return the generation before, if there was a probation."""
        retired, self._retired = self._retired, None
        return retired
