"""What a native plugin declares: read from its descriptor, and every fault of it at once, before anything is opened."""

import ctypes
import itertools
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar

from plugd.worker import abi
from plugd.worker.abi import BOOL, COUNTER, FLOAT, GAUGE, INT, JSON, NULL, STRING
from plugd.worker.failure import Fault
from plugd.worker.native_series import MetricRow
from plugd.worker.native_values import TYPE_NAMES, Parameter, convert, read_value
from plugd.worker.validation import INTERVAL_RANGE, LABEL_NAME, METRIC_NAME, UNIT, VERSION

USUAL_INTERVAL = 10.0  # seconds
ROWS = 1024  # of each kind; what says more is no descriptor
LABELS = 64  # of one metric
DESCRIPTOR_BYTES = 64 * 1024  # of one structure, whatever a later version adds

_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}\Z")
_KINDS = {GAUGE: "gauge", COUNTER: "counter"}

S = TypeVar("S", bound=ctypes.Structure)
Function = Callable[..., Any]


class SettingRow(NamedTuple):
    """``struct plugd_setting``; a function that the plugin has not got is None."""

    declared: Parameter
    get: Function | None
    set: Function | None

    @property
    def name(self) -> str:
        """The setting's name."""
        return self.declared.name


class CommandRow(NamedTuple):
    """``struct plugd_command``."""

    name: str
    help: str
    parameters: tuple[Parameter, ...]
    call: Function


class Declaration(NamedTuple):
    """``struct plugd_descriptor``."""

    abi_version: int
    version: str
    description: str
    interval: float
    timeout: float | None
    metrics: tuple[MetricRow, ...]
    options: tuple[Parameter, ...]
    settings: tuple[SettingRow, ...]
    commands: tuple[CommandRow, ...]
    open: Function | None
    collect: Function
    close: Function | None
    reconfigure: Function | None
    save_state: Function | None
    load_state: Function | None


def read_declaration(address: int, plugin: str) -> tuple[Declaration, list[Fault]]:
    """Read the descriptor at an address; return it with everything that is wrong with it.

    Where its version is wrong, nothing else of it is looked at. Pointers that lead nowhere end this process.

    Args:
        address: what ``plugd_plugin()`` has returned.
        plugin: the plugin's name, from that of its file.
    """
    reader = _Reader(plugin)
    declaration = reader.read(address)
    return declaration, [Fault(message) for message in reader.faults]


class _Reader:
    """Reads one descriptor; its faults are collected as it goes."""

    def __init__(self, plugin: str) -> None:
        self._plugin = plugin
        self._header: abi.Header
        self.faults: list[str] = []

    def read(self, address: int) -> Declaration:
        header = self._header = abi.Header.from_buffer_copy(ctypes.string_at(address, ctypes.sizeof(abi.Header)))
        if not self._header_is_sound():
            return _nothing(header.abi_version)
        plugin = self._structure(abi.Descriptor, address, header.descriptor_size, "struct plugd_descriptor")
        if plugin.collect:
            collect: Function = plugin.collect
        else:
            self.faults.append("no collect() function")
            collect = _absent
        self._check_name(self._text(plugin.name, "the plugin's name"))
        return Declaration(
            abi_version=header.abi_version,
            version=self._version(self._text(plugin.version, "version")),
            description=_first_line(self._text(plugin.description, "description")),
            interval=self._duration("interval", plugin.interval) or USUAL_INTERVAL,
            timeout=self._duration("timeout", plugin.timeout),
            metrics=tuple(self._metrics(plugin)),
            options=tuple(self._parameters(plugin.options, plugin.option_count, "option")),
            settings=tuple(self._settings(plugin)),
            commands=tuple(self._commands(plugin)),
            open=plugin.open or None,
            collect=collect,
            close=plugin.close or None,
            reconfigure=plugin.reconfigure or None,
            save_state=plugin.save_state or None,
            load_state=plugin.load_state or None,
        )

    def _header_is_sound(self) -> bool:
        header = self._header
        if header.abi_version != abi.ABI_VERSION:
            self.faults.append(
                f"written for ABI {header.abi_version}; this plugd speaks ABI {abi.ABI_VERSION}: "
                "compile it again with the plugd.h of this plugd (plugd --include-dir)"
            )
            return False
        for name, first in abi.FIRST_SIZES.items():
            size = getattr(header, name)
            if not first <= size <= DESCRIPTOR_BYTES:
                self.faults.append(f"header: {name} is {size}, of ABI {abi.ABI_VERSION} it is at least {first}")
        if header.value_size != ctypes.sizeof(abi.Value):
            size = ctypes.sizeof(abi.Value)
            self.faults.append(f"header: value_size is {header.value_size}, of ABI {abi.ABI_VERSION} it is {size}")
        return not self.faults

    # Attributes

    def _check_name(self, name: str) -> None:
        """The file's name is the plugin's: one that says otherwise has been renamed."""
        stem = self._plugin.partition("@")[0]
        if name and _bare(name) != _bare(stem):
            self.faults.append(f"it calls itself {name!r}: the file must be named {name}.so, not {stem}.so")

    def _version(self, version: str) -> str:
        if version and not VERSION.match(version):
            self.faults.append(f'version must be text such as "1.2", not {version!r}')
        return version or "0.0.0"

    def _duration(self, name: str, value: float) -> float | None:
        low, high = INTERVAL_RANGE
        if value == 0:
            return None
        if not low <= value <= high:
            self.faults.append(f"{name} must be {low} to {high:.0f} seconds, not {value!r}")
        return float(value)

    def _metrics(self, plugin: abi.Descriptor) -> Iterator[MetricRow]:
        names: set[str] = set()
        rows = self._rows(abi.Metric, plugin.metrics, plugin.metric_count, self._header.metric_size, "metric")
        for number, row in enumerate(rows):
            name = self._text(row.name, f"metric {number}: its name")
            where = f"metric {name!r}"
            unit = self._text(row.unit, f"{where}: unit") or "1"
            labels = self._labels(row, where)
            if row.kind not in _KINDS:
                self.faults.append(f"{where}: kind {row.kind} is neither PLUGD_GAUGE nor PLUGD_COUNTER")
            if not METRIC_NAME.match(name):
                self.faults.append(f"{where}: not a metric name: a letter, then letters, digits and _ . - /")
            elif name in names:
                self.faults.append(f"{where}: declared twice")
            names.add(name)
            if not UNIT.match(unit):
                self.faults.append(f"{where}: not a UCUM unit: {unit!r}")
            yield MetricRow(name, _KINDS.get(row.kind, ""), unit, labels, self._text(row.help, f"{where}: help"))

    def _labels(self, row: abi.Metric, where: str) -> tuple[str, ...]:
        if row.label_count > LABELS:
            self.faults.append(f"{where}: {row.label_count} labels; at most {LABELS} are possible")
            return ()
        if row.label_count and not row.labels:
            self.faults.append(f"{where}: {row.label_count} labels, and labels is NULL")
            return ()
        pointers = (ctypes.c_char_p * row.label_count).from_address(row.labels) if row.label_count else ()
        labels = tuple([self._text(pointer, f"{where}: a label") for pointer in pointers])
        for label in labels:
            if not LABEL_NAME.match(label):
                self.faults.append(f"{where}: not a label name: {label!r}")
        if len(set(labels)) != len(labels):
            self.faults.append(f"{where}: a label is declared twice")
        return labels

    def _settings(self, plugin: abi.Descriptor) -> Iterator[SettingRow]:
        names: set[str] = set()
        rows = self._rows(abi.Setting, plugin.settings, plugin.setting_count, self._header.setting_size, "setting")
        for number, row in enumerate(rows):
            parameter = self._parameter(row.declared, f"setting {number}", "setting", names)
            if parameter.initial is None and not parameter.optional:
                self.faults.append(f"setting {parameter.name!r}: without a default")
            if not row.get and not row.set:
                self.faults.append(f"setting {parameter.name!r}: neither a get() nor a set() function")
            yield SettingRow(parameter, row.get or None, row.set or None)

    def _commands(self, plugin: abi.Descriptor) -> Iterator[CommandRow]:
        names: set[str] = set()
        rows = self._rows(abi.Command, plugin.commands, plugin.command_count, self._header.command_size, "command")
        for number, row in enumerate(rows):
            name = self._word(row.name, f"command {number}", "command", names)
            where = f"command {name!r}"
            parameters = tuple(self._parameters(row.parameters, row.parameter_count, f"{where}: parameter"))
            if not row.call:
                self.faults.append(f"{where}: no call() function")
            for first, second in itertools.pairwise(parameters):
                if second.required and not first.required:
                    self.faults.append(f"{where}: parameter {second.name!r} must be given, and {first.name!r} need not")
            yield CommandRow(name, self._text(row.help, f"{where}: help"), parameters, row.call)

    # Options, settings and parameters

    def _parameters(self, address: int | None, count: int, what: str) -> Iterator[Parameter]:
        names: set[str] = set()
        rows = self._rows(abi.Parameter, address, count, self._header.parameter_size, what)
        for number, row in enumerate(rows):
            yield self._parameter(row, f"{what} {number}", what, names)

    def _parameter(self, row: abi.Parameter, where: str, what: str, names: set[str]) -> Parameter:
        name = self._word(row.name, where, what, names)
        where = f"{what} {name!r}"
        if row.type not in TYPE_NAMES:
            self.faults.append(f"{where}: type {row.type} is none of PLUGD_TYPE_BOOL, _INT, _FLOAT, _STRING, _JSON")
        if row.flags & ~abi.OPTIONAL:
            self.faults.append(f"{where}: flags {row.flags:#x} are not all known to this plugd")
        minimum, maximum = (self._bound(row, key, where) for key in ("minimum", "maximum"))
        parameter = Parameter(
            name=name,
            help=self._text(row.help, f"{where}: help"),
            type=row.type,
            optional=bool(row.flags & abi.OPTIONAL),
            initial=self._value(row.initial, row.type, f"{where}: the default"),
            minimum=minimum,
            maximum=maximum,
            choices=tuple(self._choices(row, where)),
        )
        if parameter.initial is not None and row.type in TYPE_NAMES:
            try:
                convert(parameter, parameter.initial, strict=True)
            except ValueError as error:
                self.faults.append(f"{where}: the default {error}")
        return parameter

    def _bound(self, row: abi.Parameter, key: str, where: str) -> Any:
        value = getattr(row, key)
        if value.type == NULL:
            return None
        if row.type not in (INT, FLOAT):
            self.faults.append(f"{where}: bounds are for numbers")
            return None
        return self._value(value, row.type, f"{where}: the {key}")

    def _choices(self, row: abi.Parameter, where: str) -> Iterator[Any]:
        size = self._header.value_size
        for value in self._rows(abi.Value, row.choices, row.choice_count, size, f"{where}: choice"):
            yield self._value(value, row.type, f"{where}: a choice")

    def _value(self, value: abi.Value, kind: int, where: str) -> Any:
        """Read a declared value, which must be of the declared type; an int will do as a float."""
        try:
            result = read_value(value)
        except ValueError as error:
            self.faults.append(f"{where}: {error}")
            return None
        if value.type in (NULL, kind) or kind not in TYPE_NAMES:
            return result
        if (value.type, kind) == (INT, FLOAT):
            return float(result)
        if kind == JSON and value.type in (BOOL, INT, FLOAT, STRING):
            return result
        self.faults.append(f"{where} is of type {TYPE_NAMES.get(value.type, value.type)}, not {TYPE_NAMES[kind]}")
        return None

    # Memory

    def _word(self, pointer: bytes | None, where: str, what: str, names: set[str]) -> str:
        name = self._text(pointer, f"{where}: its name")
        if not _WORD.match(name):
            self.faults.append(f"{what} {name!r}: not a name: a letter or _, then letters, digits and _")
        elif name in names:
            self.faults.append(f"{what} {name!r}: declared twice")
        names.add(name)
        return name

    def _text(self, pointer: bytes | None, where: str) -> str:
        try:
            return (pointer or b"").decode()
        except UnicodeDecodeError:
            self.faults.append(f"{where} is not UTF-8: {pointer!r}")
            return ""

    def _rows(self, kind: type[S], address: int | None, count: int, stride: int, what: str) -> Iterator[S]:
        if count > ROWS:
            self.faults.append(f"{count} {what}s; at most {ROWS} are possible")
        elif count and not address:
            self.faults.append(f"{count} {what}s, and the array is NULL")
        elif address:
            for number in range(count):
                yield self._structure(kind, address + number * stride, stride, f"{what} {number}")

    def _structure(self, kind: type[S], address: int, size: int, where: str) -> S:
        """Read a structure of which the plugin has so many bytes, more or fewer than this plugd knows."""
        data = ctypes.string_at(address, size)
        known = ctypes.sizeof(kind)
        if any(data[known:]):
            self.faults.append(f"{where}: it uses what a later plugd has, and this one does not know")
        return kind.from_buffer_copy(data[:known].ljust(known, b"\0"))


def _bare(name: str) -> str:
    """``libdisk_io`` and ``disk-io`` are both ``disk_io``: compilers have rules for names, too."""
    return name.removeprefix("lib").replace("-", "_")


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0].strip()


def _absent(*_: Any) -> int:
    raise AssertionError("a plugin without collect() is refused")


def _nothing(abi_version: int) -> Declaration:
    return Declaration(abi_version, "", "", 0.0, None, (), (), (), (), None, _absent, None, None, None, None)
