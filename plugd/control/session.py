"""One client's connection: its stream, its subscriptions, its deadlines, its end."""

import asyncio
import itertools
import os
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio
import structlog
from anyio.abc import TaskGroup

from plugd.control.access import Peer, Role
from plugd.control.caller import Caller, caller_of
from plugd.control.context import Context
from plugd.control.parameters import Subscribe
from plugd.control.requests import Requests
from plugd.errors import BUSY, REQUEST_INVALID, CommandError
from plugd.hosting.events import Actor
from plugd.hosting.tree import descends_from
from plugd.rpc.codec import FrameError, Limits, MessageError, encode_notification, encode_response
from plugd.rpc.message import Message, Request
from plugd.sampling.subscription import Subscription
from plugd.stream import FrameStream

log = structlog.get_logger()

FIRST_REQUEST = 0.5  # seconds from when it connected that a client has for its first request while plugd stops

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
        self._limits = limits = context.settings.config.control.limits
        self.number = next(_numbers)
        self.peer = peer
        self.role = _role_of(peer, context)
        self.actor = Actor(peer.uid, peer.pid)
        self.context = context
        self.tasks = tasks
        self.client: str | None = None
        self.requests = Requests(self, limits.requests_in_flight)
        self.proven = False  # whether it has asked for something at all
        self._socket = sock
        self._caller: Caller | None = None
        self._on_end = on_end
        self._eof = False
        self.active_at = time.monotonic()  # seconds of the loop's clock, when something last came or went
        self._subscriptions: dict[int, Subscription] = {}
        self._next_subscription = itertools.count(1)
        self._large: anyio.Lock | None = None
        self._drained: anyio.Event | None = None
        self._draining = False
        self._first_request: asyncio.TimerHandle | None = None
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

    @property
    def idle(self) -> bool:
        """Whether nothing is under way: no request, no subscription, nothing that is still to be read."""
        return not (self.requests or self._subscriptions or self._stream.queued_bytes)

    def useless_for(self, now: float) -> float:
        """Return for how many seconds its client has had nothing under way, or has not read what waits for it.

        Args:
            now: of the loop's clock.
        """
        return now - self.active_at if self.idle else self._stream.stalled_for(now)

    def identify(self) -> Caller:
        """Return which program the client is, as far as that is known; it is asked for once."""
        if self._caller is None:
            self._caller = Caller(None, None) if self._stream.closed else caller_of(self._socket, self.peer)
        return self._caller

    @asynccontextmanager
    async def large_answer(self) -> AsyncIterator[None]:
        """Make a large answer: one at a time, and when the client has taken what was there before."""
        self._large = self._large or anyio.Lock()  # Few need it, and it takes a kilobyte.
        async with self._large:
            while self._stream.queued_bytes and not self._stream.closed:
                self._drained = anyio.Event()
                await self._drained.wait()
            yield

    def send(self, *data: bytes) -> None:
        """Send an answer or a notification, in one piece or in several, or queue it."""
        if self._stream.queued_bytes > self._limits.unread_bytes:
            self.context.counts.refuse("unread_bytes")
            self.close(f"{self._stream.queued_bytes} bytes were not read")
        self.active_at = time.monotonic()
        self._stream.send(*data)

    def notify(self, encode: Callable[[], bytes]) -> bool:
        """Send a notification, unless the client has not read what was sent before; return whether it was sent."""
        if self._stream.queued_bytes:
            return False  # The kernel holds enough of them for a client that reads.
        self.send(encode())
        return True

    def finish_if_done(self) -> None:
        """End the connection of a client that sends no more, once it has all that it asked for."""
        if self._eof and not self._stream.closed and not self._has_more():
            self._stream.finish("all that was asked for is answered")

    def drain(self) -> None:
        """Answer what the client has asked so far, and end the connection.

        A client that has only just connected may ask once: it could not know that it was too late.
        """
        self._draining = True
        grace = FIRST_REQUEST - (time.monotonic() - self.active_at)
        if self.proven or grace <= 0:
            self._take_leave()
        else:
            self._first_request = asyncio.get_running_loop().call_later(grace, self._take_leave)

    @property
    def awaited(self) -> bool:
        """Whether a client that is being drained may still have a question, or wait for an answer, and does read."""
        return (not self._eof or bool(self.requests)) and self._stream.stalled_for(time.monotonic()) < FIRST_REQUEST

    def _take_leave(self) -> None:
        if self._first_request is not None:
            self._first_request.cancel()
        if self._subscriptions:
            self.notify(lambda: encode_notification("stopping", {"time": time.time()}))
        self._end_subscriptions()
        self._stream.end_reading()

    def close(self, reason: str) -> None:
        """End the connection."""
        self._stream.close(reason)

    def evict(self) -> None:
        """End the connection for the sake of another."""
        self.context.counts.refuse("evicted")
        self.close("idle, and its place was needed")

    def keep_deadlines(self, now: float) -> None:
        """Close the connection if its client does not read, or has nothing to do here; or send it a ping.

        Args:
            now: seconds of the loop's clock.
        """
        for subscription in self._subscriptions.values():
            self._count_lost(subscription)
        limits = self._limits
        if self._stream.stalled_for(now) > limits.write:
            self.context.counts.refuse("write")
            self.close(f"nothing was read for {limits.write:g} s")
        elif self._subscriptions:
            if now - self.active_at > limits.ping and not self._stream.queued_bytes:
                self.send(encode_notification("ping", {"time": time.time()}))
        elif self.idle and now - self.active_at > limits.idle:
            self.context.counts.refuse("idle")
            self.close(f"idle for {limits.idle:g} s")

    # Subscriptions

    def subscribe(self, params: Subscribe) -> int:
        """Add a subscription; return its number.

        Raises:
            CommandError: ``busy``: there are too many.
        """
        limits, counts = self._limits, self.context.subscriptions
        _check_limit("subscriptions", len(self._subscriptions), limits.subscriptions)
        _check_limit("subscriptions_per_uid", counts[self.peer.uid], limits.subscriptions_per_uid)
        number = next(self._next_subscription)
        subscription = Subscription(
            number,
            params.patterns,
            events=params.events,
            interval=params.interval,
            send=self.notify,
            queue=self._limits.queue,
        )
        self._subscriptions[number] = subscription
        counts[self.peer.uid] += 1
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
        self._drop(subscription)

    def _end_subscriptions(self) -> None:
        for subscription in self._subscriptions.values():
            self._drop(subscription)
        self._subscriptions.clear()

    def _drop(self, subscription: Subscription) -> None:
        self.context.broker.remove(subscription)
        self.context.subscriptions[self.peer.uid] -= 1
        if not self.context.subscriptions[self.peer.uid]:
            del self.context.subscriptions[self.peer.uid]
        self._count_lost(subscription)

    def _count_lost(self, subscription: Subscription) -> None:
        lost, subscription.lost = subscription.lost, 0
        self.context.counts.refuse("queue", lost)

    # What the stream says

    def _handle_message(self, message: Message) -> None:
        if isinstance(message, Request):  # Clients have nothing to notify of, and are asked nothing.
            self.proven = True
            self.requests.handle(message)
            if self._draining:
                self._take_leave()

    def _handle_error(self, error: FrameError | MessageError) -> None:
        """Answer what is no request; after a FrameError the stream ends by itself."""
        self.context.counts.refuse(error.limit or error.code)
        refusal = CommandError(error.code, str(error), {"limit": error.limit} if error.limit else {})
        self.send(encode_response(error.id if isinstance(error, MessageError) else None, refusal.as_dict(), None))

    def _handle_drain(self) -> None:
        self._set_drained()
        for subscription in list(self._subscriptions.values()):
            subscription.drain()

    def _handle_eof(self) -> bool:
        """The client asks nothing more, and may still wait for answers and samples."""
        self._eof = True
        return self._has_more()

    def _has_more(self) -> bool:
        return bool(self.requests or self._subscriptions)

    def _handle_close(self, reason: str) -> None:
        self._set_drained()
        if self._first_request is not None:
            self._first_request.cancel()
        try:
            self._end_subscriptions()
            self.requests.cancel_all()
            log.debug("session_ended", session=self.number, uid=self.peer.uid, reason=reason)
        finally:
            self._on_end(self)
            del self.requests  # which has this session: without the circle, both are freed at once

    def _set_drained(self) -> None:
        if self._drained is not None:
            self._drained.set()
            self._drained = None


def _check_limit(name: str, there: int, most: int) -> None:
    if there >= most:
        raise CommandError(BUSY, f"cannot subscribe: {most} {name} are the most", {"limit": name, "maximum": most})


def _role_of(peer: Peer, context: Context) -> Role:
    """The role of a peer; a plugin has no more than to read, though it may run as the daemon's own user.

    One of which that cannot be told may only read, too: it may have ended already, and have been a plugin's.
    """
    role = context.policy.role_of(peer)
    try:
        return Role.READ if role > Role.READ and descends_from(peer.pid, os.getpid()) else role
    except OSError:
        return Role.READ
