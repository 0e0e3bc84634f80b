"""Verbs that plugctl answers by itself, or almost."""

from __future__ import annotations

from plugctl.errors import OK, CallError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from plugctl.arguments import Call
    from plugctl.output import Output
    from plugctl.text import Style


def version(call: Call, output: Output) -> int:
    """Show both versions; plugctl's own even where there is no daemon.

    Raises:
        CallError: the daemon's could not be had.
    """
    from plugctl.session import session

    own = own_version()
    try:
        with session(call) as client:
            result = client.request("version")
    except CallError as failure:
        failure.data = {**failure.data, "client": own}
        if not output.json:
            output.lines([f"plugctl {own}"])
        raise
    output.result({"client": own, **result}, versions)
    return OK


def versions(result: dict[str, Any], style: Style) -> list[str]:
    """Draw the versions of client and daemon."""
    from plugctl.text import BOLD, printable

    details = [f"{name} {result[name]}" for name in ("api", "protocol") if name in result]
    if "python" in result:
        details.append(f"Python {result['python']}")
    if "platform" in result:
        details.append(str(result["platform"]))
    lines = [f"plugctl {result['client']}", f"plugd {result['version']} ({', '.join(details)})"]
    return [style.paint(printable(line), BOLD) for line in lines]


def show_help(call: Call, output: Output) -> int:
    """Show help: of the verb that was named, or of plugctl.

    Raises:
        UsageError: there is no such verb.
    """
    from plugctl.arguments import verb_named
    from plugctl.usage import help_text

    topic = call.params.get("topic")
    if topic is None:
        output.lines([help_text(None if call.bare or call.verb.name == "help" else call.verb)])
    else:
        output.lines([help_text(verb_named(topic))])
    return OK


def own_version() -> str:
    """Return plugctl's version: it comes with plugd's."""
    from plugd import __version__

    return __version__
