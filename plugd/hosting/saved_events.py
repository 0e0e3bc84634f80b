"""The record of causes, kept over a restart of the daemon: ``plugctl why`` tells what was before it as well."""

import os
from collections.abc import Sequence

import msgspec

from plugd.hosting.events import Actor, Event, EventLog
from plugd.hosting.rows import Text, UnixTime, Whole, bounded, decode, encode, time_of
from plugd.hosting.saver import Saver
from plugd.state_file import StateFile

FILE_NAME = "events.json"
MAXIMUM_BYTES = 16 * 1024 * 1024
EVENTS = 2000  # in the file; those of the plugins that changed last
DELAY = 0.25  # seconds in which events are gathered, so that a plugin that is busy with itself costs one write


class SavedEvents:
    """Gives the log the events of the daemons before, and keeps a file of what is in it.

    A file that cannot be taken for what it should be is put aside, and told in ``notes``.

    Args:
        state_dir: where the file is; it is read at once.
        events: the log.
        notes: gets a line for people on what is not in order.
    """

    def __init__(self, state_dir: str, events: EventLog, notes: list[str]) -> None:
        file = StateFile(os.path.join(state_dir, FILE_NAME), MAXIMUM_BYTES, notes)
        self.saver = Saver(file, lambda: events.latest(EVENTS), _encode, DELAY)
        _read(file, events)
        events.listen(lambda _event: self.saver.change())


class _Row(msgspec.Struct, rename={"before": "from", "after": "to"}):
    """An event as the wire has it."""

    time: UnixTime
    plugin: Text
    generation: Whole
    before: Text | None
    after: Text | None
    cause: Text
    uid: Whole | None
    pid: Whole | None

    def as_event(self) -> Event:
        actor = None if self.uid is None or self.pid is None else Actor(self.uid, self.pid)
        return Event(self.time, self.plugin, self.generation, self.before or "", self.after or "", self.cause, actor)


def _encode(events: Sequence[Event]) -> bytes:
    return encode([_row(event) for event in events])


def _row(event: Event) -> _Row:
    actor = event.actor
    return _Row(
        time_of(event.time),
        bounded(event.plugin),
        event.generation,
        event.before or None,
        event.after or None,
        bounded(event.cause),
        actor.uid if actor else None,
        actor.pid if actor else None,
    )


def _read(file: StateFile, events: EventLog) -> None:
    try:
        rows = decode(file.read(), _Row, EVENTS)
        events.restore([row.as_event() for row in rows])
    except (FileNotFoundError, NotADirectoryError):
        return  # The first start.
    except (OSError, msgspec.MsgspecError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        file.give_up("the record of causes is lost", reason or "nested too deeply")
