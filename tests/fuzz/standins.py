"""Plugins without processes, for a control server that is to be asked thousands of times a second.

They answer as a plugin may: at once, after a while, not until they are released, with an error, with a lot.
"""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

from anyio.abc import TaskGroup

from plugd.catalog.discovery import Found
from plugd.catalog.spec import PluginSpec
from plugd.config import PluginConfig
from plugd.errors import PLUGIN_CRASHED, PLUGIN_INVALID, CommandError
from plugd.hosting import registry as registry_module
from plugd.hosting.backoff import BackoffPolicy
from plugd.hosting.calls import Calls
from plugd.hosting.changes import RUNNING
from plugd.hosting.environment import Environment
from plugd.hosting.events import EventLog
from plugd.hosting.registry import Registry
from plugd.hosting.supervisor import Supervisor
from plugd.plugin import Progress

NAMES = ("demo", "held")
LARGE = "x" * 50_000


class Hold:
    """What has to wait waits here, until it is released.

    Attributes:
        faults: of what was cancelled that goes on without its client.
    """

    def __init__(self) -> None:
        self.faults: list[str] = []
        self._waiting: dict[asyncio.Future[None], bool] = {}

    async def wait(self, *, lasting: bool) -> None:
        future = asyncio.get_running_loop().create_future()
        self._waiting[future] = lasting
        try:
            await future
        except asyncio.CancelledError:
            if lasting:
                self.faults.append("a lasting request was cancelled")
            raise
        finally:
            del self._waiting[future]

    def release(self, *, lasting_only: bool = False) -> None:
        for future, lasting in list(self._waiting.items()):
            if (lasting or not lasting_only) and not future.done():
                future.set_result(None)


class StandIn(Supervisor):
    """A supervisor whose plugin has no worker; that of ``held`` takes as long as somebody wants."""

    hold: Hold

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.calls = StandInCalls(self)

    async def _start(self, cause: str, actor: Any) -> None:
        await self.take_time(lasting=True)
        if self.spec.fault:
            error = CommandError(PLUGIN_INVALID, f"cannot load plugin {self.name!r}: {self.spec.fault}")
            self._failed_to_start(error)
            raise error
        self._change(RUNNING, cause, actor)

    async def take_time(self, *, lasting: bool) -> None:
        if self.name == "held":
            await self.hold.wait(lasting=lasting)
        else:
            await asyncio.sleep(0)


class StandInCalls(Calls):
    """What is asked of it."""

    def __init__(self, plugin: StandIn) -> None:
        self._plugin = plugin

    async def get(self, setting: str | None = None) -> Any:
        await self._plugin.take_time(lasting=False)
        return {"colour": "red"}

    async def set(self, setting: str, value: Any, actor: Any = None, *, persist: bool = False) -> Any:
        await self._plugin.take_time(lasting=False)
        return value

    async def unset(self, setting: str, actor: Any = None) -> Any:
        await self._plugin.take_time(lasting=False)

    def origin(self, setting: str) -> str:
        return "default"

    async def run(self, command: str, args: Any, kwargs: Any, *, tell: Any, **_: Any) -> Any:
        await self._plugin.take_time(lasting=False)
        match command:
            case "hold":
                tell(Progress(0.5, 1.0, "holding"))
                await self._plugin.hold.wait(lasting=False)
            case "fail":
                raise CommandError(PLUGIN_CRASHED, "cannot call: on purpose", {"traceback": "x" * 1000})
            case "large":
                return LARGE
        return [args, kwargs]


class StandInRegistry(Registry):
    """A registry of two plugins that finds a third, which is not fit to run."""

    def __init__(self, environment: Environment, hold: Hold) -> None:
        self._specs = {name: _spec(name) for name in NAMES} | {"nosuch": _spec("nosuch", fault="not a plugin")}
        super().__init__(environment, lambda: Found(self._specs, []))
        self._hold = hold
        for name in NAMES:
            supervisor = self._supervisors[name] = StandIn(self._specs[name], environment)
            supervisor.state, supervisor.number = RUNNING, 1

    async def find(self, discover: Callable[[], Found] | None = None) -> Found:
        await asyncio.sleep(0)
        return Found(self._specs, [])

    async def check(self, name: str) -> dict[str, Any]:
        await self.find()
        if name == "held":
            await self._hold.wait(lasting=False)
        return {"name": name, "ok": True, "faults": [], "samples": 1, "duration": 0.1}

    def end(self) -> None:
        """Leave no timer."""
        for each in self._supervisors.values():
            each._alarm.cancel()


class Plugins:
    """Makes a registry for each test, as new as the one before."""

    def __init__(self, events: EventLog, tasks: TaskGroup) -> None:
        self._environment = Environment(
            forkserver=cast("Any", SimpleNamespace(restarts=0)),
            tasks=tasks,
            sink=cast("Any", SimpleNamespace(remove=lambda _name: None, latest=lambda _name: [])),
            ticker=cast("Any", SimpleNamespace(add=lambda *_: None, remove=lambda _name: None)),
            events=events,
            watch=cast("Any", None),
            startlog=cast("Any", None),
            backoff=BackoffPolicy(),
        )
        self.hold = Hold()
        StandIn.hold = self.hold
        registry_module.Supervisor = StandIn  # type: ignore[misc]  # what `load` makes

    def registry(self) -> StandInRegistry:
        return StandInRegistry(self._environment, self.hold)


def _spec(name: str, fault: str | None = None) -> PluginSpec:
    return PluginSpec(name, "python", f"/plugins/{name}.py", b"", "0" * 64, PluginConfig(), fault)
