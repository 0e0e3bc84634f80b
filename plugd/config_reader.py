"""A table of the configuration to a typed value, with every fault of it: msgspec's own convert stops at the first."""

import difflib
import re
import types
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin

import msgspec

from plugd.settings_files import Fault, Key, Merged, format_key
from plugd.units import shown

_NESTING = 24  # levels of tables and arrays in a plugin's options; a message to a worker holds 32
_PLUGIN_NAME = re.compile(r"[a-z][a-z0-9_.-]{0,63}(@[a-z0-9_.-]{1,64})?")


class Reads(NamedTuple):
    """How a value is read from what people write; stands in a field's annotation."""

    read: Callable[[Any], Any]
    """Returns the value, or raises ValueError with the reason."""


class ConfigReader:
    """Converts values by their types, and goes on after a fault: msgspec's own convert stops at the first."""

    def __init__(self, merged: Merged) -> None:
        self.merged = merged
        self.faults: list[Fault] = []

    def _fault(self, key: Key, reason: str) -> None:
        self.faults.append(Fault(self.merged.origin(key), format_key(key), reason))

    def struct(self, kind: Any, value: object, key: Key) -> Any:
        """Return a table as the class ``kind``; faults are added to ``faults``, and stand under ``key``."""
        if not isinstance(value, dict):
            self._fault(key, f"expected a table, got {shown(value)}")
            return kind()
        # "import" and "except" are words of Python: their attributes have another name than their keys.
        fields = {field.encode_name: field.type for field in msgspec.structs.fields(kind)}
        attributes = {field.encode_name: field.name for field in msgspec.structs.fields(kind)}
        values = {}
        for name, item in value.items():
            if name not in fields:
                self._fault((*key, name), f"unknown key{_suggestion(name, fields)}")
                continue
            count = len(self.faults)
            converted = self._value(fields[name], item, (*key, name))
            if len(self.faults) == count:
                values[attributes[name]] = converted
        return kind(**values)

    def _value(self, kind: Any, value: object, key: Key) -> Any:
        """Return the value as its type; what is returned after a fault is of no use."""
        if get_origin(kind) in (Union, types.UnionType):  # "X | None": TOML has no null, so it is an X
            kind = next(member for member in get_args(kind) if member is not type(None))
        origin, arguments = get_origin(kind), get_args(kind)
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            return self.struct(kind, value, key)
        if origin is dict and arguments[1] is Any:
            return self._free_table(value, key)
        if origin is dict:
            return self._plugins(arguments[1], value, key)
        if origin is tuple:
            return self._array(arguments[0], value, key)
        return self._leaf(kind, value, key)

    def _plugins(self, kind: Any, value: object, key: Key) -> Any:
        if not isinstance(value, dict):
            return self._fault(key, f"expected a table of plugins, got {shown(value)}")
        for name in value:
            if not _PLUGIN_NAME.fullmatch(name):
                self._fault(
                    (*key, name),
                    "not a plugin's name: lowercase letters, digits, '_', '.' and '-', a letter first; "
                    "an instance is NAME@INSTANCE",
                )
        return {name: self.struct(kind, item, (*key, name)) for name, item in value.items()}

    def _array(self, kind: Any, value: object, key: Key) -> Any:
        if not isinstance(value, list):
            return self._fault(key, f"expected an array, got {shown(value)}")
        return tuple([self._value(kind, item, (*key, position)) for position, item in enumerate(value)])

    def _free_table(self, value: object, key: Key) -> Any:
        if not isinstance(value, dict):
            return self._fault(key, f"expected a table, got {shown(value)}")
        self.portable(value, key)
        return value

    def portable(self, value: object, key: Key) -> None:
        """Refuse what TOML knows and msgpack does not: the value goes to a worker over the wire."""
        if len(key) > _NESTING:
            self._fault(key, "nested too deeply")
        elif isinstance(value, dict):
            for name, item in value.items():
                self.portable(item, (*key, name))
        elif isinstance(value, list):
            for position, item in enumerate(value):
                self.portable(item, (*key, position))
        elif isinstance(value, int) and not -(2**63) <= value < 2**64:
            self._fault(key, "a whole number has at most 64 bits")
        elif not isinstance(value, str | int | float):
            self._fault(key, "dates and times are not supported; write it as text, in quotes")

    def _leaf(self, kind: Any, value: object, key: Key) -> Any:
        if get_origin(kind) is Literal:
            choices = get_args(kind)
            if value not in choices:
                hint = _suggestion(str(value), choices) if isinstance(value, str) else ""
                self._fault(key, f"expected one of {', '.join(choices)}, got {shown(value)}{hint}")
            return value
        try:
            for note in getattr(kind, "__metadata__", ()):
                if isinstance(note, Reads):
                    return note.read(value)
            return msgspec.convert(value, kind)
        except msgspec.ValidationError as error:
            reason = str(error).replace("`", "").replace("Expected", "expected")
            return self._fault(key, reason if ", got " in reason else f"{reason}, got {shown(value)}")
        except ValueError as error:
            return self._fault(key, str(error))


def _suggestion(name: str, known: Any) -> str:
    close = difflib.get_close_matches(name.lower(), list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
