"""How a daemon starts, ends, and is killed: nothing of it is left, and another can follow at once."""

import os
import signal
import subprocess

import pytest
from harness import BIN, SHIPPED, Daemons, clean_environ, wait_until, write_plugin

CHILD = """
\"\"\"Has a child, and a grandchild, that ignore every polite signal.\"\"\"

import subprocess

from plugd.plugin import Gauge, Plugin


class Parent(Plugin):
    value = Gauge("parent.value")

    def start(self):
        self.child = subprocess.Popen(["sh", "-c", "trap '' TERM HUP INT; sleep 1000 & wait; wait"])

    def collect(self):
        yield self.value(1)
"""


def test_a_killed_daemon_leaves_no_process_and_no_obstacle(daemon: Daemons) -> None:
    """kill -9: workers and the forkserver go with it, and a new plugd starts on the same socket at once."""
    first = daemon()
    assert len(first.processes()) > 8
    first.process.kill()
    first.process.wait()
    second = daemon()
    assert second.socket == first.socket
    assert second.call("status")["pid"] == second.pid
    first.wait_gone()


def test_sigterm_leaves_neither_process_nor_socket(daemon: Daemons) -> None:
    """SIGTERM: status 0, the socket's file is gone, no process is left."""
    running = daemon()
    assert running.stop(signal.SIGTERM) == 0
    assert not running.socket.exists()
    assert running.processes() == {}


def test_sigint_stops_as_sigterm_does(daemon: Daemons) -> None:
    """Ctrl-C is a way to stop, and no failure."""
    assert daemon(plugins={"load": SHIPPED / "load.py"}).stop(signal.SIGINT) == 0


def test_children_of_a_plugin_end_with_the_daemon(daemon: Daemons) -> None:
    """A plugin's child that ignores SIGTERM does not outlive plugd."""
    running = daemon(plugins={"parent": CHILD})
    wait_until(lambda: "sleep" in running.processes().values(), "the plugin's grandchild")
    assert running.stop(signal.SIGTERM) == 0


def test_children_of_a_plugin_end_with_its_unload(daemon: Daemons) -> None:
    """Unload leaves nothing: not the plugin's children either."""
    running = daemon(plugins={"parent": CHILD})
    wait_until(lambda: "sleep" in running.processes().values(), "the plugin's grandchild")
    running.call("unload", names=["parent"])
    wait_until(lambda: not {"sleep", "sh"} & set(running.processes().values()), "the end of its children")


def test_a_second_daemon_on_the_socket_gives_way(daemon: Daemons) -> None:
    """The second plugd exits with 69 and says why; the first goes on serving, undisturbed."""
    first = daemon(plugins={"load": SHIPPED / "load.py"})
    with first.client() as client:
        assert client.call("ping") == "pong"
        second = daemon(wait=False)
        assert second.process.wait(20) == 69
        assert "socket_in_use" in second.log
        assert client.call("ping") == "pong"
    assert first.call("status")["pid"] == first.pid


def test_a_stale_socket_is_no_obstacle(daemon: Daemons) -> None:
    """A socket's file that nobody listens on is replaced."""
    first = daemon(plugins={"load": SHIPPED / "load.py"})
    first.process.kill()
    first.process.wait()
    assert first.socket.exists()
    assert daemon(plugins={"load": SHIPPED / "load.py"}).call("ping") == "pong"


def test_sighup_reloads(daemon: Daemons) -> None:
    """SIGHUP is `plugctl reload`."""
    running = daemon(plugins={"load": SHIPPED / "load.py"})
    assert running.plugin_dir is not None
    write_plugin(running.plugin_dir, "cpu", SHIPPED / "cpu.py")
    running.process.send_signal(signal.SIGHUP)
    wait_until(lambda: {"cpu", "load"} == {row["name"] for row in running.call("list")}, "the new plugin")
    wait_until(lambda: running.plugin("cpu")["state"] == "running", "its run")
    assert running.process.poll() is None


def test_a_killed_forkserver_costs_no_plugin(daemon: Daemons) -> None:
    """SIGKILL to the forkserver: workers live on, and what is loaded next gets a worker of a new one."""
    running = daemon(plugins={"load": SHIPPED / "load.py", "cpu": SHIPPED / "cpu.py"})
    assert running.plugin_dir is not None
    pids = {row["name"]: row["pid"] for row in running.call("list")}
    (forkserver,) = [pid for pid, name in running.processes().items() if "forksrv" in name]
    os.kill(forkserver, signal.SIGKILL)
    wait_until(lambda: forkserver not in running.processes(), "the forkserver's end")
    write_plugin(running.plugin_dir, "disk", SHIPPED / "disk.py")
    assert running.call("reload")["loaded"] == ["disk"]
    assert running.plugin("disk")["state"] == "running"
    assert {row["name"]: row["pid"] for row in running.call("list") if row["name"] != "disk"} == pids
    assert running.call("status")["forkserver_restarts"] == 1


def test_an_invalid_configuration_starts_nothing(daemon: Daemons) -> None:
    """Status 78, and every fault is told, not the first only."""
    running = daemon(config='[control]\nmode = 660\n[plugins.cpu]\ninterval = "soon"\ntimeuot = 1\n', wait=False)
    assert running.process.wait(20) == 78
    for key in ("$.control.mode", "$.plugins.cpu.interval", "$.plugins.cpu.timeuot"):
        assert f"{running.config}: {key}: " in running.log
    assert "did you mean 'timeout'?" in running.log
    assert not running.socket.exists()


def test_a_reload_with_an_invalid_configuration_changes_nothing(daemon: Daemons) -> None:
    """The configuration in force stays, with every fault in the answer; mended, it is taken."""
    running = daemon(plugins={"load": SHIPPED / "load.py"}, config="[plugins.load]\ninterval = 7\n")
    before = running.plugin("load")
    running.config.write_text('[plugins.load]\ninterval = "never"\n[log]\nlevle = "info"\n')
    done = running.plugctl("reload")
    assert done.returncode == 1
    assert "$.plugins.load.interval" in done.stderr
    assert "$.log.levle" in done.stderr
    after = running.plugin("load")
    assert (after["interval"], after["pid"]) == (7.0, before["pid"])
    running.config.write_text("[plugins.load]\ninterval = 8\n")
    assert running.plugctl_json("reload")["reloaded"] == ["load"]
    after = running.plugin("load")
    assert (after["interval"], after["pid"]) == (8.0, before["pid"])


@pytest.mark.parametrize("flag", ["--check-config", "--version"])
def test_flags_that_only_ask_start_nothing(flag: str, daemon: Daemons) -> None:
    """They answer and end with 0."""
    done = subprocess.run(
        [BIN / "plugd", flag],
        env=clean_environ(daemon.directory),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout
