"""All plugins by name: load, unload and reload of many, from what the catalog finds."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

import anyio

from plugd.catalog.discovery import Found
from plugd.catalog.spec import PluginSpec
from plugd.errors import INTERNAL, PLUGIN_ALREADY_LOADED, PLUGIN_NOT_FOUND, CommandError
from plugd.hosting.environment import Environment
from plugd.hosting.events import Actor
from plugd.hosting.supervisor import Supervisor

CONCURRENT_STARTS = 8


class Plan(NamedTuple):
    """What a reload does: names."""

    load: list[str]
    reload: list[str]
    reschedule: list[str]
    unload: list[str]
    unchanged: list[str]


class Registry:
    """The plugins that are loaded, and the only place where they come and go.

    Args:
        environment: what supervisors share.
        discover: walks the plugin directories with the configuration in force; blocks, so it is run in a thread.
    """

    def __init__(self, environment: Environment, discover: Callable[[], Found]) -> None:
        self.environment = environment
        self._discover = discover
        self._supervisors: dict[str, Supervisor] = {}
        self._unloaded: set[str] = set()  # by request: they stay away until somebody loads them
        self._lock = anyio.Lock()
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

    def select(self, names: Sequence[str] | None, doing: str) -> list[Supervisor]:
        """Return the supervisors of these plugins, or of all.

        Raises:
            CommandError: ``plugin.not_found``: one of them is not loaded.
        """
        if not names:
            return self.all()
        return [self.get(name, doing) for name in dict.fromkeys(names)]

    async def start(self) -> None:
        """Load every plugin that is enabled; one that fails is told by its own state."""
        async with self._lock:
            found = await self.find()
            specs = [spec for spec in found.specs.values() if spec.config.enabled]
            await self._each([(spec.name, self._load(spec, "plugd started", None)) for spec in specs])

    async def stop(self) -> None:
        """End every plugin."""
        await self._each([(each.name, each.stop("plugd is stopping")) for each in self.all()])
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
            errors |= await self._each([(name, self._load(specs[name], "load", actor)) for name in todo])
            self._unloaded.difference_update(todo)
            return _outcome("load", {"loaded": [name for name in todo if name not in errors]}, errors, wanted)

    async def unload(self, names: Sequence[str], actor: Actor | None = None) -> dict[str, Any]:
        """Unload plugins; return ``{unloaded, failed}``.

        Raises:
            CommandError: ``plugin.not_found``: with a single name.
        """
        async with self._lock:
            wanted = list(dict.fromkeys(names))
            errors: dict[str, CommandError] = {}
            for name in wanted:
                try:
                    self.get(name, "unload")
                except CommandError as error:
                    errors[name] = error
            todo = [name for name in wanted if name not in errors]
            errors |= await self._each([(name, self._unload(name, "unload", actor)) for name in todo])
            self._unloaded.update(todo)
            return _outcome("unload", {"unloaded": [name for name in todo if name not in errors]}, errors, wanted)

    async def reload(
        self, names: Sequence[str] | None, *, dry_run: bool = False, actor: Actor | None = None
    ) -> dict[str, Any]:
        """Reload these plugins, changed or not; or do for all what has changed.

        Returns: ``{loaded, reloaded, unloaded, unchanged, failed}``; a dry run says it and does nothing.

        Raises:
            CommandError: ``plugin.not_found``: one of ``names`` is not loaded, or its file is gone.
        """
        async with self._lock:
            specs = (await self.find()).specs
            plan = self._plan_named(names, specs) if names else self._plan(specs)
            errors: dict[str, CommandError] = {}
            if not dry_run:
                jobs = [(name, self._load(specs[name], "reload: new", actor)) for name in plan.load]
                for name in plan.reload:
                    cause = "reload: asked for" if names else "reload: changed"
                    jobs.append((name, self._supervisors[name].reload(specs[name], cause, actor)))
                for name in plan.reschedule:
                    self._supervisors[name].reschedule(specs[name], "reload: another schedule", actor)
                jobs += [(name, self._unload(name, "reload: it is gone", actor)) for name in plan.unload]
                errors = await self._each(jobs)
            return {
                "loaded": [name for name in plan.load if name not in errors],
                "reloaded": sorted(name for name in (*plan.reload, *plan.reschedule) if name not in errors),
                "unloaded": [name for name in plan.unload if name not in errors],
                "unchanged": plan.unchanged,
                "failed": [{"name": name, "error": _worded("reload", name, errors[name])} for name in sorted(errors)],
            }

    async def resume(self, names: Sequence[str] | None, actor: Actor | None = None) -> dict[str, Any]:
        """End pauses, and try failed plugins again; return ``{resumed, failed}``.

        Raises:
            CommandError: ``plugin.not_found``; with a single name, also why it does not run.
        """
        chosen = [each for each in self.select(names, "resume") if names or each.state != "failed"]
        wanted = [each.name for each in chosen]
        errors = await self._each([(each.name, each.resume("resume", actor)) for each in chosen])
        return _outcome("resume", {"resumed": [name for name in wanted if name not in errors]}, errors, wanted)

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
            collection = await Supervisor(spec, self.environment).check()
        except CommandError as error:
            fault = {"message": error.message, "path": error.data.get("path"), "line": error.data.get("line")}
            return report | {"ok": False, "faults": error.data.get("faults") or [fault]}
        return report | {"samples": len(collection.values), "duration": collection.duration}

    async def find(self) -> Found:
        """Walk the plugin directories."""
        # In a thread: a hung file system must not hold up the daemon.
        found = await anyio.to_thread.run_sync(self._discover, abandon_on_cancel=True)
        self.ignored = found.ignored
        return found

    def _plan(self, specs: dict[str, PluginSpec]) -> Plan:
        plan = Plan([], [], [], [], [])
        for name, spec in sorted(specs.items()):
            there = self._supervisors.get(name)
            if not spec.config.enabled:
                continue
            if there is None:
                if name not in self._unloaded:
                    plan.load.append(name)
            elif not spec.same_code(there.spec):
                plan.reload.append(name)
            elif spec.config != there.spec.config:
                plan.reschedule.append(name)
            else:
                plan.unchanged.append(name)
        gone = [name for name in self._supervisors if name not in specs or not specs[name].config.enabled]
        plan.unload.extend(sorted(gone))
        self._unloaded.intersection_update(specs)
        return plan

    def _plan_named(self, names: Sequence[str], specs: dict[str, PluginSpec]) -> Plan:
        wanted = list(dict.fromkeys(names))
        for name in wanted:
            self.get(name, "reload")
            if name not in specs:
                raise CommandError(PLUGIN_NOT_FOUND, f"cannot reload plugin {name!r}: its file is gone", {"name": name})
        return Plan([], wanted, [], [], [])

    async def _load(self, spec: PluginSpec, cause: str, actor: Actor | None) -> None:
        there = self._supervisors.get(spec.name)
        if there is not None:
            await there.reload(spec, cause, actor)
            return
        supervisor = self._supervisors[spec.name] = Supervisor(spec, self.environment)
        await supervisor.load(cause, actor)

    async def _unload(self, name: str, cause: str, actor: Actor | None) -> None:
        supervisor = self._supervisors[name]
        await supervisor.stop(cause, actor)
        del self._supervisors[name]

    async def _each(self, jobs: Sequence[tuple[str, Awaitable[None]]]) -> dict[str, CommandError]:
        """Do all of it side by side; return the errors by name."""
        errors: dict[str, CommandError] = {}
        limiter = anyio.CapacityLimiter(CONCURRENT_STARTS)

        async def do(name: str, job: Awaitable[None]) -> None:
            async with limiter:
                try:
                    await job
                except CommandError as error:
                    errors[name] = error

        async with anyio.create_task_group() as tasks:
            for name, job in jobs:
                tasks.start_soon(do, name, job)
        return errors


def _outcome(verb: str, done: dict[str, Any], errors: dict[str, CommandError], wanted: Sequence[str]) -> dict[str, Any]:
    """What a request about some plugins answers: with a single name, its failure is the request's."""
    failed: list[dict[str, Any]] = [
        {"name": name, "error": _worded(verb, name, errors[name])} for name in wanted if name in errors
    ]
    if len(wanted) == 1 and failed:
        error = failed[0]["error"]
        raise CommandError(error["code"], error["message"], error["data"]) from next(iter(errors.values()))
    return {**done, "failed": failed}


def _worded(verb: str, name: str, error: CommandError) -> dict[str, Any]:
    """The error as a client reads it: "cannot load plugin 'x': …"."""
    prefix = f"cannot {verb} plugin {name!r}: "
    message = error.message if error.message.startswith(prefix) else prefix + error.message
    return {"code": error.code or INTERNAL, "message": message, "data": {"name": name, **error.data}}
