"""Commands that take long: progress, cancel, deadlines, and collections that go on meanwhile."""

import time
from collections.abc import Iterator
from typing import Any

import msgpack
import pytest
from harness import Client, Daemon, Daemons, RpcError, daemons, wait_until
from hosting_plugins import impostor, plain

LONG = '''"""Has long commands."""

import asyncio
import gc
import inspect
import time

from plugd.plugin import Gauge, Plugin, Progress, command, setting


class Long(Plugin):
    interval = {interval}
    timeout = 1.0

    level = Gauge("test.level")
    pace = setting(0.0)

    def start(self):
        self.ended = []
        self.collected = 0

    def collect(self):
        self.collected += 1
        yield self.level(self.collected)

    @command
    def count(self, steps: int, pause: float = 0.0) -> int:
        """Count, step by step."""
        number = 0
        try:
            while number < steps:
                yield Progress(number, steps, f"step {{number}}")
                time.sleep(pause)
                number += 1
            return number
        finally:
            self.ended.append(number)

    @command
    def collections(self, wanted: int) -> int:
        """Wait for so many collections."""
        while self.collected < wanted:
            yield
            time.sleep(0.01)
        return self.collected

    @command
    def until_set(self) -> float:
        """Wait until a setting has been changed."""
        while not self.pace:
            yield 0.5
        return self.pace

    @command
    def give(self, kind: str):
        """Yield what it may, and what it may not."""
        values = {{"share": 0.25, "much": 7.5, "nan": float("nan"), "count": 3, "text": "x" * 300, "nothing": None,
                  "some": Progress(text="y"), "wrong": [1], "flag": True, "words": Progress("a", "b"),
                  "huge": 10**400, "surrogate": "\\udc80"}}
        yield values[kind]
        return "done"

    @command
    def fail(self):
        yield 0.5
        raise ValueError("half way")

    @command
    def stubborn(self):
        try:
            while True:
                yield 0.5
                time.sleep(0.01)
        finally:
            raise ValueError("not so fast")

    @command
    async def later(self, steps: int):
        try:
            for number in range(steps):
                yield number
                await asyncio.sleep(0)
        finally:
            self.ended.append("later")

    @command
    def expression(self):
        return (number for number in range(3))

    @command
    def doze(self, seconds: float) -> float:
        time.sleep(seconds)
        return seconds

    @command
    def history(self) -> list:
        return self.ended

    @command
    def suspended(self) -> int:
        gc.collect()
        return sum(inspect.isgenerator(each) and each.gi_code.co_name == "count" for each in gc.get_objects())

    def stop(self):
        print("ended", *self.ended)
'''


@pytest.fixture(scope="module")
def running() -> Iterator[Daemon]:
    with daemons() as start:
        yield start(plugins={"long": LONG.format(interval=0.1)})


def call(running: Daemon, command: str, *args: Any, **params: Any) -> Any:
    return running.call("call", name="long", command=command, args=list(args), **params)


class Started:
    """A call under way, on a connection of its own."""

    def __init__(self, client: Client, command: str, *args: Any, **params: Any) -> None:
        self.client = client
        self.request(1, "call", name="long", command=command, args=list(args), **params)

    def request(self, identifier: int, method: str, **params: Any) -> None:
        self.client.socket.sendall(msgpack.packb([0, identifier, method, [params]]))

    def wait_begun(self) -> None:
        """Wait until it has told of its progress."""
        self.client.next_notification()

    def answers(self, count: int) -> dict[int, list[Any]]:
        """Return the next answers, by id."""
        found = {}
        while len(found) < count:
            frame = self.client._receive()
            if frame[0] == 1:
                found[frame[1]] = frame[2:]
        return found


def test_the_result_is_what_it_returns_and_progress_what_it_yields(running: Daemon) -> None:
    """The client that called is told how far it is, by the id of its request, before the answer."""
    with running.client() as client:
        assert client.call("call", name="long", command="count", args=[4, 0.15]) == 4
        told = client.notifications
    assert [method for method, _ in told] == ["progress"] * 4
    assert told[1][1] == {"request": 1, "done": 1.0, "total": 4.0, "text": "step 1"}
    assert [params["done"] for _, params in told] == [0.0, 1.0, 2.0, 3.0]


def test_progress_is_told_ten_times_a_second_at_most(running: Daemon) -> None:
    """Of a command that yields all the time, and it does not keep the command."""
    started = time.monotonic()
    with running.client() as client:
        assert client.call("call", name="long", command="count", args=[500]) == 500
        told = [params["done"] for _, params in client.notifications]
    assert 1 <= len(told) <= 10 * (time.monotonic() - started) + 2
    assert told == sorted(told)


def test_nobody_else_is_told(running: Daemon) -> None:
    """Not another connection, be it one that has subscribed."""
    with running.client() as other, running.client() as client:
        other.call("subscribe", patterns=[], events=True)
        client.call("call", name="long", command="count", args=[3])
        assert client.notifications
        assert other.call("ping") == "pong"
        assert other.notifications == []


def test_collections_go_on_between_two_yields(running: Daemon) -> None:
    """A command that waits for collections gets them: none is skipped, and none fails."""
    before = running.plugin("long")
    skipped = running.call("stats")["plugins"]["long"]["skipped"]
    assert call(running, "collections", before["collects"] + 5) >= before["collects"] + 5
    row = running.plugin("long")
    assert (row["failures"], row["pid"]) == (0, before["pid"])
    assert running.call("stats")["plugins"]["long"]["skipped"] == skipped


def test_other_requests_have_their_turn_between_two_yields(running: Daemon) -> None:
    """A setting is changed, and another long command runs, while one waits for that."""
    with running.client() as client:
        started = Started(client, "until_set")
        started.wait_begun()
        assert call(running, "count", 3) == 3
        assert running.call("set", name="long", setting="pace", value=1.5) == 1.5
        assert started.answers(1) == {1: [None, 1.5]}
    running.call("unset", name="long", setting="pace")


def test_what_a_command_yields_is_told_in_one_shape(running: Daemon) -> None:
    """A float is a share of the whole, a whole number a count, text is cut, and nothing says nothing."""
    told = {}
    for kind in ("share", "much", "nan", "count", "text", "nothing", "some", "huge", "surrogate"):
        with running.client() as client:
            assert client.call("call", name="long", command="give", args=[kind]) == "done"
            told[kind] = [tuple(params.values())[1:] for _, params in client.notifications]
    assert told == {
        "share": [(0.25, 1.0, "")],
        "much": [(1.0, 1.0, "")],
        "nan": [(None, 1.0, "")],
        "count": [(3.0, None, "")],
        "text": [(None, None, "x" * 200)],
        "nothing": [],
        "some": [(None, None, "y")],
        "huge": [(None, None, "")],
        "surrogate": [(None, None, "\\udc80")],
    }


@pytest.mark.parametrize("kind", ["wrong", "flag", "words"])
def test_what_is_no_progress_ends_the_command(running: Daemon, kind: str) -> None:
    """The plugin's author is told what belongs there."""
    with pytest.raises(
        RpcError, match=r"give\(\) yielded .* where its progress belongs: a Progress, a share"
    ) as caught:
        call(running, "give", kind)
    assert caught.value.code == "plugin.invalid"


def test_what_it_raises_between_two_yields_is_the_answer(running: Daemon) -> None:
    """As of any command: with its line and its traceback."""
    with pytest.raises(RpcError, match=r"fail\(\) raised ValueError: half way \(.*long\.py:\d+\)") as caught:
        call(running, "fail")
    assert caught.value.code == "plugin.crashed"
    assert "half way" in caught.value.data["traceback"]


def test_a_generator_expression_is_no_command_in_steps(running: Daemon) -> None:
    """It is a value that was forgotten to be made, and an error as before."""
    with pytest.raises(RpcError, match="call returned what plugd cannot take"):
        call(running, "expression")


def test_an_asynchronous_command_may_yield_and_returns_nothing(running: Daemon) -> None:
    """Its progress is told, its result is nil."""
    with running.client() as client:
        assert client.call("call", name="long", command="later", args=[2]) is None
        assert client.notifications[0][1]["done"] == 0.0
    assert call(running, "history")[-1] == "later"


@pytest.mark.parametrize("command", ["count", "later"])
def test_a_cancelled_command_ends_at_its_next_yield(running: Daemon, command: str) -> None:
    """Its finally clauses run, the worker stays, and collections go on."""
    pid, ended = running.plugin("long")["pid"], len(call(running, "history"))
    with running.client() as client:
        started = Started(client, command, 10_000_000, **({"kwargs": {"pause": 0.01}} if command == "count" else {}))
        started.wait_begun()
        started.request(2, "cancel", request=1)
        answers = started.answers(2)
    assert answers[2] == [None, {"cancelled": True}]
    assert answers[1][0]["code"] == "busy"
    wait_until(lambda: len(call(running, "history")) == ended + 1, "the end of the command")
    before = running.plugin("long")["collects"]
    wait_until(lambda: running.plugin("long")["collects"] > before + 1, "further collections")
    assert running.plugin("long")["pid"] == pid


@pytest.mark.parametrize("command", ["count", "doze"])
def test_an_answer_that_meets_its_cancellation_is_nothing(running: Daemon, command: str) -> None:
    """Whichever comes first, and however close: the worker is not taken for one that answers what nobody asked."""
    pid = running.plugin("long")["pid"]
    for number in range(100):
        with running.client() as client:
            started = Started(client, command, *([10_000_000] if command == "count" else [0.0005]))
            if number % 2:
                started.request(2, "ping")
            started.request(3, "cancel", request=1)
            started.answers(2 + number % 2)
    assert call(running, "doze", 0) == 0
    assert running.plugin("long")["pid"] == pid
    wait_until(lambda: call(running, "suspended") == 0, "that no generator is left")


def test_a_command_whose_client_goes_ends_at_its_next_yield(running: Daemon) -> None:
    """Nobody waits for it."""
    ended = len(call(running, "history"))
    with running.client() as client:
        Started(client, "count", 10_000_000, kwargs={"pause": 0.01}).wait_begun()
    wait_until(lambda: len(call(running, "history")) == ended + 1, "the end of the command")


def test_what_a_command_raises_at_its_end_is_output(running: Daemon) -> None:
    """Nobody waits for its answer, but the plugin's author may look."""
    with running.client() as client:
        Started(client, "stubborn").wait_begun()

    def told() -> bool:
        return any("not so fast" in str(line["fields"]) for line in running.call("logs", name="long"))

    wait_until(told, "its traceback")


def test_one_that_is_cancelled_before_it_has_begun_is_not_kept(running: Daemon) -> None:
    """Its first answer comes when nobody waits for it: what it began in the worker is ended all the same."""
    with running.client() as client:
        started = Started(client, "doze", 0.3)
        assert client.call("ping") == "pong"
        started.request(7, "cancel", request=1)
        started.request(8, "call", name="long", command="count", args=[5])
        started.request(9, "cancel", request=8)
        started.answers(4)
    wait_until(lambda: call(running, "suspended") == 0, "that no generator is left")


def test_a_deadline_ends_a_command_that_yields(running: Daemon) -> None:
    """The answer comes in time, with the worker as it was."""
    pid, ended = running.plugin("long")["pid"], len(call(running, "history"))
    with pytest.raises(RpcError, match=r"command 'count' took longer than 0\.3 s") as caught:
        call(running, "count", 10_000_000, 0.01, timeout=0.3)
    assert caught.value.code == "plugin.timeout"
    wait_until(lambda: len(call(running, "history")) == ended + 1, "the end of the command")
    assert running.plugin("long")["pid"] == pid


def test_a_deadline_does_not_wait_for_a_step(running: Daemon) -> None:
    """The client is told at once; the step is let end, and so is the worker left alone."""
    pid, started = running.plugin("long")["pid"], time.monotonic()
    with pytest.raises(RpcError, match=r"command 'count' took longer than 0\.2 s"):
        call(running, "count", 10, 1.5, timeout=0.2)
    assert time.monotonic() - started < 1.5
    assert call(running, "doze", 0) == 0
    assert running.plugin("long")["pid"] == pid


def test_a_deadline_is_also_that_of_the_wait(running: Daemon) -> None:
    """A command that cannot begin in time does not begin at all."""
    ended = len(call(running, "history"))
    with running.client() as client:
        started = Started(client, "doze", 0.6)
        assert client.call("ping") == "pong"
        with pytest.raises(RpcError, match=r"command 'count' could not begin within 0\.2 s") as caught:
            call(running, "count", 1, timeout=0.2)
        assert caught.value.code == "plugin.timeout"
        assert started.answers(1) == {1: [None, 0.6]}
    assert len(call(running, "history")) == ended


@pytest.mark.parametrize("timeout", [0, -1, 3600.5, 1e300, "soon", None])
def test_a_deadline_has_a_maximum(running: Daemon, timeout: Any) -> None:
    """An hour; nil is as good as none."""
    if timeout is None:
        assert call(running, "count", 1, timeout=None) == 1
        return
    with pytest.raises(RpcError, match=r"request\.invalid"):
        call(running, "count", 1, timeout=timeout)


def test_a_deadline_kills_what_does_not_yield(daemon: Daemons) -> None:
    """It cannot be ended otherwise; the plugin starts again."""
    running = daemon(plugins={"long": LONG.format(interval=3600)}, config='[restart]\ndelay = "0.1s"\n')
    pid = running.plugin("long")["pid"]
    with pytest.raises(RpcError, match=r"command 'doze' took longer than 0\.3 s") as caught:
        call(running, "doze", 60, timeout=0.3)
    assert caught.value.code == "plugin.timeout"
    wait_until(lambda: running.plugin("long")["state"] == "running" and running.plugin("long")["pid"] != pid, "restart")
    assert "command 'doze' took longer than 0.3 s" in running.call("why", name="long")["last_error"]


def test_a_reload_ends_it(daemon: Daemons) -> None:
    """Before the old generation's stop(); the caller is told, the new generation is in force."""
    running = daemon(plugins={"long": LONG.format(interval=3600)})
    with running.client() as client:
        started = Started(client, "count", 10_000_000, kwargs={"pause": 0.01})
        started.wait_begun()
        running.call("reload", names=["long"])
        answer = started.answers(1)[1]
    assert answer[0]["code"] == "plugin.crashed"
    assert running.plugin("long")["generation"] == 2
    lines = [line["fields"].get("line", "") for line in running.call("logs", name="long")]
    assert any(str(line).startswith("ended ") for line in lines)


def test_a_repetition_is_answered_and_the_command_runs_once(daemon: Daemons) -> None:
    """With a request key, the command goes on though its client has gone."""
    running = daemon(plugins={"long": LONG.format(interval=3600)})
    with running.client() as client:
        Started(client, "count", 20, kwargs={"pause": 0.02}, request_key="k").wait_begun()
    assert call(running, "count", 20, kwargs={"pause": 0.02}, request_key="k") == 20
    assert call(running, "history") == [20]


@pytest.mark.parametrize("answer", [None, 5, {}, {"running": 5}, {"running": False}, []])
def test_a_malformed_answer_is_the_plugins_fault(daemon: Daemons, answer: Any) -> None:
    """To the beginning as to a step."""
    scripts = {"begin": [(None, answer)]}, {"begin": [(None, {"running": True})], "step": [(None, answer)]}
    running = daemon(plugins={"impostor": impostor(**scripts[0]), "plain": plain()})
    with pytest.raises(RpcError, match=r"plugin\.invalid: the command gave a malformed answer"):
        running.call("call", name="impostor", command="x")
    assert running.plugin("impostor")["state"] == "running"


@pytest.mark.parametrize("progress", [5, "x", [1, 2], [1, 2, 3], [None, None, None], [{}, [], "x"], ["a", 1e400, "x"]])
def test_malformed_progress_is_nothing(daemon: Daemons, progress: Any) -> None:
    """What cannot be told is left out; the command goes on."""
    steps = [(None, {"running": True, "progress": progress})]
    running = daemon(plugins={"impostor": impostor(begin=steps, step=[(None, {"result": 7})])})
    with running.client() as client:
        assert client.call("call", name="impostor", command="x") == 7
        assert [params for _, params in client.notifications if (params["done"], params["total"]) != (None, None)] == []
