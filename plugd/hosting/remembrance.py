"""What one daemon leaves to the next of a plugin that is held back, and what that one makes of it."""

import asyncio
from typing import TYPE_CHECKING, cast

from msgspec.structs import replace

from plugd.hosting.changes import BACKOFF, PAUSED, QUARANTINED
from plugd.hosting.events import Actor
from plugd.hosting.record import Failure
from plugd.hosting.rows import bounded, time_of
from plugd.hosting.saved_states import HeldState, PluginState, wall_times

if TYPE_CHECKING:
    from plugd.hosting.supervisor import Supervisor

HELD = (PAUSED, QUARANTINED, BACKOFF)  # states in which a restart leaves a plugin


def state_of(plugin: "Supervisor") -> PluginState:
    """Return what the next daemon must know of a plugin."""
    state = PluginState(generation=plugin.latest)
    ages = plugin.backoff.ages(asyncio.get_running_loop().time())
    if ages:
        offences, consecutive = wall_times(ages), plugin.backoff.consecutive
        state = replace(state, code=plugin.spec.fingerprint(), offences=offences, consecutive=consecutive)
    if plugin.state in HELD:
        state = replace(
            state,
            state=cast("HeldState", plugin.state),
            since=time_of(plugin.since),
            until=None if plugin.next_retry is None else time_of(plugin.next_retry),
            cause=bounded(plugin.cause),
            uid=plugin.actor.uid if plugin.actor else None,
            pid=plugin.actor.pid if plugin.actor else None,
            worker=plugin.current is not None or plugin.worker_due,
            code=plugin.spec.fingerprint(),
        )
        if plugin.failure is not None:
            state = replace(
                state,
                error=bounded(plugin.failure.message),
                error_time=time_of(plugin.failure.time),
                exit=None if plugin.failure.exit is None else bounded(plugin.failure.exit),
            )
    return state


def resume_state(plugin: "Supervisor", past: PluginState) -> None:
    """Bring a plugin into the state in which the daemon before has left it."""
    assert past.state is not None
    plugin.state, plugin.since, plugin.cause = past.state, past.since, past.cause
    if past.uid is not None and past.pid is not None:
        plugin.actor = Actor(past.uid, past.pid)
    if past.error is not None:
        plugin.failure = Failure(past.error_time, past.error, exit=past.exit)
    plugin.worker_due = past.worker and past.state == PAUSED
