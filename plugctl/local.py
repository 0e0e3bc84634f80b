"""Verbs that plugctl answers by itself, or almost."""

from __future__ import annotations

from plugctl.errors import FAILED, OK, CallError

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


def check(call: Call, output: Output) -> int:
    """Check a plugin: by its path without a daemon, by its name in the daemon.

    Returns: FAILED if it has faults.

    Raises:
        CallError: it could not be checked.
    """
    name = call.params["name"]
    if "/" not in name and not name.endswith((".py", ".so")):
        from plugctl.changes import check as ask

        return ask(call, output)
    from plugctl.render.plugins import check as draw

    result = check_file(name, call.timeout)
    output.result(result, draw)
    return OK if result["ok"] else FAILED


def check_file(path: str, timeout: float) -> dict[str, Any]:
    """Try a plugin's file in a process of its own; return ``{name, ok, faults, samples, duration}``.

    Raises:
        CallError: ``client.timeout``, or plugd is not installed with plugctl.
    """
    import json
    import subprocess
    import sys

    command = [sys.executable, "-I", "-B", "-m", "plugd.worker.checkfile", path]
    try:
        # The path is one argument, whatever it holds: there is no shell.
        done = subprocess.run(  # noqa: S603
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=timeout, check=False
        )
        result: dict[str, Any] = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        raise CallError("client.timeout", f"cannot check {path!r} within {timeout:g} s") from None
    except (OSError, ValueError):
        raise CallError("client.check", f"cannot check {path!r}: {sys.executable} has no plugd that could") from None
    return result


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
