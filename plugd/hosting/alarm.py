"""One timer, and the time at which it goes off."""

import asyncio
import time
from collections.abc import Callable
from typing import Any


class Alarm:
    """Goes off once, unless it is set anew or cancelled before.

    Attributes:
        time: when, in Unix seconds; None while it is not set.
    """

    def __init__(self) -> None:
        self._handle: asyncio.TimerHandle | None = None
        self.time: float | None = None

    def set(self, delay: float, function: Callable[..., None], *args: Any) -> None:
        """Have a function called in ``delay`` seconds, and not what was set before."""
        self.cancel()
        self.time = time.time() + delay
        self._handle = asyncio.get_running_loop().call_later(delay, function, *args)

    def cancel(self) -> None:
        """Have nothing called."""
        self.time = None
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
