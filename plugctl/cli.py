"""plugctl's entry point: parse, carry out, and exit with the status that tells what happened.

0 done, 1 the request failed, 2 usage, 3 no daemon at that socket, 4 denied, 5 not found, 6 timed out.
"""

from __future__ import annotations

import os
import sys

from plugctl.arguments import Call, UsageError, parse
from plugctl.errors import BROKEN_PIPE, INTERRUPTED, OK, CallError
from plugctl.output import Output, misshapen, silence_stdout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any


def main(argv: Sequence[str] | None = None) -> int:
    """Run plugctl with these arguments; return the status to exit with.

    Without arguments given, it runs with the process's own and then ends the process on the spot: to take the
    interpreter apart takes an eighth of a call's time, and everything is written and closed by then.
    """
    if argv is None:
        status = _guarded(sys.argv[1:])
        _flush()
        os._exit(status)
    return _guarded(argv)


def _guarded(arguments: Sequence[str]) -> int:
    try:
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):  # a locale without "µ" is no reason to fail
                stream.reconfigure(errors="backslashreplace")
        return _main(arguments)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        silence_stdout()
        return BROKEN_PIPE


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            pass  # What could be told of it has been


def _main(arguments: Sequence[str]) -> int:
    output = Output(json="--json" in arguments, environ=os.environ)
    call = None
    try:
        call = parse(arguments)
        output.json = bool(call.options.get("json"))
        return run(call, output)
    except UsageError as error:
        from plugctl.usage import usage

        status = output.fail(error)
        print(usage(error.verb), file=sys.stderr)
        return status
    except CallError as failure:
        from plugctl.advice import advice

        return output.fail(failure, advice(failure, call))


def run(call: Call, output: Output) -> int:
    """Carry out a call; return the status to exit with.

    Raises:
        CallError: it could not be done.
    """
    if call.options.get("help"):
        return _imported("plugctl.local:show_help")(call, output)  # type: ignore[no-any-return]
    if call.options.get("show_version"):
        output.lines([f"plugctl {_imported('plugctl.local:own_version')()}"])
        return OK
    if call.verb.run:
        try:
            return _imported("plugctl." + call.verb.run)(call, output)  # type: ignore[no-any-return]
        except (AttributeError, LookupError, TypeError, ValueError) as error:  # as where a renderer fails
            raise misshapen(error) from error
    from plugctl.session import session

    with session(call) as client:
        result = client.request(call.verb.name, call.params)
    output.result(result, _imported("plugctl.render." + call.verb.render))
    return OK


def _imported(name: str) -> Callable[..., Any]:
    module, _, function = name.partition(":")
    found: Callable[..., Any] = getattr(__import__(module, fromlist=[function]), function)
    return found
