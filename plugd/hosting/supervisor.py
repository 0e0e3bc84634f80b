"""The life of one plugin: start, ticks, reload, pause, failure and restart, stop. One state machine."""

import asyncio
import functools
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import anyio
import structlog

from plugd.catalog.graph import name_of
from plugd.catalog.spec import PluginSpec
from plugd.errors import PLUGIN_CRASHED, PLUGIN_INVALID, REQUEST_INVALID, CommandError
from plugd.hosting.backoff import Backoff
from plugd.hosting.collection import Collection
from plugd.hosting.environment import Environment, Tick
from plugd.hosting.events import Actor
from plugd.hosting.forkserver import ForkServerError
from plugd.hosting.generation import Generation
from plugd.hosting.watch import UsageJudge
from plugd.hosting.worker import Worker

log = structlog.get_logger()

STARTING, RUNNING, BACKOFF, PAUSED = "starting", "running", "backoff", "paused"
QUARANTINED, FAILED, STOPPING = "quarantined", "failed", "stopping"

DURATIONS_KEPT = 256  # collections, for the percentiles
BREACHES_ALLOWED = 3  # collections in a row that break the plugin's own declarations
PROBE_TIMEOUT = 10.0  # seconds for a first collection where no timeout is set: it may have much to open


@dataclass(slots=True)
class Counters:
    """What a plugin has done since it was loaded; durations in seconds."""

    collects: int = 0  # collections that were complete
    failures: int = 0  # collections that were not
    timeouts: int = 0  # of those, for want of time
    skipped: int = 0  # ticks without a collection
    restarts: int = 0
    dropped: int = 0  # samples over the budget of their metric
    late_max: float = 0.0
    duration_last: float | None = None
    durations: deque[float] = field(default_factory=lambda: deque(maxlen=DURATIONS_KEPT))
    ended_cpu_seconds: float = 0.0  # of workers that are gone


@dataclass(frozen=True, slots=True)
class Failure:
    """The last thing that went wrong."""

    time: float  # Unix seconds
    message: str
    traceback: str | None = None
    exit: str | None = None
    output: tuple[str, ...] = ()


class Supervisor:
    """Keeps one plugin running.

    Commands that change the plugin hold its lock, one after the other; ticks go on while a new generation is
    being proven. At most one collection is under way at any time.
    """

    def __init__(self, spec: PluginSpec, environment: Environment) -> None:
        self.name = spec.name
        self.spec = spec
        self.state = STARTING
        self.since = time.time()
        self.cause = ""
        self.number = 0
        self.current: Generation | None = None
        self.counters = Counters()
        self.failure: Failure | None = None
        self.settings: dict[str, Any] = {}  # as set by clients, for every generation to come
        self.next_retry: float | None = None  # Unix seconds
        self._environment = environment
        self._lock = anyio.Lock()
        self._backoff = Backoff(environment.backoff)
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._collecting = False
        self._collected = anyio.Event()
        self._breaches = 0
        self._handing_over = False
        self._held_tick: Tick | None = None
        self._log = log.bind(plugin=self.name)

    # What it is set to

    @property
    def interval(self) -> float:
        """Seconds between ticks: as configured, as the plugin says, or the default."""
        own = self.current.description.interval if self.current else 10.0
        return self.spec.config.interval or self._environment.default_interval or own

    @property
    def timeout(self) -> float:
        """Seconds that a collection may take."""
        own = self.current.description.timeout if self.current else None
        configured = self.spec.config.timeout or own or self._environment.default_timeout
        return configured or min(max(self.interval, 1.0), 30.0)

    @property
    def offset(self) -> float:
        """Seconds by which its ticks come after the aligned instant."""
        return self.spec.config.offset or 0.0

    @property
    def worker(self) -> Worker | None:
        """The worker of the generation in force, or None."""
        return self.current.worker if self.current else None

    # What is done with it

    async def load(self, cause: str, actor: Actor | None = None) -> None:
        """Start the first generation, or try again after a failure.

        Raises:
            CommandError: why it does not run; it is then ``failed``, or tried again later.
        """
        async with self._lock:
            self._cancel_timer()
            self.number += 1
            self._record("", STARTING, cause, actor)
            await self._start(cause, actor)

    async def reload(self, spec: PluginSpec, cause: str, actor: Actor | None = None) -> None:
        """Swap to a new generation: proven beside the old one, which goes on if anything fails.

        Raises:
            CommandError: why the old generation is still in force.
        """
        async with self._lock:
            if self.current is None:
                self.spec = spec
                self._cancel_timer()
                self.number += 1
                self._backoff.forgive()
                self._change(STARTING, cause, actor)
                await self._start(cause, actor)
                return
            generation, _ = await self._prove(spec, self.number + 1)
            old = await self._hand_over(generation)
            self.spec = spec
            self.number = generation.number
            self._breaches = 0
            self._backoff.forgive()
            if self.state == PAUSED:
                self._record(PAUSED, PAUSED, cause, actor)
            else:
                self._cancel_timer()  # Of a restart, if the old one died meanwhile.
                self._change(RUNNING, cause, actor)
                self._schedule()
            self._release_tick()
            if old is not None:
                await old.close()

    def reschedule(self, spec: PluginSpec, cause: str, actor: Actor | None = None) -> None:
        """Take another interval, timeout or offset; code and options are the same."""
        self.spec = spec
        self._record(self.state, self.state, cause, actor)
        if self.state == RUNNING:
            self._schedule()

    async def stop(self, cause: str, actor: Actor | None = None) -> None:
        """End the plugin and leave nothing of it."""
        async with self._lock:
            self._cancel_timer()
            self._environment.ticker.remove(self.name)
            self._change(STOPPING, cause, actor)
            if self.current is not None:
                generation, self.current = self.current, None
                await generation.close()
            self._environment.sink.remove(self.name)
            self._record(STOPPING, "", cause, actor)

    async def pause(self, duration: float | None, reason: str | None, actor: Actor | None = None) -> None:
        """Collect no more until :meth:`resume`, or for ``duration`` seconds; the worker stays."""
        async with self._lock:
            self._cancel_timer()
            self._environment.ticker.remove(self.name)
            cause = "paused" + (f" for {duration:g} s" if duration else "") + (f": {reason}" if reason else "")
            self._change(PAUSED, cause, actor)
            if duration:
                self._set_timer(duration, "the pause is over")

    async def resume(self, cause: str, actor: Actor | None = None) -> None:
        """End a pause; try again now what has failed. A running plugin is left alone.

        Raises:
            CommandError: it had to be started, and could not be.
        """
        async with self._lock:
            if self.state == RUNNING:
                return
            self._cancel_timer()
            self._backoff.forgive()
            if self.current is not None:
                self._change(RUNNING, cause, actor)
                self._schedule()
                return
            self._change(STARTING, cause, actor)
            await self._start(cause, actor)

    async def check(self) -> Collection:
        """Try the plugin in a worker of its own, and end that: nothing changes.

        Raises:
            CommandError: what is wrong with it.
        """
        generation, collection = await self._prove(self.spec, 0)
        await generation.close()
        return collection

    async def call(self, method: str, params: dict[str, Any], timeout: float) -> Any:
        """Ask the plugin between its collections: ``call``, ``get`` or ``set``.

        Raises:
            CommandError: what the plugin raised; or that it is not running.
        """
        if self.current is None:
            raise CommandError(REQUEST_INVALID, f"plugin {self.name!r} is {self.state}", {"state": self.state})
        return await self.current.worker.call(method, params, timeout)

    def tick(self, tick: Tick) -> None:
        """Collect now, or count the tick as skipped when the last collection is not done."""
        self.counters.skipped += tick.skipped
        self.counters.late_max = max(self.counters.late_max, tick.late)
        if self.state != RUNNING or self.current is None:
            return
        if self._handing_over:
            if self._held_tick is not None:
                self.counters.skipped += 1
            self._held_tick = tick
        elif self._collecting:
            self.counters.skipped += 1
        else:
            self._collecting = True
            self._collected = anyio.Event()
            self._environment.start(self._collect, self.current)

    # How it starts

    async def _start(self, cause: str, actor: Actor | None) -> None:
        """Prove a generation where there is none, and put it in force."""
        try:
            generation, collection = await self._prove(self.spec, self.number)
        except CommandError as error:
            self._failed_to_start(error)
            raise
        self.current = generation
        self._breaches = 0
        self._complete(collection)
        self._change(RUNNING, cause, actor)
        self._backoff.behave(self._loop.time())
        self._schedule()

    async def _prove(self, spec: PluginSpec, number: int) -> tuple[Generation, Collection]:
        """Load, validate, start and collect once, in a worker of its own.

        Raises:
            CommandError: at what it failed, and why; nothing of it is left.
        """
        if spec.fault is not None:
            where = f"{spec.path}: " if spec.path else ""
            raise CommandError(PLUGIN_INVALID, f"{where}{spec.fault}", {"path": spec.path})
        generation = Generation(spec, number)
        spawn = functools.partial(self._spawn, generation)
        startlog = self._environment.startlog
        await anyio.to_thread.run_sync(startlog.begin, self.name)
        try:
            await generation.open(spawn, self.settings, self._environment.series_per_metric)
            try:
                timeout = spec.config.timeout or generation.description.timeout or PROBE_TIMEOUT
                return generation, await generation.collect(timeout, self._inputs(generation))
            except BaseException:
                await generation.close()
                raise
        except CommandError as error:
            worker: Worker | None = getattr(generation, "worker", None)
            if worker is not None:
                error.data.setdefault("output", list(worker.last_output))
            raise
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(startlog.end, self.name)

    async def _spawn(self, generation: Generation, on_define: Any) -> Worker:
        try:
            spawned = await self._environment.forkserver.spawn(self.name)
        except ForkServerError as error:
            raise CommandError(PLUGIN_CRASHED, f"cannot fork a worker: {error}") from error
        bound = self._log.bind(generation=generation.number, pid=spawned.pid)
        return Worker(
            spawned,
            self._environment.watch,
            UsageJudge(self._environment.usage(generation.spec)),
            on_line=lambda stream, line: bound.info("plugin_output", stream=stream, line=line),
            on_suppressed=lambda lines: bound.warning("plugin_output_suppressed", lines=lines),
            on_define=on_define,
            on_exit=functools.partial(self._handle_exit, generation),
        )

    async def _hand_over(self, generation: Generation) -> Generation | None:
        """Put a proven generation in the place of the one in force; return that.

        A tick that falls into these milliseconds is held, and is the new generation's first. The proof was
        collected before the state comes, so that a plugin which counts its collections counts none twice.
        """
        self._handing_over = True
        try:
            if self._collecting:
                await self._collected.wait()
            old = self.current
            if old is not None:
                try:
                    state = await old.save_state()
                except CommandError as error:
                    # A plugin whose save_state is broken must not be kept from the edit that mends it.
                    self._log.warning("state_lost", reason=error.message)
                    state = None
                if state is not None:
                    await generation.load_state(state)
            old, self.current = self.current, generation
            return old
        except BaseException:
            self._release_tick()
            await generation.close()
            raise

    def _release_tick(self) -> None:
        self._handing_over = False
        tick, self._held_tick = self._held_tick, None
        if tick is not None:
            self.tick(Tick(tick.due))

    # What happens to it

    async def _collect(self, generation: Generation) -> None:
        try:
            collection = await generation.collect(self.timeout, self._inputs(generation))
        except CommandError as error:
            self._incomplete(generation, error)
        else:
            if self.current is generation:
                self._complete(collection)
        finally:
            self._collecting = False
            self._collected.set()

    def _complete(self, collection: Collection) -> None:
        counters = self.counters
        counters.collects += 1
        counters.duration_last = collection.duration
        counters.durations.append(collection.duration)
        self._breaches = 0
        if collection.dropped:
            if not counters.dropped:
                self._log.warning("series_dropped", metrics=collection.dropped)
            counters.dropped += sum(collection.dropped.values())
        self._environment.sink.record(self.name, collection)

    def _incomplete(self, generation: Generation, error: CommandError) -> None:
        """Count a collection that failed. What becomes of a dead worker is decided when it has been reaped."""
        counters = self.counters
        counters.failures += 1
        if error.code == "plugin.timeout":
            counters.timeouts += 1
        self._note(error)
        self._log.warning("collection_failed", reason=error.message)
        if error.code != PLUGIN_INVALID or generation is not self.current:
            return
        self._breaches += 1
        if self._breaches >= BREACHES_ALLOWED and self.state == RUNNING:
            self.current = None
            self._environment.ticker.remove(self.name)
            self._change(FAILED, error.message)
            self._environment.start(generation.close)

    def _handle_exit(self, generation: Generation, worker: Worker) -> None:
        """A worker has ended: as it was told to, or not."""
        assert worker.exit is not None
        self.counters.ended_cpu_seconds += worker.exit.cpu_seconds
        if generation is not self.current:
            return
        self.current = None
        self._environment.ticker.remove(self.name)
        reason = worker.kill_reason or str(worker.exit)
        self.failure = Failure(
            time.time(),
            reason,
            exit=None if worker.kill_reason else str(worker.exit),
            output=tuple(worker.last_output),
        )
        if self.state == RUNNING:
            self._offend(reason)

    def _failed_to_start(self, error: CommandError) -> None:
        self._note(error)
        if error.code == PLUGIN_INVALID:
            self._change(FAILED, error.message)  # Only another file, or other options, can help.
        else:
            self._offend(error.message)

    def _offend(self, reason: str) -> None:
        verdict = self._backoff.offend(self._loop.time())
        self._change(QUARANTINED if verdict.quarantined else BACKOFF, reason)
        self._set_timer(verdict.delay, "trying again")

    def _note(self, error: CommandError) -> None:
        self.failure = Failure(
            time.time(),
            error.message,
            traceback=error.data.get("traceback"),
            exit=error.data.get("exit"),
            output=tuple(error.data.get("output", ())),
        )

    # What it waits for

    def _set_timer(self, delay: float, cause: str) -> None:
        self.next_retry = time.time() + delay
        self._timer = self._loop.call_later(delay, lambda: self._environment.start(self._wake, cause, self.state))

    def _cancel_timer(self) -> None:
        self.next_retry = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _wake(self, cause: str, state: str) -> None:
        async with self._lock:
            if self.state != state:
                return  # Somebody was quicker.
            self._cancel_timer()
            if self.current is not None:
                self._change(RUNNING, cause)
                self._schedule()
                return
            self.counters.restarts += 1
            self._change(STARTING, cause)
            try:
                await self._start(cause, None)
            except CommandError:
                pass  # It has been noted, and the next attempt is set.

    def _schedule(self) -> None:
        self._environment.ticker.add(self.name, self.interval, self.offset, self.tick)

    def _inputs(self, generation: Generation) -> dict[str, Any] | None:
        if not generation.description.requires:
            return None
        names = [name_of(requirement) for requirement in generation.description.requires]
        return {name: self._environment.sink.latest(name) for name in names}

    def _change(self, state: str, cause: str, actor: Actor | None = None) -> None:
        before, self.state = self.state, state
        self.since = time.time()
        self._record(before, state, cause, actor)

    def _record(self, before: str, after: str, cause: str, actor: Actor | None) -> None:
        self.cause = cause
        self._environment.events.record(self.name, self.number, before, after, cause, actor)
        level = self._log.warning if after in (BACKOFF, QUARANTINED, FAILED) else self._log.info
        facts = {"uid": actor.uid, "pid": actor.pid} if actor else {}
        level(f"plugin_{after or 'stopped'}", generation=self.number, cause=cause, **facts)
