"""One generation of a plugin: one version of its code and options, in one worker."""

import math
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog

from plugd.catalog.spec import PluginSpec
from plugd.errors import PLUGIN_INVALID, PLUGIN_TIMEOUT, CommandError
from plugd.hosting.collection import Collection, MetricDeclaration, SeriesIndex
from plugd.hosting.worker import Worker

log = structlog.get_logger()

LOAD_TIMEOUT = 10.0  # seconds to import, to validate, and to start
TEXT_CHARACTERS = 4096  # of a description
STATE_TIMEOUT = 2.0  # seconds for save_state and for load_state


@dataclass(frozen=True, slots=True)
class Description:
    """What a plugin says of itself, as its worker has validated it."""

    version: str
    api: int
    text: str
    interval: float
    timeout: float | None
    requires: tuple[str, ...]
    metrics: tuple[MetricDeclaration, ...]
    reconfigurable: bool  # whether it takes other options while it runs
    unconfined: tuple[str, ...] = ()  # what of its confinement could not be had here, and why


class Generation:
    """A worker that holds one plugin; made by :meth:`open`, ended by :meth:`close`."""

    def __init__(self, spec: PluginSpec, number: int) -> None:
        self.spec = spec
        self.number = number
        self.loaded_at = time.time()
        self.description: Description
        self.worker: Worker
        self.refused: dict[str, str] = {}  # saved settings that it does not take, and why
        self._index = SeriesIndex(())  # until it has said what it declares

    async def open(
        self,
        spawn: Callable[[Callable[[list[Any]], None]], Any],
        settings: dict[str, Any],
        saved: Mapping[str, Any],
        budget: int,
        require: Callable[[str, tuple[str, ...]], Awaitable[None]],
    ) -> None:
        """Fork the worker, load and validate the plugin, wait for what it requires, and run its ``start``.

        Args:
            spawn: forks a worker, given what takes definitions of series.
            settings: values that clients have set.
            saved: values that have lasted. Where it cannot start with them, be it because another version of it
                takes other values, it is started without, and is then given those that it takes: see ``refused``.
            budget: series of one metric.
            require: waits for what it requires.

        Raises:
            CommandError: why it could not be; the worker is gone then.
        """
        self._settings = {**saved, **settings}
        others = {name: value for name, value in saved.items() if name not in settings}
        try:
            await self._open(spawn, self._settings, budget, require)
        except CommandError as error:
            if not others or error.code == PLUGIN_TIMEOUT:
                raise
            await self._open(spawn, settings, budget, require)
            await self._take(others)

    async def _take(self, saved: Mapping[str, Any]) -> None:
        for name, value in saved.items():
            try:
                await self.worker.call("set", {"setting": name, "value": value}, LOAD_TIMEOUT)
            except CommandError as error:
                self.refused[name] = error.message

    async def _open(
        self,
        spawn: Callable[[Callable[[list[Any]], None]], Any],
        settings: Mapping[str, Any],
        budget: int,
        require: Callable[[str, tuple[str, ...]], Awaitable[None]],
    ) -> None:
        self.worker = await spawn(self._define)
        try:
            params = {
                "name": self.spec.name,
                "kind": self.spec.kind,
                "path": self.spec.path,
                "source": self.spec.source,
                "options": self.spec.config.options,
                "settings": {**self.spec.config.settings, **settings},
                "budget": budget,
                "samples": self.spec.limits.samples,
            }
            if self.spec.command is not None:
                params["command"] = self.spec.command.as_params()
                params["kind"] = "stdio" if self.spec.command.format == "plugd" else "command"
            self.description = _description(await self.worker.call("load", params, LOAD_TIMEOUT))
            self._index = SeriesIndex(self.description.metrics, 2 * self.spec.limits.samples)
            await require(self.spec.name, self.description.requires)
            await self.worker.call("start", {}, LOAD_TIMEOUT)
        except BaseException:
            await self.worker.stop()
            raise

    def _define(self, rows: list[Any]) -> None:
        self._index.define(rows)

    def declare(self, rows: list[Any]) -> None:
        """Take metrics that the plugin has learnt of as it runs.

        Raises:
            ValueError, TypeError, LookupError: they are malformed, or too many.
        """
        self._index.declare(rows)

    @property
    def metrics(self) -> Sequence[MetricDeclaration]:
        """What the plugin has declared so far."""
        return self._index.metrics

    async def collect(self, timeout: float, inputs: dict[str, Any] | None = None) -> Collection:
        """Collect once.

        Raises:
            CommandError: what the plugin raised, how it died, or ``plugin.timeout``.
        """
        params: dict[str, Any] = {} if inputs is None else {"inputs": inputs}
        if self.spec.command is not None:
            params["timeout"] = timeout  # Its worker ends the program in time, and lives on.
        asked = time.time(), time.monotonic()
        reply = await self.worker.call("collect", params, timeout)
        return self._index.collection(reply, asked, (time.time(), time.monotonic()))

    async def apply(self, settings: Callable[[], Mapping[str, Any]]) -> None:
        """Set what clients have set since this generation was opened, and forget what they have forgotten.

        Args:
            settings: returns all that is set by now, saved or not.

        Raises:
            CommandError: the plugin refuses it.
        """
        for name in self._settings.keys() - settings().keys():
            try:
                await self.reset(name)
            except LookupError:
                pass  # The one before had it.
        while changed := {name: value for name, value in settings().items() if self._settings.get(name, self) != value}:
            for name, value in changed.items():
                self._settings[name] = value
                await self.worker.call("set", {"setting": name, "value": value}, LOAD_TIMEOUT)
                self.refused.pop(name, None)

    async def reset(self, setting: str) -> Any:
        """Give a setting the value that it has by the configuration, or its default; return that.

        Raises:
            LookupError: the plugin has no such setting.
            CommandError: it refuses the value, or has failed.
        """
        self._settings.pop(setting, None)
        self.refused.pop(setting, None)
        details = await self.worker.call("describe", {}, LOAD_TIMEOUT)
        try:
            defaults = {row["name"]: row["default"] for row in details["settings"]}
        except (LookupError, TypeError) as error:
            raise CommandError(PLUGIN_INVALID, "describe gave a malformed answer") from error
        value = self.spec.config.settings.get(setting, defaults[setting])
        return await self.worker.call("set", {"setting": setting, "value": value}, LOAD_TIMEOUT)

    def can_reconfigure(self, spec: PluginSpec) -> bool:
        """Whether the plugin takes this spec as it runs: its options are all that is new."""
        if not self.description.reconfigurable or self.spec.config.options == spec.config.options:
            return False
        config = msgspec.structs.replace(self.spec.config, options=spec.config.options)
        return config == spec.config and self.spec.sha256 == spec.sha256 and self.spec.same_confinement(spec)

    async def reconfigure(self, spec: PluginSpec) -> None:
        """Have the plugin take other options.

        Raises:
            CommandError: they are invalid, or the plugin refuses them; the old ones stay in force.
        """
        await self.worker.call("reconfigure", {"options": spec.config.options}, LOAD_TIMEOUT)
        self.spec = spec

    async def save_state(self) -> Any:
        """Return what the next generation shall know, or None; also where the plugin fails at it.

        One whose ``save_state`` is broken must not be kept from the edit that mends it.
        """
        try:
            return await self.worker.call("save_state", {}, STATE_TIMEOUT)
        except CommandError as error:
            log.warning("state_lost", plugin=self.spec.name, generation=self.number, reason=error.message)
            return None

    async def load_state(self, state: Any) -> None:
        """Hand over what the last generation saved."""
        await self.worker.call("load_state", {"state": state}, STATE_TIMEOUT)

    async def close(self) -> None:
        """Stop the plugin and end its worker."""
        await self.worker.stop()


def _description(reply: Any) -> Description:
    """Take what the worker says; it may say anything."""
    try:
        return Description(
            version=str(reply["version"]),
            api=int(reply["api"]),
            text=str(reply["description"])[:TEXT_CHARACTERS],
            interval=_duration(reply["interval"]),
            timeout=None if reply["timeout"] is None else _duration(reply["timeout"]),
            requires=tuple(map(str, reply["requires"])),
            metrics=tuple(map(MetricDeclaration.of, reply["metrics"])),
            reconfigurable=bool(reply["reconfigurable"]),
            unconfined=tuple(map(str, reply.get("unconfined", ()))),
        )
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise CommandError(PLUGIN_INVALID, f"load gave a malformed answer: {error!r:.200}") from error


def _duration(value: Any) -> float:
    seconds = float(value)
    if not math.isfinite(seconds):
        raise ValueError(f"{seconds} seconds")
    return min(max(seconds, 0.01), 86_400.0)
