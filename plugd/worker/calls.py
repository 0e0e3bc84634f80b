"""The commands that a worker is at: those that go on from one request of the daemon to the next."""

import traceback
from collections.abc import Callable
from typing import Any

from plugd.worker.steps import Finished, Steps


class Calls:
    """Answers ``begin``, ``step`` and ``end``, whatever the plugin's kind.

    A command that yields is not run through: the daemon asks for one step after the other, and for other things in
    between. So nothing runs in a worker but what the daemon waits for, and the time of each is its own.

    Args:
        handlers: of the worker's methods, of which ``call`` runs a command, and returns its result, or Steps.
    """

    def __init__(self, handlers: dict[str, Callable[[dict[str, Any]], Any]]) -> None:
        self._handlers = handlers
        self._running: dict[int, Steps] = {}

    def begin(self, params: dict[str, Any]) -> dict[str, Any]:
        """Call a command, as number ``call``: ``{result}``, or ``{running}`` where its steps are still to come."""
        result = self._handlers["call"](params)
        if not isinstance(result, Steps):
            return {"result": result}
        self._running[params["call"]] = result
        return {"running": True}

    def step(self, params: dict[str, Any]) -> dict[str, Any]:
        """Run command ``call`` to its next step: ``{running, progress}``, or in the end ``{result}``."""
        number = params["call"]
        steps = self._running.pop(number)  # Which it comes back to if it goes on.
        progress = steps.advance()
        if isinstance(progress, Finished):
            return {"result": progress.result}
        self._running[number] = steps
        return {"running": True, "progress": progress}

    def end(self, params: dict[str, Any]) -> None:
        """End command ``call``, if it still runs; what it raises at that is its plugin's output."""
        steps = self._running.pop(params["call"], None)
        if steps is None:
            return
        try:
            steps.close()
        except BaseException:  # noqa: BLE001 - the plugin's own code ran, and nobody waits for it any more
            traceback.print_exc()

    def end_all(self) -> None:
        """End what still runs."""
        for number in list(self._running):
            self.end({"call": number})
