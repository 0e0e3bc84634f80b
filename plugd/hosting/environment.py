"""What a supervisor needs of the rest of the daemon, named from its own side."""

from collections.abc import Awaitable, Callable, Container
from dataclasses import dataclass, field
from typing import Any, Protocol

import structlog
from anyio.abc import TaskGroup

from plugd.hosting.backoff import BackoffPolicy
from plugd.hosting.cgroups import Cgroups
from plugd.hosting.collection import Collection
from plugd.hosting.events import EventLog
from plugd.hosting.forkserver import ForkServer
from plugd.hosting.saved import SavedSettings
from plugd.hosting.saved_states import SavedStates
from plugd.hosting.secrets import SecretStore
from plugd.hosting.startlog import StartLog
from plugd.hosting.watch import Watch

log = structlog.get_logger()

DAEMON = "daemon"  # what a plugin requires to have the daemon's own samples among its inputs


class Sink(Protocol):
    """Where samples go."""

    async def record(self, plugin: str, collection: Collection) -> None:
        """Take the samples of one collection; many of them in slices, between which others have their turn."""

    def remove(self, plugin: str) -> None:
        """Forget all series of a plugin."""

    def retain(self, plugins: Container[str]) -> None:
        """Forget all series of other plugins than these."""

    def latest(self, plugin: str) -> list[dict[str, object]]:
        """Return the latest samples of a plugin: ``{name, labels, value, time}`` each."""


class Ticker(Protocol):
    """Who says when to collect."""

    def add(self, name: str, interval: float, offset: float, on_tick: Callable[["Tick"], None]) -> None:
        """Call ``on_tick`` at every tick from now on; a name that is there already is replaced."""

    def remove(self, name: str) -> None:
        """Call it no more. A name that is not there is ignored."""


@dataclass(frozen=True, slots=True)
class Tick:
    """The moment at which a collection is due.

    Attributes:
        due: when, in seconds of CLOCK_MONOTONIC.
        late: seconds by which the scheduler was late.
        skipped: ticks since the one before that were due and could not be delivered.
    """

    due: float
    late: float = 0.0
    skipped: int = 0


class Require(Protocol):
    """Who holds a plugin back until what it requires is running."""

    async def __call__(self, name: str, requires: tuple[str, ...]) -> None:
        """Return when all of it is running; raise CommandError, ``plugin.invalid``, where it will not be."""


async def _require_nothing(name: str, requires: tuple[str, ...]) -> None:
    """Where a plugin is alone, as in a test, nobody asks."""


@dataclass(frozen=True, slots=True)
class Environment:
    """The parts that all supervisors share."""

    forkserver: ForkServer
    tasks: TaskGroup
    sink: Sink
    ticker: Ticker
    events: EventLog
    watch: Watch
    startlog: StartLog
    backoff: BackoffPolicy
    default_interval: float | None = None  # seconds; for plugins that the configuration says nothing of
    default_timeout: float | None = None
    require: Require = _require_nothing
    own: Callable[[], list[dict[str, object]]] = list  # the daemon's own samples, as those of a plugin
    saved: SavedSettings = field(default_factory=SavedSettings)
    states: SavedStates = field(default_factory=SavedStates)
    secrets: SecretStore = field(default_factory=SecretStore)
    cgroups: Cgroups = field(default_factory=Cgroups)

    def start(self, function: Callable[..., Awaitable[None]], *args: Any) -> None:
        """Run something in the background; what it raises is logged, and is nothing to the others."""
        self.tasks.start_soon(self._guarded, function, args)

    async def _guarded(self, function: Callable[..., Awaitable[None]], args: tuple[Any, ...]) -> None:
        try:
            await function(*args)
        except Exception:
            log.exception("background_task_failed", task=getattr(function, "__qualname__", repr(function)))
