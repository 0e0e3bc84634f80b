"""call: a plugin's own command, with arguments in order and by name."""

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
