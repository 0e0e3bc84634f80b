"""Connections: how many there may be, and what becomes of one too many."""

import contextlib
import os
import resource
import socket

import pytest
from control_rig import Wire, wires
from harness import Daemon, Daemons, wait_until


def connected(running: Daemon) -> int:
    with Wire(running.socket) as wire:
        count: int = wire.ask("status")[1]["connections"]
    return count


def refused(wire: Wire) -> bool:
    """Whether the connection was refused as busy, and closed."""
    frames = wire.rest()
    return [(frame[0], frame[1], frame[2]["code"], frame[3]) for frame in frames] == [(1, None, "busy", None)]


def test_connections_of_one_user_are_limited(daemon: Daemons) -> None:
    """One more than the limit is told so and closed; when one goes, there is room again."""
    running = daemon(plugins={}, config="[control.limits]\nconnections_per_uid = 4\n")
    with wires(running.socket, 4) as served:
        assert [wire.ask("ping") for wire in served] == [(None, "pong")] * 4
        for _ in range(3):
            with Wire(running.socket) as more:
                assert refused(more)
        assert [wire.ask("ping") for wire in served] == [(None, "pong")] * 4
        served[0].socket.close()

        def served_again() -> bool:
            with Wire(running.socket) as again:
                try:
                    return again.ask("ping") == (None, "pong")
                except (AssertionError, OSError):
                    return False

        wait_until(served_again, "room for another")


def test_connections_of_all_are_limited(daemon: Daemons) -> None:
    """The limit of all counts, too; one place is root's."""
    running = daemon(plugins={}, config="[control.limits]\nconnections = 4\n")
    room = 4 if os.getuid() == 0 else 3
    with wires(running.socket, room) as served, Wire(running.socket) as more:
        assert [wire.ask("ping") for wire in served] == [(None, "pong")] * room
        assert refused(more)


def test_a_place_is_kept_for_root(daemon: Daemons) -> None:
    """Another user has one place less: whoever has all of those does not keep root out."""
    if os.getuid() != 0:
        pytest.skip("takes root: it becomes another user")
    running = daemon(plugins={}, config='[control]\nmode = "0666"\n[control.limits]\nconnections = 4\n')
    running.directory.chmod(0o755)
    with contextlib.ExitStack() as stack:
        os.seteuid(65534)
        try:
            others = [stack.enter_context(Wire(running.socket)) for _ in range(4)]
        finally:
            os.seteuid(0)
        assert [wire.ask("ping") for wire in others[:3]] == [(None, "pong")] * 3
        assert others[0].ask("hello")[1]["uid"] == 65534
        assert refused(others[3])
        own = stack.enter_context(Wire(running.socket))
        assert own.ask("ping") == (None, "pong")


def test_connections_are_counted(daemon: Daemons) -> None:
    """`status` tells how many there are, and they are counted down again."""
    running = daemon(plugins={})
    with wires(running.socket, 10) as served:
        assert [wire.ask("ping")[1] for wire in served] == ["pong"] * 10
        assert connected(running) == 11
    wait_until(lambda: connected(running) == 1, "the end of the others")


def test_many_connections_leave_nothing(daemon: Daemons) -> None:
    """A thousand that come and go, each in another way, leave no descriptor."""
    running = daemon(plugins={})
    with Wire(running.socket) as staying:
        assert staying.ask("ping") == (None, "pong")
        wait_until(lambda: staying.ask("status")[1]["connections"] == 1, "the end of the others")
        before = running.descriptors()
        for number in range(1000):
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(running.socket))  # Without a timeout it waits where the backlog is full.
                if number % 4 == 1:
                    client.sendall(b"\x94\x00\x01\xa4ping\x90")
                if number % 4 == 2:
                    client.sendall(b"\xc1")
                if number % 4 == 3:
                    client.sendall(b"\x94\x00")
                    client.shutdown(socket.SHUT_RDWR)
        wait_until(lambda: staying.ask("status")[1]["connections"] == 1, "the end of all")
        assert running.descriptors() == before


def test_a_partial_request_is_given_up(daemon: Daemons) -> None:
    """Who begins a request and does not end it is told so, and closed; others are not."""
    running = daemon(plugins={}, config='[control.limits]\npartial_request = "200ms"\n')
    with Wire(running.socket) as idle, Wire(running.socket) as partial:
        partial.send([0, 1, "ping", []], b"\x94\x00\x02")
        first, last = partial.rest()
        assert first == [1, 1, None, "pong"]
        assert (last[1], last[2]["code"]) == (None, "request.invalid")
        assert idle.ask("ping") == (None, "pong")


def test_the_limits_of_a_request_are_configured(daemon: Daemons) -> None:
    """`hello` tells them, and they are kept."""
    running = daemon(plugins={}, config='[control.limits]\nrequest_bytes = "2KiB"\ndepth = 6\nelements = 20\n')
    with Wire(running.socket) as wire:
        limits = wire.ask("hello")[1]["limits"]
    assert (limits["request_bytes"], limits["depth"], limits["elements"]) == (2048, 6, 20)
    for params in (["x" * 3000], [[[[[[[1]]]]]]], [1] * 30):
        with Wire(running.socket) as wire:
            wire.send([0, 1, "ping", params])
            assert [frame[2]["code"] for frame in wire.rest()] == ["request.too_large"]


def test_the_daemon_survives_a_want_of_descriptors(daemon: Daemons) -> None:
    """Without descriptors new clients are refused, those that are there are served, and it goes on afterwards."""
    running = daemon(plugins={})
    with Wire(running.socket) as there:
        assert there.ask("ping") == (None, "pong")
        soft, hard = resource.prlimit(running.pid, resource.RLIMIT_NOFILE)
        highest = max(map(int, os.listdir(f"/proc/{running.pid}/fd")))
        resource.prlimit(running.pid, resource.RLIMIT_NOFILE, (highest + 1, hard))
        with contextlib.ExitStack() as stack:
            more = [stack.enter_context(Wire(running.socket)) for _ in range(highest + 3)]
            for wire in more:
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # It has been refused already.
                    wire.send([0, 1, "ping", []])
            wait_until(lambda: "accept_failed" in running.log, "the want of descriptors")
            for number in range(2, 50):
                assert there.ask("ping", id=number) == (None, "pong")
            resource.prlimit(running.pid, resource.RLIMIT_NOFILE, (soft, hard))
        wait_until(lambda: running.call("ping") == "pong", "new clients")
        assert there.ask("ping", id=99) == (None, "pong")
        assert there.ask("status", id=100)[1]["control"]["refused.accept_failed"] >= 1
