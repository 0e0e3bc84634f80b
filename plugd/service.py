"""What systemd is told of the daemon's life: ready, reloading, stopping, and a line of status that is true.

Not started by systemd, all of it is silent.
"""

import asyncio
import contextlib
from collections.abc import Iterator

import anyio
import structlog

from plugd import systemd
from plugd.hosting.events import Event, EventLog
from plugd.hosting.registry import Registry

log = structlog.get_logger()

SETTLING = 0.1  # seconds, in which further changes go into the same line
EXTENSION = 15.0  # seconds that a start, reload or stop is given anew
EXTENSION_PERIOD = 5.0  # seconds, after which it is, as long as the event loop comes round
NAMES = 3  # of plugins, in the line of status
UNUSUAL = ("starting", "backoff", "quarantined", "failed", "paused")  # states, in the order of the line


class Service:
    """The daemon as a unit of systemd.

    Args:
        registry: whose plugins the status is about.
        events: whose changes bring the status up to date.
    """

    def __init__(self, registry: Registry, events: EventLog) -> None:
        self._loop = asyncio.get_running_loop()
        self._registry = registry
        self._ready = False
        self._stopping = False
        self._reloads = 0  # under way
        self._note = ""
        self._telling: asyncio.TimerHandle | None = None
        if systemd.listens():
            events.listen(self._handle_event)

    @property
    def status(self) -> str:
        """What ``systemctl status`` shows: ``9 plugins, 1 quarantined: check_http``."""
        names: dict[str, list[str]] = {}
        for each in self._registry.all():
            names.setdefault(each.state, []).append(each.name)
        total = sum(map(len, names.values()))
        parts = [f"{total} plugin{'' if total == 1 else 's'}"]
        for state in UNUSUAL:
            if state in names:
                shown, more = names[state][:NAMES], len(names[state]) - NAMES
                tail = f" and {more} more" if more > 0 else ""
                parts.append(f"{len(names[state])} {state}: {', '.join(shown)}{tail}")
        return ", ".join(parts) + self._note

    def ready(self) -> None:
        """Every plugin has had its first start, good or bad."""
        self._ready = True
        systemd.notify_ready(self.status)

    @contextlib.contextmanager
    def stopping(self) -> Iterator[None]:
        """The daemon is on its way out for as long as the block lasts: clients are answered, workers ended."""
        self._ready, self._stopping = False, True
        if self._telling is not None:
            self._telling.cancel()
        systemd.notify_stopping("stopping")
        with self.busy():
            yield

    @contextlib.contextmanager
    def reloading(self) -> Iterator[None]:
        """Tell of a reload for as long as the block lasts, and how it failed, if it raises; reloads may overlap."""
        self._reloads += 1
        if self._ready:
            systemd.notify_reloading()
        try:
            with self.busy():
                yield
            self._note = ""
        except Exception as error:
            log.error("reload_failed", reason=str(error))
            self._note = f"; the last reload failed: {error}"
            raise
        finally:
            self._reloads -= 1
            if self._ready and not self._reloads:
                systemd.notify_ready(self.status)

    @contextlib.contextmanager
    def busy(self) -> Iterator[None]:
        """Have the time limit of a start, reload or stop extended for as long as the block lasts."""
        if not systemd.listens():
            yield
            return

        extending = self._loop.create_task(_extend())
        try:
            yield
        finally:
            extending.cancel()

    def _handle_event(self, _: Event) -> None:
        if self._telling is None and not self._stopping:
            self._telling = self._loop.call_later(SETTLING, self._tell)

    def _tell(self) -> None:
        self._telling = None
        systemd.notify_status(self.status)


async def _extend() -> None:
    while True:
        await anyio.sleep(EXTENSION_PERIOD)
        systemd.notify_extend_timeout(EXTENSION)
