"""Restarts under load: whoever asks is answered, be it by the daemon that goes or by the one that comes."""

from collections.abc import Callable

import pytest
from restarts import busy_clients
from service import Service

DEATHS = 3
RESTARTS = 20  # bench/restarts.py does a hundred


def test_no_request_fails_over_restarts(plugd: Service, figure: Callable[[str], None]) -> None:
    """Clients that connect for every request, and clients that keep their connection, notice no more than a wait."""
    with busy_clients(plugd.machine) as clients:
        for _ in range(RESTARTS):
            plugd.must("restart")
    assert clients.failed == []
    assert clients.tallies["keep"]["connections"] > RESTARTS / 2  # It has really been told to go, again and again.
    assert clients.tallies["connect"]["answered"] > RESTARTS
    worst = f"worst wait {clients.worst * 1000:.0f} ms"
    figure(f"{RESTARTS} restarts under load: {clients.answered:,} requests, 0 failed, {worst}")


@pytest.mark.parametrize("number", ["TERM", "KILL"])
def test_what_ends_by_itself_comes_again(stopped: Service, number: str) -> None:
    """Where the daemon is ended by a signal, no client waits in vain: it costs what was under way, and no more."""
    stopped.drop_in("[Service]\nRestart=always\nRestartSec=100ms\n")
    stopped.must("start")
    with busy_clients(stopped.machine) as clients:
        for _ in range(DEATHS):
            pid = stopped.pid
            stopped.machine.output("kill", f"-{number}", str(pid))
            stopped.wait_restarted(pid)
    assert len(clients.failed) <= (0 if number == "TERM" else DEATHS * len(clients.tallies)), clients.failed
    assert all("Connection" in text for text in clients.failed), clients.failed
    assert clients.tallies["keep"]["connections"] > DEATHS


def test_no_request_fails_over_a_reload(plugd: Service) -> None:
    """Neither with a configuration that is valid, nor with one that is not."""
    with busy_clients(plugd.machine) as clients:
        for seconds in (7, 8, 9):
            plugd.configure(f'[plugins.load]\ninterval = "{seconds}s"\n')
            plugd.must("reload")
            plugd.configure("this is no TOML")
            assert plugd.systemctl("reload").returncode == 1
    assert clients.failed == []
    assert plugd.plugins()["load"]["interval"] == 9
