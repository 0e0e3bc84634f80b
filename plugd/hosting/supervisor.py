"""The life of one plugin: start, ticks, reload, pause, failure and restart, stop. One state machine."""

import asyncio
import contextlib
import time
import weakref
from collections.abc import Coroutine, Mapping
from typing import Any

import anyio
import structlog

from plugd.catalog.spec import PluginSpec
from plugd.errors import PLUGIN_INVALID, PLUGIN_NOT_FOUND, PLUGIN_TIMEOUT, CommandError
from plugd.hosting import changes
from plugd.hosting.alarm import Alarm
from plugd.hosting.backoff import Backoff
from plugd.hosting.calls import Calls
from plugd.hosting.changes import BACKOFF, FAILED, PAUSED, QUARANTINED, RUNNING, STARTING, STOPPING
from plugd.hosting.collection import Collection
from plugd.hosting.environment import Environment, Tick
from plugd.hosting.events import Actor
from plugd.hosting.gate import Gate
from plugd.hosting.generation import Generation
from plugd.hosting.handover import hand_over
from plugd.hosting.launcher import Launcher
from plugd.hosting.probation import Probation, Retired
from plugd.hosting.record import Counters, Failure, Remarks, Streak
from plugd.hosting.remembrance import resume_state, state_of
from plugd.hosting.saved_states import NOTHING, PluginState, ages_of
from plugd.hosting.timing import Timing, timing_of
from plugd.hosting.worker import Worker

BREACHES_ALLOWED = 3  # collections in a row that break the plugin's own declarations


class Supervisor:
    """Keeps one plugin running.

    Commands that change the plugin hold its lock, one after the other; ticks go on while a new generation is
    being proven. At most one collection is under way at any time.
    """

    def __init__(self, spec: PluginSpec, environment: Environment, latest: int = 0) -> None:
        self.name = spec.name
        self.spec = spec
        self.state = STARTING
        self.since = time.time()
        self.cause = ""
        self.actor: Actor | None = None  # whose word it was that brought it into its state
        self.number = 0
        self.latest = latest  # the highest generation there has been of this name: no number is given twice
        self.current: Generation | None = None
        self.counters = Counters()
        self.failure: Failure | None = None
        self.remarks = Remarks()
        self.exploding: Mapping[str, str] = {}  # metrics with too many series, and the label that makes them
        self._environment = environment
        self._launcher = Launcher(environment)
        self._lock = anyio.Lock()
        self.backoff = Backoff(environment.backoff)
        self._loop = asyncio.get_running_loop()
        self._alarm = Alarm()
        self._attempt = anyio.CancelScope()  # to start it again by itself
        self.worker_due = False  # though it is paused: it has had one, and is given it again
        self._breaches = 0
        self._streak = Streak()
        self._probation = Probation()
        # Weakly: without circles a plugin that is unloaded goes at once, and its sealed copy with it.
        me: Supervisor = weakref.proxy(self)
        self._gate = Gate(lambda: me._begin_collection())  # noqa: PLW0108 - not bound to it; closed until the next generation is in force
        self.calls = Calls(me, self._gate, environment)
        self._log = structlog.get_logger(plugin=self.name)  # Not log.bind(): that would keep today's configuration.

    @property
    def timing(self) -> Timing:
        """How often it collects, and how long that may take."""
        return timing_of(self.spec, self.current.description if self.current else None, self._environment)

    @property
    def worker(self) -> Worker | None:
        """The worker of the generation in force, or None."""
        return self.current.worker if self.current else None

    @property
    def next_retry(self) -> float | None:
        """When it is tried again, or goes on by itself, in Unix seconds; None: not by itself."""
        return self._alarm.time

    @property
    def failing(self) -> bool:
        """Whether it runs, and its last collections have all failed."""
        return self.state == RUNNING and self._streak.length >= BREACHES_ALLOWED

    # What is done with it

    async def load(self, cause: str, actor: Actor | None = None, past: PluginState = NOTHING) -> None:
        """Start the first generation, or have it stay as a daemon before this one has left it.

        Args:
            cause: why it is loaded.
            actor: who wants it.
            past: what is known from before. A pause goes on as it is; a quarantine, or the wait for the next
                attempt, only for the same code: what has changed deserves another try.

        Raises:
            CommandError: why it does not run; it is then ``failed``, or tried again later.
        """
        async with self._lock:
            self.number = self.latest = self.latest + 1
            same = past.code == self.spec.fingerprint()
            if same:
                self.backoff.restore(ages_of(past.offences), past.consecutive, self._loop.time())
            left = past.left(time.time())
            if past.state is not None and left != 0 and (same or past.state == PAUSED):
                await self._stay(past, left, cause)
                return
            self.cause, self.actor = cause, actor
            self._record("", STARTING, cause + changes.ended(past, left), actor)
            await self._start(cause, actor)

    async def reload(self, spec: PluginSpec, cause: str, actor: Actor | None = None) -> None:
        """Swap to a new generation, proven beside the old one; or start one where there is none.

        Other options alone are given to a plugin that has ``reconfigure`` in place.

        Raises:
            CommandError: why the old generation is still in force.
        """
        async with self._lock:
            self.check_there("reload", actor)
            if self.current is None:
                self._alarm.cancel()
                self.backoff.forgive()
                self._gate.open()
                self._probation.end()
                self.spec = spec
                self.number = self.latest = self.latest + 1
                self._change(STARTING, cause, actor)
                await self._start(cause, actor)
                return
            try:
                if self.current.can_reconfigure(spec):
                    await self.current.reconfigure(spec)
                    self.spec = spec
                    self._record(self.state, self.state, f"{cause}: options applied in place", actor, changes.RELOADED)
                    self._schedule()
                else:
                    await self._swap(spec, cause, actor)
            except CommandError as error:
                self.failure = Failure.of(error.message, error.data)
                kept = f"reload failed, generation {self.number} stays: {error.message}"
                self._record(self.state, self.state, kept, actor, changes.RELOAD_FAILED)
                raise

    def reschedule(self, spec: PluginSpec, cause: str, actor: Actor | None = None) -> None:
        """Take another interval, timeout or offset; code and options are the same."""
        self.spec = spec
        self._record(self.state, self.state, cause, actor, changes.RELOADED)
        self._schedule()

    async def stop(self, cause: str, actor: Actor | None = None) -> None:
        """End the plugin and leave nothing of it; an attempt to start it again that is under way ends as well."""
        self._attempt.cancel()
        async with self._lock:
            self.check_there("unload", actor)
            self._alarm.cancel()
            self._probation.end()
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
            self.check_there("pause", actor)
            self._alarm.cancel()
            self._environment.ticker.remove(self.name)
            cause = "paused" + (f" for {duration:g} s" if duration else "") + (f": {reason}" if reason else "")
            self._change(PAUSED, cause, actor)
            if duration:
                self._set_alarm(duration)

    async def resume(self, cause: str, actor: Actor | None = None) -> None:
        """End a pause; try again now what has failed. A running plugin is left alone.

        Raises:
            CommandError: it had to be started, and could not be.
        """
        async with self._lock:
            self.check_there("resume", actor)
            if self.state == RUNNING:
                return
            self._alarm.cancel()
            self.backoff.forgive()
            if self.current is not None:
                self._change(RUNNING, cause, actor)
                self._schedule()
                return
            self._change(STARTING, cause, actor)
            await self._start(cause, actor)

    def check_there(self, doing: str, actor: Actor | None) -> None:
        """See that it has not been unloaded, and is of the generation that the actor expects.

        Raises:
            CommandError: ``plugin.not_found`` or ``plugin.changed``.
        """
        if self.state == STOPPING:
            raise CommandError(PLUGIN_NOT_FOUND, f"plugin {self.name!r} has been unloaded", {"name": self.name})
        if actor is not None:
            actor.check(doing, self.name, self.number)

    def tick(self, tick: Tick) -> None:
        """Collect now, or count the tick as skipped when the last collection is not done."""
        self.counters.count_tick(tick)
        self.counters.skipped += self._gate.tick()

    # How a generation comes into force

    async def _start(self, cause: str, actor: Actor | None) -> None:
        """Prove a generation where there is none; its first collection is kept."""
        try:
            generation, collection = await self._prove(self.spec, self.number)
            generation.worker.check_alive()
        except CommandError as error:
            self._failed_to_start(error)
            raise
        self._adopt(generation, cause, actor)
        await self._complete(collection)

    async def _stay(self, past: PluginState, left: float | None, cause: str) -> None:
        """Be held back as before: with a worker, where a pause has left it one, but without a collection."""
        resume_state(self, past)
        still = past.cause if self.state == PAUSED else f"{self.state}: {past.cause}"
        self._record("", self.state, f"{cause}: still {still}", self.actor)
        if left is not None:
            self._set_alarm(left)
        if not self.worker_due:
            return
        try:
            generation = await self._launcher.start(self.spec, self.number, self.calls.settings, self._handle_exit)
            generation.worker.check_alive()
        except CommandError as error:
            self.worker_due = False
            self.failure = Failure.of(error.message, error.data)
            self._record(PAUSED, PAUSED, f"it stays paused, and has no worker: {error.message}", None)
            raise
        self.current, self.worker_due = generation, False

    async def _swap(self, spec: PluginSpec, cause: str, actor: Actor | None) -> None:
        """Prove a generation beside the one in force, and put it in its place at a tick boundary.

        A tick that falls into the handover is held, and is the new generation's first. The proof is collected
        before the state is handed over, and is not kept: a plugin that counts its collections counts none twice.
        """
        self._environment.states.number(self.name, self.latest + 1)
        proof = self._prove(spec, self.latest + 1)
        generation, state = await hand_over(proof, self._gate, lambda: self.current, self.calls)
        old = self.current
        if old is not None:
            self._probation.begin(Retired(old.spec, old.number, state))
        self.spec = spec
        self.number = self.latest = generation.number
        if self.state != PAUSED:  # The timer of a pause stays.
            self._alarm.cancel()
        self.backoff.forgive()
        self._adopt(generation, cause, actor)
        self._gate.open()
        if old is not None:
            await old.close()

    async def _restore(self, retired: Retired, cause: str) -> None:
        """Bring back the generation before, with the state that it handed over."""
        async with self._lock:
            if self.state != STARTING or self.current is not None:
                self._gate.open()
                return  # Somebody has paused, reloaded or stopped it meanwhile.
            try:
                generation, _ = await self._prove(self.spec, self.number)
                if retired.state is not None:
                    await generation.load_state(retired.state)
                generation.worker.check_alive()
            except CommandError as error:
                self._environment.ticker.remove(self.name)
                self._failed_to_start(error)
            else:
                self.counters.restarts += 1
                self._adopt(generation, cause, None)
            self._gate.open()

    def _prove(self, spec: PluginSpec, number: int) -> Coroutine[Any, Any, tuple[Generation, Collection]]:
        return self._launcher.prove(spec, number, self.calls.settings, self._handle_exit)

    def _adopt(self, generation: Generation, cause: str, actor: Actor | None) -> None:
        self.current = generation
        self._breaches = 0
        if self.state == PAUSED:
            self._record(PAUSED, PAUSED, cause, actor, changes.RELOADED)
            return
        self._change(RUNNING, cause, actor)
        self.backoff.behave(self._loop.time())
        self._schedule()

    # What happens to it

    def _begin_collection(self) -> bool:
        if self.state != RUNNING or self.current is None:
            return False
        if self.current.worker.abandoned:  # Its time would begin while another's is not over.
            self.counters.skipped += 1
            return False
        self._environment.start(self._collect, self.current)
        return True

    async def _collect(self, generation: Generation) -> None:
        try:
            collection = await generation.collect(self.timing.timeout, self._launcher.inputs(generation))
        except CommandError as error:
            self._incomplete(generation, error)
        else:
            if self.current is generation:
                await self._complete(collection)
        finally:
            self._gate.collected()

    async def _complete(self, collection: Collection) -> None:
        self.counters.count_collection(collection.duration)
        self._breaches = 0
        failed = self._streak.end()
        if failed > 1:
            self._log.info("collection_succeeded", failed_before=failed)
        self._probation.count()
        if collection.dropped:
            if not self.counters.dropped:
                labels = dict(collection.exploding)
                self._log.warning("samples_dropped", metrics=collection.dropped, exploding_labels=labels)
            self.counters.dropped += sum(collection.dropped.values())
            self.exploding = collection.exploding
        self.counters.malformed += collection.malformed
        if self.remarks.take(collection, self._loop.time()):
            self._log.warning("output_malformed", lines=collection.malformed, first=collection.first_fault)
        if not collection.idle:
            await self._environment.sink.record(self.name, collection)

    def _incomplete(self, generation: Generation, error: CommandError) -> None:
        """Count a collection that failed. What becomes of a dead worker is decided when it has been reaped."""
        self.counters.failures += 1
        self.counters.timeouts += error.code == PLUGIN_TIMEOUT
        self.failure = Failure.of(error.message, error.data)
        if self._streak.fail(self._loop.time()):
            self._log.warning("collection_failed", reason=error.message, in_a_row=self._streak.length)
        if generation is not self.current or not generation.worker.alive:
            return
        if self._probation and self.state == RUNNING:
            self.current = None
            self._environment.start(generation.close)
            self._roll_back(error.message)
        elif error.code == PLUGIN_INVALID:
            self._breaches += 1
            if self._breaches >= BREACHES_ALLOWED and self.state == RUNNING:
                self.current = None
                self._environment.start(generation.close)
                self._environment.ticker.remove(self.name)
                self._change(FAILED, error.message)

    def _handle_exit(self, generation: Generation, worker: Worker) -> None:
        """A worker has ended: as it was told to, or not."""
        assert worker.exit is not None
        self.counters.ended_cpu_seconds += worker.exit.cpu_seconds
        if generation is not self.current:
            return
        self.current = None
        reason = worker.kill_reason or str(worker.exit)
        self.failure = Failure.of(reason, {"exit": str(worker.exit), "output": list(worker.last_output)})
        if self.state == RUNNING and self._probation:
            self._roll_back(reason)
            return
        self._environment.ticker.remove(self.name)
        if self.state == RUNNING:
            self._offend(reason)
        else:
            self._save()

    def _roll_back(self, reason: str) -> None:
        """A generation on probation has failed: ticks are held until the one before is back."""
        retired = self._probation.end()
        assert retired is not None
        self._gate.close()
        self.spec, self.number = retired.spec, retired.number
        cause = f"rolled back to generation {retired.number}: {reason}"
        self._change(STARTING, cause)
        self._environment.start(self._restore, retired, cause)

    def _failed_to_start(self, error: CommandError) -> None:
        self.failure = Failure.of(error.message, error.data)
        if error.code == PLUGIN_INVALID:
            self._change(FAILED, error.message)  # Only another file, or other options, can help.
        else:
            self._offend(error.message)

    def _offend(self, reason: str) -> None:
        verdict = self.backoff.offend(self._loop.time())
        self._change(QUARANTINED if verdict.quarantined else BACKOFF, reason)
        self._set_alarm(verdict.delay)

    def _set_alarm(self, delay: float) -> None:
        cause = "the pause is over" if self.state == PAUSED else "trying again"
        self._alarm.set(delay, self._environment.start, self._wake, cause, self.state)
        self._save()

    async def _wake(self, cause: str, state: str) -> None:
        async with self._lock:
            if self.state != state:
                return  # Somebody was quicker.
            self._alarm.cancel()
            if self.current is not None:
                self._change(RUNNING, cause)
                self._schedule()
                return
            self.counters.restarts += 1
            self._change(STARTING, cause)
            with anyio.CancelScope() as self._attempt:
                with contextlib.suppress(CommandError):  # It has been noted, and the next attempt is set.
                    await self._start(cause, None)

    def _schedule(self) -> None:
        if self.state == RUNNING:
            timing = self.timing
            self._environment.ticker.add(self.name, timing.interval, timing.offset, self.tick)

    def _change(self, state: str, cause: str, actor: Actor | None = None) -> None:
        before, self.state = self.state, state
        self.since = time.time()
        self.cause, self.actor = cause, actor
        self._record(before, state, cause, actor)

    def _record(self, before: str, after: str, cause: str, actor: Actor | None, event: str | None = None) -> None:
        self._save()
        self._environment.events.record(self.name, self.number, before, after, cause, actor)
        changes.tell(self._log, self.number, before, after, cause, actor, event)

    def _save(self) -> None:
        """Have it written down what the next daemon must know."""
        self._environment.states.put(self.name, state_of(self))
