"""What an operator types at a machine on which plugd is installed, and what comes of it."""

import json
import re
import time
from collections.abc import Callable

from harness import Daemons, wait_until
from machine import explained
from service import SHIPPED, Service

SLOW = '''
"""Starts slowly."""

import time
from collections.abc import Iterable

from plugd.plugin import Gauge, Plugin, Sample


class Slow(Plugin):
    interval = 60.0

    value = Gauge("slow.value", unit="1")

    def start(self) -> None:
        time.sleep(1)

    def collect(self) -> Iterable[Sample]:
        yield self.value(1)
'''


def test_start_returns_when_plugd_is_ready(plugd: Service, figure: Callable[[str], None]) -> None:
    """``systemctl start plugd`` returns when every plugin runs, and not before."""
    plugd.stop()
    begin = time.monotonic()
    plugd.must("start")
    figure(f"`systemctl start plugd` returned after {(time.monotonic() - begin) * 1000:.0f} ms, ready")
    assert plugd.state() == "active"
    assert {name: row["state"] for name, row in plugd.plugins().items()} == dict.fromkeys(SHIPPED, "running")


def test_start_waits_for_a_plugin_that_starts_slowly(plugd: Service) -> None:
    """Where a plugin takes a second, so does ``systemctl start``."""
    plugd.add_plugin("slow", SLOW)
    plugd.stop()
    plugd.must("start")
    assert plugd.plugins()["slow"]["state"] == "running"


def test_root_and_the_group_may_ask(plugd: Service) -> None:
    """``plugctl stats --json`` answers root, and a member of group plugd."""
    for user in ("root", "alice"):
        stats = plugd.ask("stats", user=user)
        assert set(stats["plugins"]) == SHIPPED
        assert {row["plugin"] for row in stats["metrics"]} >= {"cpu", "memory", "network", "system"}


def test_a_member_of_the_group_may_only_read(plugd: Service) -> None:
    """What changes anything is for those that the configuration names, and for root."""
    done = plugd.plugctl("reload", user="alice")
    assert done.returncode == 4, explained(done)
    assert "it takes the role operate, and you have read" in done.stderr, explained(done)
    plugd.configure('[control]\noperators = ["plugd"]\n')
    plugd.must("reload")
    assert plugd.plugctl("reload", user="alice").returncode == 0


def test_a_stranger_is_refused(plugd: Service) -> None:
    """Who is not in group plugd cannot open the socket, and is told so."""
    done = plugd.plugctl("stats", "--json", user="mallory")
    assert done.returncode == 4, explained(done)
    assert "permission denied" in done.stderr
    assert json.loads(done.stdout)["code"] == "client.denied"


def test_reload_takes_a_new_configuration(plugd: Service) -> None:
    """When ``systemctl reload`` returns, it is in force; the daemon is the same."""
    pid = plugd.pid
    plugd.configure('[plugins.load]\ninterval = "7s"\n')
    plugd.must("reload")
    assert plugd.plugins()["load"]["interval"] == 7
    assert plugd.pid == pid


def test_reload_fails_where_the_configuration_is_invalid(plugd: Service) -> None:
    """``systemctl reload`` fails, the old configuration stays, and the journal has the reason."""
    pid = plugd.pid
    plugd.configure('[plugins.load]\ninterval = "7s"\n')
    plugd.must("reload")
    plugd.configure('[plugins.load]\ninterval = "soon"\n')
    done = plugd.systemctl("reload")
    assert done.returncode != 0, explained(done)
    assert (plugd.state(), plugd.pid) == ("active", pid)
    assert plugd.plugins()["load"]["interval"] == 7
    assert any("plugd.d/test.toml" in line and "interval" in line for line in plugd.journal("--unit=plugd"))
    plugd.configure("")
    plugd.must("reload")
    assert plugd.plugins()["load"]["interval"] == 5


def test_restart_is_another_daemon(plugd: Service) -> None:
    """Nothing of the one before is left."""
    before = set(plugd.machine.output("pgrep", "--uid", "plugd").split())
    plugd.must("restart")
    assert before.isdisjoint(plugd.machine.output("pgrep", "--uid", "plugd").split())
    assert set(plugd.plugins()) == SHIPPED


def test_stop_leaves_the_socket_and_no_process(plugd: Service) -> None:
    """After ``systemctl stop`` no process of user plugd is left; the socket still listens."""
    assert plugd.machine.processes_of("plugd")
    plugd.stop()
    assert plugd.machine.processes_of("plugd") == []
    assert plugd.machine.show("plugd.service", "Result") == "success"
    assert plugd.state("plugd.socket") == "active"
    assert plugd.machine.output("stat", "-c", "%F %a %U %G", "/run/plugd/control.sock") == "socket 660 root plugd"


def test_who_connects_starts_plugd(plugd: Service) -> None:
    """Where it does not run, the socket has it started, and the request is answered."""
    plugd.stop()
    assert set(plugd.ask("stats", user="alice")["plugins"]) == SHIPPED
    assert plugd.state() == "active"


def test_stopping_the_socket_leaves_none(plugd: Service) -> None:
    """With its socket, plugd ends, and its path is gone."""
    plugd.must("stop", "plugd.socket")
    wait_until(lambda: plugd.state() == "inactive", "the stop of plugd.service")
    assert plugd.machine.run("ls", "-A", "/run/plugd").stdout == ""
    assert plugd.plugctl("ping").returncode == 3


def test_status_tells_what_is_wrong(plugd: Service) -> None:
    """``systemctl status`` has a line that names the plugins that do not run."""
    status = plugd.machine.show("plugd.service", "StatusText")
    assert status == f"{len(SHIPPED)} plugins"
    plugd.add_plugin("broken", "class Broken:\n")
    plugd.machine.run("systemctl", "reload", "plugd")
    wait_until(lambda: "failed: broken" in plugd.machine.show("plugd.service", "StatusText"), "the status")
    plugd.machine.output("rm", "/etc/plugd/plugins/broken.py")
    plugd.must("reload")
    wait_until(lambda: plugd.machine.show("plugd.service", "StatusText") == status, "the old status")


def test_the_journal_tells_the_story(plugd: Service) -> None:
    """``journalctl -u plugd``: that it started, is ready, and stopped, by itself and by systemd."""
    plugd.must("restart")
    text = "\n".join(plugd.journal("--unit=plugd"))
    for what in ("plugd_ready", "plugd_stopped", "Started plugd.service", "Stopped plugd.service"):
        assert what in text, text
    assert not re.search("Traceback|exception", text), text


def test_the_journal_knows_the_plugin(plugd: Service) -> None:
    """``journalctl PLUGIN=cpu``: its states, with their fields, and nothing of the others."""
    pid = plugd.pid
    entries = [json.loads(line) for line in plugd.journal("--output=json", "PLUGIN=cpu", f"_PID={pid}")]
    assert [entry["PLUGD_EVENT"] for entry in entries] == ["plugin_starting", "plugin_running"]
    assert {entry["_SYSTEMD_UNIT"] for entry in entries} == {"plugd.service"}
    assert {entry["GENERATION"] for entry in entries} == {"1"}
    assert len({entry["MESSAGE_ID"] for entry in entries}) == len(entries)
    assert {entry["PRIORITY"] for entry in entries} == {"6"}
    plugd.plugctl("reload", "cpu")
    assert "plugin_reloaded" in plugd.journal("PLUGIN=cpu", "GENERATION=2", f"_PID={pid}")[-1]


def test_the_journal_explains(plugd: Service) -> None:
    """``journalctl -x`` has a text for every change of state."""
    plugd.add_plugin("broken", "class Broken:\n")
    plugd.systemctl("reload")
    lines = plugd.journal("--output=short", "--catalog", "PLUGIN=broken")
    assert any("plugin_failed" in line for line in lines), lines
    assert any("Subject: " in line for line in lines), lines


def test_nothing_is_wrong_in_an_ordinary_life(plugd: Service) -> None:
    """Start, reload, restart and stop write no warning into the journal."""
    plugd.must("reload")
    plugd.must("restart")
    plugd.stop()
    assert plugd.journal("--unit=plugd", "--priority=warning") == []


def test_a_plugd_outside_leaves_it_alone(plugd: Service, daemon: Daemons) -> None:
    """One that starts on the host looks for what dead daemons have left, and takes none in a container for that.

    A process id of a machine is nobody's, or somebody else's, outside of it.
    """
    before = plugd.machine.processes_of("plugd")
    outside = daemon()
    assert {row["state"] for row in outside.call("list")} == {"running"}
    assert plugd.machine.processes_of("plugd") == before
