"""The states of a plugin, and how a change of them is told."""

from typing import Any

from plugd.hosting.events import Actor
from plugd.hosting.saved_states import PluginState

STARTING, RUNNING, BACKOFF, PAUSED = "starting", "running", "backoff", "paused"
QUARANTINED, FAILED, STOPPING = "quarantined", "failed", "stopping"

RELOADED, RELOAD_FAILED, ROLLED_BACK = "plugin_reloaded", "plugin_reload_failed", "plugin_rolled_back"
_EVENTS = {  # what the log calls changes that are more than the state after them
    (RUNNING, RUNNING): RELOADED,
    (RUNNING, STARTING): ROLLED_BACK,
    (PAUSED, RUNNING): "plugin_resumed",
}


def tell(
    log: Any, generation: int, before: str, after: str, cause: str, actor: Actor | None, event: str | None = None
) -> None:
    """Log a change, as a warning where something is wrong.

    Args:
        log: the plugin's logger.
        generation: the one in force.
        before: the state before, "" for none.
        after: the state after, "" for none.
        cause: why.
        actor: whose word it was, None for nobody's.
        event: what the log calls it, if not by its states.
    """
    event = event or _EVENTS.get((before, after), f"plugin_{after or 'stopped'}")
    wrong = after in (BACKOFF, QUARANTINED, FAILED) or event in (RELOAD_FAILED, ROLLED_BACK)
    level = log.warning if wrong else log.info
    facts = {"uid": actor.uid, "pid": actor.pid} if actor else {}
    level(event, generation=generation, cause=cause, **facts)


def ended(past: PluginState, left: float | None) -> str:
    """Return what to say of what held a plugin back in the daemon before, and does not any more."""
    if past.state is None:
        return ""
    if left == 0:
        return ": the pause is over" if past.state == PAUSED else ": trying again"
    return f": it has changed since it was {past.state}"
