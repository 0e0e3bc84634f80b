"""Verbs that change which plugins there are, and say of each what became of it: load, unload, reload, check."""

from __future__ import annotations

from plugctl.advice import advice
from plugctl.errors import FAILED, OK, CallError, error_of
from plugctl.render.metrics import event
from plugctl.render.plugins import check as draw_check
from plugctl.session import session
from plugctl.text import BOLD, Style, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from plugctl.arguments import Call
    from plugctl.client import Client
    from plugctl.output import Output

_OUTCOMES = ("loaded", "reloaded", "unloaded")


def run(call: Call, output: Output) -> int:
    """Load, unload or reload; return FAILED if any of the plugins failed.

    On a terminal, where there may be many of them, each is shown as it comes.

    Raises:
        CallError: the request as a whole failed.
    """
    with session(call) as client:
        watcher = _watcher(call, client, output) if _is_worth_watching(call, output) else None
        result = client.request(call.verb.name, call.params, watcher)
    dry = bool(call.params.get("dry_run"))
    output.result(result, lambda result, style: summary(result, style, dry=dry))
    failures = [error_of(failed.get("error")) for failed in result.get("failed") or ()]
    for failure in failures:
        output.complain(failure.message + advice(failure, call))
    return FAILED if failures else OK


def check(call: Call, output: Output) -> int:
    """Check a plugin's file; return FAILED if it has faults.

    Raises:
        CallError: the request failed.
    """
    with session(call) as client:
        result = client.request("check", call.params)
    output.result(result, draw_check)
    return OK if result["ok"] else FAILED


def summary(result: dict[str, Any], style: Style, *, dry: bool = False) -> list[str]:
    """Draw the answer to ``load``, ``unload`` or ``reload``; what failed is told apart, on stderr."""
    lines = []
    for outcome in _OUTCOMES:
        if result.get(outcome):
            word = f"would be {outcome}" if dry else outcome
            lines.append(f"{style.paint(word, BOLD)}  {', '.join([printable(name) for name in result[outcome]])}")
    unchanged = result.get("unchanged") or ()
    if unchanged:
        lines.append(f"{style.paint('unchanged', BOLD)}  {len(unchanged)} plugin{'' if len(unchanged) == 1 else 's'}")
    if not lines and not result.get("failed"):
        lines.append("nothing to do")
    return lines


def _is_worth_watching(call: Call, output: Output) -> bool:
    if not output.is_terminal or output.json or call.params.get("dry_run"):
        return False
    return call.verb.name in ("load", "reload") and len(call.params.get("names", ())) != 1


def _watcher(call: Call, client: Client, output: Output) -> Callable[[str, dict[str, Any]], None] | None:
    """Subscribe to changes of state, and return what shows them; None where that is refused."""
    names = call.params.get("names")
    try:
        client.request("subscribe", {"patterns": [], "events": True})
    except CallError as failure:
        if failure.code.startswith("client."):
            raise
        return None  # The summary will do

    def show(method: str, params: dict[str, Any]) -> None:
        if method == "event" and (names is None or params.get("plugin") in names):
            output.lines(event(params, output.style))

    return show
