"""What clients ask a plugin between its collections: its commands, its settings, what it says of itself."""

import contextlib
import functools
import itertools
import math
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, Any

import anyio

from plugd.errors import PLUGIN_CRASHED, PLUGIN_INVALID, PLUGIN_TIMEOUT, REQUEST_INVALID, CommandError
from plugd.hosting.environment import Environment
from plugd.hosting.events import Actor
from plugd.hosting.gate import Gate
from plugd.hosting.generation import Generation
from plugd.hosting.worker import GRACE, Worker
from plugd.plugin import Progress

if TYPE_CHECKING:
    from plugd.hosting.supervisor import Supervisor

ASK_TIMEOUT = 30.0  # seconds; also for a command, where its caller names no other
MARGIN = 5.0  # seconds by which a step that is given up is awaited longer, so that its worker need not be killed

TEXT_CHARACTERS = 200


Tell = Callable[[Progress], None]


class Calls:
    """Asks a plugin, one thing after the other.

    Args:
        supervisor: of the plugin.
        gate: to its worker.
        environment: has the settings that last.
    """

    def __init__(self, supervisor: "Supervisor", gate: Gate, environment: Environment) -> None:
        self._supervisor = supervisor
        self._gate = gate
        self._environment = environment
        self._saved = environment.saved
        self._saving = anyio.Lock()
        self._numbers = itertools.count(1)  # of commands
        self.settings: dict[str, Any] = {}  # as set by clients, for every generation to come until plugd ends

    def set_values(self) -> dict[str, Any]:
        """Return what clients have set, saved or not."""
        return {**self._saved.of(self._supervisor.name), **self.settings}

    async def describe(self) -> Any:
        """Return what the plugin says of its commands, settings and options; it may say anything.

        Raises:
            CommandError: as every method here: it is not running, it has failed, or it took too long.
        """
        async with self._turn("describe") as generation:
            return await generation.worker.call("describe", {}, ASK_TIMEOUT)

    async def get(self, setting: str | None = None) -> Any:
        """Return the value of a setting, or those of all by name."""
        async with self._turn("get") as generation:
            return await generation.worker.call("get", {"setting": setting}, ASK_TIMEOUT)

    async def set(self, setting: str, value: Any, actor: Actor | None = None, *, persist: bool = False) -> Any:
        """Change a setting, for this generation and those to come; return its value as the plugin has taken it.

        Args:
            setting: its name.
            value: text is converted to its type.
            actor: who wants it.
            persist: whether it shall last when plugd starts anew.
        """
        if not persist:
            return await self._set(setting, value, actor)
        async with self._saving:  # What was set last is what is saved last.
            result = await self._set(setting, value, actor)
            await self._saved.put(self._supervisor.name, setting, result)
            self.settings.pop(setting, None)
            return result

    async def unset(self, setting: str, actor: Actor | None = None) -> Any:
        """Forget what clients have set, saved or not; return the value that the plugin's setting has then.

        That is the one in the configuration, or its default. None of a plugin that does not run.
        """
        supervisor = self._supervisor
        async with self._saving:
            supervisor.check_there("unset", actor)
            was_set = self.settings.pop(setting, self) is not self
            was_saved = await self._saved.forget(supervisor.name, setting)
            if supervisor.current is None:
                return None
            async with self._turn("set") as generation:
                try:
                    return await generation.reset(setting)
                except LookupError:
                    if was_set or was_saved:
                        return None  # An earlier version of the plugin had it.
                    what = f"plugin {supervisor.name!r} has no setting {setting!r}"
                    raise CommandError(REQUEST_INVALID, what) from None

    def origin(self, setting: str) -> str:
        """Return where a setting's value is from: ``set``, ``saved``, ``configuration`` or ``default``."""
        current = self._supervisor.current
        if setting in self.settings:
            return "set"
        if setting in self._saved.of(self._supervisor.name) and not (current and setting in current.refused):
            return "saved"
        spec = current.spec if current else self._supervisor.spec
        return "configuration" if setting in spec.config.settings else "default"

    async def run(
        self,
        command: str,
        args: Sequence[Any],
        kwargs: dict[str, Any],
        *,
        timeout: float | None,
        tell: Tell,
        actor: Actor | None = None,
    ) -> Any:
        """Run one of the plugin's commands; return its result.

        One that yields is run step by step, and collections and other requests have their turn in between. If it is
        cancelled, or its time is over, it is ended at its next ``yield``.

        Args:
            command: its name.
            args: in their order; text is converted to the types of its parameters.
            kwargs: by name, likewise.
            timeout: seconds that it may take, with the time until it is its turn. None: 30, of its own.
            tell: is called with how far it is.
            actor: who wants it.

        Raises:
            CommandError: ``plugin.timeout``: it took too long; its worker has been killed if it could not be ended.
        """
        doing, number = f"command {command!r}", next(self._numbers)
        params: dict[str, Any] = {"call": number, "command": command, "args": args, "kwargs": kwargs}
        limit, begun = timeout or ASK_TIMEOUT, False
        with anyio.CancelScope(deadline=math.inf if timeout is None else anyio.current_time() + timeout) as scope:
            async with self._turn("call", actor) as generation:
                begun = True
                end = anyio.current_time() + ASK_TIMEOUT if timeout is None else scope.deadline
                scope.deadline = math.inf  # One that does not yield is killed at its end.
                on_late = functools.partial(self._end_late, generation.worker, number, doing)
                params["timeout"] = _until(end)
                answer = await generation.worker.call("begin", params, params["timeout"], doing, limit, on_late)
                scope.deadline = end
            return await self._run_on(generation, answer, number, end, doing, tell)
        late = "took longer than" if begun else "could not begin within"
        raise CommandError(PLUGIN_TIMEOUT, f"{doing} {late} {limit:g} s")

    async def _run_on(
        self, generation: Generation, answer: Any, number: int, end: float, doing: str, tell: Tell
    ) -> Any:
        """Ask for one step after the other, until one of them gives the result."""
        try:
            while not _is_done(answer):
                progress = _progress_of(answer)
                if progress is not None:
                    tell(progress)
                async with self._turn("call") as current:
                    if current is not generation:
                        reason = f"{doing} was ended: plugin {self._supervisor.name!r} has been reloaded"
                        raise CommandError(PLUGIN_CRASHED, reason)
                    answer = await generation.worker.call("step", {"call": number}, _until(end) + MARGIN, doing)
            return answer["result"]
        except CommandError:
            raise  # It has ended.
        except BaseException:
            self._environment.start(self._end, generation.worker, number, doing)
            raise

    def _end_late(self, worker: Worker, number: int, doing: str, answer: Any) -> None:
        """End a command that was cancelled before it said that it goes on."""
        if isinstance(answer, dict) and "running" in answer:
            self._environment.start(self._end, worker, number, doing)

    async def _end(self, worker: Worker, number: int, doing: str) -> None:
        """End a command that nobody waits for any more; a step that it is at has its own time before."""
        try:
            async with self._gate.turn():
                await worker.call("end", {"call": number}, 2 * GRACE, f"the end of {doing}")
        except CommandError:
            pass  # Its worker has ended, and the command with it.

    async def _set(self, setting: str, value: Any, actor: Actor | None) -> Any:
        async with self._turn("set", actor) as generation:
            result = await generation.worker.call("set", {"setting": setting, "value": value}, ASK_TIMEOUT)
            self.settings[setting] = result
            generation.refused.pop(setting, None)
            current = self._supervisor.current
            if current is not None and current is not generation:  # It has been replaced meanwhile.
                await current.apply(self.set_values)
            return result

    @contextlib.asynccontextmanager
    async def _turn(self, doing: str, actor: Actor | None = None) -> AsyncIterator[Generation]:
        supervisor = self._supervisor
        state = f"plugin {supervisor.name!r} is {supervisor.state}"
        if supervisor.current is None:
            raise CommandError(REQUEST_INVALID, state, {"state": supervisor.state})
        async with self._gate.turn():
            if supervisor.current is None:
                state = f"plugin {supervisor.name!r} is {supervisor.state}"
                raise CommandError(PLUGIN_CRASHED, state, {"state": supervisor.state})
            supervisor.check_there(doing, actor)
            yield supervisor.current


def _until(end: float) -> float:
    return max(end - anyio.current_time(), 0.001)


def _is_done(answer: Any) -> bool:
    """Whether a worker's answer has the result of a command, which goes on otherwise."""
    if isinstance(answer, dict) and ("result" in answer or answer.get("running") is True):
        return "result" in answer
    raise CommandError(PLUGIN_INVALID, "the command gave a malformed answer")


def _progress_of(answer: dict[str, Any]) -> Progress | None:
    """Take what a worker says; it may say anything."""
    match answer.get("progress"):
        case [done, total, str() as text]:
            return Progress(_number(done), _number(total), text[:TEXT_CHARACTERS])
    return None


def _number(value: Any) -> float | None:
    return value if isinstance(value, float) and math.isfinite(value) else None
