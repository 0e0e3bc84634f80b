"""plugctl against a real daemon: long commands, settings that last, and which plugins run, written down."""

import json
import signal
import subprocess

from harness import BIN, SHIPPED, Daemon, Daemons, clean_environ, wait_until, write_plugin

WORKING = '''"""Works."""

import time

from plugd.plugin import Gauge, Plugin, Progress, command, setting


class Working(Plugin):
    version = "{version}"
    interval = 0.2

    value = Gauge("test.value")
    pace = setting(0.01, minimum=0, maximum=1)
    ended = 0

    def collect(self):
        yield self.value(1)

    @command
    def work(self, steps: int) -> int:
        """Work, step by step."""
        try:
            for number in range(steps):
                yield Progress(number, steps, "working")
                time.sleep(self.pace)
            return steps
        finally:
            self.ended += 1

    @command
    def done(self) -> int:
        return self.ended
'''


def working(version: str = "1.0") -> str:
    return WORKING.format(version=version)


def done(running: Daemon) -> int:
    return int(running.plugctl("call", "working", "done").stdout)


def test_a_long_command_and_its_deadline(daemon: Daemons) -> None:
    """Its result is shown; beyond the deadline the daemon says so, and the plugin lives on."""
    running = daemon(plugins={"working": working()})
    pid = running.plugin("working")["pid"]
    assert running.plugctl("call", "working", "work", "3").stdout == "3\n"
    late = running.plugctl("call", "--deadline", "0.3", "working", "work", "1000000")
    assert (late.returncode, late.stdout) == (1, "")
    assert late.stderr.startswith("plugctl: command 'work' took longer than 0.3 s")
    wait_until(lambda: done(running) == 2, "the end of the command")
    wrong = running.plugctl("call", "--deadline", "2h", "working", "work", "1")
    assert (wrong.returncode, "<= 3600" in wrong.stderr) == (1, True)
    assert running.plugin("working")["pid"] == pid


def test_ctrl_c_ends_the_command_and_not_the_plugin(daemon: Daemons) -> None:
    """Status 130; the command ends at its next yield."""
    running = daemon(plugins={"working": working()})
    row = running.plugin("working")
    line = [BIN / "plugctl", "--socket", str(running.socket), "call", "--deadline", "1h", "working", "work", "1000000"]
    with subprocess.Popen(
        line, env=clean_environ(running.directory), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            wait_until(lambda: running.plugin("working")["collects"] > row["collects"] + 2, "collections meanwhile")
            assert process.poll() is None
            process.send_signal(signal.SIGINT)
            assert process.communicate(timeout=20) == ("", "")
        finally:
            process.kill()
    assert process.returncode == 130
    wait_until(lambda: done(running) == 1, "the end of the command")
    (cancelled,) = [line for line in running.records("audit") if line["outcome"] == "cancelled"]
    assert cancelled["plugin_command"] == "work"
    after = running.plugin("working")
    assert (after["pid"], after["failures"]) == (row["pid"], 0)


def test_a_setting_that_lasts_until_it_is_forgotten(daemon: Daemons) -> None:
    """Over a restart of plugd; get and describe say where the value is from."""
    running = daemon(plugins={"working": working()})
    assert running.plugctl("set", "--persist", "working", "pace", "0.5").stdout == "0.5\n"
    running.stop()
    second = daemon(plugins={"working": working()})
    assert second.plugctl("get", "working", "--origin").stdout.splitlines()[1].split() == ["pace", "0.5", "saved"]
    assert "pace" in second.plugctl("describe", "working").stdout
    assert second.plugctl("set", "--unset", "working", "pace").stdout == "0.01\n"
    second.stop()
    third = daemon(plugins={"working": working()})
    assert third.plugctl_json("get", "working", "pace", "--origin") == {"value": 0.01, "origin": "default"}


def test_a_lock_is_written_verified_and_kept_to(daemon: Daemons) -> None:
    """The same plugins give the same lock and no difference; plugd runs by it; what changes is told."""
    plugins = {"working": working(), "cpu": SHIPPED / "cpu.py"}
    running = daemon(plugins=plugins)
    lock = daemon.directory / "plugins.lock"
    written = running.plugctl("lock")
    assert (written.returncode, written.stderr) == (0, "")
    lock.write_text(written.stdout)
    assert [row["name"] for row in json.loads(written.stdout)["plugins"]] == ["cpu", "working"]
    assert running.plugctl("verify", str(lock)).stdout == "2 plugins as locked\n"
    assert running.plugctl_json("verify", str(lock)) == {"equal": True, "plugins": 2, "differences": []}
    running.stop()

    second = daemon("--lock", str(lock), plugins={})
    assert second.plugctl("lock").stdout == written.stdout
    assert second.plugin_dir is not None
    write_plugin(second.plugin_dir, "working", working("2.0"))
    refused = second.plugctl("reload")
    assert "differs from the lock" in refused.stderr
    assert second.plugctl("verify", str(lock)).returncode == 0  # The old one runs on.
    second.stop()

    third = daemon(plugins={})
    differs = third.plugctl("verify", "plugins.lock")
    assert (differs.returncode, differs.stderr) == (1, "")
    (difference,) = json.loads(third.plugctl("verify", "--json", str(lock)).stdout)["differences"]
    assert (difference["name"], difference["what"]) == ("working", "sha256")
    assert differs.stdout == f"working  other sha256: {difference['running']} runs, {difference['locked']} is locked\n"
    third.call("unload", names=["working"])
    assert third.plugctl("verify", str(lock)).stdout == "working  missing: it is locked, and not loaded\n"
