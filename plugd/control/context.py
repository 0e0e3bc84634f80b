"""What commands work on: the daemon's parts, as the control socket sees them."""

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

from plugd.catalog.discovery import Found
from plugd.control.access import AccessPolicy
from plugd.control.audit import Audit
from plugd.control.counts import Counts
from plugd.control.replies import Replies
from plugd.hosting.events import EventLog
from plugd.hosting.registry import Registry
from plugd.log import LogRing
from plugd.sampling.scheduler import Scheduler
from plugd.sampling.store import MetricStore
from plugd.sampling.subscription import Broker
from plugd.settings import Settings


@dataclass(slots=True)
class Context:
    """The parts of a running daemon.

    Attributes:
        reload_settings: reads the configuration anew, puts it in force unless it is a dry run, and returns what
            finds plugins by it; raises CommandError and changes nothing where it is invalid.
        reloading: tells the service manager of a reload, for as long as the block lasts.
        started_at: Unix seconds.
        started_monotonic: seconds of CLOCK_MONOTONIC.
        boot_id: of this run of the daemon: another one after every start.
        policy: who has which role.
        counts: of what the control server has done and refused.
        audit: of the requests that change something.
        replies: to requests that may be repeated.
        notes: what was not in order when the daemon started, for people.
    """

    settings: Settings
    registry: Registry
    store: MetricStore
    scheduler: Scheduler
    broker: Broker
    events: EventLog
    ring: LogRing
    policy: AccessPolicy
    reload_settings: Callable[[bool], Awaitable[Callable[[], Found]]]
    started_at: float
    started_monotonic: float
    boot_id: str
    connections: int = 0
    subscriptions: Counter[int] = field(default_factory=Counter)  # of each user
    counts: Counts = field(default_factory=Counts)
    audit: Audit = field(default_factory=Audit)
    replies: Replies = field(default_factory=Replies)
    notes: Sequence[str] = ()
    reloading: Callable[[], AbstractContextManager[None]] = nullcontext
