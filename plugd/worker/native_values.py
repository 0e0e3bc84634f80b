"""Values between plugd and a native plugin: typed as the plugin declares them, and as ``struct plugd_value``."""

import ctypes
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from plugd.worker.abi import BOOL, BYTES, FLOAT, INT, JSON, NULL, STRING, Value

TYPE_NAMES = {BOOL: "bool", INT: "int", FLOAT: "float", STRING: "str", JSON: "json"}
_TYPES: dict[int, Any] = {BOOL: bool, INT: int, FLOAT: float, STRING: str}
_SCHEMAS = {BOOL: "boolean", INT: "integer", FLOAT: "number", STRING: "string"}

_INT_RANGE = range(-(2**63), 2**63)


class Parameter(NamedTuple):
    """``struct plugd_parameter``: an option, what a setting holds, or a parameter of a command."""

    name: str
    help: str
    type: int
    optional: bool
    initial: Any
    minimum: float | None
    maximum: float | None
    choices: tuple[Any, ...]

    @property
    def required(self) -> bool:
        """Whether a value must be given."""
        return self.initial is None and not self.optional

    @property
    def type_name(self) -> str:
        """The type, in the words of Python plugins."""
        return TYPE_NAMES.get(self.type, "unknown")

    def schema(self) -> dict[str, Any]:
        """Return its JSON Schema."""
        kind = _SCHEMAS.get(self.type)
        schema = {
            "type": [kind, "null"] if kind is not None and self.optional else kind,
            "description": self.help or None,
            "minimum": self.minimum,
            "maximum": self.maximum,
            "enum": list(self.choices) or None,
            "default": self.initial,
        }
        return {key: value for key, value in schema.items() if value is not None}


def convert(parameter: Parameter, value: Any, *, strict: bool = False) -> Any:
    """Return a value as the parameter declares it.

    Args:
        parameter: the declaration.
        value: what somebody has given.
        strict: whether text is text and nothing else, as in a configuration; otherwise it is converted, and JSON where
            the parameter is.

    Raises:
        ValueError: it cannot be that; the text says why.
    """
    if value is None and parameter.optional:
        return None
    if parameter.type == JSON:
        result = msgspec.json.decode(value) if isinstance(value, str) and not strict else value
    else:
        try:
            result = msgspec.convert(value, _TYPES[parameter.type], strict=strict)
        except msgspec.ValidationError as error:
            raise ValueError(str(error)) from error
    if parameter.type == INT and result not in _INT_RANGE:
        raise ValueError(f"{result} does not fit into 64 bits")
    if parameter.choices and result not in parameter.choices:
        raise ValueError(f"{result!r} is none of {', '.join(map(repr, parameter.choices))}")
    # A NaN is neither: what is not within the bounds is outside.
    if parameter.minimum is not None and not result >= parameter.minimum:
        raise ValueError(f"{result!r} is below {parameter.minimum}")
    if parameter.maximum is not None and not result <= parameter.maximum:
        raise ValueError(f"{result!r} is above {parameter.maximum}")
    return result


class Values:
    """An argument of a call into the plugin: an array of ``struct plugd_value``, and what those point to.

    Args:
        values: what it is to hold, each with its type.
    """

    def __init__(self, values: Sequence[tuple[int, Any]]) -> None:
        self._kept: list[bytes] = []
        slots = (Value * max(len(values), 1))()
        for slot, (kind, value) in zip(slots, values, strict=False):
            self._fill(slot, kind, value)
        self._as_parameter_ = ctypes.cast(slots, ctypes.POINTER(Value))  # what ctypes passes on

    def _fill(self, slot: Value, kind: int, value: Any) -> None:
        slot.type = NULL if value is None else kind
        if value is None:
            return
        if kind in (BOOL, INT):
            slot.integer = int(value)
        elif kind == FLOAT:
            slot.number = value
        else:
            data = _bytes_of(kind, value)
            self._kept.append(data)
            slot.text = ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p).value
            slot.size = len(data)


def values_of(parameters: Sequence[Parameter], given: Mapping[str, Any]) -> Values:
    """Return the values for these parameters, in their order; ``given`` has one of each by name."""
    return Values([(parameter.type, given[parameter.name]) for parameter in parameters])


def typed(value: Any) -> tuple[int, Any]:
    """Return a value with the type that suits it; what has structure is JSON."""
    for kind, types in ((BOOL, bool), (INT, int), (FLOAT, float), (STRING, str), (BYTES, bytes)):
        if isinstance(value, types) and (kind != INT or value in _INT_RANGE):
            return kind, value
    return JSON, value


def read_value(value: Value) -> Any:
    """Return what a plugin has put into a value.

    Raises:
        ValueError: its type is unknown, its text is no UTF-8, or its JSON is none.
    """
    kind = value.type
    if kind == NULL:
        return None
    if kind in (BOOL, INT):
        return bool(value.integer) if kind == BOOL else value.integer
    if kind == FLOAT:
        return value.number
    if kind not in (STRING, JSON, BYTES):
        raise ValueError(f"a value of the unknown type {kind}")
    if value.size and not value.text:
        raise ValueError(f"a text of {value.size} bytes at no address")
    data = ctypes.string_at(value.text, value.size) if value.size else b""
    if kind == BYTES:
        return data
    return msgspec.json.decode(data) if kind == JSON else data.decode()


def _bytes_of(kind: int, value: Any) -> bytes:
    if kind == JSON:
        return msgspec.json.encode(value)
    return value if isinstance(value, bytes) else str(value).encode(errors="replace")
