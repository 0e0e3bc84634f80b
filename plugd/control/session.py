"""One client's connection: its requests, its subscriptions, its end."""

import itertools
import os
import socket
import time
from collections.abc import Callable, Coroutine
from typing import Any

import anyio
import structlog
from anyio.abc import TaskGroup

from plugd.control.access import Peer, Role
from plugd.control.commands import COMMANDS, Command, convert_parameters
from plugd.control.context import Context
from plugd.control.parameters import Subscribe
from plugd.errors import AUTH_DENIED, BUSY, INTERNAL, REQUEST_INVALID, REQUEST_UNKNOWN_METHOD, CommandError
from plugd.hosting.events import Actor
from plugd.hosting.tree import descends_from
from plugd.rpc.codec import FrameError, Limits, MessageError, encode_response
from plugd.rpc.message import Message, Request
from plugd.sampling.subscription import Subscription
from plugd.stream import FrameStream

log = structlog.get_logger()

SUBSCRIPTIONS_MAXIMUM = 16  # of one connection
SLOW_READER_BYTES = 64 * 1024  # waiting to be sent: no notification is added to more than this

_numbers = itertools.count(1)


class Session:
    """A connected client. Its role is settled once, when it connects.

    Args:
        sock: the accepted, non-blocking socket; the session owns it.
        peer: whose it is.
        context: the daemon's parts.
        tasks: where requests that take time run.
        on_end: is called once, when the connection is gone.
    """

    def __init__(
        self, sock: socket.socket, peer: Peer, context: Context, tasks: TaskGroup, on_end: Callable[["Session"], None]
    ) -> None:
        limits = context.settings.config.control.limits
        self.number = next(_numbers)
        self.peer = peer
        self.role = _role_of(peer, context)
        self.actor = Actor(peer.uid, peer.pid)
        self.context = context
        self.client: str | None = None
        self._tasks = tasks
        self._on_end = on_end
        self._in_flight: dict[int, anyio.CancelScope] = {}
        self._eof = False
        self._maximum = limits.requests_in_flight
        self._queue = limits.queue
        self._subscriptions: dict[int, Subscription] = {}
        self._next_subscription = itertools.count(1)
        self._log = log.bind(session=self.number, uid=peer.uid)
        self._stream = FrameStream(
            sock,
            Limits(limits.request_bytes, limits.depth, limits.elements),
            on_message=self._handle_message,
            on_error=self._handle_error,
            on_close=self._handle_close,
            on_drain=self._handle_drain,
            on_eof=self._handle_eof,
            partial_timeout=limits.partial_request,
        )

    def close(self, reason: str) -> None:
        """End the connection."""
        self._stream.close(reason)

    def subscribe(self, params: Subscribe) -> int:
        """Add a subscription; return its number.

        Raises:
            CommandError: ``busy``: there are too many.
        """
        if len(self._subscriptions) >= SUBSCRIPTIONS_MAXIMUM:
            raise CommandError(BUSY, f"cannot subscribe: {SUBSCRIPTIONS_MAXIMUM} subscriptions are the most")
        number = next(self._next_subscription)
        subscription = Subscription(
            number,
            params.patterns,
            events=params.events,
            interval=params.interval,
            send=self._notify,
            queue=self._queue,
        )
        self._subscriptions[number] = subscription
        self.context.broker.add(subscription)
        return number

    def unsubscribe(self, number: int) -> None:
        """End a subscription.

        Raises:
            CommandError: ``request.invalid``: there is none of that number.
        """
        subscription = self._subscriptions.pop(number, None)
        if subscription is None:
            raise CommandError(REQUEST_INVALID, f"cannot unsubscribe: no subscription {number}")
        self.context.broker.remove(subscription)

    def cancel(self, request: int) -> bool:
        """Cancel a request that is under way; whether there was one that can be."""
        scope = self._in_flight.get(request)
        if scope is None or scope.shield:
            return False
        scope.cancel()
        return True

    def _handle_message(self, message: Message) -> None:
        if not isinstance(message, Request):
            return  # Clients have nothing to notify of, and are asked nothing.
        try:
            command = COMMANDS.get(message.method)
            if command is None:
                raise CommandError(REQUEST_UNKNOWN_METHOD, f"no method {message.method[:64]!r}")
            if self.role < command.role:
                raise CommandError(
                    AUTH_DENIED,
                    f"cannot {command.name}: it takes the role {command.role}, and you have {self.role}",
                    {"role": str(self.role), "needed": str(command.role)},
                )
            result = command.handler(self, convert_parameters(command, message.params))
            if isinstance(result, Coroutine):
                self._begin(message.id, command, result)
                return
            answer = encode_response(message.id, None, result)
        except CommandError as error:
            self._count_refusal(error)
            answer = encode_response(message.id, error.as_dict(), None)
        except Exception:  # noqa: BLE001 - a fault of the daemon's own must not end it; it is logged as such
            answer = self._internal(message.id, message.method)
        self._stream.send(answer)

    def _begin(self, identifier: int, command: Command, work: Coroutine[Any, Any, Any]) -> None:
        """Have a request that takes time run beside the others."""
        if len(self._in_flight) >= self._maximum or identifier in self._in_flight:
            work.close()
            if identifier in self._in_flight:
                raise CommandError(REQUEST_INVALID, f"request id {identifier} is still in flight")
            raise CommandError(BUSY, f"{self._maximum} requests are in flight, which is the most")
        self._in_flight[identifier] = anyio.CancelScope(shield=command.lasting)
        self._tasks.start_soon(self._finish, identifier, command, work)

    async def _finish(self, identifier: int, command: Command, work: Coroutine[Any, Any, Any]) -> None:
        started = time.monotonic()
        outcome = "cancelled"
        answer = encode_response(identifier, CommandError(BUSY, f"{command.name} was cancelled").as_dict(), None)
        try:
            with self._in_flight[identifier]:
                answer = encode_response(identifier, None, await work)
                outcome = "ok"
        except CommandError as error:
            outcome = error.code
            answer = self._encode_error(identifier, error)
        except Exception:  # noqa: BLE001 - as above
            outcome = INTERNAL
            answer = self._internal(identifier, command.name)
        finally:
            del self._in_flight[identifier]
        duration = round(time.monotonic() - started, 4)
        self._log.info("command_finished", method=command.name, outcome=outcome, duration_seconds=duration)
        self._stream.send(answer)
        if self._eof and not self._has_more():
            self._stream.finish("all that was asked for is answered")

    def _encode_error(self, identifier: int, error: CommandError) -> bytes:
        try:
            return encode_response(identifier, error.as_dict(), None)
        except (TypeError, ValueError, OverflowError):
            return encode_response(identifier, {"code": error.code, "message": error.message, "data": {}}, None)

    def _internal(self, identifier: int, method: str) -> bytes:
        self._log.exception("command_failed", method=method[:64])
        error = CommandError(INTERNAL, f"{method[:64]} failed inside plugd; its log has the traceback")
        return encode_response(identifier, error.as_dict(), None)

    def _notify(self, encode: Callable[[], bytes]) -> bool:
        if self._stream.queued_bytes > SLOW_READER_BYTES:
            return False
        self._stream.send(encode())
        return True

    def _handle_drain(self) -> None:
        for subscription in list(self._subscriptions.values()):
            subscription.drain()

    def _handle_eof(self) -> bool:
        """The client asks nothing more, and may still wait for answers and samples."""
        self._eof = True
        return self._has_more()

    def _has_more(self) -> bool:
        return bool(self._in_flight or self._subscriptions)

    def _handle_error(self, error: FrameError | MessageError) -> None:
        """Answer what is no request; after a FrameError the stream ends by itself."""
        identifier = error.id if isinstance(error, MessageError) else None
        refusal = CommandError(error.code, str(error))
        self._count_refusal(refusal)
        self._stream.send(encode_response(identifier, refusal.as_dict(), None))

    def _count_refusal(self, error: CommandError) -> None:
        self.context.count(f"refused.{error.code}")

    def _handle_close(self, reason: str) -> None:
        for subscription in self._subscriptions.values():
            self.context.broker.remove(subscription)
        self._subscriptions.clear()
        for scope in self._in_flight.values():
            if not scope.shield:
                scope.cancel()
        self._log.debug("session_ended", reason=reason)
        self._on_end(self)


def _role_of(peer: Peer, context: Context) -> Role:
    """The role of a peer; a plugin has no more than to read, though it may run as the daemon's own user."""
    role = context.policy.role_of(peer)
    if role > Role.READ and descends_from(peer.pid, os.getpid()):
        return Role.READ
    return role
