"""The host of a plugin that is somebody else's program: runs it, reads what it prints, and declares what it finds."""

import os
import socket
import time
from typing import Any

from plugd.formats.reading import Parsed
from plugd.plugin import API_VERSION
from plugd.worker.command_formats import Format, format_of
from plugd.worker.command_metrics import DiscoveredMetrics, Told, clean
from plugd.worker.command_munin import INTERVAL as MUNIN_INTERVAL
from plugd.worker.command_munin import MuninSource
from plugd.worker.command_program import Program
from plugd.worker.command_run import Output, run, write_out
from plugd.worker.command_stream import StreamSource
from plugd.worker.failure import CRASHED, INVALID, REQUEST_INVALID, Failure, no_such
from plugd.worker.notifications import Notify
from plugd.worker.series import Collected

USUAL_TIMEOUT = 30.0  # seconds, where the daemon names no other
CALL_TIMEOUT = 25.0  # seconds for a run that somebody has asked for and given no deadline
CALL_CHARACTERS = 64 * 1024  # of what it printed then

MARGIN = 0.1  # of the time for a run, by which the program must end before the daemon ends the worker
MARGIN_MOST = 0.5  # seconds

_OWN_STDOUT = 1


class CommandHost:
    """A program in its worker.

    Args:
        notify: sends a notification to the daemon, ahead of the answer to the request at hand.
    """

    def __init__(self, notify: Notify) -> None:
        self._notify = notify
        self._program: Program
        self._metrics: DiscoveredMetrics
        self._format = ""
        self._source: OneShotSource | MuninSource | StreamSource
        self._status: float | None = None  # of a check, as it was last told

    def load(self, params: dict[str, Any]) -> dict[str, Any]:
        """See that the program is the one that was checked; nothing of it runs yet.

        ``params``: ``name``, ``command`` (see ``CommandSpec.as_params``), ``budget`` (series of one metric),
        ``samples`` (of one collection).

        Raises:
            Failure: ``plugin.invalid``: it is not; or it is given options or settings, which it cannot have.
        """
        command = params["command"]
        for what in ("options", "settings"):
            if params[what]:
                raise Failure(INVALID, f"a program that prints {command['format']} has no {what}")
        self._program = Program(command)
        self._metrics = DiscoveredMetrics(self._notify, params["budget"], params["samples"])
        self._format = command["format"]
        interval = MUNIN_INTERVAL
        if self._format == "munin":
            self._source = MuninSource(self._program, autoconf=command["autoconf"])
        else:
            format_ = format_of(self._format)
            interval = format_.interval
            if command["mode"] == "daemon":
                self._source = StreamSource(self._program, format_, self._notify)
            else:
                self._source = OneShotSource(self._program, format_)
        return {
            "version": "",
            "api": API_VERSION,
            "description": f"{self._format}: {clean(os.path.basename(self._program.argv[0]))}",
            "interval": interval,
            "timeout": None,
            "requires": [],
            "reconfigurable": False,
            "metrics": [],
        }

    def start(self, params: dict[str, Any]) -> None:  # noqa: ARG002 - every method takes its params
        """Start a program that goes on; any other is started for each collection."""
        if isinstance(self._source, StreamSource):
            self._source.start()

    def stop(self, params: dict[str, Any]) -> None:  # noqa: ARG002
        """End a program that goes on."""
        if isinstance(self._source, StreamSource):
            self._source.stop()

    def collect(self, params: dict[str, Any]) -> dict[str, Any]:
        """Run the program, or take what one that goes on has printed since; ``params`` has the ``timeout``.

        Returns: see ``Collected.answer``; and ``told``: ``[malformed lines, the first, a line for people]``; ``idle``:
        whether nothing has come since the last time, so that what there was stays as it is.

        Raises:
            Failure: it failed, printed nothing or nothing that can be read, or was too slow and has been killed.
        """
        wall, started = time.time(), time.monotonic()
        parsed = self._source.read(_deadline(started, params.get("timeout", USUAL_TIMEOUT)))
        if parsed is not None and parsed.fault_count and not parsed.readings and not parsed.notices:
            first = parsed.faults[0]
            raise Failure(
                CRASHED,
                f"nothing of its output can be read: {parsed.fault_count} malformed lines; "
                f"line {first.line}: {clean(first.message)}",
            )
        collected, told = Collected(), Told(0, "", None)
        if parsed is not None:
            collected, told = self._metrics.take(parsed)
            self._tell(parsed, told)
        return collected.answer(wall, started) | {"told": list(told), "idle": parsed is None}

    def describe(self, params: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG002
        """Return its one command, for a program that is run each time; it has neither settings nor options."""
        parameters = [{"name": "argument", "type": "str", "required": False, "default": ""}]
        command = {
            "name": "run",
            "help": "Run it now, and return what it prints.",
            "parameters": parameters if self._format == "munin" else [],
        }
        return {
            "commands": [] if isinstance(self._source, StreamSource) else [command],
            "settings": [],
            "options": {},
            "options_schema": None,
        }

    def call(self, params: dict[str, Any]) -> Any:
        """Run it as a collection does, in the same environment, and return what it printed."""
        known = [command["name"] for command in self.describe({})["commands"]]
        if params["command"] not in known:
            raise Failure(REQUEST_INVALID, no_such("command", params["command"], known))
        arguments = [*params["args"], *params["kwargs"].values()]
        allowed = ("config", "autoconf") if self._format == "munin" else ()
        if any(argument not in allowed for argument in arguments) or len(arguments) > 1:
            usage = f"argument: {' or '.join(allowed)}" if allowed else ""
            raise Failure(REQUEST_INVALID, f"run({usage}): got {', '.join(map(repr, arguments))}")
        started = time.monotonic()
        output = run(self._program, *arguments, deadline=_deadline(started, params.get("timeout", CALL_TIMEOUT)))
        return {
            "status": output.status,
            "duration": time.monotonic() - started,
            "stdout": output.stdout[:CALL_CHARACTERS].decode("utf-8", "backslashreplace"),
            "stderr": output.error,
        }

    def get(self, params: dict[str, Any]) -> Any:
        """Return no settings."""
        if params.get("setting") is None:
            return {}
        raise Failure(REQUEST_INVALID, no_such("setting", params["setting"], ()))

    def set(self, params: dict[str, Any]) -> Any:
        """Refuse: it has no settings."""
        raise Failure(REQUEST_INVALID, no_such("setting", params["setting"], ()))

    def save_state(self, params: dict[str, Any]) -> None:
        """Return nothing: what the program keeps, it keeps itself."""

    def load_state(self, params: dict[str, Any]) -> None:
        """Take nothing."""

    def reconfigure(self, params: dict[str, Any]) -> None:
        """Never asked for: it has no options."""

    def wait_readable(self, channel: socket.socket) -> None:
        """Read what a program that goes on prints, until the daemon has something to say."""
        if isinstance(self._source, StreamSource):
            self._source.wait_readable(channel)

    def _tell(self, parsed: Parsed, told: Told) -> None:
        """Write to the plugin's log what is meant for people: each notification; a check's text where it is another."""
        if self._format == "nagios":
            status = parsed.readings[0].value
            if status != self._status:
                write_out(_OWN_STDOUT, f"status {status:.0f}: {told.notice or ''}\n".encode())
            self._status = status
            return
        for notice in parsed.notices:
            write_out(_OWN_STDOUT, f"{clean(notice)}\n".encode())


class OneShotSource:
    """A program that is run for each collection.

    Args:
        program: what to run.
        format_: of its output.
    """

    def __init__(self, program: Program, format_: Format) -> None:
        self._program = program
        self._format = format_

    def read(self, deadline: float) -> Parsed:
        """Run it, and return what it printed.

        Raises:
            Failure: it failed, took too long, or printed nothing.
        """
        output: Output = run(self._program, deadline=deadline)
        if output.status not in self._format.statuses:
            raise Failure(CRASHED, f"the program {output.ending}")
        if not output.stdout.strip():
            raise Failure(CRASHED, "the program printed nothing" + (f": {output.error}" if output.error else ""))
        if b"\0" in output.stdout:
            raise Failure(CRASHED, "the program printed what is no text")
        return self._format.parse(output.stdout, output.status)


def _deadline(started: float, timeout: float) -> float:
    return started + timeout - min(MARGIN * timeout, MARGIN_MOST)
