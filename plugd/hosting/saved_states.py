"""What the daemon must still know of its plugins when it is started anew: who is held back, why, and until when.

A pause is an operator's word, and a quarantine keeps a plugin from crashing on and on: a restart of the daemon ends
neither. Written as soon as it changes, to one file of the state directory.
"""

import os
import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import msgspec

from plugd.hosting.rows import TEXT_CHARACTERS, Text, UnixTime, Whole, decode, encode, time_of
from plugd.hosting.saver import Saver
from plugd.state_file import StateFile

FILE_NAME = "states.json"
MAXIMUM_BYTES = 16 * 1024 * 1024
PLUGINS = 10_000  # of which something is known, loaded or not

HeldState = Literal["paused", "quarantined", "backoff"]


class PluginState(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is known of one plugin. Times are Unix seconds."""

    generation: Whole = 0
    """The highest that there has been."""
    state: HeldState | None = None
    """Why it does not collect; None: nothing holds it back."""
    since: UnixTime = 0.0
    until: UnixTime | None = None
    """When it goes on by itself; None: not by itself."""
    cause: Text = ""
    uid: Whole | None = None
    """Whose word it was; None: nobody's."""
    pid: Whole | None = None
    worker: bool = False
    """Whether it has a worker all the same."""
    error: Text | None = None
    """What last went wrong with it."""
    error_time: UnixTime = 0.0
    exit: Text | None = None
    code: Text = ""
    """The fingerprint of what failed; of another, nothing that follows or holds it back is known."""
    offences: Annotated[tuple[UnixTime, ...], msgspec.Meta(max_length=100)] = ()
    """When it crashed or overran its deadline, within the window."""
    consecutive: Whole = 0
    """How often in a row, for the next delay."""

    def left(self, now: float) -> float | None:
        """Return for how many seconds it is still held back: 0.0 where that is over, None where it has no end."""
        if self.until is None:
            return None if self.state == "paused" else 0.0
        # However the clock was set meanwhile, it is no longer than it was meant to be.
        return max(0.0, min(self.until - now, self.until - self.since))


NOTHING = PluginState()


class SavedStates:
    """The states of all plugins, by name. Without a directory they are kept in memory, as in tests.

    A file that cannot be taken for what it should be is put aside, and told in ``notes``.

    Args:
        state_dir: where the file is; it is read at once.
        notes: gets a line for people on what is not in order.
    """

    def __init__(self, state_dir: str | None = None, notes: list[str] | None = None) -> None:
        self._states: dict[str, PluginState] = {}
        self._sealed = False
        self.saver: Saver[dict[str, PluginState]] | None = None
        if state_dir is not None:
            file = StateFile(os.path.join(state_dir, FILE_NAME), MAXIMUM_BYTES, [] if notes is None else notes)
            self.saver = Saver(file, self._states.copy, _encode)
            self._read(file)

    def of(self, plugin: str) -> PluginState:
        """Return what is known of a plugin."""
        return self._states.get(plugin, NOTHING)

    def put(self, plugin: str, state: PluginState) -> None:
        """Take what is known of a plugin now; it is written soon."""
        if self._sealed or self._states.get(plugin) == state:
            return
        self._states.pop(plugin, None)
        if len(self._states) >= PLUGINS:
            del self._states[next(iter(self._states))]  # The one of which nothing has been heard for longest.
        self._states[plugin] = state
        if self.saver is not None:
            self.saver.change()

    def number(self, plugin: str, generation: int) -> None:
        """Take note that a generation's number is about to be given, and never again."""
        self.put(plugin, msgspec.structs.replace(self.of(plugin), generation=generation))

    def forget(self, plugin: str) -> None:
        """Forget what holds a plugin back; the number of its generation is still not given again."""
        if plugin in self._states:
            self.put(plugin, PluginState(generation=self._states[plugin].generation))

    async def flush(self) -> None:
        """Wait until what is known now is on the disk, or could not be written; two seconds at most."""
        if self.saver is not None:
            await self.saver.flush()

    def seal(self) -> None:
        """Take nothing more: the daemon stops, and what becomes of the plugins now is not how they stood."""
        self._sealed = True

    def _read(self, file: StateFile) -> None:
        try:
            rows = decode(file.read(), _Row, PLUGINS)
            self._states.update({row.name: row.state for row in rows})
        except (FileNotFoundError, NotADirectoryError):
            return  # The first start.
        except (OSError, msgspec.MsgspecError, ValueError, RecursionError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            file.give_up("pauses, quarantines and numbers of generations are lost", reason or "nested too deeply")


class _Row(msgspec.Struct):
    name: Text
    state: PluginState


def _encode(states: Mapping[str, PluginState]) -> bytes:
    return encode([_Row(name, state) for name, state in states.items() if len(name) <= TEXT_CHARACTERS])


def wall_times(ages: Sequence[float]) -> tuple[float, ...]:
    """Return the Unix times of what was so many seconds ago, to the second: that of one is always the same."""
    now = time.time()
    return tuple([time_of(round(now - age)) for age in ages])


def ages_of(times: Sequence[float]) -> list[float]:
    """Return how many seconds ago these Unix times were; none is in the future, whatever clock said it."""
    now = time.time()
    return [max(0.0, now - each) for each in times]
