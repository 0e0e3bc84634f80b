"""The watchdog: systemd is told that plugd is well, when and only when it does what it is for.

A timer that says so regardless is of no use. Before each word the event loop has come round, the scheduler has been
awake when it should have been, and the forkserver has answered. Plugins have no part in it: one that hangs is its
worker's affair.
"""

from collections.abc import Awaitable, Callable

import anyio
import structlog

from plugd import systemd

log = structlog.get_logger()

RETRY = 1.0  # seconds, after which what has not answered is asked again; less where there is less time


class Watchdog:
    """Feeds systemd's watchdog; :meth:`run` is a task of the daemon.

    Args:
        period: seconds within which systemd wants to hear from us; sd_watchdog_enabled(3).
        scheduler_overdue: returns for how many seconds the scheduler should have been awake.
        forkserver_answers: asks the forkserver, for so many seconds at most, and returns whether it answered.
    """

    def __init__(
        self,
        period: float,
        scheduler_overdue: Callable[[], float],
        forkserver_answers: Callable[[float], Awaitable[bool]],
    ) -> None:
        self._period = period
        self._patience = period / 4  # Two parts are asked, and what is left is for a second try.
        self._scheduler_overdue = scheduler_overdue
        self._forkserver_answers = forkserver_answers

    async def run(self) -> None:
        """Feed until cancelled: twice in a period, and after a fault as soon as it is over."""
        while True:
            stuck = await self._stuck()
            if stuck is None:
                systemd.notify_watchdog()
                await anyio.sleep(self._period / 2)
            else:
                log.error("watchdog_not_fed", part=stuck, watchdog_seconds=self._period)
                await anyio.sleep(min(RETRY, self._period / 10))

    async def _stuck(self) -> str | None:
        """Return the part that makes no progress."""
        if self._scheduler_overdue() > self._patience:
            return "scheduler"
        return None if await self._forkserver_answers(self._patience) else "forkserver"
