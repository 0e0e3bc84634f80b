"""watch: samples and events, as they come, until somebody has seen enough."""

from __future__ import annotations

from plugctl.errors import CallError
from plugctl.output import drawn
from plugctl.render.metrics import event, lost, samples
from plugctl.session import session

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Never

    from plugctl.arguments import Call
    from plugctl.output import Output


def run(call: Call, output: Output) -> Never:
    """Show notifications; with ``--json``, each as one object on a line of its own.

    Where the daemon says that it stops, and another takes its place at the same socket, they go on with that one's.

    Raises:
        CallError: the daemon refuses, or goes away for good.
    """
    seen_lost = 0
    stopping = False

    def show(method: str, params: dict[str, Any]) -> None:
        nonlocal seen_lost, stopping
        stopping = method == "stopping"
        if method not in ("sample", "event"):
            return
        if output.json:
            output.json_object(params)
            return
        dropped = params.get("dropped") or 0
        if dropped > seen_lost:
            output.lines([lost(dropped - seen_lost, output.style)])
            seen_lost = dropped
        output.lines(drawn(samples if method == "sample" else event, params, output.style))

    with session(call) as client:
        client.request("subscribe", call.params, show)  # the first may come before the answer
        while True:
            try:
                show(*client.next_notification())
            except CallError as error:
                if not stopping:
                    raise
                client.reconnect(error)
                seen_lost, stopping = 0, False
                client.request("subscribe", call.params, show)
