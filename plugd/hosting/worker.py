"""One worker process, as the daemon sees it: calls with deadlines, its output, its death."""

import asyncio
import functools
import os
import signal
from collections import deque
from collections.abc import Callable
from typing import Any

import anyio

from plugd.errors import PLUGIN_CRASHED, PLUGIN_TIMEOUT, CommandError
from plugd.hosting.forkserver import Spawned
from plugd.hosting.output import LAST_LINES, LINES_PER_SECOND, OutputReader
from plugd.hosting.tree import kill_tree
from plugd.hosting.watch import UsageJudge, Watch
from plugd.rpc.codec import WORKER_LIMITS, FrameError, MessageError, encode_request
from plugd.rpc.message import Message, Notification, Response
from plugd.stream import FrameStream

STOP_TIMEOUT = 2.0  # seconds for a plugin's own stop()
KILL_TIMEOUT = 5.0  # seconds; one that hangs in the kernel longer than this is reaped whenever it ends
CLOSING_GRACE = 0.1  # seconds
REAP_PERIOD = 0.005  # seconds
MESSAGE_CHARACTERS = 4096  # of an error
ENDING_CHARACTERS = 500
GRACE = 30.0  # seconds at most for what nobody waits for any more


class ExitStatus:
    """How a process ended, and what it cost: wait4(2)."""

    __slots__ = ("cpu_seconds", "status")

    def __init__(self, status: int, cpu_seconds: float) -> None:
        self.status = status
        self.cpu_seconds = cpu_seconds

    def __str__(self) -> str:
        if os.WIFSIGNALED(self.status):
            number = os.WTERMSIG(self.status)
            try:
                return f"killed by {signal.Signals(number).name}"
            except ValueError:
                return f"killed by signal {number}"
        return f"exited with status {os.WEXITSTATUS(self.status)}"


class Worker:
    """A worker process and the channel to it.

    Args:
        spawned: the process, just forked; the worker owns its descriptors.
        watch: looks after what it uses, for as long as it lives.
        judge: knows what it may use.
        output_lines: lines a second of what it prints that are passed on.
        on_line: is called with the stream's name and a line that the plugin printed.
        on_suppressed: is called with the number of lines that were too many.
        on_define: is called with definitions of new series.
        on_declare: is called with declarations of new metrics.
        on_exit: is called once, when the process has ended and been reaped.
        on_kill: is called when it is killed, and has what else there is of it killed; returns at once.
        why_killed: says how the kernel has ended it, if that has, before it is reaped.
    """

    def __init__(
        self,
        spawned: Spawned,
        watch: Watch,
        judge: UsageJudge,
        *,
        output_lines: int = LINES_PER_SECOND,
        on_line: Callable[[str, str], None],
        on_suppressed: Callable[[int], None],
        on_define: Callable[[list[Any]], None],
        on_declare: Callable[[list[Any]], None],
        on_exit: Callable[["Worker"], None],
        on_kill: Callable[[], None] | None = None,
        why_killed: Callable[[], str | None] | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self.pid = spawned.pid
        self.judge = judge
        self._pidfd = spawned.pidfd
        self._busy_total = 0.0
        self._busy_since = 0.0
        self._on_notification = {
            "define": lambda params: on_define(params["series"]),
            "declare": lambda params: on_declare(params["metrics"]),
        }
        self._on_exit = on_exit
        self._on_kill = on_kill
        self._why_killed = why_killed
        self._calls: dict[int, asyncio.Future[Any]] = {}
        # Calls whose caller has gone, and who takes their answers, which are still to come.
        self._abandoned: dict[int, Callable[[Any], None] | None] = {}
        self._next_id = 0
        self._exited = anyio.Event()
        self.exit: ExitStatus | None = None
        self.kill_reason: str | None = None
        self.last_output: deque[str] = deque(maxlen=LAST_LINES)
        self._outputs = [
            OutputReader(descriptor, functools.partial(on_line, stream), on_suppressed, self.last_output, output_lines)
            for stream, descriptor in (("stdout", spawned.stdout), ("stderr", spawned.stderr))
        ]
        self._stream = FrameStream(
            spawned.channel,
            WORKER_LIMITS,
            on_message=self._handle_message,
            on_error=self._handle_error,
            on_close=self._handle_close,
            queue_bytes=64 * 1024 * 1024,
        )
        self._loop.add_reader(self._pidfd, self._handle_exit)
        self._watch = watch
        self._watch.workers.add(self)

    @property
    def alive(self) -> bool:
        """Whether the process has not been seen to end."""
        return self.exit is None

    async def call(
        self,
        method: str,
        params: dict[str, Any],
        timeout: float,
        doing: str = "",
        limit: float | None = None,
        on_late: Callable[[Any], None] | None = None,
    ) -> Any:
        """Ask the worker; return its result.

        Args:
            method: one of the worker's.
            params: of it.
            timeout: seconds.
            doing: what it is, for people.
            limit: the seconds that it is told to have, where ``timeout`` is what is left of them.
            on_late: is called with a result that comes when the caller has been cancelled, and has gone.

        Raises:
            CommandError: what the plugin raised; ``plugin.timeout`` when it does not answer within ``timeout``
                seconds, and the worker has then been killed; ``plugin.crashed`` when it dies.
        """
        if self._stream.closed:
            raise self._gone()
        self._next_id += 1
        identifier = self._next_id
        future: asyncio.Future[Any] = self._loop.create_future()
        self._begin_work()
        self._calls[identifier] = future
        try:
            self._stream.send(encode_request(identifier, method, params))
            with anyio.fail_after(timeout):
                # Shielded: the answer may come when the caller is cancelled already, and has not gone yet.
                return await asyncio.shield(future)
        except TimeoutError:
            reason = f"{doing or method} took longer than {limit or timeout:g} s"
            self.kill(reason)
            raise CommandError(PLUGIN_TIMEOUT, reason) from None
        except asyncio.CancelledError:
            if on_late is not None and future.done() and future.exception() is None:
                on_late(future.result())
            raise
        finally:
            del self._calls[identifier]
            if not future.done():
                self._abandoned[identifier] = on_late
                self._loop.call_later(min(timeout, GRACE), self._give_up, identifier, doing or method)
            self._end_work()

    def check_alive(self) -> None:
        """Raise what :meth:`call` would, if the process has ended.

        Raises:
            CommandError: ``plugin.crashed``, with how it ended.
        """
        if self.exit is not None or self._stream.closed:
            raise self._gone()

    async def stop(self) -> None:
        """Have the plugin stop itself, and kill it where it does not."""
        try:
            if self.alive and not self._stream.closed:
                await self.call("stop", {}, STOP_TIMEOUT)
        except CommandError:
            pass  # It is ended in any case.
        finally:
            self.kill("stopped")
            with anyio.move_on_after(KILL_TIMEOUT, shield=True):
                await self.wait()

    def kill(self, reason: str) -> None:
        """Kill the process with all that it has started; returns at once."""
        if self.exit is None and self.kill_reason is None:
            self.kill_reason = reason
            kill_tree(self.pid, self._pidfd)
            if self._on_kill is not None:
                self._on_kill()
        self._stream.close(reason)

    @property
    def abandoned(self) -> bool:
        """Whether it is still at work on something that nobody waits for any more."""
        return bool(self._abandoned)

    def _give_up(self, identifier: int, doing: str) -> None:
        if identifier in self._abandoned:
            self.kill(f"{doing} was cancelled and did not end")

    def _begin_work(self) -> None:
        if not self._calls and not self._abandoned:
            self._busy_since = self._loop.time()

    def _end_work(self) -> None:
        if not self._calls and not self._abandoned:
            self._busy_total += self._loop.time() - self._busy_since

    def busy_seconds(self) -> float:
        """Return how many seconds it has spent on requests so far."""
        busy = bool(self._calls or self._abandoned)
        return self._busy_total + (self._loop.time() - self._busy_since if busy else 0.0)

    async def wait(self) -> None:
        """Wait until the process has ended, and its output has been read."""
        await self._exited.wait()

    def _handle_message(self, message: Message) -> None:
        if isinstance(message, Response):
            if message.id in self._abandoned:
                on_late = self._abandoned.pop(message.id)
                self._end_work()
                if on_late is not None and message.error is None:
                    on_late(message.result)
                return
            future = self._calls.get(message.id) if message.id is not None else None
            if future is None or future.done():
                self.kill("sent an answer to nothing")
            elif message.error is None:
                future.set_result(message.result)
            else:
                future.set_exception(_command_error(message.error))
        elif isinstance(message, Notification) and message.method in self._on_notification and self._calls:
            try:
                self._on_notification[message.method](message.params[0])
            except (LookupError, TypeError, ValueError, OverflowError, AttributeError) as error:
                self.kill(f"sent a malformed definition: {error}")
        elif isinstance(message, Notification) and message.method == "ended":
            self.kill(_ending(message))  # What it is there for has ended.
        else:
            self.kill("sent a message out of turn")

    def _handle_error(self, error: FrameError | MessageError) -> None:
        self.kill(f"broke its protocol: {error}")

    def _handle_close(self, reason: str) -> None:
        """The channel is of no use any more: neither is the process."""
        if self.alive and self.kill_reason is None:
            # A process that dies closes its channel first: how it died is about to be known.
            self._loop.call_later(CLOSING_GRACE, self.kill, f"closed its channel: {reason}")

    def _handle_exit(self) -> None:
        self._loop.remove_reader(self._pidfd)
        self._reap()

    def _reap(self) -> None:
        try:
            _, status, usage = os.wait4(self.pid, 0)
        except ChildProcessError:
            # Killed so soon that it is a child of the intermediate process yet, which is about to end.
            self._loop.call_later(REAP_PERIOD, self._reap)
            return
        self.exit = ExitStatus(status, usage.ru_utime + usage.ru_stime)
        if self._why_killed is not None and self.kill_reason is None:
            self.kill_reason = self._why_killed()
        os.close(self._pidfd)
        for output in self._outputs:
            output.close()
        self._stream.close(str(self.exit))
        for future in self._calls.values():
            if not future.done():
                future.set_exception(self._gone())
        self._watch.workers.discard(self)
        self._watch.sweep()
        self._exited.set()
        # They lead back to whoever has this worker: a circle would keep the plugin's code until rubbish is collected.
        on_exit, self._on_exit = self._on_exit, _ignore
        self._on_notification = {}
        self._on_kill = self._why_killed = None
        on_exit(self)

    def _gone(self) -> CommandError:
        data = {"exit": str(self.exit) if self.exit else None, "output": list(self.last_output)}
        reason = self.kill_reason or (str(self.exit) if self.exit else "it has ended")
        return CommandError(PLUGIN_CRASHED, f"the worker is gone: {reason}", data)


def _ending(message: Notification) -> str:
    """Return how a program has ended, as its worker says."""
    params = message.params[0] if message.params else None
    reason = params.get("reason") if isinstance(params, dict) else None
    return str(reason)[:ENDING_CHARACTERS] if reason else "the program ended"


def _ignore(_worker: Worker) -> None:
    """Nothing comes of a worker that has ended."""


def _command_error(error: Any) -> CommandError:
    """Take an error as the worker has sent it; it may have sent anything."""
    if not isinstance(error, dict):
        return CommandError(PLUGIN_CRASHED, f"failed: {error!r:.200}")
    data = error.get("data")
    return CommandError(
        str(error.get("code", PLUGIN_CRASHED))[:64],
        str(error.get("message", "failed"))[:MESSAGE_CHARACTERS],
        data if isinstance(data, dict) else {},
    )
