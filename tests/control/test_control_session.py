"""Requests under way: side by side, limited, cancelled, left alone by a client that goes."""

import socket
from typing import Any

import pytest
from control_rig import DEMO, HOLD, Wire, importing, release
from harness import Daemon, Daemons, wait_until, write_plugin

IN_FLIGHT = 3


@pytest.fixture
def holding(daemon: Daemons) -> Daemon:
    """A daemon whose plugin ``hold`` has a command that takes as long as the test wants."""
    return daemon(plugins={"hold": HOLD, "demo": DEMO}, config=f"[control.limits]\nrequests_in_flight = {IN_FLIGHT}\n")


def hold(identifier: int) -> list[Any]:
    return [0, identifier, "call", [{"name": "hold", "command": "hold"}]]


def test_a_quick_request_overtakes_a_slow_one(holding: Daemon) -> None:
    """Answers come as they are ready."""
    with Wire(holding.socket) as wire:
        wire.send(hold(1), [0, 2, "ping", []], [0, 3, "call", [{"name": "demo", "command": "add", "args": [1, 2]}]])
        assert wire.frame() == [1, 2, None, "pong"]
        assert wire.frame() == [1, 3, None, 3]
        release(holding, "hold")
        assert wire.frame() == [1, 1, None, 1]


def test_requests_in_flight_are_limited(holding: Daemon) -> None:
    """One more than the limit is refused as busy at once; quick ones are answered nevertheless."""
    with Wire(holding.socket) as wire:
        wire.send(*(hold(number) for number in range(IN_FLIGHT + 2)))
        for number in (IN_FLIGHT, IN_FLIGHT + 1):
            kind, identifier, error, _ = wire.frame()
            assert (kind, identifier, error["code"]) == (1, number, "busy")
        assert wire.ask("ping", id=99) == (None, "pong")
        release(holding, "hold")
        assert [wire.frame() for _ in range(IN_FLIGHT)] == [
            [1, number, None, number + 1] for number in range(IN_FLIGHT)
        ]
        error, result = wire.ask("call", {"name": "hold", "command": "hold"}, id=99)
        assert (error, result) == (None, IN_FLIGHT + 1)


def test_the_limit_is_of_one_connection(holding: Daemon) -> None:
    """What one client has under way is not held against another."""
    with Wire(holding.socket) as greedy, Wire(holding.socket) as other:
        greedy.send(*(hold(number) for number in range(IN_FLIGHT + 1)))
        assert greedy.frame()[2]["code"] == "busy"
        assert other.ask("call", {"name": "demo", "command": "add", "args": [1]}) == (None, 3)
        release(holding, "hold")
        assert [greedy.frame()[2] for _ in range(IN_FLIGHT)] == [None] * IN_FLIGHT


def test_an_id_in_flight_is_not_given_twice(holding: Daemon) -> None:
    """A second request with the id of one that is under way is invalid, and the first goes on."""
    with Wire(holding.socket) as wire:
        wire.send(hold(7), hold(7))
        kind, identifier, error, _ = wire.frame()
        assert (kind, identifier, error["code"]) == (1, 7, "request.invalid")
        release(holding, "hold")
        assert wire.frame() == [1, 7, None, 1]
        assert wire.ask("call", {"name": "hold", "command": "hold"}, id=7) == (None, 2)


def test_cancel_ends_a_request(holding: Daemon) -> None:
    """A request that is cancelled is answered so, and what the plugin answers later is nobody's."""
    with Wire(holding.socket) as wire:
        wire.send(hold(1))
        assert wire.ask("ping", id=3) == (None, "pong")  # The other is under way: cancelled before, it would not begin.
        wire.send([0, 2, "cancel", [{"request": 1}]])
        answers = {frame[1]: frame for frame in (wire.frame(), wire.frame())}
        assert answers[2] == [1, 2, None, {"cancelled": True}]
        assert answers[1][2] is not None
        assert "cancelled" in answers[1][2]["message"]
        release(holding, "hold")
        assert wire.ask("call", {"name": "hold", "command": "hold"}, id=1) == (None, 2)
        assert holding.plugin("hold")["failures"] == 0


@pytest.mark.parametrize("request_id", [0, 1, 2, -1, 2**64 - 1])
def test_cancel_of_nothing_is_false(holding: Daemon, request_id: int) -> None:
    """There is nothing to cancel under this id, and the connection goes on; its own id is none either."""
    with Wire(holding.socket) as wire:
        assert wire.ask("cancel", {"request": request_id}) == (None, {"cancelled": False})
        assert wire.ask("ping") == (None, "pong")


def test_cancel_reaches_the_own_connection_only(holding: Daemon) -> None:
    """Another client's request of the same id goes on."""
    with Wire(holding.socket) as one, Wire(holding.socket) as other:
        one.send(hold(5))
        assert one.ask("ping", id=6) == (None, "pong")
        assert other.ask("cancel", {"request": 5}) == (None, {"cancelled": False})
        release(holding, "hold")
        assert one.frame() == [1, 5, None, 1]


def test_a_lasting_request_is_not_cancelled(holding: Daemon) -> None:
    """A load that has begun is done, whether its client cancels it or goes: half done is worse."""
    assert holding.plugin_dir is not None
    write_plugin(holding.plugin_dir, "slow", importing("Slow"))
    with Wire(holding.socket) as wire:
        wire.send([0, 1, "load", [{"names": ["slow"]}]])
        wait_until(lambda: "slow" in [row["name"] for row in holding.call("list")], "the load")
        assert wire.ask("cancel", {"request": 1}, id=2) == (None, {"cancelled": False})
    release(holding, "slow")
    wait_until(lambda: holding.plugin("slow")["state"] == "running", "the plugin")


def test_pings_are_answered_while_a_load_hangs(holding: Daemon) -> None:
    """On the same connection and on others; and so are requests to other plugins."""
    assert holding.plugin_dir is not None
    write_plugin(holding.plugin_dir, "slow", importing("Slow"))
    with Wire(holding.socket) as loading, Wire(holding.socket) as other:
        loading.send([0, 1, "load", [{"names": ["slow"]}]])
        wait_until(lambda: "slow" in [row["name"] for row in holding.call("list")], "the load")
        assert holding.plugin("slow")["state"] == "starting"
        for number in range(2, 102):
            assert loading.ask("ping", id=number) == (None, "pong")
            assert other.ask("ping", id=number) == (None, "pong")
        assert other.ask("call", {"name": "demo", "command": "add", "args": [1]}) == (None, 3)
        assert other.ask("stats")[0] is None
        release(holding, "slow")
        assert loading.frame() == [1, 1, None, {"loaded": ["slow"], "failed": []}]


def worker_pids(running: Daemon) -> set[int]:
    return {pid for pid, name in running.processes().items() if name.startswith("plugd:") and "forksrv" not in name}


def test_a_client_that_goes_during_a_call_leaves_nothing(holding: Daemon) -> None:
    """The call is given up, the plugin is as well as before, and no descriptor or process stays."""
    workers = worker_pids(holding)
    with Wire(holding.socket) as staying:

        def connections() -> int:
            count: int = staying.ask("status")[1]["connections"]
            return count

        wait_until(lambda: connections() == 1, "the end of the others")
        descriptors = holding.descriptors()
        for _ in range(20):
            with Wire(holding.socket) as wire:
                wire.send(hold(1))
                assert wire.ask("ping", id=2) == (None, "pong")
        wait_until(lambda: connections() == 1, "the end of those that went")
        assert holding.descriptors() == descriptors
    release(holding, "hold")
    assert holding.call("call", name="hold", command="hold") == 21
    assert worker_pids(holding) == workers
    row = holding.plugin("hold")
    assert (row["state"], row["failures"], row["generation"]) == ("running", 0, 1)


def test_a_client_that_goes_during_a_check_leaves_no_worker(holding: Daemon) -> None:
    """The worker in which a plugin was being tried ends with the request, whatever the plugin is doing."""
    assert holding.plugin_dir is not None
    workers = worker_pids(holding)
    write_plugin(holding.plugin_dir, "slow", importing("Slow"))
    with Wire(holding.socket) as wire:
        wire.send([0, 1, "check", [{"name": "slow"}]])
        wait_until(lambda: worker_pids(holding) - workers, "the worker")
    wait_until(lambda: worker_pids(holding) == workers, "the worker's end")


def test_a_check_that_is_cancelled_leaves_no_worker(holding: Daemon) -> None:
    """The same where the client stays, and cancels."""
    assert holding.plugin_dir is not None
    workers = worker_pids(holding)
    write_plugin(holding.plugin_dir, "slow", importing("Slow"))
    with Wire(holding.socket) as wire:
        wire.send([0, 1, "check", [{"name": "slow"}]])
        wait_until(lambda: worker_pids(holding) - workers, "the worker")
        wire.send([0, 2, "cancel", [{"request": 1}]])
        answers = {frame[1]: frame for frame in (wire.frame(), wire.frame())}
        assert answers[2][3] == {"cancelled": True}
        wait_until(lambda: worker_pids(holding) == workers, "the worker's end")


def test_a_peer_that_has_said_all_still_gets_its_answer(holding: Daemon) -> None:
    """`printf … | socat` closes its sending half at once: what is answered later is sent nevertheless."""
    with Wire(holding.socket) as wire:
        wire.send([0, 1, "ping", []], [0, 2, "call", [{"name": "demo", "command": "add", "args": [1, 2]}]])
        wire.socket.shutdown(socket.SHUT_WR)
        assert wire.rest() == [[1, 1, None, "pong"], [1, 2, None, 3]]


def test_what_a_command_cannot_return_is_its_own_fault(holding: Daemon) -> None:
    """Values without msgpack form are the plugin's error, and no other request suffers."""
    with Wire(holding.socket) as wire:
        error, _ = wire.ask("call", {"name": "demo", "command": "impossible"})
        assert error["code"] == "plugin.invalid"
        error, _ = wire.ask("call", {"name": "demo", "command": "fail"})
        assert error["code"] == "plugin.crashed"
        assert "ValueError: on purpose" in error["message"]
        assert wire.ask("call", {"name": "demo", "command": "add", "args": [1]}) == (None, 3)


@pytest.mark.parametrize("value", [None, True, 2**64 - 1, -(2**63), 1.5, "tëxt", b"\xff", [1, [2]], {"a": {"b": []}}])
def test_values_go_through_a_plugin_unchanged(holding: Daemon, value: Any) -> None:
    """What a command is given and gives back is the same at both ends."""
    assert holding.call("call", name="demo", command="echo", args=[value]) == value


def test_finished_requests_are_logged_with_their_outcome(holding: Daemon) -> None:
    """One line for each that may have changed something, with method, outcome and duration."""
    holding.call("call", name="demo", command="add", args=[1])
    with Wire(holding.socket) as wire:
        wire.ask("call", {"name": "demo", "command": "fail"})
    wait_until(lambda: len(holding.records("audit")) == 2, "the log lines")
    lines = holding.records("audit")
    assert [(line["method"], line["outcome"]) for line in lines] == [("call", "ok"), ("call", "plugin.crashed")]
    assert all(line["duration_seconds"] >= 0 for line in lines)
