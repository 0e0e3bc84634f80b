"""All plugins by name: load, unload and reload of many, from what the catalog finds."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import anyio

from plugd import __version__
from plugd.catalog.discovery import Found
from plugd.catalog.graph import CycleError, dependents_of, in_use, levels
from plugd.catalog.spec import PluginSpec
from plugd.errors import PLUGIN_ALREADY_LOADED, PLUGIN_NOT_FOUND, CommandError
from plugd.hosting.changes import FAILED, QUARANTINED, RUNNING, STARTING
from plugd.hosting.environment import DAEMON, Environment
from plugd.hosting.events import Actor, Event
from plugd.hosting.launcher import Launcher
from plugd.hosting.outcome import failures, outcome, refusal
from plugd.hosting.plan import Plan, plan_of
from plugd.hosting.requirements import Requirements, Standing
from plugd.hosting.supervisor import Supervisor
from plugd.hosting.turns import Turns

CONCURRENT_STARTS = 8


class Registry:
    """The plugins that are loaded, and the only place where they come and go.

    Args:
        environment: what supervisors share.
        discover: walks the plugin directories with the configuration in force; blocks, so it is run in a thread.
    """

    def __init__(self, environment: Environment, discover: Callable[[], Found]) -> None:
        self._turns = Turns(CONCURRENT_STARTS)
        self._requirements = Requirements(self._standing, self._turns.given_away)
        self.environment = environment
        self._discover = discover
        self._supervisors: dict[str, Supervisor] = {}
        self._unloaded: set[str] = set()  # by request: they stay away until somebody loads them
        self._asked_for: set[str] = set()  # though the configuration disables them: they stay until unloaded
        self._lock = anyio.Lock()
        self._retry_due = False
        self._stopping = False
        self.ignored: list[tuple[str, str]] = []

    def all(self) -> list[Supervisor]:
        """Return every plugin's supervisor, by name."""
        return [self._supervisors[name] for name in sorted(self._supervisors)]

    def get(self, name: str, doing: str) -> Supervisor:
        """Return a plugin's supervisor.

        Raises:
            CommandError: ``plugin.not_found``: "cannot {doing} plugin …".
        """
        try:
            return self._supervisors[name]
        except KeyError:
            raise CommandError(
                PLUGIN_NOT_FOUND, f"cannot {doing} plugin {name!r}: it is not loaded", {"name": name}
            ) from None

    def select(self, names: Sequence[str] | None, doing: str, actor: Actor | None = None) -> list[Supervisor]:
        """Return the supervisors of these plugins, or of all.

        Raises:
            CommandError: ``plugin.not_found``: one of them is not loaded; ``plugin.changed``: one of them is not
                of the generation that the actor expects.
        """
        if not names:
            return self.all()
        chosen = [self.get(name, doing) for name in dict.fromkeys(names)]
        if actor is not None:
            for each in chosen:
                actor.check(doing, each.name, each.number)
        return chosen

    async def start(self) -> None:
        """Load every plugin that is enabled; one that fails is told by its own state."""
        self.environment.events.listen(self._handle_event)
        async with self._lock:
            found = await self.find()
            specs = [spec for spec in found.specs.values() if spec.config.enabled]
            self.environment.sink.retain({spec.name for spec in specs})  # Of those before a restart.
            await self._start_each(
                [(spec.name, self._load(spec, self._start_cause(spec.name), None)) for spec in specs]
            )

    async def stop(self) -> None:
        """End every plugin; none before those that require it."""
        self._stopping = True
        self.environment.states.seal()
        for level in self._in_unload_order(self._supervisors):
            await self._each([(name, self._supervisors[name].stop("plugd is stopping")) for name in level])
        self._supervisors.clear()

    async def load(self, names: Sequence[str], actor: Actor | None = None) -> dict[str, Any]:
        """Load plugins by name; return ``{loaded, failed}``.

        Raises:
            CommandError: ``plugin.already_loaded`` or ``plugin.not_found``; with a single name, also why it
                does not run.
        """
        async with self._lock:
            specs = (await self.find()).specs
            wanted = list(dict.fromkeys(names))
            errors: dict[str, CommandError] = {}
            for name in wanted:
                there = self._supervisors.get(name)
                if there is not None and there.state != "failed":
                    errors[name] = CommandError(
                        PLUGIN_ALREADY_LOADED,
                        f"cannot load plugin {name!r}: it is already loaded ({there.state})",
                        {"name": name, "state": there.state},
                    )
                elif name not in specs or (not specs[name].path and specs[name].fault):
                    errors[name] = CommandError(
                        PLUGIN_NOT_FOUND, f"cannot load plugin {name!r}: no such plugin file", {"name": name}
                    )
            todo = [name for name in wanted if name not in errors]
            for name in todo:
                self.environment.states.forget(name)
            errors |= await self._start_each([(name, self._load(specs[name], "load", actor)) for name in todo])
            self._unloaded.difference_update(todo)
            self._asked_for.update(name for name in todo if not specs[name].config.enabled)
            return outcome("load", {"loaded": [name for name in todo if name not in errors]}, errors, wanted)

    async def unload(
        self, names: Sequence[str], actor: Actor | None = None, *, cascade: bool = False
    ) -> dict[str, Any]:
        """Unload plugins, none before those that require it; return ``{unloaded, failed}``.

        Args:
            names: the plugins.
            actor: who wants it.
            cascade: whether plugins that require them go as well; otherwise they keep them from going.

        Raises:
            CommandError: with a single name: ``plugin.not_found``, ``plugin.changed``, or ``plugin.in_use`` with its
                ``dependents``.
        """
        async with self._lock:
            wanted = list(dict.fromkeys(names))
            errors: dict[str, CommandError] = {}
            for name in wanted:
                try:
                    self.select([name], "unload", actor)
                except CommandError as error:
                    errors[name] = error
            todo = [name for name in wanted if name not in errors]
            uses = self._uses()
            if cascade:
                followers = dependents_of(todo, uses)
                todo = [name for level in self._in_unload_order(followers) for name in level] + todo
            else:
                errors |= {name: refusal(users) for name, users in in_use(todo, uses).items()}
                todo = [name for name in todo if name not in errors]
            errors |= await self._unload_each(todo, "unload", actor)
            done = [name for name in todo if name not in errors]
            self._unloaded.update(done)
            self._asked_for.difference_update(done)
            return outcome("unload", {"unloaded": done}, errors, wanted)

    async def reload(
        self,
        names: Sequence[str] | None,
        *,
        dry_run: bool = False,
        actor: Actor | None = None,
        discover: Callable[[], Found] | None = None,
    ) -> dict[str, Any]:
        """Reload these plugins, changed or not; or do for all what has changed.

        Args:
            names: None or empty: all.
            dry_run: whether only to say what would be done.
            actor: who wants it.
            discover: walks the directories by another configuration than the one in force.

        Returns: ``{loaded, reloaded, unloaded, unchanged, failed}``; a dry run says it and does nothing.

        Raises:
            CommandError: ``plugin.not_found``: one of ``names`` is not loaded, or its file is gone;
                ``plugin.changed``: one is not of the generation that the actor expects.
        """
        async with self._lock:
            specs = (await self.find(discover)).specs
            plan = self._plan_named(names, specs, actor) if names else self._plan(specs)
            errors: dict[str, CommandError] = {}
            if not dry_run:
                jobs = [(name, self._load(specs[name], "reload: new", actor)) for name in plan.load]
                for name in plan.reload:
                    cause = "reload: asked for" if names else "reload: changed"
                    jobs.append((name, self._supervisors[name].reload(specs[name], cause, actor)))
                for name in plan.reschedule:
                    self._supervisors[name].reschedule(specs[name], "reload: another schedule", actor)
                errors = await self._start_each(jobs)
                # Only now is it known who still requires what.
                used = in_use(plan.unload, self._uses())
                errors |= {name: refusal(users, "it is gone or disabled, but stays: ") for name, users in used.items()}
                gone = [name for name in plan.unload if name not in used]
                errors |= await self._unload_each(gone, "reload: it is gone", actor)
            return {
                "loaded": [name for name in plan.load if name not in errors],
                "reloaded": sorted(name for name in (*plan.reload, *plan.reschedule) if name not in errors),
                "unloaded": [name for name in plan.unload if name not in errors],
                "unchanged": plan.unchanged,
                "failed": failures("reload", errors, sorted(errors)),
            }

    async def pause(
        self, names: Sequence[str] | None, duration: float | None, reason: str | None, actor: Actor | None = None
    ) -> dict[str, Any]:
        """Have plugins collect no more, for ``duration`` seconds or until they are resumed; return ``{paused}``.

        Raises:
            CommandError: ``plugin.not_found``, or ``plugin.changed``.
        """
        paused = self.select(names, "pause", actor)
        for each in paused:
            await each.pause(duration, reason, actor)
        await self.environment.states.flush()  # It holds over a restart, whenever that is.
        return {"paused": [each.name for each in paused]}

    async def resume(self, names: Sequence[str] | None, actor: Actor | None = None) -> dict[str, Any]:
        """End pauses, and try failed plugins again; return ``{resumed, failed}``.

        Raises:
            CommandError: ``plugin.not_found``; with a single name, also why it does not run.
        """
        chosen = [each for each in self.select(names, "resume", actor) if names or each.state != "failed"]
        wanted = [each.name for each in chosen]
        paused = [each for each in chosen if each.current is not None]
        ended = [each for each in chosen if each.current is None]
        errors = await self._each([(each.name, each.resume("resume", actor)) for each in paused])
        # Without the lock: a slow start elsewhere must not keep a pause from its end. What waits for these comes later.
        errors |= await self._do_start([(each.name, each.resume("resume", actor)) for each in ended])
        await self.environment.states.flush()
        return outcome("resume", {"resumed": [name for name in wanted if name not in errors]}, errors, wanted)

    async def check(self, name: str) -> dict[str, Any]:
        """Try a plugin in a worker of its own and end that; return ``{name, ok, faults, samples, duration}``.

        Raises:
            CommandError: ``plugin.not_found``: there is no such plugin file.
        """
        spec = (await self.find()).specs.get(name)
        if spec is None:
            raise CommandError(PLUGIN_NOT_FOUND, f"cannot check plugin {name!r}: no such plugin file", {"name": name})
        report: dict[str, Any] = {"name": name, "ok": True, "faults": [], "samples": None, "duration": None}
        try:
            launcher = Launcher(replace(self.environment, require=self._requirements.check))
            generation, collection = await launcher.prove(spec, 0, {}, lambda _generation, _worker: None)
            await generation.close()
        except CommandError as error:
            fault = {"message": error.message, "path": error.data.get("path"), "line": error.data.get("line")}
            return report | {"ok": False, "faults": error.data.get("faults") or [fault]}
        return report | {"samples": len(collection.values), "duration": collection.duration}

    async def find(self, discover: Callable[[], Found] | None = None) -> Found:
        """Walk the plugin directories."""
        if self.environment.cgroups.controllers is not None:
            self.environment.start(self.environment.cgroups.stir)  # Most of this is for workers that are then forked.
        # In a thread: a hung file system must not hold up the daemon.
        found = await anyio.to_thread.run_sync(discover or self._discover, abandon_on_cancel=True)
        self.ignored = found.ignored
        return found

    def _start_cause(self, name: str) -> str:
        return "plugd started" if not self.environment.events.lives(name) else "plugd started after one that was killed"

    def _plan(self, specs: dict[str, PluginSpec]) -> Plan:
        plan = plan_of(
            {name: each.spec for name, each in self._supervisors.items()}, specs, self._unloaded, self._asked_for
        )
        self._unloaded.intersection_update(specs)
        return plan

    def _plan_named(self, names: Sequence[str], specs: dict[str, PluginSpec], actor: Actor | None) -> Plan:
        wanted = [each.name for each in self.select(names, "reload", actor)]
        for name in wanted:
            if name not in specs:
                raise CommandError(PLUGIN_NOT_FOUND, f"cannot reload plugin {name!r}: its file is gone", {"name": name})
        return Plan([], wanted, [], [], [])

    async def _load(self, spec: PluginSpec, cause: str, actor: Actor | None) -> None:
        there = self._supervisors.get(spec.name)
        if there is not None:
            await there.reload(spec, cause, actor)
            return
        past = self.environment.states.of(spec.name)
        supervisor = self._supervisors[spec.name] = Supervisor(
            spec, replace(self.environment, require=self._requirements), past.generation
        )
        await supervisor.load(cause, actor, past)

    async def _unload(self, name: str, cause: str, actor: Actor | None) -> None:
        supervisor = self._supervisors[name]
        await supervisor.stop(cause, actor)
        del self._supervisors[name]
        self.environment.states.forget(name)
        self._requirements.forget(name)

    async def _unload_each(self, names: Sequence[str], cause: str, actor: Actor | None) -> dict[str, CommandError]:
        errors: dict[str, CommandError] = {}
        for level in self._in_unload_order(names):
            errors |= await self._each([(name, self._unload(name, cause, actor)) for name in level])
        return errors

    def _in_unload_order(self, names: Iterable[str]) -> list[list[str]]:
        requires = {name: self._requirements.of(name) for name in names}
        try:
            return levels(requires)[::-1]
        except CycleError:
            return [sorted(requires)]  # Of plugins that failed for it; none of them has anything to end.

    def _uses(self) -> dict[str, list[str]]:
        """Return what each plugin requires that runs, or is about to."""
        return {
            name: self._requirements.of(name)
            for name, each in self._supervisors.items()
            if each.state not in (FAILED, QUARANTINED)
        }

    # What plugins require

    def _standing(self, name: str) -> Standing:
        if name == DAEMON:
            return Standing(RUNNING, __version__)
        there = self._supervisors.get(name)
        if there is None:
            return Standing("")
        version = there.current.description.version if there.current else None
        return Standing(there.state, version, there.state == STARTING, there.failure.message if there.failure else None)

    def _handle_event(self, _event: Event) -> None:
        self._requirements.handle_change()
        self._retry_soon()

    def _settle(self, name: str) -> None:
        there = self._supervisors.get(name)
        current = there.current if there else None
        self._requirements.settle(name, current.description.requires if current else None)
        self._retry_soon()

    def _satisfied(self) -> list[Supervisor]:
        """Return the plugins that failed for want of others, and would not now."""
        known = [self._supervisors[name] for name in self._requirements.satisfied() if name in self._supervisors]
        return [each for each in known if each.state == FAILED]

    def _retry_soon(self) -> None:
        if not self._retry_due and not self._stopping and self._satisfied():
            self._retry_due = True
            self.environment.start(self._retry_later)

    async def _retry_later(self) -> None:
        async with self._lock:
            self._retry_due = False
            await self._retry()

    async def _retry(self) -> None:
        """Start what failed for want of others that run now; the lock is held."""
        tried: set[str] = set()
        while not self._stopping and (ready := [each for each in self._satisfied() if each.name not in tried]):
            tried.update(each.name for each in ready)
            # What becomes of them is told by their own state.
            await self._do_start([(each.name, each.resume("what it requires is running")) for each in ready])

    # Many at one time

    async def _start_each(self, jobs: Sequence[tuple[str, Awaitable[None]]]) -> dict[str, CommandError]:
        """Start or reload plugins, then those that waited for them; return the errors of the former by name."""
        errors = await self._do_start(jobs)
        await self._retry()
        return errors

    async def _do_start(self, jobs: Sequence[tuple[str, Awaitable[None]]]) -> dict[str, CommandError]:
        self._requirements.expect([name for name, _ in jobs])
        return await self._each(jobs, then=self._settle)

    async def _each(
        self, jobs: Sequence[tuple[str, Awaitable[None]]], then: Callable[[str], None] = lambda _name: None
    ) -> dict[str, CommandError]:
        """Do all of it side by side; return the errors by name."""
        errors: dict[str, CommandError] = {}

        async def do(name: str, job: Awaitable[None]) -> None:
            async with self._turns.taken(name):
                try:
                    await job
                except CommandError as error:
                    errors[name] = error
                finally:
                    then(name)

        async with anyio.create_task_group() as tasks:
            for name, job in jobs:
                tasks.start_soon(do, name, job)
        return errors
