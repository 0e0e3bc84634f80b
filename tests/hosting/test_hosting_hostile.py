"""Workers that lie: whatever comes out of one, the daemon and the other plugins go on as if nothing were."""

import math
import struct
from collections.abc import Iterator
from typing import Any

import msgpack
import pytest
from harness import Daemon, Daemons, RpcError, daemons, wait_until, write_plugin
from hosting_plugins import COLLECTED, LOADED, impostor, plain

SETTLED = {"running", "backoff", "failed", "quarantined"}


class Shared:
    """One daemon for all of these tests, for as long as it lives; then each has one of its own."""

    def __init__(self, running: Daemon) -> None:
        self.running = running
        self.other: Daemons
        self._read = 0  # characters of its log

    def live_with(self, source: str) -> Daemon:
        """Load this plugin; return the daemon when it is settled and another plugin has been seen to be well."""
        if self.running.process.poll() is not None:
            self.running = self.other(plugins=OTHERS)
        running = self.running
        self._read = len(running.log)
        assert running.plugin_dir is not None
        write_plugin(running.plugin_dir, "impostor", source)
        try:
            running.call("load", names=["impostor"])
        except RpcError as error:
            assert error.code != "internal"  # noqa: PT017 - that the load succeeds is as good
        assert running.plugin("impostor")["state"] in SETTLED
        before = running.plugin("good")["collects"]
        wait_until(lambda: running.plugin("good")["collects"] > before + 2, "the other plugin's ticks")
        assert running.plugin("good")["failures"] == 0
        assert "Traceback" not in running.log[self._read :]
        return running

    def unload(self) -> None:
        """Take the plugin away; a daemon that cannot is of no use for the next test."""
        try:
            self.running.call("unload", names=["impostor"])
            assert "Traceback" not in self.running.log[self._read :]
        except (AssertionError, OSError, RpcError):
            self.running.process.kill()
            self.running.process.wait()


OTHERS = {"good": plain("Good", interval=0.05)}


@pytest.fixture(scope="module")
def only() -> Iterator[Shared]:
    with daemons() as start:
        yield Shared(start(plugins=OTHERS))


@pytest.fixture
def shared(only: Shared, daemon: Daemons) -> Iterator[Shared]:
    only.other = daemon
    yield only
    only.unload()


def metric(**changes: Any) -> dict[str, Any]:
    return LOADED | {"metrics": [LOADED["metrics"][0] | changes]}


def test_an_impostor_that_behaves_is_as_good_as_a_plugin(shared: Shared) -> None:
    """It is the answers that count: the tests below fail for what they change in them, and for nothing else."""
    running = shared.live_with(impostor())
    assert running.plugin("impostor")["state"] == "running"
    assert running.plugin("impostor")["last_error"] is None


@pytest.mark.parametrize(
    "answer",
    [
        (None, None),
        (None, 5),
        (None, "text"),
        (None, []),
        (None, {}),
        (None, LOADED | {"api": "one"}),
        (None, LOADED | {"api": None}),
        (None, LOADED | {"api": math.inf}),
        (None, LOADED | {"interval": "often"}),
        (None, LOADED | {"interval": None}),
        (None, LOADED | {"requires": 5}),
        (None, LOADED | {"metrics": None}),
        (None, LOADED | {"metrics": [5]}),
        (None, LOADED | {"metrics": {"a": 1}}),
        (None, metric(labels=5)),
        (None, metric(labels=None)),
        (5, None),
        ("broken", None),
        ([], None),
        ({}, None),
        ({"code": 5, "message": 5, "data": 5}, None),
        ({"code": "plugin.invalid", "message": None, "data": {"faults": 5, "output": 5, "traceback": 5}}, None),
        ({"code": "plugin.invalid", "message": "x", "data": {"output": None, "exit": [], "path": {}}}, None),
        ({"code": "plugin.crashed", "message": "x", "data": {"output": [5, None, []]}}, None),
        ({"code": "auth.denied", "message": "y" * 100_000, "data": {b"a": [[]]}}, None),
        ({"code": "plugin.crashed", "message": "x"}, {"a": 1}),
    ],
)
def test_a_malformed_answer_to_load_is_a_failure_to_load(shared: Shared, answer: Any) -> None:
    """The plugin does not run, and it is told why."""
    running = shared.live_with(impostor(load=[answer]))
    row = running.plugin("impostor")
    assert row["state"] in ("failed", "backoff")
    assert row["last_error"] is not None
    assert running.call("why", name="impostor")["summary"]
    assert running.call("check", name="impostor")["ok"] is False
    assert running.plugctl("why", "impostor").returncode == 0
    assert running.plugctl("list").returncode == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"interval": math.nan},
        {"interval": math.inf},
        {"interval": -math.inf},
        {"interval": -5},
        {"interval": 0},
        {"timeout": math.nan},
        {"timeout": -1},
        {"version": None},
        {"description": {"a": 1}},
        {"requires": ["nosuch", "", "\0"]},
    ],
    ids=lambda changes: "-".join(f"{key} {value}" for key, value in changes.items()).replace("\0", "0"),
)
def test_strange_values_in_the_answer_to_load_do_no_harm(shared: Shared, changes: dict[str, Any]) -> None:
    """The plugin runs with something sensible, or it does not run."""
    running = shared.live_with(impostor(load=[(None, LOADED | changes)]))
    row = running.plugin("impostor")
    assert 0.01 <= row["interval"] <= 86_400
    assert running.call("describe", name="impostor")["timeout"] > 0
    assert running.plugctl("describe", "impostor").returncode == 0


@pytest.mark.parametrize(
    "reply",
    [
        None,
        5,
        [],
        {},
        COLLECTED | {"ids": [-1]},
        COLLECTED | {"ids": [2**40]},
        COLLECTED | {"ids": 5},
        COLLECTED | {"ids": b"\0\0\0\0", "values": b"\0" * 8},
        COLLECTED | {"values": b"\0" * 8},
        COLLECTED | {"values": b"\0"},
        COLLECTED | {"forget": [1]},
        COLLECTED | {"dropped": {"a": math.inf}},
        COLLECTED | {"dropped": 5},
    ],
)
def test_a_malformed_collection_is_a_failure(shared: Shared, reply: Any) -> None:
    """The first collection is part of starting: the plugin cannot run as it is."""
    running = shared.live_with(impostor(collect=[(None, reply)]))
    assert running.plugin("impostor")["state"] == "failed"
    assert running.call("stats", patterns=["impostor"])["metrics"] == []


def definition(*rows: Any) -> bytes:
    data: bytes = msgpack.packb([2, "define", [{"series": list(rows)}]])
    return data


GOOD_ROW = [0, 0, ["here"]]


@pytest.mark.parametrize(
    "step",
    [
        b"\xc1",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xdb\xff\xff\xff\xff",
        b"\xdd\xff\xff\xff\xff",
        b"\x91" * 100,
        msgpack.packb(None),
        msgpack.packb([0, 1, "collect", []]),
        msgpack.packb([2, "nosuch", []]),
        msgpack.packb([2, "define", []]),
        msgpack.packb([2, "define", [None]]),
        msgpack.packb([2, "define", [{}]]),
        msgpack.packb([1, 99, None, None]),
        msgpack.packb([1, None, None, None]),
        definition(None),
        definition([0, 5, ["here"]]),
        definition([0, 0, []]),
        definition([2**64 - 1, 2**64 - 1, ["here"]]),
        msgpack.packb([2, "define", [{"series": None}]]),
        "close",
        "exit",
        msgpack.packb([1, 3, None, None]) * 3,
        b"\x94",
    ],
    ids=lambda step: step if isinstance(step, str) else step[:12].hex(),
)
def test_garbage_on_the_channel_ends_the_worker(shared: Shared, step: Any) -> None:
    """What is no part of the protocol is answered by SIGKILL, with the reason recorded."""
    running = shared.live_with(impostor(collect=[step, "hang"]))
    row = running.plugin("impostor")
    assert row["state"] in ("backoff", "failed")
    assert row["pid"] is None
    assert row["last_error"]


@pytest.mark.parametrize(
    "step",
    [definition(GOOD_ROW), msgpack.packb([2, "define", [{"series": 5}]]), msgpack.packb([2, "nosuch", []]), b"\xc1"],
    ids=["definition", "no definition", "notification", "not msgpack"],
)
def test_garbage_before_the_answer_to_load_ends_the_worker(shared: Shared, step: Any) -> None:
    """Nothing has been declared yet, so that nothing can be defined."""
    running = shared.live_with(impostor(load=[step, (None, LOADED)]))
    assert running.plugin("impostor")["state"] in ("backoff", "failed")


def test_definitions_count_when_they_are_sound(shared: Shared) -> None:
    """The sound case of the above: a definition ahead of the answer is a series."""
    reply = COLLECTED | {"ids": struct.pack("I", 0), "values": struct.pack("d", 4.5)}
    running = shared.live_with(impostor(collect=[definition(GOOD_ROW), (None, reply)]))
    (row,) = running.call("stats", patterns=["impostor"])["metrics"]
    assert (row["value"], row["labels"]) == (4.5, {"place": "here"})


@pytest.mark.parametrize(
    "answer", [5, "text", {"commands": 5}, {"commands": [], "settings": [5], "options": 1, "options_schema": 2}]
)
def test_a_malformed_answer_to_describe_is_the_plugins_fault(shared: Shared, answer: Any) -> None:
    """The request fails, and the daemon does not."""
    running = shared.live_with(impostor(describe=[(None, answer)]))
    with running.client() as client:
        with pytest.raises(RpcError) as caught:
            client.call("describe", name="impostor")
        assert caught.value.code == "plugin.invalid"
        assert client.call("ping") == "pong"


def test_an_answer_larger_than_a_frame_may_be_ends_the_worker(shared: Shared) -> None:
    """A worker is no more trusted than a client."""
    running = shared.live_with(impostor(collect=[(None, COLLECTED | {"values": b"x" * (8 * 1024 * 1024)})]))
    assert running.plugin("impostor")["state"] in ("backoff", "failed")


@pytest.mark.parametrize("step", [b"", b"\x94"], ids=["silence", "half an answer"])
def test_silence_is_a_timeout(shared: Shared, step: bytes) -> None:
    """A worker that never answers is killed at the deadline."""
    running = shared.live_with(impostor(collect=[step, "hang"]))
    row = running.plugin("impostor")
    assert (row["state"], row["pid"]) == ("backoff", None)
    assert "collect took longer than 1 s" in row["last_error"]


@pytest.mark.parametrize(
    "source",
    [
        impostor(load=[(None, LOADED | {"api": math.inf})]),
        impostor(load=[(None, LOADED | {"interval": math.nan})]),
        impostor(load=[({"code": "plugin.invalid", "message": "x", "data": {"output": 5}}, None)]),
        impostor(collect=[(None, COLLECTED | {"ids": [-1]})]),
        impostor(collect=[(None, COLLECTED | {"dropped": {"a": math.inf}})]),
    ],
    ids=["api", "interval", "output", "ids", "dropped"],
)
def test_a_lie_while_the_daemon_starts_does_not_end_it(daemon: Daemons, source: str) -> None:
    """Each of these once ended plugd with a traceback, and so again at every start."""
    running = daemon(plugins={"good": plain("Good"), "impostor": source}, wait=False)
    wait_until(lambda: running.process.poll() is not None or "plugd_ready" in running.log, "a start or an end")
    assert running.process.poll() is None, "plugd has ended"
    assert running.plugin("good")["state"] == "running"
    assert running.plugin("impostor")["state"] in SETTLED
