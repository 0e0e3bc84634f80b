"""The life of a plugin, in a real daemon: start, ticks, failure and restart, pause, settings, the end."""

import itertools
import os
import signal
import time
from typing import Any

import msgpack
import pytest
from harness import Daemon, Daemons, RpcError, wait_until, write_plugin
from hosting_plugins import behaving, plain


def state(running: Daemon, name: str) -> str:
    found: str = running.plugin(name)["state"]
    return found


def figures(running: Daemon, name: str) -> dict[str, Any]:
    found: dict[str, Any] = running.call("stats")["plugins"][name]
    return found


def refusal(running: Daemon, method: str, **params: Any) -> RpcError:
    with pytest.raises(RpcError) as caught:
        running.call(method, **params)
    return caught.value


def call(running: Daemon, name: str, source: str) -> Any:
    """Have the plugin evaluate an expression."""
    return running.call("call", name=name, command="run", args=[source])


def events(running: Daemon, name: str) -> list[tuple[str | None, str | None]]:
    return [(event["from"], event["to"]) for event in running.call("why", name=name)["events"]]


# Death and restart


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "SIGKILL"),
        ("os.abort()", "SIGABRT"),
        ("os._exit(3)", "exited with status 3"),
        ("os._exit(0)", "exited with status 0"),
        ("os.kill(os.getpid(), 40)", "signal 40"),
    ],
)
def test_a_worker_that_dies_tells_how(daemon: Daemons, source: str, told: str) -> None:
    """The signal or the exit status is part of the answer and of `why`, with what was printed last."""
    running = daemon(plugins={"victim": behaving("Victim", collect="print('alive')\nyield self.value(1)")})
    error = refusal(running, "call", name="victim", command="run", args=[source])
    assert error.code == "plugin.crashed"
    assert told in error.message
    wait_until(lambda: state(running, "victim") == "backoff", "the backoff")
    why = running.call("why", name="victim")
    assert told in why["last_error"]
    assert told in why["summary"]
    assert why["output"] == ["alive"]
    assert (why["pid"], why["next_retry"] > why["since"]) == (None, True)


def test_a_worker_that_dies_is_restarted(daemon: Daemons) -> None:
    """After a delay the plugin runs again, in a new process, with its counters and its last samples."""
    running = daemon(plugins={"victim": behaving("Victim", interval=0.1), "other": plain("Other", interval=0.1)})
    first = running.plugin("victim")["pid"]
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: state(running, "victim") == "backoff", "the backoff")
    assert running.call("stats", patterns=["victim"])["metrics"] != []
    before = figures(running, "victim")["collects"]
    wait_until(lambda: state(running, "victim") == "running", "the restart")
    wait_until(lambda: figures(running, "victim")["collects"] > before + 1, "its ticks")
    row = running.plugin("victim")
    assert row["pid"] != first
    assert figures(running, "victim")["restarts"] == 1
    assert events(running, "victim")[-3:] == [("running", "backoff"), ("backoff", "starting"), ("starting", "running")]
    other = running.plugin("other")
    assert (other["failures"], other["generation"]) == (0, 1)


def test_resume_does_not_wait_for_the_delay(daemon: Daemons) -> None:
    """Who has looked after it has it tried again at once."""
    running = daemon(plugins={"victim": behaving("Victim")})
    os.kill(running.plugin("victim")["pid"], signal.SIGKILL)
    wait_until(lambda: state(running, "victim") == "backoff", "the backoff")
    assert running.call("resume", names=["victim"])["resumed"] == ["victim"]
    assert state(running, "victim") == "running"
    assert running.call("why", name="victim")["next_retry"] is None


def test_a_deadline_is_a_deadline(daemon: Daemons) -> None:
    """A collection that takes too long is the end of its worker; the others do not notice."""
    source = behaving(
        "Slow", interval=0.1, timeout=0.3, body="hang = False", collect="while self.hang: pass\nyield self.value(1)"
    )
    running = daemon(plugins={"slow": source, "other": plain("Other", interval=0.1)})
    pid = running.plugin("slow")["pid"]
    call(running, "slow", "setattr(self, 'hang', True)")
    wait_until(lambda: state(running, "slow") == "backoff", "the backoff")
    assert pid not in running.processes()
    assert figures(running, "slow")["timeouts"] == 1
    assert "collect took longer than 0.3 s" in running.plugin("slow")["last_error"]
    before = running.plugin("other")["collects"]
    wait_until(lambda: running.plugin("other")["collects"] > before, "the other's ticks")
    other = figures(running, "other")
    assert (other["failures"], other["timeouts"]) == (0, 0)


def test_a_collection_that_raises_is_a_failure_and_no_end(daemon: Daemons) -> None:
    """The worker stays, the next tick is another chance, and the traceback is kept."""
    source = behaving("Raises", interval=0.05, body="bad = False", collect="if self.bad: 1 / 0\nyield self.value(1)")
    running = daemon(plugins={"raises": source})
    pid = running.plugin("raises")["pid"]
    call(running, "raises", "setattr(self, 'bad', True)")
    wait_until(lambda: running.plugin("raises")["failures"] > 2, "failures")
    call(running, "raises", "setattr(self, 'bad', False)")
    before = running.plugin("raises")["collects"]
    wait_until(lambda: running.plugin("raises")["collects"] > before, "a success")
    row = running.plugin("raises")
    assert (row["state"], row["pid"]) == ("running", pid)
    why = running.call("why", name="raises")
    assert "ZeroDivisionError" in why["last_error"]
    assert "if self.bad: 1 / 0" in why["traceback"]


def test_a_failed_collection_leaves_no_sample(daemon: Daemons) -> None:
    """What it had yielded before it raised is not kept."""
    source = behaving(
        "Half", interval=0.05, body="count = 0",
        collect="self.count += 1\nyield self.total(self.count)\nif self.count > 1: 1 / 0",
    )  # fmt: skip
    running = daemon(plugins={"half": source})
    wait_until(lambda: running.plugin("half")["failures"] > 2, "failures")
    (row,) = running.call("stats", patterns=["half"])["metrics"]
    assert row["value"] == 1


def test_a_breach_of_its_own_declarations_ends_a_plugin(daemon: Daemons) -> None:
    """Collections in a row that are not what was declared: only another file can help."""
    source = behaving(
        "Liar",
        interval=0.05,
        body="lie = False",
        collect="yield self.value('much' if self.lie else 1)",
    )
    running = daemon(plugins={"liar": source})
    pid = running.plugin("liar")["pid"]
    call(running, "liar", "setattr(self, 'lie', True)")
    wait_until(lambda: state(running, "liar") == "failed", "the end")
    wait_until(lambda: pid not in running.processes(), "the worker's end")
    assert running.plugin("liar")["pid"] is None
    assert running.call("why", name="liar")["next_retry"] is None
    write_plugin(running.plugin_dir, "liar", source.replace("'much' if self.lie else 1", "2"))
    assert running.call("load", names=["liar"])["loaded"] == ["liar"]
    assert state(running, "liar") == "running"


def test_one_breach_is_forgiven(daemon: Daemons) -> None:
    """A single collection that is not as declared costs itself."""
    source = behaving(
        "Slip", interval=0.05, body="slips = 0",
        collect="self.slips -= 1\nyield self.value('much' if self.slips == 0 else 1)",
    )  # fmt: skip
    running = daemon(plugins={"slip": source})
    call(running, "slip", "setattr(self, 'slips', 2)")
    wait_until(lambda: running.plugin("slip")["failures"] == 1, "the slip")
    before = running.plugin("slip")["collects"]
    wait_until(lambda: running.plugin("slip")["collects"] > before + 3, "successes")
    assert state(running, "slip") == "running"


# Starting


@pytest.mark.parametrize(
    ("source", "final", "told"),
    [
        (plain("Bad") + "\n1 +\n", "failed", "SyntaxError"),
        ('"""Empty."""\n', "failed", "Bad"),
        (behaving("Bad", top="raise RuntimeError('top')"), "failed", "RuntimeError: top"),
        (behaving("Bad", top="os._exit(4)"), "backoff", "exited with status 4"),
        (behaving("Bad", top="os.kill(os.getpid(), signal.SIGSEGV)"), "backoff", "SIGSEGV"),
        (behaving("Bad", top="sys.exit('bye')"), "failed", "SystemExit: bye"),
        (behaving("Bad", start="raise OSError('no device')"), "backoff", "OSError: no device"),
        (behaving("Bad", collect="raise OSError('no device')"), "backoff", "OSError: no device"),
        (behaving("Bad", collect="yield 5"), "failed", "int"),
        (behaving("Bad", collect="yield self.value(float('nan'))"), "failed", "finite"),
        (behaving("Bad", collect="return 5"), "failed", "int"),
        (behaving("Bad", timeout=0.2, collect="time.sleep(60)"), "backoff", "longer than 0.2 s"),
    ],
    ids=[
        "syntax", "no class", "module raises", "module exits", "module crashes", "module leaves", "start raises",
        "collect raises", "no sample", "not finite", "no samples", "collect hangs",
    ],
)  # fmt: skip
def test_a_plugin_that_does_not_start_is_no_obstacle(daemon: Daemons, source: str, final: str, told: str) -> None:
    """It is `failed` where only another file can help, else tried again; the others run, and it is told why."""
    running = daemon(plugins={"bad": source, "good": plain("Good")})
    assert state(running, "bad") == final
    assert told in running.plugin("bad")["last_error"]
    assert state(running, "good") == "running"
    why = running.call("why", name="bad")
    assert (why["next_retry"] is not None) == (final == "backoff")
    assert told in why["summary"]


def test_a_failed_plugin_can_be_loaded_again(daemon: Daemons) -> None:
    """When its file has been mended, `load` is as good as `reload`."""
    running = daemon(plugins={"bad": plain("Bad") + "\n1 +\n"})
    assert refusal(running, "load", names=["bad"]).code == "plugin.invalid"
    write_plugin(running.plugin_dir, "bad", plain("Bad"))
    assert running.call("load", names=["bad"]) == {"loaded": ["bad"], "failed": []}
    assert state(running, "bad") == "running"
    assert refusal(running, "load", names=["bad"]).code == "plugin.already_loaded"


def test_two_loads_at_once_load_once(daemon: Daemons) -> None:
    """The second of them finds it loaded."""
    running = daemon(plugins={})
    write_plugin(running.plugin_dir, "slow", behaving("Slow", start="time.sleep(0.2)"))
    with running.client() as client:
        for number in (101, 102):
            client.socket.sendall(msgpack.packb([0, number, "load", [{"names": ["slow"]}]]))
        answers = {}
        unpacker = msgpack.Unpacker()
        while len(answers) < 2:
            unpacker.feed(client.socket.recv(65536))
            answers.update({frame[1]: frame[2] for frame in unpacker})
    assert answers[101] is None
    assert answers[102]["code"] == "plugin.already_loaded"
    assert running.plugin("slow")["generation"] == 1


def test_output_becomes_log_lines(daemon: Daemons) -> None:
    """What a plugin prints is logged with the stream and the plugin's name, also from its children."""
    source = behaving(
        "Talks",
        start="print('to stdout')\nprint('to stderr', file=sys.stderr)\nos.system('echo from a child')",
    )
    running = daemon(plugins={"talks": source})
    wait_until(lambda: len(running.records("plugin_output")) == 3, "the lines")
    lines = {(line["plugin"], line["stream"], line["line"]) for line in running.records("plugin_output")}
    assert lines == {
        ("talks", "stdout", "to stdout"),
        ("talks", "stderr", "to stderr"),
        ("talks", "stdout", "from a child"),
    }


# Ticks


def test_ticks_that_cannot_be_kept_are_skipped(daemon: Daemons) -> None:
    """A collection that takes longer than the interval costs ticks, which are counted and never made up for."""
    source = behaving("Slow", interval=0.1, collect="time.sleep(0.25)\nyield self.value(time.monotonic())")
    running = daemon(plugins={"slow": source})
    with running.client() as client:
        client.call("subscribe", patterns=["slow"])
        times = [client.next_notification()[1]["samples"][0]["value"] for _ in range(6)]
    assert all(later - sooner >= 0.25 for sooner, later in itertools.pairwise(times))
    row = figures(running, "slow")
    assert row["skipped"] >= 5
    assert row["timeouts"] == 0
    ticks = row["collects"] + row["skipped"]
    assert ticks >= (times[-1] - times[0]) / 0.1 * 0.5


def test_a_quick_plugin_skips_nothing(daemon: Daemons) -> None:
    """The counter counts what it says."""
    running = daemon(plugins={"quick": plain("Quick", interval=0.5)})
    wait_until(lambda: figures(running, "quick")["collects"] >= 3, "ticks")
    assert figures(running, "quick")["skipped"] == 0


# Pauses


def test_a_paused_plugin_collects_no_more(daemon: Daemons) -> None:
    """Its worker stays, answers its commands, and goes on when the pause is ended."""
    running = daemon(plugins={"quick": behaving("Quick", interval=0.05), "other": plain("Other", interval=0.05)})
    pid = running.plugin("quick")["pid"]
    running.call("pause", names=["quick"], reason="work on it")
    wait_until(lambda: figures(running, "quick")["duration_last"] is not None, "a collection")
    collects = running.plugin("quick")["collects"]
    other = running.plugin("other")["collects"]
    wait_until(lambda: running.plugin("other")["collects"] > other + 5, "the other's ticks")
    assert running.plugin("quick")["collects"] <= collects + 1  # One may have been under way.
    assert call(running, "quick", "os.getpid()") == pid
    assert "work on it" in running.call("why", name="quick")["summary"]
    running.call("resume", names=["quick"])
    wait_until(lambda: running.plugin("quick")["collects"] > collects + 2, "its ticks")
    assert running.plugin("quick")["pid"] == pid


def test_a_pause_ends_by_itself(daemon: Daemons) -> None:
    """After its duration the plugin goes on, without anybody's doing."""
    running = daemon(plugins={"quick": plain("Quick", interval=0.05)})
    running.call("pause", names=["quick"], duration=0.3)
    assert state(running, "quick") == "paused"
    wait_until(lambda: state(running, "quick") == "running", "the end of the pause")
    collects = running.plugin("quick")["collects"]
    wait_until(lambda: running.plugin("quick")["collects"] > collects, "its ticks")
    event = running.call("why", name="quick")["events"][-1]
    assert (event["from"], event["to"], event["uid"]) == ("paused", "running", None)


def test_a_worker_that_dies_in_a_pause_is_replaced_after_it(daemon: Daemons) -> None:
    """The pause stays a pause; resuming starts a new worker."""
    running = daemon(plugins={"victim": behaving("Victim")})
    pid = running.plugin("victim")["pid"]
    running.call("pause", names=["victim"])
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: running.plugin("victim")["pid"] is None, "its end")
    assert state(running, "victim") == "paused"
    running.call("resume", names=["victim"])
    assert state(running, "victim") == "running"
    assert running.plugin("victim")["pid"] not in (None, pid)


def test_pausing_again_sets_another_end(daemon: Daemons) -> None:
    """The last word counts: a pause without an end replaces a short one."""
    running = daemon(plugins={"quick": plain("Quick")})
    running.call("pause", names=["quick"], duration=0.2)
    running.call("pause", names=["quick"])
    with running.client() as client:
        client.call("subscribe", patterns=[], events=True)
        write_plugin(running.plugin_dir, "clock", plain("Clock"))
        client.call("load", names=["clock"])
        client.call("pause", names=["clock"], duration=0.3)
        changes = []
        while changes[-1:] != [("clock", "running")] or ("clock", "paused") not in changes:
            params = client.next_notification()[1]
            changes.append((params["plugin"], params["to"]))
    assert not [change for change in changes if change[0] == "quick"]
    assert state(running, "quick") == "paused"


# The end


def test_unloading_leaves_nothing(daemon: Daemons) -> None:
    """No process, descriptor, series or row; and again and again."""
    running = daemon(plugins={"other": plain("Other")})
    write_plugin(running.plugin_dir, "guest", behaving("Guest", interval=0.02))

    with running.client() as client:  # The only connection: each would be a descriptor.
        wait_until(lambda: client.call("status")["connections"] == 1, "the end of the others")

        def held() -> tuple[int, set[int], int]:
            descriptors = running.descriptors()
            return descriptors, set(running.processes()), client.call("status")["series"]

        before = held()
        for _ in range(10):
            client.call("load", names=["guest"])
            assert client.call("status")["series"] == before[2] + 1
            client.call("unload", names=["guest"])
        wait_until(lambda: held() == before, "what there was before")
    assert [row["name"] for row in running.call("list")] == ["other"]
    assert refusal(running, "why", name="guest").code == "plugin.not_found"


@pytest.mark.parametrize(
    "end", ["", "raise RuntimeError", "os._exit(1)", "while True: pass"], ids=["stops", "raises", "exits", "hangs"]
)
def test_stop_is_called_whatever_it_does(daemon: Daemons, end: str) -> None:
    """The plugin has its chance to tidy up, and is gone afterwards in any case."""
    running = daemon(plugins={"guest": behaving("Guest", stop=f"print('stopping')\n{end}")})
    pid = running.plugin("guest")["pid"]
    assert running.call("unload", names=["guest"])["unloaded"] == ["guest"]
    assert [line["line"] for line in running.records("plugin_output")] == ["stopping"]
    wait_until(lambda: pid not in running.processes(), "its end")


def test_unloading_what_waits_for_a_restart_ends_the_waiting(daemon: Daemons) -> None:
    """It does not come back by itself."""
    running = daemon(plugins={"bad": behaving("Bad", collect="raise OSError"), "other": plain("Other")})
    assert state(running, "bad") == "backoff"
    retry = running.call("why", name="bad")["next_retry"]
    running.call("unload", names=["bad"])
    wait_until(lambda: time.time() > retry + 0.2, "the time at which it would have been tried")
    assert [row["name"] for row in running.call("list")] == ["other"]
    assert not [name for name in running.processes().values() if "bad" in name]


def test_an_unloaded_plugin_stays_away(daemon: Daemons) -> None:
    """A reload does not bring back what somebody has unloaded; a load does."""
    running = daemon(plugins={"guest": plain("Guest")})
    running.call("unload", names=["guest"])
    assert running.call("reload")["loaded"] == []
    assert running.call("list") == []
    assert running.call("load", names=["guest"])["loaded"] == ["guest"]


def test_settings_outlive_a_restart(daemon: Daemons) -> None:
    """What a client has set is set in every worker to come."""
    running = daemon(plugins={"victim": behaving("Victim", body="gain: float = setting(1.0)")})
    running.call("set", name="victim", setting="gain", value=2.5)
    os.kill(running.plugin("victim")["pid"], signal.SIGKILL)
    wait_until(lambda: state(running, "victim") == "backoff", "the backoff")
    assert refusal(running, "get", name="victim").code == "request.invalid"
    running.call("resume", names=["victim"])
    assert running.call("get", name="victim", setting="gain") == 2.5


def test_the_daemons_end_is_the_end_of_all(daemon: Daemons) -> None:
    """However it ends, no worker and no forkserver is left."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGKILL):
        running = daemon(plugins={"quick": plain("Quick", interval=0.05), "busy": behaving("Busy")})
        assert len(running.processes()) >= 4
        status = running.stop(number)
        assert status == (-signal.SIGKILL if number == signal.SIGKILL else 0)
        assert running.processes() == {}
