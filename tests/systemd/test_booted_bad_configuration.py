"""A configuration that is not valid, where plugd is to be started with it: one exit, one reason, no loop."""

import pytest
from harness import wait_until
from machine import explained
from service import SHIPPED, Service

BAD = '[plugins.load]\ninterval = "soon"\n'
CONNECTIONS = 10


@pytest.fixture
def refusing(stopped: Service) -> Service:
    """plugd, with a configuration that it does not start with, and not started."""
    stopped.configure(BAD)
    return stopped


def assert_failed_for_good(plugd: Service) -> None:
    """It has ended with EX_CONFIG, and systemd has no intention to start it again."""
    wait_until(lambda: plugd.state() not in {"activating", "deactivating"}, "the end of the start")
    assert plugd.machine.show("plugd.service", "ExecMainStatus") == "78"
    # Where it is to be restarted, it is "activating", and "auto-restart".
    assert (plugd.state(), plugd.machine.show("plugd.service", "SubState")) == ("failed", "failed")
    assert plugd.restarts == 0


def test_start_fails_with_78_and_is_not_repeated(refusing: Service) -> None:
    """``systemctl start plugd`` fails at once; the unit is failed, and not started again."""
    done = refusing.systemctl("start")
    assert done.returncode == 1, explained(done)
    assert_failed_for_good(refusing)
    assert sum("status=78" in line for line in refusing.journal("--identifier=systemd")) == 1
    assert refusing.machine.processes_of("plugd") == []


def test_the_last_line_of_the_journal_is_the_reason(refusing: Service) -> None:
    """Of plugd's own lines: what systemd says of the failed unit follows."""
    refusing.systemctl("start")
    last = refusing.journal("--identifier=plugd")[-1]
    for what in ("/etc/plugd/plugd.d/test.toml", "plugins.load.interval", "soon"):
        assert what in last


def test_who_connects_is_told_and_the_socket_stays(refusing: Service) -> None:
    """However many connect: each is told at once why there is no daemon, and the socket goes on to listen."""
    refusing.systemctl("start")
    for _ in range(CONNECTIONS):
        done = refusing.plugctl("ping", user="alice")
        assert done.returncode == 1, explained(done)
        assert "plugd cannot start: its configuration is not valid" in done.stderr, explained(done)
    assert refusing.state("plugd.socket") == "active"
    assert_failed_for_good(refusing)


def test_the_mended_configuration_needs_only_a_start(refusing: Service) -> None:
    """Neither reset-failed nor a restart of the socket: who connects is enough."""
    refusing.systemctl("start")
    assert refusing.plugctl("ping").returncode == 1
    refusing.configure("")
    assert set(refusing.plugins()) == SHIPPED
    assert refusing.state() == "active"


def test_a_restart_into_it_fails(plugd: Service) -> None:
    """The old daemon is gone then: ``plugd --check-config`` tells beforehand."""
    plugd.configure(BAD)
    done = plugd.machine.run("plugd", "--check-config")
    assert done.returncode == 78, explained(done)
    assert "plugins.load.interval" in done.stderr
    assert plugd.systemctl("restart").returncode == 1
    assert_failed_for_good(plugd)
