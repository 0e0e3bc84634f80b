"""call and set: a plugin's own commands, with arguments in order and by name, and its settings."""

from __future__ import annotations

from plugctl.progress import ProgressLine
from plugctl.render.values import value
from plugctl.session import session

USUAL_DEADLINE = 30.0  # seconds that a command has if nobody says otherwise
PATIENCE = 5.0  # seconds beyond the deadline

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from plugctl.arguments import Call
    from plugctl.output import Output


def run(call: Call, output: Output) -> int:
    """Call the command and show what it returns; on a terminal, how far it is meanwhile.

    Raises:
        CallError: the request failed.
        KeyboardInterrupt: somebody did not want to wait; the command has been cancelled.
    """
    params = {"name": call.params["name"], "command": call.params["command"]}
    deadline = call.params.get("deadline")
    if deadline is not None:
        params["timeout"] = deadline
    args, kwargs = split(call.params.get("arguments", ()))
    if args:
        params["args"] = args
    if kwargs:
        params["kwargs"] = kwargs
    with session(call) as client:
        if "timeout" not in call.options:  # The daemon is to say that it takes too long, and not this process.
            client.timeout = (deadline or USUAL_DEADLINE) + PATIENCE
        with ProgressLine(f"{params['name']} {params['command']}", wanted=not output.json) as line:
            try:
                result: Any = client.request("call", params, line.show)
            except KeyboardInterrupt:
                client.cancel()
                raise
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
