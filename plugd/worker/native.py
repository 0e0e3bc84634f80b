"""The host of a native plugin: links the sealed copy of its file, checks what it declares, and calls its functions."""

import ctypes
import functools
import mmap
import socket
import time
from collections.abc import Callable
from typing import Any

from plugd import __version__
from plugd.worker import abi
from plugd.worker.failure import CRASHED, INVALID, REQUEST_INVALID, Failure, Fault, invalid
from plugd.worker.native_arguments import bind, describe, find, options_of, settings_of
from plugd.worker.native_declaration import LABELS, Declaration, SettingRow, read_declaration
from plugd.worker.native_link import link
from plugd.worker.native_series import NativeSeries, SeriesError
from plugd.worker.native_values import Values, convert, read_value, typed, values_of
from plugd.worker.notifications import Notify, define

_libc = ctypes.CDLL(None)


class NativeHost:
    """A native plugin in its worker.

    Args:
        notify: sends a notification to the daemon, ahead of the answer to the request at hand.
        image: the descriptor of a sealed copy of the plugin's file; the host closes it when it has linked it.
    """

    def __init__(self, notify: Notify, image: int) -> None:
        self._notify = notify
        self._image = image
        self._path = ""
        self._declared: Declaration
        self._table: NativeSeries
        self._options: dict[str, Any] = {}
        self._settings: dict[str, Any] = {}  # as they were last set
        self._reply: Any = None
        self._reason = ""
        self._misuse: list[str] = []  # what the plugin got wrong in its own calls
        self._host = abi.Host(
            ctypes.sizeof(abi.Host),
            abi.ABI_VERSION,
            None,
            None,
            b"",
            __version__.encode(),
            abi.SeriesFunction(self._handle_series),
            abi.ReplyFunction(self._handle_reply),
            abi.FailFunction(self._handle_fail),
        )
        self._buffer = abi.Buffer(ctypes.sizeof(abi.Buffer))
        self._series: mmap.mmap
        self._values: mmap.mmap

    def load(self, params: dict[str, Any]) -> dict[str, Any]:
        """Link a plugin, and check all that it declares; nothing of it is opened. Return what it declares.

        ``params``: ``name``, ``path`` (for messages: it is not read), ``options``, ``settings``, ``budget`` (series of
        one metric), ``samples`` (of one collection).

        Raises:
            Failure: ``plugin.invalid`` with every fault.
        """
        self._path = params["path"]
        self._host.name = params["name"].encode()
        declared, faults = read_declaration(link(self._image, self._path), params["name"])
        if not faults:
            self._options, faults = options_of(declared.options, params["options"])
            read_only = [setting.name for setting in declared.settings if setting.set is None]
            settings = [setting.declared for setting in declared.settings]
            self._settings, setting_faults = settings_of(settings, params["settings"], read_only)
            faults += setting_faults
        if faults:
            raise invalid(self._path, faults)
        self._declared = declared
        self._table = NativeSeries(declared.metrics, params["budget"], params["samples"])
        self._make_buffer(params["samples"])
        return self._summary()

    def start(self, params: dict[str, Any]) -> None:  # noqa: ARG002 - every method takes its params
        """Have the plugin open what it needs, and take its settings."""
        declared = self._declared
        if declared.open is not None:
            self._call("open", declared.open, values_of(declared.options, self._options))
        for number, setting in enumerate(declared.settings):
            if setting.set is not None:
                values = values_of([setting.declared], self._settings)
                self._call(f"setting {setting.name!r}: set", setting.set, number, values)

    def stop(self, params: dict[str, Any]) -> None:  # noqa: ARG002
        """Have the plugin close what it opened; what is left in its buffers is printed."""
        if self._declared.close is not None:
            self._declared.close(self._host)
        _libc.fflush(None)

    def collect(self, params: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG002 - native plugins have no inputs so far
        """Collect once.

        Returns: see ``Collected.answer``.
        """
        buffer = self._buffer
        buffer.count, buffer.overflow = 0, 0
        wall, started = time.time(), time.monotonic()
        self._call("collect", self._declared.collect, ctypes.byref(buffer))
        count = buffer.count
        if count > buffer.capacity:
            raise self._invalid(f"collect() filled a buffer of {buffer.capacity} samples with {count}")
        try:
            collected = self._table.take(
                self._series[: 4 * count], self._values[: 8 * count], buffer.overflow, buffer.overflow_series
            )
        except SeriesError as error:
            raise self._invalid(str(error)) from error
        define(self._notify, collected.define)
        return collected.answer(wall, started)

    def call(self, params: dict[str, Any]) -> Any:
        """Run the command ``command`` with ``args`` and ``kwargs``."""
        number, command = find("command", params["command"], self._declared.commands)
        arguments = values_of(command.parameters, bind(command, params["args"], params["kwargs"]))
        return self._call(command.name, command.call, number, arguments, refused=REQUEST_INVALID)

    def get(self, params: dict[str, Any]) -> Any:
        """Return the value of ``setting``, or all of them by name."""
        name = params.get("setting")
        if name is None:
            return {each.name: self._get(number, each) for number, each in enumerate(self._declared.settings)}
        return self._get(*find("setting", name, self._declared.settings))

    def set(self, params: dict[str, Any]) -> Any:
        """Change ``setting`` to ``value``; return it as the plugin has taken it."""
        number, setting = find("setting", params["setting"], self._declared.settings)
        name = setting.name
        if setting.set is None:
            raise Failure(REQUEST_INVALID, f"setting {name!r}: it can be read only")
        try:
            value = convert(setting.declared, params["value"])
        except ValueError as error:
            raise Failure(REQUEST_INVALID, f"setting {name!r}: {error}") from error
        values = values_of([setting.declared], {name: value})
        self._call(f"setting {name!r}: set", setting.set, number, values, refused=REQUEST_INVALID)
        self._settings[name] = value
        return self._get(number, setting)

    def save_state(self, params: dict[str, Any]) -> Any:  # noqa: ARG002
        """Return what the plugin gives to the next generation."""
        return self._call("save_state", self._declared.save_state) if self._declared.save_state else None

    def load_state(self, params: dict[str, Any]) -> None:
        """Give the plugin the ``state`` that the last generation saved."""
        if self._declared.load_state is not None:
            self._call("load_state", self._declared.load_state, Values([typed(params["state"])]))

    def reconfigure(self, params: dict[str, Any]) -> None:
        """Give the plugin other ``options`` as it runs; it keeps the old ones where it refuses them."""
        new, faults = options_of(self._declared.options, params["options"])
        if faults:
            raise invalid(self._path, faults)
        assert self._declared.reconfigure is not None
        self._call("reconfigure", self._declared.reconfigure, values_of(self._declared.options, new))
        self._options = new

    def describe(self, params: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG002
        """Return what people want to know of the plugin: commands, settings, options and their JSON Schema."""
        declared = self._declared
        settings = [setting.declared for setting in declared.settings]
        return describe(declared.commands, settings, declared.options, self._options)

    def wait_readable(self, channel: socket.socket) -> None:
        """Return at once: a native plugin has threads of its own, if anything."""

    def _make_buffer(self, capacity: int) -> None:
        """Reserve a buffer; its pages come into being when they are written to."""
        self._series = mmap.mmap(-1, 4 * capacity, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._values = mmap.mmap(-1, 8 * capacity, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._buffer.capacity = capacity
        self._buffer.series = ctypes.addressof(ctypes.c_char.from_buffer(self._series))
        self._buffer.values = ctypes.addressof(ctypes.c_char.from_buffer(self._values))

    def _summary(self) -> dict[str, Any]:
        """What the daemon must know of the plugin to run it."""
        declared = self._declared
        return {
            "version": declared.version,
            "api": declared.abi_version,
            "description": declared.description,
            "interval": declared.interval,
            "timeout": declared.timeout,
            "requires": [],
            "reconfigurable": declared.reconfigure is not None,
            "metrics": [{**metric._asdict(), "labels": list(metric.labels)} for metric in declared.metrics],
        }

    # Calls into the plugin

    def _call(self, doing: str, function: Callable[..., int], *arguments: Any, refused: str = INVALID) -> Any:
        """Call one of its functions; return what it replied.

        Raises:
            Failure: what it says of itself; or ``plugin.invalid`` for what it got wrong in its own calls.
        """
        self._reply, self._reason = None, ""
        self._misuse.clear()
        status = function(self._host, *arguments)
        what = doing if doing.startswith("setting ") else f"{doing}()"
        if self._misuse:
            raise self._invalid(*(f"{what}: {message}" for message in self._misuse))
        if status == abi.OK:
            return self._reply
        if status == abi.REFUSED:
            raise Failure(refused, f"{what} refused: {self._reason or 'it does not say why'}", path=self._path)
        raise Failure(CRASHED, f"{what} failed: {self._reason or f'it returned {status}'}", path=self._path)

    def _get(self, number: int, setting: SettingRow) -> Any:
        name = setting.name
        if setting.get is None:
            return self._settings[name]
        value = self._call(f"setting {name!r}: get", setting.get, number)
        try:
            return convert(setting.declared._replace(choices=(), minimum=None, maximum=None), value, strict=True)
        except ValueError as error:
            raise self._invalid(f"setting {name!r}: get: {error}") from error

    def _invalid(self, *messages: str) -> Failure:
        return invalid(self._path, [Fault(message) for message in messages])

    # Calls from the plugin: an exception must not get out of these

    def _handle_series(self, _host: int, metric: int, labels: int | None, count: int) -> int:
        try:
            if count == 0:
                return self._table.series(metric, ())
            if not labels or count > LABELS:
                raise SeriesError(f"plugd_series(): {count} labels" + ("" if labels else " at no address"))
            return self._table.series(metric, tuple(_labels_type(count).from_address(labels)))
        except SeriesError as error:
            self._note(str(error))
        except Exception as error:  # noqa: BLE001 - ctypes would print it, and return anything
            self._note(f"plugd_series(): {error!r}")
        return abi.NO_SERIES

    def _handle_reply(self, _host: int, value: Any) -> None:
        try:
            self._reply = read_value(value.contents)
        except Exception as error:  # noqa: BLE001 - as above; NULL is a ValueError as well
            self._note(f"the reply is malformed: {error}")

    def _handle_fail(self, _host: int, text: int | None, size: int) -> None:
        try:
            self._reason = ctypes.string_at(text, size).decode("utf-8", "backslashreplace") if text else ""
        except Exception as error:  # noqa: BLE001 - as above
            self._note(f"the reason is malformed: {error}")

    def _note(self, message: str) -> None:
        if len(self._misuse) < 10 and message not in self._misuse:
            self._misuse.append(message)


@functools.cache
def _labels_type(count: int) -> Any:
    """The type of so many labels, kept: ctypes takes its time to make one."""
    return ctypes.c_char_p * count
