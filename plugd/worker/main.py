"""A worker: one process, one plugin, one blocking loop that answers the daemon.

The daemon sends one request at a time; the plugin's code runs on the main thread in between. Whatever the
plugin raises, SystemExit and KeyboardInterrupt included, is an answer; what it cannot turn into an answer
(a segfault, ``os._exit``) ends the process, which the daemon sees in its pidfd.
"""

import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from plugd.rpc.codec import WORKER_LIMITS, Decoder, TrustedDecoder, encode_notification, encode_response
from plugd.rpc.message import Request
from plugd.worker import process
from plugd.worker.calls import Calls
from plugd.worker.confine import ConfinementError, confine
from plugd.worker.failure import INVALID, Failure, describe_exception
from plugd.worker.notifications import Notify
from plugd.worker.python import PythonHost

RECEIVE_BYTES = 64 * 1024
OWN_DESCRIPTORS = 3  # of every worker: its RPC socket, stdout, stderr


class Host(Protocol):
    """What runs a plugin of one kind: see :func:`host_of`."""

    def load(self, params: dict[str, Any]) -> Any:
        """Load and validate the plugin; return what it declares."""

    def describe(self, params: dict[str, Any]) -> Any:
        """Return the plugin's commands, settings and options."""

    def start(self, params: dict[str, Any]) -> Any:
        """Have the plugin open what it needs."""

    def collect(self, params: dict[str, Any]) -> Any:
        """Collect once; return the samples as ids and values."""

    def call(self, params: dict[str, Any]) -> Any:
        """Run one of the plugin's commands; return its result, or Steps where it has yet to be run."""

    def get(self, params: dict[str, Any]) -> Any:
        """Return the values of the plugin's settings."""

    def set(self, params: dict[str, Any]) -> Any:
        """Change a setting; return its new value."""

    def save_state(self, params: dict[str, Any]) -> Any:
        """Return what the next generation shall know."""

    def load_state(self, params: dict[str, Any]) -> Any:
        """Take what the last generation saved."""

    def reconfigure(self, params: dict[str, Any]) -> Any:
        """Have the plugin take other options as it runs."""

    def stop(self, params: dict[str, Any]) -> Any:
        """Have the plugin close what it opened."""

    def wait_readable(self, channel: socket.socket) -> None:
        """Wait until the channel can be read; a plugin's own event loop runs meanwhile."""


METHODS = (
    "load",
    "describe",
    "start",
    "collect",
    "call",
    "get",
    "set",
    "save_state",
    "load_state",
    "reconfigure",
    "stop",
)


def run(
    name: str, rules: Mapping[str, Any], daemon_pid: int, intermediate_pid: int, descriptors: Sequence[int]
) -> None:
    """Be the worker of the plugin ``name``: the first thing that a forked process calls.

    ``rules`` are what it confines itself to, as ``plugd.hosting.confinement`` writes them. A worker that cannot
    keep them answers ``load`` with the reason, and runs nothing.
    """
    process.default_signals()
    rpc = process.detach(*descriptors)
    image = rpc + 1 if len(descriptors) > OWN_DESCRIPTORS else None
    process.set_process_name(f"plugd:{name}")
    unconfined, refusal = [], None
    for module in rules.get("modules", ()):
        __import__(module)
    try:
        unconfined = confine(rules)
    except ConfinementError as error:
        refusal = Failure(INVALID, str(error))
        print(f"plugd: {error}", file=sys.stderr)
    process.die_with(daemon_pid, intermediate_pid)  # Last: a change of user makes the kernel forget it.
    with socket.socket(fileno=rpc) as channel:
        channel.setblocking(True)

        def notify(method: str, params: dict[str, Any]) -> None:
            channel.sendall(encode_notification(method, params))

        try:
            serve(channel, PythonHost(notify), unconfined, refusal, lambda kind: host_of(kind, notify, image))
        except (BrokenPipeError, ConnectionResetError):
            pass  # The daemon closed the channel: it is done with this worker.


def host_of(kind: str, notify: Notify, image: int | None) -> Host:
    """Return what runs a plugin of a kind that is not Python's.

    Its module is imported here: the worker of a Python plugin has none of it.

    Args:
        kind: of the plugin.
        notify: sends a notification to the daemon.
        image: the descriptor that came with the worker, or None.

    Raises:
        Failure: ``plugin.invalid``: nothing here runs such plugins.
    """
    if kind == "native" and image is not None:
        from plugd.worker.native import NativeHost

        return NativeHost(notify, image)
    if kind == "command":
        from plugd.worker.command import CommandHost

        return CommandHost(notify)
    if kind == "stdio":
        from plugd.worker.stdio import StdioHost

        return StdioHost(notify)
    raise Failure(INVALID, f"this worker cannot run plugins of kind {kind!r}")


def serve(
    channel: socket.socket,
    host: Host,
    unconfined: Sequence[str] = (),
    refusal: Failure | None = None,
    other_host: Callable[[str], Host] | None = None,
) -> None:
    """Answer requests until the channel is closed, or ``stop`` has been answered.

    Args:
        channel: to the daemon, blocking.
        host: runs the plugin, if it is one in Python.
        unconfined: what this worker is not kept from; added to the answer to ``load``.
        refusal: the answer to ``load`` if nothing may run here.
        other_host: makes the host of a plugin of another kind.
    """
    handlers: dict[str, Callable[[dict[str, Any]], Any]] = {method: getattr(host, method) for method in METHODS}

    def load(params: dict[str, Any]) -> dict[str, Any]:
        nonlocal host
        if refusal is not None:
            raise refusal
        kind = params.get("kind", "python")
        if kind != "python" and other_host is not None:
            host = other_host(kind)
            handlers.update({method: getattr(host, method) for method in METHODS if method != "load"})
        return {**host.load(params), "unconfined": list(unconfined)}

    handlers["load"] = load
    calls = Calls(handlers)
    handlers |= {"begin": calls.begin, "step": calls.step, "end": calls.end}
    decoder = TrustedDecoder()
    while True:
        host.wait_readable(channel)
        data = channel.recv(RECEIVE_BYTES)
        if not data:
            return
        for message in decoder.feed(data):
            if isinstance(message, Request):
                if message.method == "stop":
                    calls.end_all()
                channel.sendall(answer(handlers, message))
                if message.method == "stop":
                    return


def answer(handlers: dict[str, Callable[[dict[str, Any]], Any]], request: Request) -> bytes:
    """Run one request; return the response's bytes, whatever the plugin does."""
    try:
        params = request.params[0] if request.params else {}
        return encode_result(request, handlers[request.method](params))
    except Failure as failure:
        return encode_response(request.id, failure.as_dict(), None)
    except BaseException as error:  # noqa: BLE001 - the plugin's own code ran
        return encode_response(request.id, describe_exception(error, f"{request.method}()").as_dict(), None)


def encode_result(request: Request, result: Any) -> bytes:
    """Return the response's bytes.

    Raises:
        Failure: ``plugin.invalid``: msgpack cannot carry the result, or the daemon would not take it.
    """
    try:
        data = encode_response(request.id, None, result)
        if request.method != "collect":  # Whose answer is flat, and checked by the daemon in any case.
            decoder = Decoder(WORKER_LIMITS)
            decoder.feed(data)
            decoder.next_message()
    except (TypeError, ValueError, OverflowError) as error:
        method = "call" if request.method in ("begin", "step") else request.method
        raise Failure(INVALID, f"{method} returned what plugd cannot take: {error}") from error
    return data
