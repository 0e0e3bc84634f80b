"""Pauses, quarantines and the numbers of generations over a restart of the daemon, be it stopped or killed."""

import contextlib
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest
from harness import Daemon, Daemons, RpcError, wait_until, write_plugin

PLAIN = '''"""Counts its collections."""

from plugd.plugin import Gauge, Plugin, command, setting


class {title}(Plugin):
    interval = 0.05
    requires = {requires}

    value = Gauge("test.value")
    level = setting(1)
    count = 0

    def collect(self):
        self.count += 1
        yield self.value(self.count)

    @command
    def collected(self) -> int:
        return self.count
'''
BAD = '''"""Ends as soon as it is asked."""

import os

from plugd.plugin import Gauge, Plugin


class Bad(Plugin):
    interval = 0.05

    class Options:
        well: bool = False

    value = Gauge("test.value")

    def collect(self):
        if not self.options.well:
            os._exit(3)
        yield self.value(1)
'''
QUICKLY = "[restart]\ndelay = 0.1\nfailures = 2\n"

ends = pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])


def plain(name: str = "plain", requires: tuple[str, ...] = ()) -> dict[str, str]:
    return {name: PLAIN.format(title=name.title(), requires=requires)}


def why(running: Daemon, name: str) -> Any:
    return running.call("why", name=name)


def causes(running: Daemon, name: str) -> list[str]:
    return [event["cause"] for event in why(running, name)["events"]]


def wait_for(running: Daemon, name: str, state: str) -> None:
    wait_until(lambda: running.plugin(name)["state"] == state, f"{name} {state}")


def quarantined(daemon: Daemons, config: str = QUICKLY) -> Daemon:
    running = daemon(plugins={"bad": BAD}, config=config)
    wait_for(running, "bad", "quarantined")
    running.call("pause", names=["bad"])  # It is on the disk when this is answered,
    return running


@contextlib.contextmanager
def slow_disk(running: Daemon, seconds: float) -> Iterator[None]:
    """Have the disk take its time for everything that the daemon wants to be there for good."""
    if not shutil.which("strace"):
        pytest.skip("takes strace: apt-get install strace")
    delay = f"inject=fsync:delay_enter={int(seconds * 1e6)}"
    command = ["strace", "-f", "-o", "/dev/null", "-e", "trace=fsync", "-e", delay, "-p", str(running.pid)]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as strace:
        assert strace.stderr is not None
        try:
            if "attached" not in strace.stderr.readline():
                pytest.skip("strace may not trace here")
            yield
        finally:
            strace.send_signal(signal.SIGINT)
            strace.communicate()


# Pauses


@ends
def test_a_pause_goes_on(daemon: Daemons, end: int) -> None:
    """With its reason, its beginning, its end, and whose word it was; the worker is there, and collects nothing."""
    running = daemon(plugins=plain())
    running.call("pause", names=["plain"], duration=600, reason="the disk is replaced")
    before = why(running, "plain")
    running.stop(end)
    again = daemon(plugins=plain())
    after = why(again, "plain")
    assert (after["state"], after["since"]) == ("paused", before["since"])
    assert after["next_retry"] == pytest.approx(before["next_retry"], abs=2.0)
    assert after["summary"].startswith("plain is paused for 600 s: the disk is replaced. It goes on by itself in ")
    assert after["events"][-1]["uid"] == before["events"][-1]["uid"]
    assert after["events"][-1]["cause"].endswith("still paused for 600 s: the disk is replaced")
    assert again.plugin("plain")["pid"] is not None
    assert again.call("set", name="plain", setting="level", value=2) == 2
    assert again.call("call", name="plain", command="collected") == 0
    assert again.call("resume", names=["plain"]) == {"resumed": ["plain"], "failed": []}
    wait_until(lambda: again.plugin("plain")["collects"] > 1, "collections")


@ends
def test_a_pause_without_an_end_goes_on_and_on(daemon: Daemons, end: int) -> None:
    """Over several restarts, until somebody ends it; and then that lasts as well."""
    running = daemon(plugins=plain())
    running.call("pause")
    for _ in range(3):
        running.stop(end)
        running = daemon(plugins=plain())
        assert (why(running, "plain")["summary"], running.plugin("plain")["collects"]) == ("plain is paused.", 0)
    running.call("resume")
    running.stop(end)
    assert daemon(plugins=plain()).plugin("plain")["state"] == "running"


def test_a_pause_that_has_ended_meanwhile_is_over(daemon: Daemons) -> None:
    """The plugin is started as if there had been none, and it is told."""
    running = daemon(plugins=plain())
    running.call("pause", names=["plain"], duration=0.2)
    until = why(running, "plain")["next_retry"] or 0.0
    running.stop(signal.SIGKILL)
    wait_until(lambda: time.time() > until, "the end of the pause")
    again = daemon(plugins=plain())
    assert again.plugin("plain")["state"] == "running"
    if until:  # Otherwise it was over before it could be looked at.
        assert any(cause.endswith(": the pause is over") for cause in causes(again, "plain"))


def test_a_pause_ends_by_itself_after_a_restart(daemon: Daemons) -> None:
    """When it was meant to, and not later for the restart, nor earlier."""
    running = daemon(plugins=plain())
    running.call("pause", names=["plain"], duration=4)
    until = why(running, "plain")["next_retry"]
    running.stop(signal.SIGKILL)
    again = daemon(plugins=plain())
    wait_for(again, "plain", "running")
    assert time.time() >= until - 0.1
    assert any(cause.endswith("the pause is over") for cause in causes(again, "plain"))


def test_a_paused_plugin_without_a_worker_gets_none(daemon: Daemons) -> None:
    """Whoever pauses one that crashes on and on wants it left alone; `resume` tries it."""
    running = quarantined(daemon)
    assert (running.plugin("bad")["state"], running.plugin("bad")["pid"]) == ("paused", None)
    running.stop(signal.SIGKILL)
    again = daemon(plugins={"bad": BAD}, config=QUICKLY)
    assert (again.plugin("bad")["state"], again.plugin("bad")["pid"]) == ("paused", None)
    assert again.records("plugin_starting") == []
    assert "exited with status 3" in why(again, "bad")["last_error"]
    with pytest.raises(RpcError, match="exited with status 3"):
        again.call("resume", names=["bad"])


def test_who_requires_a_paused_plugin_runs(daemon: Daemons) -> None:
    """As before the restart: it has a worker, and its last samples."""
    plugins = plain() | plain("needy", ("plain",))
    running = daemon(plugins=plugins)
    running.call("pause", names=["plain"])
    running.stop()
    again = daemon(plugins=plugins)
    assert [row["state"] for row in again.call("list")] == ["running", "paused"]


def test_a_paused_plugin_that_cannot_start_stays_paused(daemon: Daemons) -> None:
    """It is told why it has no worker; mended, it is resumed."""
    running = daemon(plugins=plain())
    running.call("pause", names=["plain"])
    running.stop()
    again = daemon(plugins={"plain": "class Plain(\n"})
    assert (again.plugin("plain")["state"], again.plugin("plain")["pid"]) == ("paused", None)
    assert any("it stays paused, and has no worker" in cause for cause in causes(again, "plain"))
    assert why(again, "plain")["summary"] == "plain is paused."
    assert "plain.py:1" in why(again, "plain")["last_error"]
    with pytest.raises(RpcError, match=r"plain\.py:1"):
        again.call("resume", names=["plain"])
    assert again.plugin_dir is not None
    write_plugin(again.plugin_dir, "plain", plain()["plain"])
    assert again.call("reload")["reloaded"] == ["plain"]
    assert again.plugin("plain")["state"] == "running"


def test_a_pause_waits_for_a_file_that_comes_later(daemon: Daemons) -> None:
    """A directory that is mounted late must not end what an operator has said."""
    running = daemon(plugins=plain())
    running.call("pause", names=["plain"], reason="wait")
    running.stop()
    file = daemon.directory / "plugins" / "plain.py"
    file.rename(daemon.directory / "away")
    again = daemon(plugins={})
    assert again.call("list") == []
    (daemon.directory / "away").rename(file)
    again.call("reload")
    assert why(again, "plain")["summary"] == "plain is paused: wait."


@pytest.mark.parametrize("doing", ["unload", "gone"])
def test_a_pause_ends_with_the_plugin(daemon: Daemons, doing: str) -> None:
    """As it does without a restart: who loads it anew wants it to run."""
    running = daemon(plugins=plain())
    running.call("pause", names=["plain"])
    file = daemon.directory / "plugins" / "plain.py"
    if doing == "unload":
        running.call("unload", names=["plain"])
    else:
        file.unlink()
        running.call("reload")
    running.stop()
    assert daemon(plugins=plain()).plugin("plain")["state"] == "running"


def test_a_reload_of_a_paused_plugin_leaves_the_reason(daemon: Daemons) -> None:
    """What it is paused for is told, and not what was done to it meanwhile; also after a restart."""
    running = daemon(plugins=plain())
    running.call("pause", names=["plain"], reason="wait")
    running.call("reload", names=["plain"])
    assert why(running, "plain")["summary"] == "plain is paused: wait."
    running.stop()
    assert why(daemon(plugins=plain()), "plain")["summary"] == "plain is paused: wait."


# Quarantines


def wait_written(daemon: Daemons, text: str) -> None:
    file = daemon.directory / "state" / "states.json"
    wait_until(lambda: text in (file.read_text() if file.exists() else ""), f"{text} in {file}")


@ends
def test_a_quarantine_goes_on(daemon: Daemons, end: int) -> None:
    """With its end and its reason; the plugin is not started, and `resume` tries it."""
    running = daemon(plugins={"bad": BAD}, config=QUICKLY)
    wait_for(running, "bad", "quarantined")
    before = why(running, "bad")
    wait_written(daemon, '"quarantined"')
    running.stop(end)
    for _ in range(2):
        running = daemon(plugins={"bad": BAD}, config=QUICKLY)
        after = why(running, "bad")
        assert after["state"] == "quarantined"
        assert [after[key] for key in ("since", "last_error", "exit")] == [
            before[key] for key in ("since", "last_error", "exit")
        ]
        assert after["next_retry"] == pytest.approx(before["next_retry"], abs=2.0)
        assert "failed too often and is quarantined: " in after["summary"]
        assert running.records("plugin_starting") == []
        assert running.call("status")["problems"][0]["state"] == "quarantined"
        running.stop(end)
    running = daemon(plugins={"bad": BAD}, config=QUICKLY)
    with pytest.raises(RpcError, match="exited with status 3"):
        running.call("resume", names=["bad"])
    assert running.plugin("bad")["state"] == "backoff"


def test_what_requires_a_quarantined_plugin_fails_for_it(daemon: Daemons) -> None:
    """At once, and with its reason: nobody waits for what will not come."""
    plugins = {"bad": BAD, **plain("needy", ("bad",))}
    running = daemon(plugins=plugins, config=QUICKLY)
    wait_for(running, "bad", "quarantined")
    running.stop()
    again = daemon(plugins=plugins, config=QUICKLY)
    assert [row["state"] for row in again.call("list")] == ["quarantined", "failed"]
    assert "plugin 'bad' is quarantined: " in again.plugin("needy")["last_error"]


@pytest.mark.parametrize("change", ["file", "options"])
def test_what_has_changed_deserves_another_try(daemon: Daemons, change: str) -> None:
    """Another file, or other options; the same ones written anew are no change."""
    running = daemon(plugins={"bad": BAD}, config=QUICKLY)
    wait_for(running, "bad", "quarantined")
    running.stop()
    same = daemon(plugins={"bad": BAD}, config=QUICKLY + "[plugins.bad]\ninterval = 0.5\n")
    assert same.plugin("bad")["state"] == "quarantined"
    same.stop()
    if change == "file":
        again = daemon(plugins={"bad": BAD.replace("well: bool = False", "well: bool = True")}, config=QUICKLY)
    else:
        again = daemon(plugins={"bad": BAD}, config=QUICKLY + "[plugins.bad.options]\nwell = true\n")
    assert again.plugin("bad")["state"] == "running"
    assert "plugd started: it has changed since it was quarantined" in causes(again, "bad")


def test_restarts_are_no_further_chances(daemon: Daemons) -> None:
    """What failed in three daemons has failed three times: its delays grow, and then it is quarantined."""
    config = "[restart]\ndelay = 1\nfailures = 3\n"
    for number in (1, 2):
        running = daemon(plugins={"bad": BAD}, config=config)
        wait_written(daemon, f'"consecutive":{number}')
        running.stop(signal.SIGKILL)
    running = daemon(plugins={"bad": BAD}, config=config)
    wait_for(running, "bad", "quarantined")
    assert len(running.records("plugin_starting")) == 1


# Generations


def test_a_number_is_never_given_twice(daemon: Daemons) -> None:
    """However the daemon ends, and whatever was loaded, unloaded or reloaded; a killed one has given none in vain."""
    seen: list[int] = []
    for end in (signal.SIGTERM, signal.SIGKILL, signal.SIGKILL, signal.SIGTERM):
        running = daemon(plugins=plain())
        seen.append(running.plugin("plain")["generation"])
        running.call("unload", names=["plain"])
        running.call("load", names=["plain"])
        seen.append(running.plugin("plain")["generation"])
        running.call("reload", names=["plain"])
        seen.append(running.plugin("plain")["generation"])
        running.stop(end)
    assert seen == list(range(1, 13))


def test_a_generation_is_in_force_when_its_number_is_on_the_disk(daemon: Daemons) -> None:
    """And not before, however long the disk takes: otherwise a kill could have it given again."""
    running = daemon(plugins=plain())
    with slow_disk(running, 0.7):
        running.call("reload", names=["plain"])
        file = daemon.directory / "state" / "states.json"
        assert f'"generation":{running.plugin("plain")["generation"]}' in file.read_text()


def test_who_expects_a_generation_of_a_daemon_before_is_refused(daemon: Daemons) -> None:
    """A client that did not notice the restart must not mistake the new one for what it has seen."""
    running = daemon(plugins=plain())
    seen = running.plugin("plain")["generation"]
    running.stop()
    again = daemon(plugins=plain())
    with pytest.raises(RpcError) as caught:
        again.call("pause", names=["plain"], expect_generation=seen)
    assert caught.value.code == "plugin.changed"


# The record of causes


@ends
def test_the_record_of_causes_goes_on(daemon: Daemons, end: int) -> None:
    """What led to the state before the restart is told after it, and that there was one, and how it came."""
    running = daemon(plugins=plain())
    running.call("pause", names=["plain"], reason="one")
    running.call("resume", names=["plain"])
    before = why(running, "plain")["events"]
    file = daemon.directory / "state" / "events.json"
    wait_until(lambda: file.exists() and '"resume"' in file.read_text(), "the file")
    running.stop(end)
    after = why(daemon(plugins=plain()), "plain")["events"]
    assert after[: len(before)] == before
    told = [(event["from"], event["to"], event["cause"]) for event in after[len(before) :]]
    if end == signal.SIGTERM:
        assert told[:2] == [("running", "stopping", "plugd is stopping"), ("stopping", None, "plugd is stopping")]
        del told[:2]
    started = "plugd started" if end == signal.SIGTERM else "plugd started after one that was killed"
    assert told == [(None, "starting", started), ("starting", "running", started)]


# Files that are none


@pytest.mark.parametrize("how", ["truncated", "foreign", "future"])
def test_broken_files_are_put_aside(daemon: Daemons, how: str) -> None:
    """All at once: the daemon starts as if there were none, tells, and keeps them for people."""
    running = daemon(plugins=plain())
    running.call("pause", names=["plain"])
    running.stop()
    state = daemon.directory / "state"
    for name in ("states.json", "events.json", "points"):
        path = state / name
        if how == "truncated":
            path.write_bytes(path.read_bytes()[:-20])
        elif how == "foreign":
            path.write_bytes(b"\x7fELF\x00\x00\xff\xff" * 100)
        else:
            data = path.read_bytes().replace(b"points 1\n", b"points 2\n")
            path.write_bytes(data.replace(b'"version":1', b'"version":2'))
    again = daemon(plugins=plain())
    assert (again.plugin("plain")["state"], again.plugin("plain")["generation"]) == ("running", 1)
    notes = again.call("status")["notes"]
    assert len(notes) == 3
    for name in ("states.json", "events.json", "points"):
        assert any(f"{state / name} is broken (" in note and f"kept as {state / name}.broken" in note for note in notes)
        assert (state / f"{name}.broken").exists()
    again.stop()
    assert daemon(plugins=plain()).call("status")["notes"] == []


def test_a_state_directory_that_cannot_be_written_ends_nothing(daemon: Daemons) -> None:
    """It is logged once for each file, `status` tells, and everything else works."""
    (daemon.directory / "nowhere").write_text("a file where a directory should be")
    running = daemon("--state-dir", str(daemon.directory / "nowhere" / "state"), plugins=plain())
    running.call("pause", names=["plain"])
    running.call("resume", names=["plain"])
    running.call("reload", names=["plain"])
    wait_until(lambda: running.plugin("plain")["collects"] > 1, "collections")
    lost = "not a directory; what it would hold will be lost when plugd ends"
    for name in ("states.json", "events.json"):
        note = f"cannot write {daemon.directory}/nowhere/state/{name}: {lost}"
        wait_until(lambda note=note: note in running.call("status")["notes"], note)
    paths = [record["path"] for record in running.records("state_not_written")]
    assert len(paths) == len(set(paths))
    assert running.stop() == 0
