"""The table of all faults, and what becomes of each: this is what plugd promises of a plugin that misbehaves."""

import hashlib
import os
import signal
import threading

from rig import PLUGINS, Fault, Rig, good

BACKOFF, FAILED, RUNNING = "backoff", "failed", "running"
LATE = r"collect took longer than 0\.3 s"
LITTLE_CPU = "limits = { cpu = 0.1 }"  # of a core: what a spinner gets on a busy machine, too
OUTSIDE = r"used \d+ % of a core outside of its collections"


# How a plugin's file is put in its place, where that is the fault.


def place_directory(rig: Rig, name: str) -> None:
    (rig.plugin_dir / f"{name}.py").mkdir()


def place_fifo(rig: Rig, name: str) -> None:
    os.mkfifo(rig.plugin_dir / f"{name}.py", 0o644)


def place_link(rig: Rig, name: str) -> None:
    target = rig.directory / "elsewhere.py"
    target.write_text(good(name))
    (rig.plugin_dir / f"{name}.py").symlink_to(target)


def place_writable(rig: Rig, name: str) -> None:
    rig.install(name, good(name)).chmod(0o666)


def place_loose(rig: Rig, name: str) -> None:
    (rig.loose_dir / f"{name}.py").write_text(good(name))


def place_foreign(rig: Rig, name: str) -> None:
    os.chown(rig.install(name, good(name)), 12345, 12345)


def place_good(rig: Rig, name: str) -> None:
    rig.install(name, good(name))


def place_swapped(rig: Rig, name: str) -> None:
    """The first version, and the second in its place while the first is being imported."""
    source = (PLUGINS / f"{name}.py").read_text()
    second = source.replace("VERSION = 1", "VERSION = 2").replace("sleep(0.5)", "sleep(0)")
    rig.install(name, source)
    rig.notes["sha256"] = [hashlib.sha256(text.encode()).hexdigest() for text in (source, second)]
    threading.Timer(0.25, rig.install, (name, second)).start()


# What is done from outside.


def kill(rig: Rig, pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def stop(rig: Rig, pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)


def kill_forkserver(rig: Rig) -> None:
    """A new one comes, and what is loaded then is its."""
    old = rig.forkserver()
    os.kill(old, signal.SIGKILL)
    rig.wait(lambda: old not in rig.processes(), lambda: "the dead forkserver is still there")


def stop_forkserver(rig: Rig) -> None:
    os.kill(rig.forkserver(), signal.SIGSTOP)


# What must hold besides.


def check_failures(rig: Rig, name: str) -> None:
    """It is tried again at every tick, and nothing is kept of what failed."""
    failures = rig.stats(name)["failures"]
    rig.wait(lambda: rig.stats(name)["failures"] >= failures + 2, lambda: "it is not tried again")
    assert rig.stats(name)["restarts"] == 0, rig.row(name)


def check_series(rig: Rig, name: str) -> None:
    """No more than the budget of a metric; what is over is counted."""
    figures = rig.stats(name)
    assert figures["series"] <= 10_000, figures
    assert figures["dropped"] > 0, figures


def check_samples(rig: Rig, name: str) -> None:
    """No more than what one collection may hold."""
    rig.wait(lambda: rig.stats(name)["collects"] >= 8, lambda: "it does not collect")
    figures = rig.stats(name)
    assert 10_000 < figures["series"] <= 20_000, figures
    assert figures["dropped"] > 0, figures


def check_changing(rig: Rig, name: str) -> None:
    rig.wait(lambda: rig.stats(name)["collects"] >= 14, lambda: "it does not collect")
    assert rig.stats(name)["series"] <= 10_000


def check_wide(rig: Rig, name: str) -> None:
    rig.wait(lambda: rig.values(name) == {("fault.value",): float(2**70)}, lambda: f"it is {rig.values(name)}")


def check_rates(rig: Rig, name: str) -> None:
    """A rate is never negative, whatever the counter does."""
    subscription = rig.client.call("subscribe", patterns=[name])["subscription"]
    rates: list[float | None] = []
    while len(rates) < 8:
        _, params = rig.client.next_notification()
        rates += [each["rate"] for each in params["samples"]]
    rig.client.call("unsubscribe", subscription=subscription)
    rig.client.notifications.clear()
    assert all(rate is None or rate >= 0 for rate in rates), rates
    assert any(rate is not None for rate in rates), rates


def check_skipped(rig: Rig, name: str) -> None:
    """It skips ticks of its own, which are counted."""
    rig.wait(lambda: rig.stats(name)["skipped"] >= 2, lambda: f"{rig.stats(name)}")
    assert rig.stats(name)["failures"] == 0


def check_swapped(rig: Rig, name: str) -> None:
    """What runs is what was hashed; after a reload, it is the other."""
    for version in (1, 2):
        row = rig.row(name)
        assert row["sha256"] == rig.notes["sha256"][version - 1], f"version {version}: {row}"
        rig.wait(lambda: rig.values(name) == {("fault.version",): version}, lambda: f"{rig.values(name)} runs")  # noqa: B023
        if version == 1:
            assert rig.client.call("reload", names=[name])["reloaded"] == [name]


def check_attacks(rig: Rig, name: str) -> None:
    """Nothing has succeeded. A daemon that is not root shares its user with its workers, and the kernel's rules
    for limits, priority and affinity know users only."""
    rig.wait(lambda: len(rig.values(name)) > 10, lambda: f"it has not tried: {rig.values(name)}")
    succeeded = {attempt for (_, attempt), value in rig.values(name).items() if value}
    allowed = {"limits", "priority", "affinity"} if rig.uid or os.getuid() else set()
    assert succeeded <= allowed, succeeded


def check_refused(rig: Rig, name: str) -> None:
    """Nothing of it has run, and nothing will: it has no hash and no process."""
    row = rig.row(name)
    assert (row["pid"], row["sha256"], row["collects"]) == (None, "", 0), row


def check_stuck(rig: Rig, name: str) -> None:
    assert "forkserver_stuck" in rig.daemon.log


FAULTS = (
    # It takes too long.
    Fault("sleep_forever", BACKOFF, LATE, unprivileged=True),
    Fault("busy_loop", BACKOFF, LATE),
    Fault("busy_thread", BACKOFF, OUTSIDE, LITTLE_CPU),
    Fault("late_return", BACKOFF, LATE),
    Fault("slow_collect", RUNNING, "is running", 'timeout = "1s"', check=check_skipped),
    Fault("stop_hangs", RUNNING, "is running"),
    Fault("signal_handlers", BACKOFF, LATE, unprivileged=True),
    Fault("import_hang", BACKOFF, "load took longer than 10 s"),
    # It dies.
    Fault("segfault", BACKOFF, "killed by SIGSEGV", unprivileged=True),
    Fault("abort", BACKOFF, "killed by SIGABRT", logged="these are my last words"),
    Fault("os_exit", BACKOFF, "exited with status 3"),
    Fault("import_exits", BACKOFF, "exited with status 3"),
    Fault("start_exits", BACKOFF, "exited with status 3"),
    Fault("killed_outside", BACKOFF, "killed by SIGKILL", place=place_good, act=kill, unprivileged=True),
    Fault("stopped_outside", BACKOFF, LATE, place=place_good, act=stop, unprivileged=True),
    # It raises.
    Fault("raises_system_exit", RUNNING, r"collect\(\) raised SystemExit: I am leaving", check=check_failures),
    Fault("raises_keyboard_interrupt", RUNNING, r"collect\(\) raised KeyboardInterrupt", check=check_failures),
    Fault("recursion", RUNNING, r"collect\(\) raised RecursionError", check=check_failures),
    Fault("raises", RUNNING, r"collect\(\) raised ValueError: too long", check=check_failures),
    Fault("broken_str", RUNNING, r"collect\(\) raised BrokenError", check=check_failures),
    Fault("import_raises", FAILED, "raised RuntimeError: not on this host"),
    # It talks too much, or nonsense.
    Fault("output_flood", BACKOFF, LATE, logged="plugin_output_suppressed"),
    Fault("output_thread", RUNNING, "is running", logged="plugin_output_suppressed"),
    Fault("rpc_garbage", BACKOFF, "broke its protocol"),
    Fault("rpc_half_frame", BACKOFF, LATE),
    Fault("rpc_giant_frame", BACKOFF, "broke its protocol"),
    Fault("rpc_forged_answer", BACKOFF, "sent an answer to nothing"),
    Fault("closed_descriptors", BACKOFF, "closed its channel"),
    # It takes too much.
    Fault("orphan_spinner", BACKOFF, OUTSIDE, LITTLE_CPU, unprivileged=True),
    Fault("orphan_sleeper", RUNNING, "is running", logged="an orphan is asleep", unprivileged=True),
    Fault("fork_bomb", BACKOFF, f"{LATE}|used .* MiB of memory", unprivileged=True),
    Fault("memory_hog", RUNNING, r"collect\(\) raised MemoryError", check=check_failures, unprivileged=True),
    Fault("memory_shared", BACKOFF, r"used \d+ MiB of memory; its limit is 256 MiB"),
    Fault("memory_children", BACKOFF, r"used \d+ MiB of memory; its limit is 256 MiB", 'timeout = "5s"'),
    Fault("descriptor_leak", RUNNING, "Too many open files", check=check_failures),
    Fault("thread_leak", RUNNING, "can't start new thread", check=check_failures, unprivileged=True),
    Fault("million_series", RUNNING, "is running", 'timeout = "5s"', logged="samples_dropped", check=check_series),
    Fault("many_metrics", RUNNING, "is running", 'timeout = "5s"', logged="samples_dropped", check=check_samples),
    Fault("changing_series", RUNNING, "is running", check=check_changing),
    # Its values are none.
    Fault("value_nan", FAILED, "value nan is not a finite number"),
    Fault("value_infinity", FAILED, "value -inf is not a finite number"),
    Fault("value_wide", RUNNING, "is running", check=check_wide),
    Fault("value_wider", FAILED, "is not a finite number"),
    Fault("value_bytes", FAILED, r"value b'\\xff.* is not a number"),
    Fault("value_nested", FAILED, r"value \[\[\{'a': \[1\]\}\]\] is not a number"),
    Fault("value_recursive", FAILED, r"value \[\[\.\.\.\]\] is not a number"),
    Fault("sample_text", FAILED, "a str where a Sample belongs"),
    Fault("collect_number", FAILED, "a int where samples belong"),
    Fault("label_object", FAILED, "label 'of' is <object object"),
    Fault("series_twice", FAILED, "came twice in one collection"),
    Fault("negative_counter", RUNNING, "is running", check=check_rates),
    # It means harm.
    Fault("attacks_daemon", RUNNING, "is running", check=check_attacks, unprivileged=True),
    # Its file is not what it should be.
    Fault("swapped", RUNNING, "is running", 'timeout = "1s"', place=place_swapped, check=check_swapped),
    Fault("a_directory", FAILED, "not a regular file.* is a directory", place=place_directory, check=check_refused),
    Fault("a_fifo", FAILED, "not a regular file.* is a FIFO", place=place_fifo, check=check_refused),
    Fault("a_link", FAILED, "is a symbolic link", place=place_link, check=check_refused),
    Fault("writable_file", FAILED, r"0666\) can be written by everybody", place=place_writable, check=check_refused),
    Fault("writable_parent", FAILED, r"0777\) can be written by everybody", place=place_loose, check=check_refused),
    Fault("foreign_file", FAILED, "belongs to user 12345", place=place_foreign, check=check_refused, needs_root=True),
    # It is not the plugin's fault.
    Fault("forkserver_killed", RUNNING, "is running", place=place_good, before=kill_forkserver, unprivileged=True),
    Fault("forkserver_stopped", RUNNING, "is running", place=place_good, before=stop_forkserver, check=check_stuck),
)
