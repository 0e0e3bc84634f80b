"""The host of a Python plugin: compiles the verified bytes, holds the instance, and runs its methods."""

import inspect
import marshal
import os
import socket
import sys
import time
from collections import deque
from collections.abc import AsyncIterable, Callable, Iterable
from types import ModuleType
from typing import TYPE_CHECKING, Any

from plugd.metric import Metric, MetricError, Sample
from plugd.plugin import Plugin
from plugd.worker import options, validation
from plugd.worker.analysis import SourceError, analyse_apart
from plugd.worker.failure import (
    INVALID,
    REQUEST_INVALID,
    Failure,
    Fault,
    describe_exception,
    invalid,
    line_in,
    no_such,
    remember_source,
)
from plugd.worker.notifications import Notify, define, metric_row
from plugd.worker.secrets import read_credentials
from plugd.worker.series import DEFAULT_SAMPLES, SeriesTable
from plugd.worker.steps import Steps, is_steps

if TYPE_CHECKING:
    from plugd.worker.event_loop import EventLoop


class PythonHost:
    """A Python plugin in its worker.

    Args:
        notify: sends a notification to the daemon, ahead of the answer to the request at hand.
    """

    def __init__(self, notify: Notify) -> None:
        self._notify = notify
        self._path = ""
        self._plugin: Plugin
        self._class: type[Plugin]
        self._metrics: list[Metric] = []
        self._options: dict[str, Any] = {}
        self._table: SeriesTable
        self._loop: EventLoop | None = None

    def load(self, params: dict[str, Any]) -> dict[str, Any]:
        """Compile, execute and validate a file's bytes, and make the instance; return what it declares.

        ``params``: ``name``, ``path`` (for messages: it is not read), ``source`` (bytes), ``options``,
        ``settings``, ``budget`` (series of one metric), ``samples`` (of one collection).

        Raises:
            Failure: ``plugin.invalid`` with every fault, or what the module's own code raised.
        """
        name, self._path = params["name"], params["path"]
        try:
            analysis = analyse_apart(params["source"], self._path, validation.class_name(name))
        except SourceError as error:
            raise invalid(self._path, [error.fault]) from error
        remember_source(self._path, params["source"])
        module = self._execute(name, analysis.code)
        cls, faults = validation.find_class(module, analysis, name)
        if cls is None:
            raise invalid(self._path, faults)
        self._class = cls
        faults = validation.faults_of(cls, analysis)
        option_values, self._options, option_faults = options.build_options(cls, params["options"])
        if faults or option_faults:
            raise invalid(self._path, [*faults, *option_faults])
        self._metrics = list(validation.metrics_of(cls).values())
        self._table = SeriesTable(self._metrics, params["budget"], params["samples"])
        if _is_async(cls):
            from plugd.worker.event_loop import EventLoop

            self._loop = EventLoop()
        plugin = cls.__new__(cls)
        plugin.name, plugin.options, plugin.inputs = name, option_values, {}
        plugin.credentials = read_credentials(os.environ)
        plugin.pushed = deque(maxlen=params.get("samples", DEFAULT_SAMPLES))
        for setting, value in params["settings"].items():
            self._change(plugin, setting, value)
        self._run("__init__", plugin.__init__)  # type: ignore[misc]  # it was made without it, on purpose
        self._plugin = plugin
        return self._summary(module)

    def start(self, params: dict[str, Any]) -> None:  # noqa: ARG002 - every method takes its params
        """Run the plugin's ``start``, and begin its ``run`` where it has one."""
        self._run("start", self._plugin.start)
        if self._loop is not None and validation.pushes(self._class):
            self._loop.begin(self._push(self._plugin.run()))

    def stop(self, params: dict[str, Any]) -> None:  # noqa: ARG002
        """Run the plugin's ``stop``, and end its event loop."""
        try:
            self._run("stop", self._plugin.stop)
        finally:
            if self._loop is not None:
                self._loop.close()

    def collect(self, params: dict[str, Any]) -> dict[str, Any]:
        """Collect once; ``params`` may have ``inputs``, the latest samples of required plugins.

        Returns: see ``Collected.answer``. New series are sent ahead, as ``define`` notifications.
        """
        if "inputs" in params:
            self._plugin.inputs = params["inputs"]
        wall, started = time.time(), time.monotonic()
        samples: Iterable[Sample] = ()
        try:
            samples = self._samples()
            collected = self._table.take(samples)
        except MetricError as error:
            # A generator whose sample was refused still stands at its yield.
            frame = getattr(samples, "gi_frame", None)
            line = frame.f_lineno if frame is not None else line_in(error.__traceback__, self._path)
            raise invalid(self._path, [Fault(str(error), line)]) from error
        except Failure:
            raise
        except BaseException as error:
            raise describe_exception(error, "collect()", self._path) from error
        define(self._notify, collected.define)
        return collected.answer(wall, started)

    def call(self, params: dict[str, Any]) -> Any:
        """Run the command ``command`` with ``args`` and ``kwargs``; return its result, or Steps of a generator."""
        name = params["command"]
        commands = validation.commands_of(self._class)
        if name not in commands:
            raise Failure(REQUEST_INVALID, no_such("command", name, commands))
        args, kwargs = options.bind_arguments(name, commands[name], params["args"], params["kwargs"])
        result = self._run(name, getattr(self._plugin, name), *args, **kwargs)
        return Steps(result, name, self._path, self._settle) if is_steps(result) else result

    def get(self, params: dict[str, Any]) -> Any:
        """Return the value of ``setting``, or all of them by name."""
        name = params.get("setting")
        settings = validation.settings_of(self._class)
        if name is None:
            return {key: options.plain(getattr(self._plugin, key)) for key in settings}
        self._check_setting(name)
        return options.plain(getattr(self._plugin, name))

    def set(self, params: dict[str, Any]) -> Any:
        """Change ``setting`` to ``value``; return it as converted."""
        self._change(self._plugin, params["setting"], params["value"])
        return self.get({"setting": params["setting"]})

    def save_state(self, params: dict[str, Any]) -> Any:  # noqa: ARG002
        """Run the plugin's ``save_state``."""
        return self._run("save_state", self._plugin.save_state)

    def load_state(self, params: dict[str, Any]) -> None:
        """Run the plugin's ``load_state`` with ``state``."""
        self._run("load_state", self._plugin.load_state, params["state"])

    def reconfigure(self, params: dict[str, Any]) -> None:
        """Give the plugin other ``options`` as it runs; it keeps the old ones where it refuses them."""
        cls, plugin = self._class, self._plugin
        new, plain, faults = options.build_options(cls, params["options"])
        if faults:
            raise invalid(self._path, faults)
        old, plugin.options = plugin.options, new
        try:
            self._run("reconfigure", plugin.reconfigure)
        except Failure:
            plugin.options = old
            raise
        self._options = plain

    def describe(self, params: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG002
        """Return what people want to know of the plugin: commands, settings, options and their JSON Schema."""
        cls = self._class
        return {
            "commands": [
                {
                    "name": name,
                    "help": _first_line(function.__doc__),
                    "parameters": options.describe_parameters(function),
                }
                for name, function in validation.commands_of(cls).items()
            ],
            "settings": [
                {
                    "name": name,
                    "type": options.type_name(options.setting_type(cls, name, declared)),
                    "default": options.plain(declared.default),
                    "help": declared.help,
                    "minimum": declared.minimum,
                    "maximum": declared.maximum,
                    "choices": [options.plain(choice) for choice in declared.choices],
                }
                for name, declared in validation.settings_of(cls).items()
            ],
            "options": {name: options.plain(value) for name, value in self._options.items()},
            "options_schema": options.options_schema(cls),
        }

    def wait_readable(self, channel: socket.socket) -> None:
        """Let an asynchronous plugin's tasks run until the daemon has something to say."""
        if self._loop is not None:
            self._loop.wait_readable(channel)

    def _execute(self, name: str, code: bytes) -> ModuleType:
        """Run the module's own code, from the bytes that were given and nothing else."""
        module = ModuleType("plugd_plugin_" + "".join(c if c.isalnum() else "_" for c in name))
        module.__file__ = self._path
        sys.modules[module.__name__] = module  # Where typing and pickle look names up.
        try:
            exec(marshal.loads(code), module.__dict__)  # noqa: S102, S302 - what a worker is for
        except BaseException as error:
            failure = describe_exception(error, "the module", self._path)
            raise Failure(INVALID, failure.message, **failure.data) from error
        return module

    def _samples(self) -> Iterable[Sample]:
        """Begin a collection; return its samples, which a generator has yet to make."""
        if self._class.collect is Plugin.collect:
            return self._pushed()
        if validation.pushes(self._class):
            return [*self._pushed(), *self._collected()]
        return self._collected()

    def _pushed(self) -> list[Sample]:
        """What came from ``run`` since the last collection: of each series the latest."""
        if self._loop is not None:
            self._run("run", self._loop.check)
        latest = {(sample.metric, sample.labels): sample for sample in self._plugin.pushed}
        self._plugin.pushed.clear()
        return list(latest.values())

    async def _push(self, run: Any) -> None:
        if isinstance(run, AsyncIterable):
            async for sample in run:
                self._plugin.push(sample)
        else:
            await run

    def _collected(self) -> Iterable[Sample]:
        result = self._plugin.collect()
        if inspect.isawaitable(result):
            result = self._settle(result)
        if isinstance(result, AsyncIterable):
            result = self._settle(_gather(result))
        if not isinstance(result, Iterable):
            raise Failure(
                INVALID,
                f"collect() gave a {type(result).__name__} where samples belong: return or yield them",
            )
        return result

    def _run(self, doing: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        try:
            result = function(*args, **kwargs)
            return self._settle(result) if inspect.isawaitable(result) else result
        except BaseException as error:
            raise describe_exception(error, f"{doing}()", self._path) from error

    def _settle(self, awaitable: Any) -> Any:
        if self._loop is None:
            raise Failure(INVALID, "an awaitable came from a method that is not async")
        return self._loop.run(awaitable)

    def _change(self, plugin: Plugin, name: str, value: Any) -> None:
        declared = self._check_setting(name)
        setattr(plugin, name, options.convert_setting(self._class, name, declared, value))

    def _check_setting(self, name: str) -> Any:
        settings = validation.settings_of(self._class)
        if name not in settings:
            raise Failure(REQUEST_INVALID, no_such("setting", name, settings))
        return settings[name]

    def _summary(self, module: ModuleType) -> dict[str, Any]:
        """What the daemon must know of the plugin to run it."""
        cls = self._class
        return {
            "version": cls.version,
            "api": cls.api,
            "description": _first_line(module.__doc__ or cls.__doc__),
            "interval": float(cls.interval),
            "timeout": None if cls.timeout is None else float(cls.timeout),
            "requires": list(cls.requires),
            "reconfigurable": callable(getattr(cls, "reconfigure", None)),
            "metrics": [metric_row(metric) for metric in self._metrics],
        }


def _is_async(cls: type[Plugin]) -> bool:
    """Whether any method that plugd calls is a coroutine function: only then is asyncio imported."""
    methods = [getattr(cls, name, None) for name in validation.METHODS]
    methods += validation.commands_of(cls).values()
    found = any(inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method) for method in methods)
    return found or validation.pushes(cls)


async def _gather(samples: AsyncIterable[Sample]) -> list[Sample]:
    return [sample async for sample in samples]


def _first_line(text: str | None) -> str:
    return (text or "").strip().partition("\n")[0].strip()
