"""Every change of a plugin's state, with its cause: a bounded log, and whoever listens."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

from plugd.errors import PLUGIN_CHANGED, CommandError

KEPT = 20  # events of each plugin
PLUGINS = 1000  # whose events are kept


class Actor(NamedTuple):
    """Who asked for something: the peer credentials of a control session, and what they take for granted.

    ``expected`` holds the generations of the plugins that they have seen, by name.
    """

    uid: int
    pid: int
    expected: Mapping[str, int] = MappingProxyType({})

    def check(self, doing: str, name: str, generation: int) -> None:
        """See that a plugin is the one that was meant.

        Raises:
            CommandError: ``plugin.changed``: it has another generation by now.
        """
        expected = self.expected.get(name, generation)
        if expected != generation:
            raise CommandError(
                PLUGIN_CHANGED,
                f"cannot {doing} plugin {name!r}: its generation is {generation}, and {expected} was expected",
                {"name": name, "generation": generation, "expected": expected},
            )


@dataclass(frozen=True, slots=True)
class Event:
    """A plugin went from one state to another; ``time`` in Unix seconds, states "" before and after its life."""

    time: float
    plugin: str
    generation: int
    before: str
    after: str
    cause: str
    actor: Actor | None

    def as_dict(self) -> dict[str, Any]:
        """Return the event as the wire has it."""
        return {
            "time": self.time,
            "plugin": self.plugin,
            "generation": self.generation,
            "from": self.before or None,
            "to": self.after or None,
            "cause": self.cause,
            "uid": self.actor.uid if self.actor else None,
            "pid": self.actor.pid if self.actor else None,
        }


class EventLog:
    """The last 20 events of each plugin: one that changes all the time displaces none of another's."""

    def __init__(self) -> None:
        self._events: dict[str, deque[Event]] = {}  # The plugin of the last one is at the end.
        self._listeners: list[Callable[[Event], None]] = []

    def record(self, plugin: str, generation: int, before: str, after: str, cause: str, actor: Actor | None) -> None:
        """Keep an event and tell the listeners."""
        event = Event(time.time(), plugin, generation, before, after, cause, actor)
        self._keep(event)
        for listener in list(self._listeners):
            listener(event)

    def restore(self, events: Iterable[Event]) -> None:
        """Keep events of a daemon before, the oldest first; nobody is told."""
        for event in events:
            self._keep(event)

    def of(self, plugin: str) -> list[Event]:
        """Return the events of one plugin that are still kept, the oldest first."""
        return list(self._events.get(plugin, ()))

    def lives(self, plugin: str) -> bool:
        """Whether the last that is known of a plugin is not its end."""
        changes = [event for event in self._events.get(plugin, ()) if event.before != event.after]
        return bool(changes and changes[-1].after)

    def latest(self, number: int) -> list[Event]:
        """Return so many events at most, of the plugins that changed last: by plugin, the oldest first."""
        chosen: list[deque[Event]] = []
        for each in reversed(self._events.values()):
            number -= len(each)
            if number < 0:
                break
            chosen.append(each)
        return [event for each in reversed(chosen) for event in each]

    def listen(self, listener: Callable[[Event], None]) -> None:
        """Have a function called with every event from now on; it must not block or raise."""
        self._listeners.append(listener)

    def _keep(self, event: Event) -> None:
        kept = self._events.pop(event.plugin, None)
        if kept is None:
            kept = deque(maxlen=KEPT)
            if len(self._events) >= PLUGINS:
                del self._events[next(iter(self._events))]
        kept.append(event)
        self._events[event.plugin] = kept
