"""Clients that die at any step of a conversation: what they had of the daemon comes back."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import killed_clients
import pytest
from control_rig import DEADLINE, DEMO, HOLD, Wire, release, serving, until
from harness import Daemon, daemons, wait_until

PROGRAM = Path(killed_clients.__file__)
KILLS = 1000
CHECKS = 50  # Each forks a worker.
WARM_UP = 200
ROUNDS = 4  # A leak shows in each; that more clients than ever were there at one time shows in one.
GROWTH_ALLOWED = 512 * 1024  # bytes, in the best round
CONFIG = "[control.limits]\nconnections = 400\nconnections_per_uid = 300\n"

LARGE = '''"""Gives more than a socket holds."""

from plugd.plugin import Gauge, Plugin, command


class Large(Plugin):
    interval = 3600.0

    value = Gauge("test.value")

    def collect(self):
        yield self.value(1)

    @command
    def give(self) -> str:
        return "x" * 250_000
'''


@pytest.fixture(scope="module")
def running() -> Iterator[Daemon]:
    """A daemon for all tests of this module: none may leave anything for the next."""
    with daemons() as start:
        yield start(plugins={"demo": DEMO, "hold": HOLD, "large": LARGE}, config=CONFIG)


def kill(path: Path, step: str, count: int) -> None:
    done = subprocess.run(
        [sys.executable, PROGRAM, path, step, str(count)],
        capture_output=True,
        text=True,
        timeout=10 * DEADLINE,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def at_rest(running: Daemon, wire: Wire) -> dict[str, Any]:
    """Wait until only this connection is left; return what the daemon has."""

    def alone() -> bool:
        status = wire.ask("status")[1]
        return (status["connections"], status["subscriptions"]) == (1, 0)

    wait_until(alone, "the end of the sessions")
    return {
        "descriptors": running.descriptors(),
        "processes": sorted(running.processes().values()),
    }


def rss_bytes(pid: int) -> int:
    """Return a process's memory: /proc/PID/statm, resident."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("step", killed_clients.STEPS)
def test_a_thousand_clients_killed_leave_nothing(running: Daemon, step: str) -> None:
    """Sessions, subscriptions, descriptors, processes and memory are what they were; the next client is served."""
    with Wire(running.socket) as wire:
        kills = CHECKS if step == "checking" else KILLS
        before = at_rest(running, wire)  # Not behind the first kills: workers of theirs may still be there.
        kill(running.socket, step, kills * WARM_UP // KILLS)
        for _ in range(ROUNDS):
            memory = rss_bytes(running.pid)
            kill(running.socket, step, kills)
            wait_until(lambda: at_rest(running, wire) == before, "the baseline")
            growth = rss_bytes(running.pid) - memory
            if growth < GROWTH_ALLOWED:
                break
        assert growth < GROWTH_ALLOWED
        assert wire.ask("ping") == (None, "pong")
        assert not running.records("command_failed")
    assert running.plugin("demo")["state"] == running.plugin("hold")["state"] == "running"


def test_the_plugin_that_they_called_is_well(running: Daemon) -> None:
    """After all of it, its command still answers."""
    release(running, "hold")
    assert running.call("call", name="hold", command="hold") >= 1
    assert running.plugin("hold")["failures"] == 0


@pytest.mark.anyio
@pytest.mark.parametrize("step", killed_clients.STEPS)
async def test_killed_clients_leave_no_task(step: str) -> None:
    """In the daemon's own process: no task, session or subscription is left, requests under way included."""
    async with serving() as server:

        async def check(_name: str) -> None:
            await asyncio.Event().wait()

        server.context.registry.check = check  # type: ignore[method-assign, assignment]
        staying = await server.connect()
        assert await staying.call("ping") == "pong"
        before = asyncio.all_tasks()
        killer = await asyncio.create_subprocess_exec(sys.executable, PROGRAM, server.path, step, "40")
        assert await killer.wait() == 0
        await until(lambda: server.context.connections == 1, "the end of the sessions")
        await until(lambda: asyncio.all_tasks() == before, "the end of the tasks")
        assert len(server.context.broker) == 0
        assert await staying.call("ping") == "pong"
