"""Reload, in a real daemon: a new generation is proven beside the old one, or the old one goes on."""

import json
import math
import os
import signal
import time
from typing import Any

import msgpack
import pytest
from harness import Daemon, Daemons, RpcError, wait_until, write_plugin
from hosting_plugins import WAIT, WAITING, behaving, plain, release


def counting(edit: int, interval: float = 3600.0, **parts: str) -> str:
    """Return a plugin that counts its collections, keeps the count over a reload, and tells what is asked of it."""
    told = {
        "start": "",
        "stop": "",
        "collect": "self.count += 1\nyield self.total(self.count)",
        "save_state": "return {'count': self.count}",
        "load_state": "self.count = state['count']",
        **parts,
    }
    bodies = {name: f"print({edit}, {name!r})\n{body}" for name, body in told.items()}
    return behaving("Counts", interval=interval, body="count = 0", **bodies)


def told(running: Daemon) -> list[str]:
    return [line["line"] for line in running.records("plugin_output")]


def second(running: Daemon, first: int) -> int:
    """Return the pid of the worker that is being proven beside the first one."""

    def others() -> list[int]:  # The source is analysed in a process of the same name, which lives for a moment.
        return [pid for pid, name in running.processes().items() if name == "plugd:plug" and pid != first]

    wait_until(lambda: len(others()) == 1, "the new one")
    return others()[0]


def reload_failure(running: Daemon, name: str) -> dict[str, Any]:
    """Return the error of a reload that fails, however it is told."""
    try:
        answer = running.call("reload", names=[name])
    except RpcError as error:
        return {"code": error.code, "message": error.message, "data": error.data}
    assert answer["reloaded"] == []
    (failed,) = answer["failed"]
    assert failed["name"] == name
    error_dict: dict[str, Any] = failed["error"]
    return error_dict


def test_a_reload_swaps_the_worker(daemon: Daemons) -> None:
    """Another process with the new code, another generation, the same counters."""
    running = daemon(plugins={"plug": plain("Plug", value=1)})
    before = running.plugin("plug")
    write_plugin(running.plugin_dir, "plug", plain("Plug", value=2, interval=0.05))
    assert running.call("reload")["reloaded"] == ["plug"]
    after = running.plugin("plug")
    assert (after["generation"], after["state"], after["interval"]) == (2, "running", 0.05)
    assert after["pid"] != before["pid"]
    assert after["sha256"] != before["sha256"]
    assert after["collects"] >= before["collects"]
    wait_until(lambda: running.call("stats")["metrics"][0]["value"] == 2, "the new code's sample")
    wait_until(lambda: before["pid"] not in running.processes(), "the old one's end")


@pytest.mark.parametrize(
    ("source", "told"),
    [
        (plain("Plug") + "\n1 +\n", "SyntaxError"),
        ('"""Empty."""\n', "Plug"),
        (behaving("Plug", top="raise RuntimeError('top')"), "RuntimeError: top"),
        (behaving("Plug", top="os._exit(4)"), "exited with status 4"),
        (behaving("Plug", start="raise OSError('no device')"), "OSError: no device"),
        (behaving("Plug", collect="raise OSError('no device')"), "OSError: no device"),
        (behaving("Plug", collect="yield 5"), "int"),
        (behaving("Plug", timeout=0.2, collect="time.sleep(60)"), "longer than 0.2 s"),
        (behaving("Plug", load_state="raise KeyError('old')"), "KeyError"),
        (behaving("Plug", load_state="os.kill(os.getpid(), signal.SIGSEGV)"), "SIGSEGV"),
    ],
    ids=[
        "syntax", "no class", "module raises", "module exits", "start raises", "collect raises", "no sample",
        "collect hangs", "state refused", "state kills",
    ],
)  # fmt: skip
def test_a_reload_that_fails_leaves_the_old_one_running(daemon: Daemons, source: str, told: str) -> None:
    """The same process, the same generation, not a failure more; and the reason is told."""
    old = behaving("Plug", interval=0.05, save_state="return 5")
    running = daemon(plugins={"plug": old})
    before = running.plugin("plug")
    processes = set(running.processes())
    write_plugin(running.plugin_dir, "plug", source)
    error = reload_failure(running, "plug")
    assert told in error["message"]
    assert error["message"].startswith("cannot reload plugin 'plug': ")
    after = running.plugin("plug")
    for key in ("pid", "generation", "sha256", "state", "failures", "loaded_at"):
        assert after[key] == before[key], key
    wait_until(lambda: running.plugin("plug")["collects"] > after["collects"], "its ticks")
    wait_until(lambda: set(running.processes()) == processes, "the end of the one that failed")
    write_plugin(running.plugin_dir, "plug", plain("Plug", value=2))
    assert running.call("reload")["reloaded"] == ["plug"]


def test_state_is_handed_over_once(daemon: Daemons) -> None:
    """The new one starts and proves itself, then the old one's state is moved, then the old one stops."""
    running = daemon(plugins={"counts": counting(1)})
    write_plugin(running.plugin_dir, "counts", counting(2))
    running.call("reload", names=["counts"])
    wait_until(lambda: "1 stop" in told(running), "the old one's end")
    assert told(running) == [
        "1 start",
        "1 collect",
        "2 start",
        "2 collect",
        "1 save_state",
        "2 load_state",
        "1 stop",
    ]


def test_no_count_is_doubled_or_lost(daemon: Daemons) -> None:
    """A plugin that counts its collections counts on over any number of reloads, one at each tick."""
    running = daemon(plugins={"counts": counting(0, interval=0.1)})
    values = []
    with running.client() as client:
        client.call("subscribe", patterns=["counts"])
        for edit in range(1, 6):
            values.append(client.next_notification()[1]["samples"][0]["value"])
            write_plugin(running.plugin_dir, "counts", counting(edit, interval=0.1))
            assert client.call("reload", names=["counts"])["reloaded"] == ["counts"]
        while len(values) < 15:
            values.append(client.next_notification()[1]["samples"][0]["value"])
    assert values == [float(number) for number in range(int(values[0]), int(values[0]) + 15)]
    (row,) = running.call("stats")["metrics"]
    assert row["rate"] > 0


def test_no_tick_is_missed_over_reloads(daemon: Daemons) -> None:
    """A tick that falls into the handover is the new generation's first: late, but there."""
    slow = {"save_state": "time.sleep(0.5)\nreturn {'count': self.count}"}
    running = daemon(plugins={"counts": counting(0, interval=1.0, **slow)})
    times = []
    with running.client() as client:
        client.call("subscribe", patterns=["counts"])
        for edit in range(1, 4):
            times.append(client.next_notification()[1]["time"])
            write_plugin(running.plugin_dir, "counts", counting(edit, interval=1.0, **slow))
            time.sleep((0.7 - time.time()) % 1.0)  # So that the next tick lies in the handover.
            assert client.call("reload", names=["counts"])["reloaded"] == ["counts"]
        while len(times) < 6:
            times.append(client.next_notification()[1]["time"])
    ticks = [math.floor(each) for each in times]
    assert ticks == list(range(ticks[0], ticks[0] + len(ticks)))
    assert max(each % 1.0 for each in times) > 0.05  # Or none of them fell into a handover.
    assert running.call("stats")["plugins"]["counts"]["skipped"] == 0


def test_ticks_go_on_while_the_new_one_is_proven(daemon: Daemons) -> None:
    """A new generation that takes long to start holds nobody up."""
    running = daemon(plugins={"plug": plain("Plug", interval=0.05)})
    write_plugin(running.plugin_dir, "plug", behaving("Plug", interval=0.05, top=WAITING, start=WAIT))
    with running.client() as client:
        client.socket.sendall(msgpack.packb([0, 99, "reload", []]))
        new = second(running, running.plugin("plug")["pid"])
        before = running.plugin("plug")["collects"]
        wait_until(lambda: running.plugin("plug")["collects"] > before + 5, "the old one's ticks")
        release(new)
        wait_until(lambda: running.plugin("plug")["generation"] == 2, "the swap")
    assert running.plugin("plug")["failures"] == 0


@pytest.mark.parametrize(
    "save",
    ["raise RuntimeError", "return {1, 2}", "os._exit(1)", "time.sleep(60)"],
    ids=["raises", "set", "exits", "hangs"],
)
def test_a_broken_save_state_does_not_keep_the_edit_away(daemon: Daemons, save: str) -> None:
    """The state is lost, which is logged; the new generation runs."""
    running = daemon(plugins={"plug": behaving("Plug", save_state=save)})
    write_plugin(running.plugin_dir, "plug", plain("Plug", value=2))
    assert running.call("reload")["reloaded"] == ["plug"]
    row = running.plugin("plug")
    assert (row["generation"], row["state"]) == (2, "running")
    assert running.records("state_lost")


def test_without_a_state_nothing_is_handed_over(daemon: Daemons) -> None:
    """`load_state` is not called where `save_state` gave None."""
    running = daemon(plugins={"counts": counting(1, save_state="return None")})
    write_plugin(running.plugin_dir, "counts", counting(2))
    running.call("reload", names=["counts"])
    wait_until(lambda: "1 stop" in told(running), "the old one's end")
    assert "1 save_state" in told(running)
    assert "2 load_state" not in told(running)


def test_a_generation_that_dies_before_it_is_in_force_never_is(daemon: Daemons) -> None:
    """One that proves itself and dies while the old one hands over is not left in force, dead."""
    running = daemon(plugins={"plug": behaving("Plug", interval=0.1, save_state="time.sleep(0.7)\nreturn 5")})
    dying = "threading.Timer(0.2, os._exit, (7,)).start()\nyield self.value(2)"
    write_plugin(running.plugin_dir, "plug", behaving("Plug", interval=0.1, collect=dying, load_state="pass"))
    try:
        running.call("reload", names=["plug"])
    except RpcError as error:
        assert "status 7" in error.message  # noqa: PT017 - that it is restarted is as good

    def alive() -> bool:
        row = running.plugin("plug")
        return row["state"] != "running" or row["pid"] in running.processes()

    wait_until(alive, "a worker that lives, or a state that says that there is none")


def test_a_stateless_generation_that_dies_before_it_is_in_force_never_is(daemon: Daemons) -> None:
    """The same where there is no state, and so nobody asks the new one anything before it is in force."""
    running = daemon(plugins={"plug": behaving("Plug", interval=0.1, save_state="time.sleep(0.7)")})
    dying = "threading.Timer(0.2, os._exit, (7,)).start()\nyield self.value(2)"
    write_plugin(running.plugin_dir, "plug", behaving("Plug", interval=0.1, collect=dying))
    try:
        running.call("reload", names=["plug"])
    except RpcError as error:
        assert "status 7" in error.message  # noqa: PT017 - that it is restarted is as good

    def alive() -> bool:
        row = running.plugin("plug")
        return row["state"] != "running" or row["pid"] in running.processes()

    wait_until(alive, "a worker that lives, or a state that says that there is none")


def test_an_old_one_that_dies_meanwhile_is_replaced(daemon: Daemons) -> None:
    """The new generation does not depend on the one that it replaces."""
    running = daemon(plugins={"plug": behaving("Plug")})
    write_plugin(running.plugin_dir, "plug", behaving("Plug", top=WAITING, start=WAIT))
    old = running.plugin("plug")["pid"]
    with running.client() as client:
        client.socket.sendall(msgpack.packb([0, 99, "reload", []]))
        new = second(running, old)
        os.kill(old, signal.SIGKILL)
        release(new)
        wait_until(lambda: running.plugin("plug")["generation"] == 2, "the swap")
    wait_until(lambda: running.plugin("plug")["state"] == "running", "the new one")
    assert running.plugin("plug")["pid"] in running.processes()
    assert running.call("call", name="plug", command="pid") == running.plugin("plug")["pid"]


def test_a_paused_plugin_stays_paused(daemon: Daemons) -> None:
    """A reload puts the new code in place, and somebody else ends the pause."""
    running = daemon(plugins={"plug": plain("Plug", interval=0.05)})
    running.call("pause", names=["plug"])
    write_plugin(running.plugin_dir, "plug", plain("Plug", interval=0.05, value=2))
    assert running.call("reload")["reloaded"] == ["plug"]
    row = running.plugin("plug")
    assert (row["state"], row["generation"]) == ("paused", 2)
    running.call("resume", names=["plug"])
    wait_until(lambda: running.call("stats")["metrics"][0]["value"] == 2, "the new code's sample")


def test_a_reload_mends_what_has_failed(daemon: Daemons) -> None:
    """A plugin that could not run is started with its new file at once, whatever it was waiting for."""
    running = daemon(plugins={"bad": behaving("Bad", collect="raise OSError"), "worse": '"""Empty."""\n'})
    assert {row["state"] for row in running.call("list")} == {"backoff", "failed"}
    write_plugin(running.plugin_dir, "bad", plain("Bad"))
    write_plugin(running.plugin_dir, "worse", plain("Worse"))
    answer = running.call("reload")
    assert answer["failed"] == []
    assert {row["state"] for row in running.call("list")} == {"running"}


def test_many_reloads_leave_nothing(daemon: Daemons) -> None:
    """Descriptors and processes are as many as before."""
    running = daemon(plugins={"plug": behaving("Plug", interval=0.02)})

    def held() -> tuple[int, int]:
        return running.descriptors(), len(running.processes())

    with running.client() as client:
        client.call("reload", names=["plug"])
        wait_until(lambda: client.call("status")["connections"] == 1, "the end of the others")
        before = held()
        for _ in range(30):
            client.call("reload", names=["plug"])
        wait_until(lambda: held() == before, "what there was before")
    row = running.plugin("plug")
    assert (row["generation"], row["failures"], row["state"]) == (32, 0, "running")


# What the configuration says


OPTIONS = behaving("Plug", body="class Options:\n    size: int = 1", collect="yield self.value(self.options.size)")


def config_of(**tables: dict[str, Any]) -> str:
    lines = []
    for name, values in tables.items():
        lines.append(f"[{name.replace('__', '.')}]")
        lines += [f"{key} = {json.dumps(value)}" for key, value in values.items()]
    return "\n".join(lines) + "\n"


def test_other_options_are_a_reload(daemon: Daemons) -> None:
    """The file is the same, and the plugin runs with what it is now to run with."""
    running = daemon(plugins={"plug": OPTIONS}, config=config_of(plugins__plug__options={"size": 5}))
    assert running.call("stats")["metrics"][0]["value"] == 5
    before = running.plugin("plug")
    running.config.write_text(config_of(plugins__plug__options={"size": 6}))
    assert running.call("reload")["reloaded"] == ["plug"]
    after = running.plugin("plug")
    assert after["sha256"] == before["sha256"]
    assert (after["generation"], after["pid"] != before["pid"]) == (2, True)
    assert running.call("describe", name="plug")["options"] == {"size": 6}


def test_options_that_do_not_fit_are_refused(daemon: Daemons) -> None:
    """The old ones stay in force, and the plugin runs on."""
    running = daemon(plugins={"plug": OPTIONS}, config=config_of(plugins__plug__options={"size": 5}))
    pid = running.plugin("plug")["pid"]
    running.config.write_text(config_of(plugins__plug__options={"size": "large", "colour": 1}))
    (failed,) = running.call("reload")["failed"]
    assert failed["error"]["code"] == "plugin.invalid"
    assert "colour" in failed["error"]["message"]
    assert (running.plugin("plug")["pid"], running.plugin("plug")["state"]) == (pid, "running")


def test_another_schedule_takes_no_new_worker(daemon: Daemons) -> None:
    """Interval and timeout are the daemon's affair: the plugin is not disturbed."""
    running = daemon(plugins={"plug": plain("Plug")})
    before = running.plugin("plug")
    running.config.parent.mkdir(exist_ok=True)
    running.config.write_text(config_of(plugins__plug={"interval": "50ms", "timeout": "7s"}))
    assert running.call("reload")["reloaded"] == ["plug"]
    after = running.plugin("plug")
    assert (after["pid"], after["generation"], after["interval"]) == (before["pid"], before["generation"], 0.05)
    assert running.call("describe", name="plug")["timeout"] == 7
    wait_until(lambda: running.plugin("plug")["collects"] > before["collects"] + 2, "the new ticks")


def test_a_disabled_plugin_is_unloaded(daemon: Daemons) -> None:
    """And an enabled one is loaded again."""
    running = daemon(plugins={"plug": plain("Plug")})
    running.config.parent.mkdir(exist_ok=True)
    running.config.write_text(config_of(plugins__plug={"enabled": False}))
    assert running.call("reload")["unloaded"] == ["plug"]
    assert running.call("list") == []
    running.config.write_text("")
    assert running.call("reload")["loaded"] == ["plug"]


def test_an_invalid_configuration_changes_nothing(daemon: Daemons) -> None:
    """Every fault is told, and the old configuration stays in force; SIGHUP is the same, told in the log."""
    running = daemon(plugins={"plug": plain("Plug")})
    running.config.parent.mkdir(exist_ok=True)
    running.config.write_text('[plugins.plug]\ninterval = "never"\ncolour = 1\n')
    write_plugin(running.plugin_dir, "plug", plain("Plug", value=2))
    with pytest.raises(RpcError) as caught:
        running.call("reload")
    assert caught.value.code == "config.invalid"
    assert "interval" in caught.value.message
    assert "colour" in caught.value.message
    assert running.plugin("plug")["state"] == "running"
    os.kill(running.pid, signal.SIGHUP)
    wait_until(lambda: running.records("reload_failed"), "the log line")
    assert running.plugin("plug")["state"] == "running"


def test_sighup_is_a_reload(daemon: Daemons) -> None:
    """What has changed is done, and logged."""
    running = daemon(plugins={"plug": plain("Plug")})
    write_plugin(running.plugin_dir, "plug", plain("Plug", value=2))
    os.kill(running.pid, signal.SIGHUP)
    wait_until(lambda: running.plugin("plug")["generation"] == 2, "the reload")
    (record,) = wait_until(lambda: running.records("reloaded"), "the log line")
    assert record["reloaded"] == ["plug"]


def test_instances_of_one_file_are_plugins_of_their_own(daemon: Daemons) -> None:
    """Each with its options; an edit of the file reloads them all."""
    config = (
        '[plugins."plug@a".options]\nsize = 1\n[plugins."plug@b".options]\nsize = 2\n[plugins.plug]\nenabled = false\n'
    )
    running = daemon(plugins={"plug": OPTIONS}, config=config)
    rows = {row["plugin"]: row["value"] for row in running.call("stats")["metrics"]}
    assert rows == {"plug@a": 1, "plug@b": 2}
    write_plugin(running.plugin_dir, "plug", OPTIONS + "\n# edited\n")
    assert running.call("reload")["reloaded"] == ["plug@a", "plug@b"]
