"""How a generation comes to be: forked, loaded, validated, started, and proven by a first collection."""

import contextlib
import functools
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import anyio.to_thread
import structlog

from plugd.catalog.graph import name_of
from plugd.catalog.spec import PluginSpec
from plugd.errors import PLUGIN_CRASHED, PLUGIN_INVALID, CommandError
from plugd.hosting.cgroups import Leaf
from plugd.hosting.collection import Collection
from plugd.hosting.confinement import rules_of
from plugd.hosting.environment import DAEMON, Environment
from plugd.hosting.forkserver import ForkServerError
from plugd.hosting.generation import Generation
from plugd.hosting.state_dirs import make_state
from plugd.hosting.watch import UsageJudge, UsageLimits
from plugd.hosting.worker import Worker

log = structlog.get_logger()

PROBE_TIMEOUT = 10.0  # seconds for a first collection where no timeout is set: it may have much to open

OnExit = Callable[[Generation, Worker], None]


class Launcher:
    """Makes generations that have shown that they work."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment

    async def prove(
        self, spec: PluginSpec, number: int, settings: dict[str, Any], on_exit: OnExit
    ) -> tuple[Generation, Collection]:
        """Load, validate, start and collect once, in a worker of its own.

        Args:
            spec: what runs.
            number: of the generation.
            settings: values that clients have set; those that were saved are added.
            on_exit: is called when the worker ends, whenever that is.

        Raises:
            CommandError: at what it failed, and why; nothing of it is left.
        """
        _check(spec)
        generation = Generation(spec, number)
        async with self._noted(generation):
            await self._open(generation, settings, on_exit)
            try:
                timeout = spec.config.timeout or generation.description.timeout or PROBE_TIMEOUT
                collection = await generation.collect(timeout, self.inputs(generation))
                await self._environment.states.flush()  # With its number, which no other shall have after a restart.
            except BaseException:
                await generation.close()
                raise
        return generation, collection

    async def start(self, spec: PluginSpec, number: int, settings: dict[str, Any], on_exit: OnExit) -> Generation:
        """Load, validate and start in a worker of its own, and collect nothing: it is paused.

        Args and raises: as of :meth:`prove`.
        """
        _check(spec)
        generation = Generation(spec, number)
        async with self._noted(generation):
            await self._open(generation, settings, on_exit)
            try:
                await self._environment.states.flush()
            except BaseException:
                await generation.close()
                raise
        return generation

    @contextlib.asynccontextmanager
    async def _noted(self, generation: Generation) -> AsyncIterator[None]:
        """Have it written down that a plugin is being started; what it printed goes with the error."""
        startlog, name = self._environment.startlog, generation.spec.name
        await anyio.to_thread.run_sync(startlog.begin, name)
        try:
            yield
        except CommandError as error:
            worker: Worker | None = getattr(generation, "worker", None)
            if worker is not None:
                error.data.setdefault("output", list(worker.last_output))
            raise
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(startlog.end, name)

    async def _open(self, generation: Generation, settings: dict[str, Any], on_exit: OnExit) -> None:
        spec, saved = generation.spec, self._environment.saved.of(generation.spec.name)
        spawn = functools.partial(self._spawn, generation, on_exit)
        await generation.open(spawn, settings, saved, spec.limits.series, self._environment.require)
        self._tell_refused(generation)

    def _tell_refused(self, generation: Generation) -> None:
        name, number = generation.spec.name, generation.number
        for setting, reason in generation.refused.items():
            log.warning("saved_setting_ignored", plugin=name, generation=number, setting=setting, reason=reason)
            cause = f"the saved value of setting {setting!r} is ignored: {reason}"
            self._environment.events.record(name, number, "", "", cause, None)

    def inputs(self, generation: Generation) -> dict[str, Any] | None:
        """Return the latest samples of the plugins that this one requires; None where it requires none."""
        requires = generation.description.requires
        if not requires:
            return None
        latest, own = self._environment.sink.latest, self._environment.own
        return {name: own() if name == DAEMON else latest(name) for name in map(name_of, requires)}

    async def _spawn(self, generation: Generation, on_exit: OnExit, on_define: Callable[[list[Any]], None]) -> Worker:
        spec, environment = generation.spec, self._environment
        if spec.command is not None and spec.command.state is not None:
            await anyio.to_thread.run_sync(make_state, spec)
        credentials, leaf = await self._provide(spec)
        hidden = environment.secrets.hidden_from(spec)
        rules = rules_of(spec, hidden, credentials, None if leaf is None else leaf.rules())
        try:
            image = spec.image.descriptor if spec.image is not None else None
            spawned = await environment.forkserver.spawn(spec.name, rules, image)
        except BaseException as error:
            self._take_back(credentials, leaf)
            if isinstance(error, ForkServerError):
                raise CommandError(PLUGIN_CRASHED, f"cannot fork a worker: {error}") from error
            raise

        def ended(worker: Worker) -> None:
            self._take_back(credentials, leaf)
            on_exit(generation, worker)

        bound = structlog.get_logger(plugin=spec.name, generation=generation.number, pid=spawned.pid)
        return Worker(
            spawned,
            environment.watch,
            UsageJudge(UsageLimits(spec.limits.memory, spec.limits.cpu)),
            output_lines=spec.limits.output_lines,
            on_line=lambda stream, line: bound.info("plugin_output", stream=stream, line=line),
            on_suppressed=lambda lines: bound.warning("plugin_output_suppressed", lines=lines),
            on_define=on_define,
            on_declare=generation.declare,
            on_exit=ended,
            on_kill=None if leaf is None else functools.partial(environment.start, anyio.to_thread.run_sync, leaf.kill),
            why_killed=None if leaf is None else leaf.why_killed,
        )

    async def _provide(self, spec: PluginSpec) -> tuple[str | None, Leaf | None]:
        """Return what a worker is to have to itself: a directory with its secrets, and a cgroup."""
        credentials = None
        if spec.secrets is not None and spec.secrets.credentials:
            credentials = await anyio.to_thread.run_sync(self._environment.secrets.give, spec)
        return credentials, self._environment.cgroups.assign(spec.name, spec.limits)

    def _take_back(self, credentials: str | None, leaf: Leaf | None) -> None:
        self._environment.secrets.take_back(credentials)
        if leaf is not None:
            self._environment.start(self._environment.cgroups.retire, leaf)


def _check(spec: PluginSpec) -> None:
    """See that there is something that may run."""
    if spec.fault is not None:
        where = f"{spec.path}: " if spec.path and spec.path not in spec.fault else ""
        raise CommandError(PLUGIN_INVALID, f"{where}{spec.fault}", {"path": spec.path})
