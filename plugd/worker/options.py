"""Typed values from outside: a plugin's options, its settings, and the arguments of its commands."""

import copy
import difflib
import enum
import inspect
import typing
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from types import UnionType
from typing import Any

import msgspec

from plugd.plugin import Plugin, setting
from plugd.worker.failure import REQUEST_INVALID, Failure, Fault


def build_options(cls: type[Plugin], given: Mapping[str, Any]) -> tuple[Any, dict[str, Any], list[Fault]]:
    """Return the instance for ``self.options``, its values as a plain mapping, and the faults of what was given.

    The nested class ``Options`` has typed attributes with defaults; one without a default must be given.
    """
    declared = getattr(cls, "Options", None)
    if declared is None:
        return None, {}, unknown_options(given, ())
    types, defaults = _fields(declared)
    faults = unknown_options(given, types)
    values: dict[str, Any] = {}
    for name, kind in types.items():
        if name in given:
            try:
                values[name] = _convert(given[name], kind, strict=True)
            except ValueError as error:
                faults.append(Fault(f"option {name!r}: {error}"))
        elif name in defaults:
            values[name] = copy.deepcopy(defaults[name])
        else:
            faults.append(Fault(f"option {name!r} must be given"))
    instance = declared.__new__(declared)
    for name, value in values.items():
        object.__setattr__(instance, name, value)
    return instance, values, faults


def unknown_options(given: Iterable[str], known: Collection[str]) -> list[Fault]:
    """Return the faults of the names that are no options, each with what may have been meant."""
    faults = []
    for name in given:
        if not known:
            faults.append(Fault(f"option {name!r}: this plugin has no options"))
        elif name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else f" (there are: {', '.join(known)})"
            faults.append(Fault(f"no option {name!r}{hint}"))
    return faults


def options_schema(cls: type[Plugin]) -> dict[str, Any] | None:
    """Return the JSON Schema of the plugin's options, or None where it has none."""
    declared = getattr(cls, "Options", None)
    if declared is None:
        return None
    types, defaults = _fields(declared)
    properties = {}
    definitions: dict[str, Any] = {}
    for name, kind in types.items():
        schema = _schema(kind)
        definitions |= schema.pop("$defs", {})  # "$ref" points there from the root
        if name in defaults:
            schema["default"] = plain(defaults[name])
        properties[name] = schema
    return {
        **({"$defs": definitions} if definitions else {}),
        "type": "object",
        "properties": properties,
        "required": [name for name in types if name not in defaults],
        "additionalProperties": False,
    }


def convert_setting(cls: type[Plugin], name: str, declared: setting[Any], value: Any) -> Any:
    """Return the value for a setting; text is converted to its type.

    Raises:
        Failure: ``request.invalid``, with the reason.
    """
    kind = setting_type(cls, name, declared)
    try:
        result = _convert(value, kind)
    except ValueError as error:
        raise Failure(REQUEST_INVALID, f"setting {name!r}: {error}") from error
    if declared.choices and result not in declared.choices:
        raise Failure(
            REQUEST_INVALID,
            f"setting {name!r}: {result!r} is none of {', '.join(map(repr, declared.choices))}",
        )
    # A NaN is neither: what is not within the bounds is outside.
    if declared.minimum is not None and not result >= declared.minimum:
        raise Failure(REQUEST_INVALID, f"setting {name!r}: {result!r} is below {declared.minimum}")
    if declared.maximum is not None and not result <= declared.maximum:
        raise Failure(REQUEST_INVALID, f"setting {name!r}: {result!r} is above {declared.maximum}")
    return result


def setting_type(cls: type[Plugin], name: str, declared: setting[Any]) -> Any:
    """Return the type of a setting: as annotated, or that of its default."""
    annotated = _type_hints(cls).get(name)
    if annotated is not None and typing.get_origin(annotated) is not setting and annotated is not setting:
        return annotated
    return type(declared.default) if declared.default is not None else Any


def bind_arguments(
    name: str, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return a command's arguments, converted to its annotations.

    Raises:
        Failure: ``request.invalid``: too many, too few, of the wrong type.
    """
    hints = _type_hints(function)
    signature = inspect.signature(function)
    try:
        bound = signature.bind(None, *args, **kwargs)
    except TypeError as error:
        raise Failure(REQUEST_INVALID, f"{usage(name, function)}: {error}") from error
    for parameter, value in list(bound.arguments.items())[1:]:
        kind = hints.get(parameter, Any)
        shape = signature.parameters[parameter].kind
        try:
            if shape is inspect.Parameter.VAR_POSITIONAL:
                bound.arguments[parameter] = tuple([_convert(item, kind) for item in value])
            elif shape is inspect.Parameter.VAR_KEYWORD:
                bound.arguments[parameter] = {key: _convert(item, kind) for key, item in value.items()}
            else:
                bound.arguments[parameter] = _convert(value, kind)
        except ValueError as error:
            raise Failure(REQUEST_INVALID, f"{usage(name, function)}: argument {parameter!r}: {error}") from error
    return bound.args[1:], bound.kwargs


def usage(name: str, function: Callable[..., Any]) -> str:
    """Return how a command is called: ``add(a: int, b: int)``."""
    signature = inspect.signature(function)
    parameters = list(signature.parameters.values())[1:]
    return name + str(signature.replace(parameters=parameters, return_annotation=inspect.Signature.empty))


def describe_parameters(function: Callable[..., Any]) -> list[dict[str, Any]]:
    """Return a command's parameters: name, type, whether it is required, its default."""
    hints = _type_hints(function)
    described = []
    for parameter in list(inspect.signature(function).parameters.values())[1:]:
        variadic = parameter.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        required = parameter.default is inspect.Parameter.empty and not variadic
        default = None if required or variadic else plain(parameter.default)
        kind = type_name(hints.get(parameter.name, Any))
        described.append({"name": parameter.name, "type": kind, "required": required, "default": default})
    return described


def type_name(kind: Any) -> str:
    """Return a type as its author would write it."""
    return kind.__name__ if isinstance(kind, type) and not typing.get_args(kind) else str(kind).replace("typing.", "")


def plain(value: Any) -> Any:
    """Return a value as msgpack can carry it; what it cannot becomes its text."""
    try:
        return msgspec.to_builtins(value)
    except (TypeError, ValueError):
        return repr(value)


def _convert(value: Any, kind: Any, *, strict: bool = False) -> Any:
    """Return a value as its type; unless strict, text is converted to it.

    Raises:
        ValueError: it cannot be that; the text says why, and what of a few words it could be.
    """
    try:
        return msgspec.convert(value, kind, strict=strict)
    except (msgspec.ValidationError, TypeError) as error:
        reason = str(error)
        choices = ", ".join(map(repr, _choices(kind)))
        if choices and " - at " not in reason:  # Of the value itself, and not of something in it.
            reason += f" (there are: {choices})"
        elif not strict and isinstance(value, str):
            reason += f": {value!r:.100}"  # Other text would do.
        raise ValueError(reason) from error


def _choices(kind: Any) -> list[Any]:
    """Return the values that a type has if they are a few: Literal, Enum, or one of these or None."""
    origin = typing.get_origin(kind)
    if origin is typing.Literal:
        return list(typing.get_args(kind))
    if origin is typing.Union or origin is UnionType:
        parts = [part for part in typing.get_args(kind) if part is not type(None)]
        return _choices(parts[0]) if len(parts) == 1 else []
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return [each.value for each in kind]
    return []


def _fields(declared: type) -> tuple[dict[str, Any], dict[str, Any]]:
    """The types and the defaults of the attributes of an ``Options`` class."""
    hints = _type_hints(declared)
    types: dict[str, Any] = {}
    defaults: dict[str, Any] = {}
    for base in reversed(declared.__mro__[:-1]):
        for name, value in vars(base).items():
            if name.startswith("_") or callable(value) or isinstance(value, (property, staticmethod, classmethod)):
                continue
            defaults[name] = value
            types[name] = hints.get(name, type(value) if value is not None else Any)
    for name, kind in hints.items():
        if not name.startswith("_"):
            types.setdefault(name, kind)
    return types, defaults


def _type_hints(thing: Any) -> dict[str, Any]:
    """The annotations of a class, with its bases', or of a function, as types."""
    bases = reversed(thing.__mro__) if isinstance(thing, type) else (thing,)
    hints = {name: kind for base in bases for name, kind in getattr(base, "__annotations__", {}).items()}
    if not any(isinstance(kind, str) for kind in hints.values()):
        return hints  # What is text yet is dear to resolve, and rare.
    try:
        return typing.get_type_hints(thing)
    except Exception:  # noqa: BLE001 - an annotation is the author's own expression, and may be anything
        return {}


def _schema(kind: Any) -> dict[str, Any]:
    try:
        return msgspec.json.schema(kind)
    except TypeError:
        return {}
