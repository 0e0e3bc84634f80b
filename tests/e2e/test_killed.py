"""A daemon that is killed leaves nothing of what its plugins have started."""

import os
import signal
import subprocess
from pathlib import Path

from harness import BIN, DEADLINE, Daemons, wait_until

SPAWNER = '''"""Starts processes that do not belong to it any more."""

import os
import subprocess
import time

from plugd.plugin import Gauge, Plugin


class Spawner(Plugin):
    level = Gauge("test.level")

    def start(self):
        subprocess.Popen(["sleep", "{mark}"])
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                time.sleep(600)
            os._exit(0)

    def collect(self):
        yield self.level(1)
'''


STUBBORN = '''"""Dies in its second collection, and hangs in the first of its next life."""

import os
import time

from plugd.plugin import Gauge, Plugin


class Stubborn(Plugin):
    interval = 0.1
    value = Gauge("test.value")

    class Options:
        marker: str = ""

    def collect(self):
        if os.path.exists(self.options.marker):
            time.sleep(3600)
        yield self.value(1)
'''


def _marked(mark: bytes) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if mark in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def test_what_plugins_have_started_ends_with_a_killed_daemon(daemon: Daemons) -> None:
    """Children, and children that made sessions of their own, forked or started anew."""
    running = daemon(plugins={"spawner": SPAWNER.replace("{mark}", "601")})
    mark = f"PLUGD_RUN={running.pid}.".encode()
    wait_until(lambda: len(_marked(mark)) >= 4, "the forkserver, the worker and what that has started")
    os.kill(running.pid, signal.SIGKILL)
    wait_until(lambda: not _marked(mark), "the end of all of them")


def test_a_file_in_the_place_of_the_socket_is_left_alone(tmp_path: Path) -> None:
    """Exit status 73, and the file is what it was."""
    file = tmp_path / "precious"
    file.write_text("content")
    command = [BIN / "plugd", "--socket", file, "--plugin-dir", tmp_path, "--state-dir", tmp_path / "state"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert done.returncode == 73
    assert file.read_text() == "content"


def test_an_attempt_to_start_again_does_not_hold_up_the_end(daemon: Daemons) -> None:
    """A plugin that hangs as it is started again may do so for a minute; plugd ends all the same."""
    marker = daemon.directory / "marker"
    config = f"[restart]\ndelay = 0.1\n[plugins.stubborn]\ntimeout = 60\noptions = {{ marker = '{marker}' }}\n"
    running = daemon(plugins={"stubborn": STUBBORN}, config=config)
    marker.touch()
    os.kill(running.plugin("stubborn")["pid"], signal.SIGKILL)
    wait_until(lambda: any(row["cause"] == "trying again" for row in running.records("plugin_starting")), "the attempt")
    assert running.stop() == 0
