"""Settings that outlive the daemon: what clients have set to last, in one file of the state directory."""

import json
import os
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import anyio
import anyio.to_thread
import msgspec
import structlog

from plugd.errors import INTERNAL, REQUEST_INVALID, CommandError
from plugd.state_file import StateFile

log = structlog.get_logger()

FILE_NAME = "settings.json"
MAXIMUM_BYTES = 1024 * 1024

Values = Mapping[str, Mapping[str, Any]]  # by plugin and setting

_NOTHING: Mapping[str, Any] = MappingProxyType({})


class SavedSettings:
    """The saved settings of all plugins. The file is replaced as a whole, by a rename: it is the old or the new one.

    A file that is broken is put aside as ``settings.json.broken``, and one that cannot be read stays as it is, with
    nothing saved meanwhile; ``notes`` tells.

    Args:
        state_dir: where the file is; it is read at once. None: nothing is saved, as in tests.
        notes: gets a line for people on what is not in order.
    """

    def __init__(self, state_dir: str | None = None, notes: list[str] | None = None) -> None:
        self.notes: list[str] = [] if notes is None else notes
        self._file: StateFile | None = None
        self._values: Values = {}
        self._unreadable: str | None = None
        self._lock = anyio.Lock()
        if state_dir is not None:
            self._file = StateFile(os.path.join(state_dir, FILE_NAME), MAXIMUM_BYTES, self.notes)
            self._read(self._file)

    def of(self, plugin: str) -> Mapping[str, Any]:
        """Return what is saved for a plugin, by setting."""
        return self._values.get(plugin, _NOTHING)

    async def put(self, plugin: str, setting: str, value: Any) -> None:
        """Save a value; return when it is on the disk.

        Raises:
            CommandError: ``request.invalid``: it is nothing for JSON, or too much; ``internal``: it cannot be written.
        """
        what = f"setting {setting!r} of plugin {plugin!r}"
        try:
            faithful = json.loads(json.dumps(value, allow_nan=False)) == value
        except (TypeError, ValueError, RecursionError):
            faithful = False
        if not faithful:
            raise CommandError(REQUEST_INVALID, f"cannot save {what}: {value!r:.100} is nothing that JSON can hold")
        async with self._lock:
            await self._replace({**self._values, plugin: {**self.of(plugin), setting: value}}, f"save {what}")

    async def forget(self, plugin: str, setting: str) -> bool:
        """Save a setting no longer; return whether it was.

        Raises:
            CommandError: ``internal``: the file cannot be written.
        """
        async with self._lock:
            if setting not in self.of(plugin):
                return False
            left = {name: value for name, value in self.of(plugin).items() if name != setting}
            others = {name: values for name, values in self._values.items() if name != plugin}
            what = f"forget setting {setting!r} of plugin {plugin!r}"
            await self._replace({**others, plugin: left} if left else others, what)
            return True

    async def _replace(self, values: Values, doing: str) -> None:
        data = json.dumps({"settings": values}, indent=2, sort_keys=True).encode() + b"\n"
        if len(data) > MAXIMUM_BYTES:
            raise CommandError(REQUEST_INVALID, f"cannot {doing}: all that is saved has at most {MAXIMUM_BYTES} bytes")
        path = self._file.path if self._file is not None else None
        try:
            if self._file is None or self._unreadable is not None:
                raise OSError(None, self._unreadable or "there is no state directory")
            await anyio.to_thread.run_sync(self._file.replace, data)
        except OSError as error:
            reason = error.strerror or str(error)
            log.warning("saved_settings_failed", path=path, reason=reason)
            raise CommandError(INTERNAL, f"cannot {doing}: {path}: {reason.lower()}") from error
        self._values = values

    def _read(self, file: StateFile) -> None:
        try:
            self._values = _parse(file.read())
        except FileNotFoundError:
            return  # Nobody has saved anything.
        except OSError as error:
            self._unreadable = f"cannot be read: {error.strerror}"
            self._tell(f"saved settings are not in force: {file.path} {self._unreadable}")
        except (msgspec.MsgspecError, ValueError, TypeError, OverflowError, RecursionError) as error:
            self._put_aside(file, str(error) or "nested too deeply")

    def _put_aside(self, file: StateFile, reason: str) -> None:
        try:
            kept = file.put_aside()
        except OSError as error:
            self._unreadable = f"is broken, and cannot be put aside: {error.strerror}"
            kept = f"it cannot be put aside: {error.strerror}"
        self._tell(f"saved settings are not in force: {file.path} is broken ({reason}); {kept}")

    def _tell(self, note: str) -> None:
        self.notes.append(note)
        log.warning("saved_settings_broken", reason=note)


class _Document(msgspec.Struct):
    settings: dict[str, dict[str, Any]]


def _parse(data: bytes) -> Values:
    values = msgspec.json.decode(data, type=_Document).settings
    msgspec.msgpack.encode(values)  # As it is sent to workers: a number may be too large for that.
    return values
