"""The worker's loop: requests in, answers out, whatever the plugin does."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from worker_harness import Loader

from plugd.rpc.codec import FrameError, TrustedDecoder, encode_notification, encode_request
from plugd.rpc.message import Request, Response
from plugd.worker import main
from plugd.worker.failure import Failure
from plugd.worker.main import METHODS, answer, serve

DEADLINE = 20.0  # seconds


class EchoHost:
    """A host that answers with what it was asked, and does as the request says."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def __getattr__(self, name: str) -> Callable[[dict[str, Any]], Any]:
        if name not in METHODS:
            raise AttributeError(name)

        def method(params: dict[str, Any]) -> Any:
            self.asked.append((name, params))
            if "raise" in params:
                raise {"exit": SystemExit(3), "interrupt": KeyboardInterrupt(), "failure": Failure("x.y", "no")}[
                    params["raise"]
                ]
            return params or {"method": name}

        return method

    def wait_readable(self, channel: socket.socket) -> None:
        pass


class Daemon:
    """The other end of the channel."""

    def __init__(self, channel: socket.socket) -> None:
        self.channel = channel
        self.decoder = TrustedDecoder()
        self.responses: list[Response] = []
        self.last = 0

    def ask(self, method: str, **params: Any) -> Response:
        """Send a request and return its response."""
        self.last += 1
        self.channel.sendall(encode_request(self.last, method, params or None))
        response = self.next()
        assert response.id == self.last
        return response

    def next(self) -> Response:
        while not self.responses:
            data = self.channel.recv(65536)
            assert data, "the worker closed the channel"
            for message in self.decoder.feed(data):
                assert isinstance(message, Response)
                self.responses.append(message)
        return self.responses.pop(0)


@contextlib.contextmanager
def served(host: Any, **arguments: Any) -> Iterator[tuple[Daemon, threading.Thread]]:
    """Serve in a thread: a plugin that is to fork or to be async is loaded before."""
    ours, theirs = socket.socketpair()
    ours.settimeout(DEADLINE)
    with ours, theirs:
        thread = threading.Thread(target=serve, args=(theirs, host), kwargs=arguments)
        thread.start()
        try:
            yield Daemon(ours), thread
        finally:
            with contextlib.suppress(OSError):
                ours.shutdown(socket.SHUT_RDWR)
            thread.join(DEADLINE)
            assert not thread.is_alive()


@pytest.mark.parametrize("method", [method for method in METHODS if method not in ("load", "stop")])
def test_every_method_is_asked_of_the_host(method: str) -> None:
    """With its params; without any, with none."""
    host = EchoHost()
    with served(host) as (daemon, _):
        assert daemon.ask(method, a=1) == Response(1, None, {"a": 1})
        assert daemon.ask(method) == Response(2, None, {"method": method})
    assert host.asked == [(method, {"a": 1}), (method, {})]


def test_load_tells_what_the_worker_is_not_kept_from() -> None:
    """Beside what the host says of the plugin."""
    with served(EchoHost(), unconfined=["network"]) as (daemon, _):
        assert daemon.ask("load", a=1).result == {"a": 1, "unconfined": ["network"]}


def test_a_worker_that_may_not_run_refuses_to_load() -> None:
    """The reason is the answer, and the host is never asked."""
    host = EchoHost()
    with served(host, refusal=Failure("plugin.invalid", "cannot confine")) as (daemon, _):
        assert daemon.ask("load").error["message"] == "cannot confine"
    assert host.asked == []


@pytest.mark.parametrize(
    ("kind", "code", "message"),
    [
        ("exit", "plugin.crashed", "collect() raised SystemExit: 3"),
        ("interrupt", "plugin.crashed", "collect() raised KeyboardInterrupt"),
        ("failure", "x.y", "no"),
    ],
)
def test_what_the_host_raises_is_an_answer(kind: str, code: str, message: str) -> None:
    """And the loop goes on."""
    with served(EchoHost()) as (daemon, _):
        error = daemon.ask("collect", **{"raise": kind}).error
        assert (error["code"], error["message"]) == (code, message)
        assert daemon.ask("get").error is None


def test_an_unknown_method_is_an_error_and_not_the_end() -> None:
    """A newer daemon may ask for what this worker does not know; dunder names lead nowhere."""
    with served(EchoHost()) as (daemon, _):
        for method in ("evaluate", "wait_readable", "__init__"):
            assert daemon.ask(method).error["code"] == "plugin.crashed"
        assert daemon.ask("get").error is None


def test_params_that_are_no_map_are_an_error_and_not_the_end(load: Loader) -> None:
    """Whatever a request holds."""
    host = load("class Probe(Plugin):\n    def collect(self): return []\n").host
    with served(host) as (daemon, _):
        daemon.channel.sendall(b"\x94\x00\x07\xa4call\x91\x01")  # params: [1]
        assert daemon.next().error["code"] == "plugin.crashed"
        assert daemon.ask("collect").error is None


def test_requests_are_answered_in_their_order() -> None:
    """Several in one packet, and one in pieces of a byte."""
    with served(EchoHost()) as (daemon, _):
        daemon.channel.sendall(b"".join(encode_request(number, "get", {"n": number}) for number in range(1, 6)))
        assert [daemon.next().id for _ in range(5)] == [1, 2, 3, 4, 5]
        for byte in encode_request(6, "get", {"n": 6}):
            daemon.channel.sendall(bytes([byte]))
        assert daemon.next() == Response(6, None, {"n": 6})


def test_a_notification_is_not_answered() -> None:
    """The next answer is that of the request behind it."""
    with served(EchoHost()) as (daemon, _):
        daemon.channel.sendall(encode_notification("get", {"a": 1}))
        assert daemon.ask("get", b=2) == Response(1, None, {"b": 2})


def test_the_loop_ends_when_stop_has_been_answered() -> None:
    """Whether the plugin's stop() succeeds or not; what was sent behind it is not run."""
    for params in ({}, {"raise": "exit"}):
        host = EchoHost()
        with served(host) as (daemon, thread):
            daemon.channel.sendall(encode_request(1, "stop", params) + encode_request(2, "get"))
            assert daemon.next().id == 1
            thread.join(DEADLINE)
            assert not thread.is_alive()
        assert [method for method, _ in host.asked] == ["stop"]


def test_the_loop_ends_when_the_daemon_closes_the_channel() -> None:
    """The plugin is not stopped then: the daemon is gone, or kills the worker."""
    host = EchoHost()
    with served(host) as (daemon, thread):
        daemon.channel.shutdown(socket.SHUT_WR)
        thread.join(DEADLINE)
        assert not thread.is_alive()
    assert host.asked == []


def test_garbage_ends_the_loop() -> None:
    """From the daemon that cannot come: there is nothing to go on with."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(b"\xc1")
        with pytest.raises(FrameError):
            serve(theirs, EchoHost())  # type: ignore[arg-type]


class Odd:
    """What msgpack knows nothing of."""


def cyclic() -> list[Any]:
    result: list[Any] = []
    result.append(result)
    return result


def nested(levels: int) -> list[Any]:
    result: list[Any] = []
    for _ in range(levels):
        result = [result]
    return result


@pytest.mark.parametrize(
    "result",
    [Odd(), {1, 2}, 2**70, cyclic(), "\udcff", {"a": Odd()}, nested(100), [0] * 40_000, "x" * 5_000_000, {1: 2}, 1j],
    ids=range(11),
)
def test_a_result_that_the_daemon_would_not_take_is_a_failure(result: Any) -> None:
    """Not msgpack, too deep, too long, of keys that are no text: a failure of the plugin, and a whole channel."""
    host = EchoHost()
    host.call = lambda params: result  # type: ignore[attr-defined]
    with served(host) as (daemon, _):
        error = daemon.ask("call").error
        assert error["code"] == "plugin.invalid"
        assert error["message"].startswith("call returned what plugd cannot take: ")
        assert daemon.ask("get").error is None


def test_an_exception_that_cannot_be_sent_as_it_is_is_escaped() -> None:
    """Its text may be a file's name that is no UTF-8."""

    def fail(params: dict[str, Any]) -> None:
        raise OSError("cannot read \udcff")

    [message] = TrustedDecoder().feed(answer({"call": fail}, Request(1, "call", [])))
    assert isinstance(message, Response)
    assert message.error["message"] == "call() raised OSError: cannot read \\udcff"


def test_an_exception_that_cannot_say_what_it_is_is_an_answer_too() -> None:
    """Its own __str__ raises: something else raised is still an answer."""

    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("not even that")

    def fail(params: dict[str, Any]) -> None:
        raise Mute

    [message] = TrustedDecoder().feed(answer({"call": fail}, Request(1, "call", [])))
    assert isinstance(message, Response)
    assert message.error["code"] == "plugin.crashed"


def test_a_real_plugin_over_the_channel(load: Loader) -> None:
    """Definitions come ahead of the answer that uses them."""
    loaded = load(
        """
        class Probe(Plugin):
            g = Gauge("g", labels=("n",))
            def collect(self):
                yield self.g(1.5, n="a")
            @command
            def leave(self):
                raise SystemExit
        """
    )
    host = loaded.host
    with served(host) as (daemon, _):
        theirs: list[tuple[str, dict[str, Any]]] = []
        host._notify = lambda method, params: theirs.append((method, params))
        reply = daemon.ask("collect").result
        assert [method for method, _ in theirs] == ["define"]
        assert len(reply["values"]) == 8
        assert daemon.ask("call", command="leave", args=[], kwargs={}).error["code"] == "plugin.crashed"
        assert daemon.ask("collect").result["ids"] is None
        assert daemon.ask("stop") == Response(4, None, None)


def test_an_asynchronous_plugin_goes_on_while_the_worker_waits(load: Loader) -> None:
    """Its tasks run between two requests, without being asked."""
    loaded = load(
        """
        import asyncio
        import threading
        went_on = threading.Event()
        class Probe(Plugin):
            async def start(self):
                self.task = asyncio.create_task(self._later())
            async def _later(self):
                await asyncio.sleep(0.01)
                went_on.set()
            async def collect(self):
                return []
            @command
            def event(self):
                return went_on
            async def stop(self):
                pass
        """
    )
    went_on = loaded.call("event")
    with served(loaded.host) as (daemon, _):
        assert daemon.ask("start").error is None
        assert went_on.wait(DEADLINE)
        assert daemon.ask("stop").error is None


def test_all_methods_of_the_host_are_served(load: Loader) -> None:
    """The table names what the host has."""
    host = load("class Probe(Plugin):\n    def collect(self): return []\n").host
    assert all(callable(getattr(host, method)) for method in main.METHODS)
