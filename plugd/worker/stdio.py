"""The host of a program that speaks plugd's own protocol on its stdin and stdout: a full plugin in any language.

docs/stdio.md is its author's page.
"""

import socket
import time
from collections.abc import Iterator
from typing import Any

from plugd.metric import Metric, MetricError, Sample
from plugd.plugin import API_VERSION
from plugd.worker.command_program import Program
from plugd.worker.failure import REQUEST_INVALID, Failure, Fault, invalid
from plugd.worker.native_arguments import bind, describe, find, options_of, settings_of
from plugd.worker.native_values import Parameter, convert
from plugd.worker.notifications import Notify, define, metric_row
from plugd.worker.series import SeriesTable
from plugd.worker.stdio_channel import UNKNOWN_METHOD, StdioChannel
from plugd.worker.stdio_declaration import Declaration, read_declaration, text


class StdioHost:
    """Such a program in its worker.

    Args:
        notify: sends a notification to the daemon, ahead of the answer to the request at hand.
    """

    def __init__(self, notify: Notify) -> None:
        self._notify = notify
        self._path = ""
        self._channel: StdioChannel
        self._declared: Declaration
        self._metrics: dict[Any, Metric] = {}
        self._table: SeriesTable
        self._options: dict[str, Any] = {}
        self._settings: dict[str, Any] = {}  # as they were last set

    def load(self, params: dict[str, Any]) -> dict[str, Any]:
        """Start the program, and have it declare itself; return what it declares.

        ``params``: as for a program that prints, and ``options`` and ``settings``.

        Raises:
            Failure: ``plugin.invalid`` with every fault of what it declares, or of what it is given.
        """
        self._path = params["command"]["path"]
        self._channel = StdioChannel(Program(params["command"]), self._notify)
        self._channel.start()
        limits = {"samples": params["samples"], "series": params["budget"]}
        answer = self._channel.ask("load", {"name": params["name"], "api": API_VERSION, "limits": limits})
        declared, faults = read_declaration(answer)
        if not faults:
            self._options, faults = options_of(declared.options, params["options"])
            self._settings, setting_faults = settings_of(declared.settings, params["settings"])
            faults += setting_faults
        if faults:
            raise invalid(self._path, faults)
        self._declared = declared
        self._metrics = {metric.name: metric for metric in declared.metrics}
        self._metrics |= {metric.name.encode(): metric for metric in declared.metrics}
        self._table = SeriesTable(declared.metrics, params["budget"], params["samples"])
        return self._summary()

    def start(self, params: dict[str, Any]) -> None:  # noqa: ARG002 - every method takes its params
        """Give the program its options and settings; it opens what it needs."""
        self._ask("start", {"options": self._options, "settings": self._settings})

    def stop(self, params: dict[str, Any]) -> None:  # noqa: ARG002
        """End the program."""
        self._channel.stop()

    def collect(self, params: dict[str, Any]) -> dict[str, Any]:
        """Collect once; ``params`` may have ``inputs``, the latest samples of required plugins.

        Returns: see ``Collected.answer``.
        """
        wall, started = time.time(), time.monotonic()
        asked = {"inputs": params["inputs"]} if "inputs" in params else {}
        answer = self._channel.ask("collect", asked)
        if isinstance(answer, dict):
            answer = answer.get("samples", answer.get(b"samples"))
        if not isinstance(answer, list):
            raise self._invalid("collect: expected an array of samples, or a map with one under 'samples'")
        try:
            collected = self._table.take(list(self._samples(answer)))
        except MetricError as error:
            raise self._invalid(f"collect: {error}") from error
        define(self._notify, collected.define)
        return collected.answer(wall, started)

    def describe(self, params: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG002
        """Return what the program has declared: commands, settings, and options with their JSON Schema."""
        declared = self._declared
        return describe(declared.commands, declared.settings, declared.options, self._options)

    def call(self, params: dict[str, Any]) -> Any:
        """Run the command ``command`` with ``args`` and ``kwargs``, converted as the program declares them."""
        _, command = find("command", params["command"], self._declared.commands)
        arguments = bind(command, params["args"], params["kwargs"])
        return text(self._channel.ask("call", {"command": command.name, "arguments": arguments}))

    def get(self, params: dict[str, Any]) -> Any:
        """Return the value of ``setting``, or all of them by name."""
        name = params.get("setting")
        if name is None:
            return {setting.name: self._get(setting) for setting in self._declared.settings}
        _, setting = find("setting", name, self._declared.settings)
        return self._get(setting)

    def set(self, params: dict[str, Any]) -> Any:
        """Change ``setting`` to ``value``; return it as the program has taken it."""
        _, setting = find("setting", params["setting"], self._declared.settings)
        try:
            value = convert(setting, params["value"])
        except ValueError as error:
            raise Failure(REQUEST_INVALID, f"setting {setting.name!r}: {error}") from error
        self._ask("set", {"setting": setting.name, "value": value})
        self._settings[setting.name] = value
        return self._get(setting)

    def save_state(self, params: dict[str, Any]) -> Any:  # noqa: ARG002
        """Return what the program gives to the next generation."""
        return self._ask("save_state", {})

    def load_state(self, params: dict[str, Any]) -> None:
        """Give the program the ``state`` that the last generation saved."""
        self._ask("load_state", {"state": params["state"]})

    def reconfigure(self, params: dict[str, Any]) -> None:
        """Give the program other ``options`` as it runs; it keeps the old ones where it refuses them."""
        new, faults = options_of(self._declared.options, params["options"])
        if faults:
            raise invalid(self._path, faults)
        self._channel.ask("reconfigure", {"options": new})
        self._options = new

    def wait_readable(self, channel: socket.socket) -> None:
        """Wait for the daemon, and look after the program meanwhile."""
        self._channel.wait_readable(channel)

    def _samples(self, rows: list[Any]) -> Iterator[Sample]:
        metrics = self._metrics
        for row in rows:
            try:
                name, value, labels = row if len(row) == 3 else (*row, {})
                metric = metrics[name]
                values = tuple([labels[label] for label in metric.labels])
            except (TypeError, ValueError, LookupError):
                yield self._slowly(row)
                continue
            if len(labels) != len(values):
                yield self._slowly(row)
            else:
                yield Sample(metric, value, values)

    def _slowly(self, row: Any) -> Sample:
        """Return the sample of a row that is not as most are: with bytes for text. MetricError: it is none."""
        if not isinstance(row, list) or not 2 <= len(row) <= 3:
            raise MetricError(f"a sample is [name, value, {{label: value}}], and not {row!a:.100}")
        name, value, labels = row if len(row) == 3 else (*row, {})
        metric = self._metrics.get(name) if isinstance(name, str | bytes) else None
        if metric is None:
            raise MetricError(f"undeclared metric {text(name)!r:.100}")
        if not isinstance(labels, dict):
            raise MetricError(f"metric {metric.name!r}: labels are a map")
        return metric(value, **text(labels))

    def _get(self, setting: Parameter) -> Any:
        """Ask the program for a setting; what it does not know, it has as it was last set."""
        value = self._ask("get", {"setting": setting.name})
        if value is None:
            return self._settings[setting.name]
        try:
            return convert(setting._replace(choices=(), minimum=None, maximum=None), value, strict=True)
        except ValueError as error:
            raise self._invalid(f"setting {setting.name!r}: get: {error}") from error

    def _ask(self, method: str, params: dict[str, Any]) -> Any:
        """Ask for what a program need not know."""
        try:
            return text(self._channel.ask(method, params))
        except Failure as failure:
            if failure.code == UNKNOWN_METHOD:
                return None
            raise

    def _summary(self) -> dict[str, Any]:
        """What the daemon must know of the program to run it."""
        declared = self._declared
        return {
            "version": declared.version,
            "api": API_VERSION,
            "description": declared.description,
            "interval": declared.interval,
            "timeout": declared.timeout,
            "requires": list(declared.requires),
            "reconfigurable": declared.reconfigurable,
            "metrics": [metric_row(metric) for metric in declared.metrics],
        }

    def _invalid(self, message: str) -> Failure:
        return invalid(self._path, [Fault(message)])
