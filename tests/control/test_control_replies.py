"""Requests with a key: asked again, they are answered as the first time, and nothing is done twice."""

import grp
import sys
from collections.abc import Iterator
from typing import Any

import anyio
import pytest
from control_rig import DEMO, HOLD, PLAIN, Wire, as_user, importing, release
from harness import Daemon, Daemons, RpcError, daemons, wait_until, write_plugin

from plugd.control.replies import KEPT_BYTES, KEPT_REPLIES, KEPT_SECONDS, Replies
from plugd.errors import CommandError

NOBODY = 65534
OPERATORS = next(group for group in grp.getgrall() if group.gr_gid != 0)

COUNT = '''"""Counts what is done."""

from plugd.plugin import Gauge, Plugin, command, setting


class Count(Plugin):
    interval = 3600.0

    value = Gauge("test.value")
    done = 0
    width: float = setting(0.0)

    def collect(self):
        yield self.value(1)

    def save_state(self):
        return self.done

    def load_state(self, done):
        self.done = done

    @command
    def bump(self, by: int = 1) -> int:
        self.done += by
        return self.done

    @command
    def stumble(self) -> None:
        self.done += 1
        raise ValueError(f"at {self.done}")

    @command
    def large(self) -> str:
        self.done += 1
        return "x" * 300_000
'''


@pytest.fixture(scope="module")
def running() -> Iterator[Daemon]:
    """A daemon that everybody may connect to, and in which a group is one of operators."""
    config = f'[control]\nmode = "0666"\noperators = ["{OPERATORS.gr_name}"]\n'
    plugins = {"count": COUNT, "hold": HOLD, "demo": DEMO, "one": PLAIN.format(title="One")}
    with daemons() as start:
        yield start(plugins=plugins, config=config)


@pytest.fixture
def key(request: pytest.FixtureRequest) -> str:
    """A key of this test's own."""
    return f"key of {request.node.name}"


def bump(key: str | None = None, **params: Any) -> dict[str, Any]:
    named = {} if key is None else {"request_key": key}
    return {"name": "count", "command": "bump", **named, **params}


def test_a_repetition_is_answered_as_the_first_was(running: Daemon, key: str) -> None:
    """On the same connection and on another; a request without the key is another one."""
    with Wire(running.socket) as wire:
        first = wire.ask("call", bump(key))
        assert first == (None, first[1])
        assert wire.ask("call", bump(key), id=2) == first
        assert wire.ask("call", bump(), id=3) == (None, first[1] + 1)
        assert wire.ask("call", bump("another " + key), id=4) == (None, first[1] + 2)
        assert wire.ask("call", bump(key), id=5) == first
    assert running.call("call", **bump(key)) == first[1]


WRITES: list[tuple[str, dict[str, Any]]] = [
    ("reload", {"names": ["one"]}),
    ("pause", {"names": ["one"], "reason": "tea"}),
    ("resume", {"names": ["one"]}),
    ("set", {"name": "count", "setting": "width", "value": "2.5"}),
    ("unset", {"name": "count", "setting": "width"}),
    ("call", {"name": "count", "command": "bump", "kwargs": {"by": 3}}),
    ("unload", {"names": ["one"]}),
    ("load", {"names": ["one"]}),
]


@pytest.mark.parametrize(("method", "params"), WRITES, ids=[method for method, _ in WRITES])
def test_every_write_is_done_once(running: Daemon, key: str, method: str, params: dict[str, Any]) -> None:
    """The repetition changes nothing: neither a state, nor a generation, nor a value; and it is no event."""
    first = running.call(method, **params, request_key=key)
    before = running.call("list"), running.call("logs", lines=500)
    for _ in range(3):
        assert running.call(method, **params, request_key=key) == first
    assert (running.call("list"), running.call("logs", lines=500)) == before


def test_a_failure_is_an_answer_too(running: Daemon, key: str) -> None:
    """What has failed may be half done: it is not done again, and the error is the same to the letter."""
    request = {"name": "count", "command": "stumble", "request_key": key}
    with Wire(running.socket) as wire:
        first = wire.ask("call", request)
        assert first[0]["code"] == "plugin.crashed"
        done = running.call("call", **bump(args=[0]))
        assert wire.ask("call", request, id=2) == first
        assert running.call("call", **bump(args=[0])) == done


def test_a_large_answer_is_repeated_whole(running: Daemon, key: str) -> None:
    """Several times on one connection, while the first is still being read."""
    request = {"name": "count", "command": "large", "request_key": key}
    with Wire(running.socket) as wire:
        wire.send(*([0, number, "call", [request]] for number in range(4)))
        frames = [wire.frame() for _ in range(4)]
    assert sorted(frame[1] for frame in frames) == [0, 1, 2, 3]
    assert [frame[2:] for frame in frames] == [[None, "x" * 300_000]] * 4


def test_a_key_is_of_one_request(running: Daemon, key: str) -> None:
    """With other parameters, or of another method, it is invalid; nothing is done, and the first stays."""
    first = running.call("call", **bump(key, args=[1]))
    others: list[tuple[str, dict[str, Any]]] = [
        ("call", bump(key, args=[2])),
        ("call", bump(key, args=[1], kwargs={"by": 1})),
        ("call", bump(key, args=[1], expect_generation=1)),
        ("call", bump(key)),
        ("reload", {"names": ["count"], "request_key": key}),
        ("load", {"names": ["nosuch"], "request_key": key}),
    ]
    for method, params in others:
        with pytest.raises(RpcError) as caught:
            running.call(method, **params)
        assert (caught.value.code, caught.value.data) == ("request.invalid", {"method": "call"})
        assert repr(key) in caught.value.message
    assert running.call("call", **bump(key, args=[1])) == first
    assert running.call("call", **bump(args=[0])) == first
    assert running.plugin("count")["generation"] == 1


def test_a_key_is_of_one_user(running: Daemon, key: str) -> None:
    """Another user's request of the same key is another request, and is told nothing of the first."""
    first = running.call("call", **bump(key))
    with as_user(NOBODY, OPERATORS.gr_gid):
        wire = Wire(running.socket)
    with wire:
        assert wire.ask("hello")[1]["role"] == "operate"
        assert wire.ask("call", bump(key), id=2) == (None, first + 1)
        assert wire.ask("call", bump(key), id=3) == (None, first + 1)
        assert wire.ask("call", bump(key, args=[5]), id=4)[0]["code"] == "request.invalid"
    assert running.call("call", **bump(key)) == first


def test_a_repetition_waits_for_the_first(daemon: Daemons) -> None:
    """While the first is under way; both are answered alike, whichever connection they came on, and in any number."""
    running = daemon(plugins={"hold": HOLD}, config="[control.limits]\nrequests_in_flight = 3\n")
    request = {"name": "hold", "command": "hold", "request_key": "one"}
    with Wire(running.socket) as one, Wire(running.socket) as other:
        one.send([0, 1, "call", [request]], [0, 2, "call", [request]])
        assert one.ask("ping", id=3) == (None, "pong")
        other.send([0, 4, "call", [request]])
        assert other.ask("ping", id=5) == (None, "pong")
        # One that waits is in flight as well; and one with this key that is another is invalid already now.
        one.send([0, 6, "call", [request]], [0, 7, "call", [request]])
        assert one.frame()[1:3][1]["data"] == {"limit": "requests_in_flight", "maximum": 3}
        assert other.ask("call", request | {"args": [1]}, id=8)[0]["data"] == {"method": "call"}
        release(running, "hold")
        assert sorted(one.frame() for _ in range(3)) == [[1, number, None, 1] for number in (1, 2, 6)]
        assert other.frame() == [1, 4, None, 1]
        assert one.ask("call", {"name": "hold", "command": "hold"}, id=9) == (None, 2)


def test_one_that_waits_may_be_cancelled(daemon: Daemons) -> None:
    """It alone ends, be it cancelled or its connection closed: the one that it waited for goes on."""
    running = daemon(plugins={"hold": HOLD})
    request = {"name": "hold", "command": "hold", "request_key": "one"}
    with Wire(running.socket) as one:
        one.send([0, 1, "call", [request]])
        assert one.ask("ping", id=2) == (None, "pong")
        with Wire(running.socket) as other:
            other.send([0, 3, "call", [request]], [0, 4, "call", [request]])
            assert other.ask("ping", id=5) == (None, "pong")
            other.send([0, 6, "cancel", [{"request": 3}]])
            answers = {frame[1]: frame for frame in (other.frame(), other.frame())}
            assert answers[6][3] == {"cancelled": True}
            assert answers[3][2]["code"] == "busy"
        release(running, "hold")
        assert one.frame() == [1, 1, None, 1]
        assert one.ask("call", request, id=7) == (None, 1)


def test_what_was_cancelled_is_done_anew(daemon: Daemons) -> None:
    """There is no answer that could be repeated."""
    running = daemon(plugins={"hold": HOLD})
    request = {"name": "hold", "command": "hold", "request_key": "one"}
    with Wire(running.socket) as wire:
        wire.send([0, 1, "call", [request]])
        assert wire.ask("ping", id=2) == (None, "pong")
        wire.send([0, 3, "cancel", [{"request": 1}]])
        assert {wire.frame()[1], wire.frame()[1]} == {1, 3}
        release(running, "hold")
        assert wire.ask("call", request, id=4) == (None, 2)
        assert wire.ask("call", request, id=5) == (None, 2)


def test_a_lost_answer_is_heard_by_asking_again(daemon: Daemons) -> None:
    """A client that went right after it had asked for a load hears that it is done, not that it was done already."""
    running = daemon(plugins={})
    assert running.plugin_dir is not None
    write_plugin(running.plugin_dir, "slow", importing("Slow"))
    request = {"names": ["slow"], "request_key": "a load"}
    with Wire(running.socket) as wire:
        wire.send([0, 1, "load", [request]])
    with Wire(running.socket) as again:
        # Whichever comes first: the daemon may not have heard of either when this is sent.
        again.send([0, 2, "load", [request]])
        wait_until(lambda: "slow" in [row["name"] for row in running.call("list")], "the load")
        release(running, "slow")
        assert again.frame() == [1, 2, None, {"loaded": ["slow"], "failed": []}]
    assert running.call("load", **request) == {"loaded": ["slow"], "failed": []}
    with pytest.raises(RpcError, match="already loaded"):
        running.call("load", names=["slow"])
    assert running.plugin("slow")["generation"] == 1


def test_what_has_a_key_goes_on_without_its_client(daemon: Daemons) -> None:
    """A call whose connection is lost is done once: the plugin is at it, and the client will ask what came of it."""
    running = daemon(plugins={"hold": HOLD})
    request = {"name": "hold", "command": "hold", "request_key": "one"}
    with Wire(running.socket) as wire:
        wire.send([0, 1, "call", [request]])
        assert wire.ask("ping", id=2) == (None, "pong")
    wait_until(lambda: running.call("status")["connections"] == 1, "the end of the connection")
    with Wire(running.socket) as again:
        again.send([0, 3, "call", [request]])
        assert again.ask("ping", id=4) == (None, "pong")
        release(running, "hold")
        assert again.frame() == [1, 3, None, 1]
    assert running.call("call", **request) == 1
    assert [line["outcome"] for line in running.records("audit")] == ["ok"]


# How long an answer is kept


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def keep(replies: Replies, key: str, answer: bytes | None = b"answer", params: Any = 1) -> None:
    """Carry a request out."""
    assert replies.find(1, key, "load", params) is None
    replies.begin(1, key, "load", params)
    replies.end(1, key, answer)


async def answer(replies: Replies, key: str, params: Any = 1, uid: int = 1) -> bytes | None:
    reply = replies.find(uid, key, "load", params)
    return None if reply is None else await reply


@pytest.mark.anyio
async def test_an_answer_is_forgotten_in_time() -> None:
    """Ten minutes after it was given; those that are asked for again meanwhile are not kept any longer."""
    replies = Replies(clock := Clock())
    keep(replies, "one")
    clock.now += KEPT_SECONDS / 2
    keep(replies, "two")
    assert await answer(replies, "one") == b"answer"
    clock.now += KEPT_SECONDS / 2 - 1
    assert await answer(replies, "one") == b"answer"
    clock.now += 2
    assert await answer(replies, "one") is None
    assert await answer(replies, "two") == b"answer"
    assert len(replies) == 1


@pytest.mark.anyio
async def test_answers_are_bounded_in_number() -> None:
    """The oldest go."""
    replies = Replies(Clock())
    for number in range(KEPT_REPLIES + 10):
        keep(replies, str(number))
    assert len(replies) == KEPT_REPLIES
    assert await answer(replies, "9") is None
    assert await answer(replies, "10") == b"answer"


@pytest.mark.anyio
async def test_answers_are_bounded_in_bytes() -> None:
    """The oldest go; one that is larger than all may be is not kept at all, and takes up no room afterwards."""
    replies = Replies(Clock())
    size = KEPT_BYTES // 4
    for number in range(6):
        keep(replies, str(number), bytes(size))
    assert [await answer(replies, str(number)) is None for number in range(6)] == [True, True, *[False] * 4]
    keep(replies, "huge", bytes(KEPT_BYTES + 1))
    assert len(replies) == 0
    for number in range(4):
        keep(replies, str(number), bytes(size))
    assert len(replies) == 4


@pytest.mark.anyio
async def test_parameters_cost_no_memory() -> None:
    """What is kept of a request is as large for all of them; maps are the same in any order of their keys."""
    replies = Replies(Clock())
    keep(replies, "one", params={"a": [*range(10_000)], "b": {"c": 1, "d": True}})
    same = {"b": {"d": True, "c": 1}, "a": [*range(10_000)]}
    assert await answer(replies, "one", same) == b"answer"
    for other in ({**same, "b": {"c": True, "d": 1}}, {**same, "a": []}, {**same, "b": {"c": 1}}):
        with pytest.raises(CommandError):
            replies.find(1, "one", "load", other)
    (kept,) = replies._done.values()
    assert sum(sys.getsizeof(part) for part in kept) < 1000


@pytest.mark.anyio
async def test_what_was_cancelled_is_not_kept() -> None:
    """Who waits hears that there is no answer; whoever asks afterwards is the first again."""
    replies = Replies(Clock())
    replies.begin(1, "one", "load", 1)
    waiting = replies.find(1, "one", "load", 1)
    assert waiting is not None
    replies.end(1, "one", None)
    assert await waiting is None
    assert len(replies) == 0
    keep(replies, "one")


@pytest.mark.anyio
async def test_one_under_way_is_not_forgotten() -> None:
    """However long it takes, and however many come after it."""
    replies = Replies(clock := Clock())
    replies.begin(1, "slow", "load", 1)
    for number in range(KEPT_REPLIES + 1):
        keep(replies, str(number))
    clock.now += 2 * KEPT_SECONDS
    waiting = replies.find(1, "slow", "load", 1)
    assert waiting is not None
    replies.end(1, "slow", b"late")
    with anyio.fail_after(10):
        assert await waiting == b"late"
    assert await answer(replies, "slow") == b"late"


@pytest.mark.anyio
async def test_a_key_belongs_to_user_method_and_parameters() -> None:
    """Of another user it is free; with another method or parameters it is invalid, under way or done."""
    replies = Replies(Clock())
    replies.begin(1, "one", "load", {"names": ["a"]})
    for _ in range(2):
        for method, params in (("unload", {"names": ["a"]}), ("load", {"names": ["b"]})):
            with pytest.raises(CommandError, match="another request"):
                replies.find(1, "one", method, params)
        assert replies.find(2, "one", "unload", {}) is None
        if replies._under_way:
            replies.end(1, "one", b"answer")
    assert await answer(replies, "one", {"names": ["a"]}) == b"answer"
