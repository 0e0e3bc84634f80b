"""plugd under a service manager: what it tells, what a restart loses, and when the watchdog is fed."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import msgpack
import pytest
from harness import BIN, DEADLINE, Daemons, plugctl, wait_until, write_plugin
from service_manager import Manager

PLAIN = '''"""Works."""

from plugd.plugin import Gauge, Plugin, command


class {title}(Plugin):
    version = "1.0"
    interval = 0.2

    value = Gauge("{name}.value")

    def collect(self):
        yield self.value(1)

    @command
    def wait(self, seconds: float) -> float:
        """Take so long."""
        import time

        time.sleep(seconds)
        return seconds
'''
HANGS_LATER = """yield self.value(1)
        self.collect = self.hang

    def hang(self):
        while True:
            pass
"""
BROKEN = "raise RuntimeError('never')\n"


@contextmanager
def managed(daemon: Daemons, watchdog: float | None = None, **plugins: str) -> Iterator[Manager]:
    directory = daemon.directory / "plugins"
    directory.mkdir()
    for name, source in (plugins or {"one": PLAIN}).items():
        write_plugin(directory, name, source.replace("{title}", name.title()).replace("{name}", name))
    with Manager(daemon.directory, directory, watchdog) as manager:
        yield manager


def status(manager: Manager) -> str:
    return [line for line in manager.read() if line.startswith("STATUS=")][-1].removeprefix("STATUS=")


def test_the_status_is_true(daemon: Daemons) -> None:
    """It counts the plugins, names those that are not as they should be, and follows what changes."""
    with managed(daemon, one=PLAIN, two=PLAIN, bad=BROKEN) as manager:
        assert status(manager) == "3 plugins, 1 failed: bad"
        manager.call("pause", names=["two"])
        wait_until(lambda: status(manager) == "3 plugins, 1 failed: bad, 1 paused: two", "the pause in the status")
        manager.call("resume", names=["two"])
        wait_until(lambda: status(manager) == "3 plugins, 1 failed: bad", "the end of the pause in the status")
        manager.call("unload", names=["bad"])
        wait_until(lambda: status(manager) == "2 plugins", "the unload in the status")
        manager.stop()
        assert manager.read()[-2:] == ["STOPPING=1", "STATUS=stopping"]


def test_a_reload_is_told_from_its_beginning_to_its_end(daemon: Daemons) -> None:
    """RELOADING=1 with the time, READY=1 at the end; what failed is in the status until a reload succeeds."""
    with managed(daemon) as manager:
        before = time.monotonic_ns() // 1000
        manager.call("reload")
        began, usec, *_ = told = manager.read()[manager.read().index("RELOADING=1") :]
        assert began == "RELOADING=1"
        assert before <= int(usec.removeprefix("MONOTONIC_USEC=")) <= time.monotonic_ns() // 1000
        assert told[2:] == ["READY=1", "STATUS=1 plugin"]
        (daemon.directory / "etc").mkdir()
        config = daemon.directory / "etc" / "plugd.toml"
        config.write_text("colour = 1\n")
        done = plugctl("--socket", str(manager.path), "reload", directory=daemon.directory)
        assert done.returncode == 1
        assert "colour" in done.stderr
        assert manager.read()[-2] == "READY=1"
        assert status(manager).startswith(
            "1 plugin; the last reload failed: cannot reload: the configuration is invalid"
        )
        config.unlink()
        manager.process.send_signal(signal.SIGHUP)
        manager.wait_told("READY=1", 4)
        assert status(manager) == "1 plugin"


def test_a_reload_of_one_plugin_is_no_reload_of_the_service(daemon: Daemons) -> None:
    """Nor is a dry run: the manager is told of neither."""
    with managed(daemon) as manager:
        manager.call("reload", names=["one"])
        manager.call("reload", dry_run=True)
        assert "RELOADING=1" not in manager.read()


def test_what_was_sent_before_the_stop_is_answered(daemon: Daemons) -> None:
    """A request that takes time, many that were pipelined, and the first of a client that has just connected."""
    with managed(daemon) as manager, manager.client() as asking, manager.client() as many:
        asking.socket.sendall(
            msgpack.packb([0, 7, "call", [{"name": "one", "command": "wait", "kwargs": {"seconds": 0.3}}]])
        )
        wait_until(lambda: manager.call("status")["connections"] == 3, "both connections")
        with manager.client() as late:
            many.socket.sendall(b"".join(msgpack.packb([0, number, "ping", []]) for number in range(1000)))
            manager.call("ping")  # It has been accepted, and those before it.
            manager.begin_stop()
            manager.wait_told("STOPPING=1")
            assert late.call("ping") == "pong"
            with pytest.raises(ConnectionError):
                late.call("ping")
        assert asking._receive() == [1, 7, None, 0.3]
        for number in range(1000):
            assert many._receive() == [1, number, None, "pong"]
        with pytest.raises(ConnectionError):
            many._receive()
        assert manager.stop() == 0


def test_a_stop_waits_for_no_silent_client(daemon: Daemons) -> None:
    """Neither one that has asked before, nor one that does not read, nor one that sends half of a request."""
    with managed(daemon) as manager, manager.client() as idle, manager.client() as deaf, manager.client() as half:
        idle.call("ping")
        deaf.call("ping")
        deaf.socket.sendall(msgpack.packb([0, 1, "methods", []]) * 2000)
        half.socket.sendall(msgpack.packb([0, 1, "ping", []])[:3])
        manager.begin_stop()
        wait_until(lambda: _refuses(idle.socket), "the end of the idle connection")
        assert manager.stop() == 0


def _refuses(sock: socket.socket) -> bool:
    try:
        sock.sendall(msgpack.packb([0, 1, "ping", []])[:1])
    except OSError:
        return True
    return False


def test_restarts_lose_no_request(daemon: Daemons) -> None:
    """Who connects for each request waits on the manager's socket; who stays sends anew what was refused."""
    stop = threading.Event()
    faults: list[str] = []
    answered = [0, 0]

    with managed(daemon) as manager:

        def connect_each_time() -> None:
            while not stop.is_set():
                try:
                    assert manager.call("list")
                    answered[0] += 1
                except Exception as error:
                    faults.append(f"a connection each: {error!r}")

        def stay() -> None:
            client = manager.client()
            while not stop.is_set():
                try:
                    client.socket.sendall(msgpack.packb([0, 1, "list", []]))
                except BrokenPipeError:  # It was not taken.
                    client.socket.close()
                    client = manager.client()
                    continue
                try:
                    assert client._receive()[3]
                    answered[1] += 1
                except Exception as error:
                    faults.append(f"one connection: {error!r}")
                    client.socket.close()
                    client = manager.client()
            client.socket.close()

        threads = [threading.Thread(target=each) for each in (connect_each_time, stay, connect_each_time, stay)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(10):
                before = tuple(answered)
                manager.restart()
                wait_until(lambda before=before: all(map(int.__lt__, before, answered)), "answers of the new daemon")
        finally:
            stop.set()
            for thread in threads:
                thread.join(DEADLINE)
    assert faults == []


def test_plugctl_sends_anew_what_was_refused(daemon: Daemons) -> None:
    """Its connection was drained before it could send: it asks the daemon that takes the place."""
    with managed(daemon) as manager:
        code = (
            "import sys; from plugctl.client import connect;"
            "client = connect([sys.argv[1]], 30, lambda uid: True);"
            "print(client.request('ping'), flush=True); input(); print(client.request('ping'))"
        )
        with subprocess.Popen(
            [sys.executable, "-c", code, str(manager.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as asking:
            assert asking.stdout is not None
            assert asking.stdout.readline() == "pong\n"
            manager.restart()
            assert asking.communicate("\n", timeout=DEADLINE)[0] == "pong\n"
            assert asking.returncode == 0


def test_plugctl_watch_goes_on_over_a_restart(daemon: Daemons) -> None:
    """It subscribes anew; without a daemon in the place of the old one it ends, and says so."""
    with managed(daemon) as manager:
        command = [BIN / "plugctl", "--socket", str(manager.path), "--json", "watch"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as watching:
            assert watching.stdout is not None
            assert json.loads(watching.stdout.readline())["plugin"] == "one"
            manager.restart()
            before = manager.call("status")["started_at"]
            while json.loads(watching.stdout.readline())["time"] < before:
                pass
            manager.path.unlink()
            manager.stop()
            _, told = watching.communicate(timeout=DEADLINE)
            assert (watching.returncode, told) == (1, "plugctl: plugd closed the connection\n")


def test_the_watchdog_is_fed_while_a_plugin_hangs(daemon: Daemons) -> None:
    """What a plugin does is its worker's affair."""
    hanging = PLAIN.replace("yield self.value(1)", HANGS_LATER)
    with managed(daemon, watchdog=2.0, hanging=hanging, one=PLAIN) as manager:
        manager.wait_told("WATCHDOG=1", len([line for line in manager.read() if line == "WATCHDOG=1"]) + 3)


def test_the_watchdog_is_not_fed_without_a_forkserver(daemon: Daemons) -> None:
    """One that does not answer is replaced, and then it is fed again."""
    with managed(daemon, watchdog=2.0) as manager:
        manager.wait_told("WATCHDOG=1")
        forkserver = next(pid for pid, name in manager.children().items() if name == "plugd:forksrv")
        os.kill(forkserver, signal.SIGSTOP)
        wait_until(lambda: "watchdog_not_fed" in manager.log, "a word that it is not fed")
        fed = manager.read().count("WATCHDOG=1")
        manager.wait_told("WATCHDOG=1", fed + 1)
        assert "forkserver_stuck" in manager.log
        assert forkserver not in manager.children()
