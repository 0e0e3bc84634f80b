"""call and set: a plugin's own commands, with arguments in order and by name, and its settings."""

from __future__ import annotations

from plugctl.render.values import value
from plugctl.session import session

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from plugctl.arguments import Call
    from plugctl.output import Output


def run(call: Call, output: Output) -> int:
    """Call the command and show what it returns.

    Raises:
        CallError: the request failed.
    """
    params = {"name": call.params["name"], "command": call.params["command"]}
    args, kwargs = split(call.params.get("arguments", ()))
    if args:
        params["args"] = args
    if kwargs:
        params["kwargs"] = kwargs
    with session(call) as client:
        result: Any = client.request("call", params)
    output.result(result, value)
    return 0


def set_value(call: Call, output: Output) -> int:
    """Change a setting and show its new value: ``SETTING VALUE``, or ``SETTING=VALUE``.

    Raises:
        CallError: there is no value, or the request failed.
    """
    params = dict(call.params)
    if "value" not in params:
        setting, equals, text = params["setting"].partition("=")
        if not equals:
            from plugctl.arguments import UsageError

            raise UsageError("set: VALUE is missing", call.verb)
        params |= {"setting": setting, "value": text}
    with session(call) as client:
        result: Any = client.request("set", params)
    output.result(result, value)
    return 0


def split(arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Return the arguments in order, and those by name: ``KEY=VALUE`` where KEY is a Python word.

    They stay text: the daemon, which knows the command's parameters, converts them.
    """
    args, kwargs = [], {}
    for argument in arguments:
        key, equals, text = argument.partition("=")
        if equals and key.isidentifier():
            kwargs[key] = text
        else:
            args.append(argument)
    return args, kwargs
