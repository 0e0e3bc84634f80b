"""plugctl's exit status says what became of a call: 0 to 6."""

import json
import os
import signal
import socket
import subprocess
from pathlib import Path

import pytest
from harness import BIN, SHIPPED, Daemons, clean_environ, plugctl

SLOW = """
import time

from plugd.plugin import Gauge, Plugin, command


class Slow(Plugin):
    value = Gauge("slow.value")

    def collect(self):
        yield self.value(1)

    @command
    def sleep(self, seconds: float) -> str:
        time.sleep(seconds)
        return "awake"

    @command
    def fail(self) -> None:
        raise RuntimeError("no luck")
"""


def test_0_done(daemon: Daemons) -> None:
    """What was asked has been done."""
    assert daemon(plugins={"load": SHIPPED / "load.py"}).plugctl("ping").returncode == 0


def test_1_the_request_failed(daemon: Daemons) -> None:
    """The plugin's own exception is the reason that is told."""
    done = daemon(plugins={"slow": SLOW}).plugctl("call", "slow", "fail")
    assert done.returncode == 1
    assert "no luck" in done.stderr


@pytest.mark.parametrize("arguments", [["no-such-verb"], ["describe"], ["list", "--no-such-flag"], ["load"]])
def test_2_usage(arguments: list[str], daemon: Daemons) -> None:
    """A call that means nothing is told with the usage, without asking any daemon."""
    done = plugctl(*arguments, directory=daemon.directory)
    assert done.returncode == 2
    assert "usage: plugctl" in done.stderr


def test_3_no_daemon(daemon: Daemons) -> None:
    """Nobody listens there."""
    done = plugctl("--socket", str(daemon.directory / "none.sock"), "list", directory=daemon.directory)
    assert done.returncode == 3
    assert done.stderr.startswith("plugctl: cannot reach plugd at ")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_4_denied(daemon: Daemons) -> None:
    """A stranger who may open the socket may read and not reload; one who may not is denied everything."""
    running = daemon(plugins={"load": SHIPPED / "load.py"}, config='[control]\nmode = "0666"\n')
    assert as_stranger(daemon, "list").returncode == 0
    done = as_stranger(daemon, "reload")
    assert done.returncode == 4
    assert "it takes the role operate, and you have read" in done.stderr
    assert json.loads(as_stranger(daemon, "unload", "load", "--json").stdout)["code"] == "auth.denied"
    running.socket.chmod(0o660)
    assert as_stranger(daemon, "list").returncode == 4


def test_5_not_found(daemon: Daemons) -> None:
    """There is no plugin of that name."""
    done = daemon(plugins={"load": SHIPPED / "load.py"}).plugctl("describe", "nothing")
    assert done.returncode == 5
    assert "'nothing'" in done.stderr


def test_6_timed_out(daemon: Daemons) -> None:
    """The answer takes longer than --timeout; the daemon goes on."""
    running = daemon(plugins={"slow": SLOW})
    done = running.plugctl("--timeout", "0.2", "call", "slow", "sleep", "5")
    assert done.returncode == 6
    assert running.call("ping") == "pong"


def test_6_a_silent_daemon(daemon: Daemons) -> None:
    """Somebody listens and says nothing: that is no reason to wait for ever."""
    path = daemon.directory / "silent.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        done = plugctl("--socket", str(path), "--timeout", "0.2", "ping", directory=daemon.directory)
    assert done.returncode == 6


def test_a_stopped_daemon_is_timed_out_upon(daemon: Daemons) -> None:
    """A daemon that is suspended answers nobody, and everybody once it goes on."""
    running = daemon(plugins={"load": SHIPPED / "load.py"})
    running.process.send_signal(signal.SIGSTOP)
    try:
        assert running.plugctl("--timeout", "0.2", "ping").returncode == 6
    finally:
        running.process.send_signal(signal.SIGCONT)
    assert running.plugctl("ping").returncode == 0


def test_the_programs_are_where_they_are_looked_for() -> None:
    """Both are installed, and executable."""
    for name in ("plugd", "plugctl"):
        assert os.access(Path(BIN) / name, os.X_OK)


def as_stranger(daemon: Daemons, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run plugctl as a user who is nobody in particular."""
    # Everything is imported first: a stranger may not be able to read where it is installed.
    program = """
import os, pkgutil, sys
import argparse, json, plugctl, plugctl.cli, plugctl.render
for package in (plugctl, plugctl.render):
    for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        __import__(module.name)
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
plugctl.cli.main()
"""
    return subprocess.run(
        [BIN / "python", "-I", "-c", program, "--socket", str(daemon.directory / "control.sock"), *arguments],
        cwd="/",
        env=clean_environ(daemon.directory),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
