"""What native plugins and stdio programs are given: options, settings, arguments of commands; and their description."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeVar

from plugd.worker.failure import REQUEST_INVALID, Failure, Fault, no_such
from plugd.worker.native_declaration import CommandRow, SettingRow
from plugd.worker.native_values import Parameter, convert
from plugd.worker.options import unknown_options

Row = TypeVar("Row", Parameter, SettingRow, CommandRow)


def options_of(declared: Sequence[Parameter], given: Mapping[str, Any]) -> tuple[dict[str, Any], list[Fault]]:
    """Return a value for every option, and the faults of what was given."""
    values: dict[str, Any] = {}
    faults = unknown_options(given, [parameter.name for parameter in declared])
    for parameter in declared:
        if parameter.name in given:
            try:
                values[parameter.name] = convert(parameter, given[parameter.name], strict=True)
            except ValueError as error:
                faults.append(Fault(f"option {parameter.name!r}: {error}"))
        elif parameter.required:
            faults.append(Fault(f"option {parameter.name!r} must be given"))
        else:
            values[parameter.name] = parameter.initial
    return values, faults


def settings_of(
    declared: Sequence[Parameter], given: Mapping[str, Any], read_only: Collection[str] = ()
) -> tuple[dict[str, Any], list[Fault]]:
    """Return the first value of every setting, and the faults of what was given."""
    values = {setting.name: setting.initial for setting in declared}
    by_name = {setting.name: setting for setting in declared}
    faults = []
    for name, value in given.items():
        if name not in by_name:
            faults.append(Fault(no_such("setting", name, by_name)))
        elif name in read_only:
            faults.append(Fault(f"setting {name!r}: it can be read only"))
        else:
            try:
                values[name] = convert(by_name[name], value)
            except ValueError as error:
                faults.append(Fault(f"setting {name!r}: {error}"))
    return values, faults


def find(what: str, name: str, rows: Sequence[Row]) -> tuple[int, Row]:
    """Return the setting or command of this name, and its number.

    Raises:
        Failure: ``request.invalid``: there is none.
    """
    for number, row in enumerate(rows):
        if row.name == name:
            return number, row
    raise Failure(REQUEST_INVALID, no_such(what, name, [row.name for row in rows]))


def bind(command: CommandRow, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return a value for every parameter of a command.

    Raises:
        Failure: ``request.invalid``: too many, too few, of the wrong type.
    """
    parameters = command.parameters
    try:
        if len(args) > len(parameters):
            raise ValueError("too many positional arguments")
        given = {parameter.name: value for parameter, value in zip(parameters, args, strict=False)}
        for name, value in kwargs.items():
            if name in given:
                raise ValueError(f"multiple values for argument {name!r}")
            if all(name != parameter.name for parameter in parameters):
                raise ValueError(f"got an unexpected keyword argument {name!r}")
            given[name] = value
        return {parameter.name: _argument(parameter, given) for parameter in parameters}
    except ValueError as error:
        usage = ", ".join(map(_usage, parameters))
        raise Failure(REQUEST_INVALID, f"{command.name}({usage}): {error}") from error


def describe(
    commands: Sequence[CommandRow],
    settings: Sequence[Parameter],
    declared: Sequence[Parameter],
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """Return commands, settings, and options with their JSON Schema, as the wire has them."""
    return {
        "commands": [
            {"name": each.name, "help": each.help, "parameters": [_parameter(one) for one in each.parameters]}
            for each in commands
        ],
        "settings": [_setting(each) for each in settings],
        "options": dict(options),
        "options_schema": _schema(declared) if declared else None,
    }


def _argument(parameter: Parameter, given: Mapping[str, Any]) -> Any:
    if parameter.name not in given:
        if parameter.required:
            raise ValueError(f"missing a required argument: {parameter.name!r}")
        return parameter.initial
    try:
        return convert(parameter, given[parameter.name])
    except ValueError as error:
        raise ValueError(f"argument {parameter.name!r}: {error}") from error


def _usage(parameter: Parameter) -> str:
    text = f"{parameter.name}: {parameter.type_name}"
    return text if parameter.required else f"{text} = {parameter.initial!r}"


def _parameter(parameter: Parameter) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "type": parameter.type_name,
        "required": parameter.required,
        "default": parameter.initial,
    }


def _setting(parameter: Parameter) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "type": parameter.type_name,
        "default": parameter.initial,
        "help": parameter.help,
        "minimum": parameter.minimum,
        "maximum": parameter.maximum,
        "choices": list(parameter.choices),
    }


def _schema(options: Sequence[Parameter]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {option.name: option.schema() for option in options},
        "required": [option.name for option in options if option.required],
        "additionalProperties": False,
    }
