"""Native plugins in a real daemon."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import Client, Daemon, Daemons, RpcError, wait_until
from native_rig import Compiler, install, plugin_source

FULL = Path("full.c")
STEADY = '''"""A neighbour."""
from plugd.plugin import Counter, Plugin

class Steady(Plugin):
    interval = 0.05
    turns = Counter("steady.turns")
    count = 0

    def collect(self):
        self.count += 1
        yield self.turns(self.count)
'''


class Native:
    """A daemon, and the directory of its plugins."""

    def __init__(self, daemon: Daemons, build: Compiler) -> None:
        self._daemon = daemon
        self._build = build
        self.directory = daemon.directory / "plugins"
        self.running: Daemon

    def install(self, name: str, source: str | Path, *flags: str) -> Path:
        """Compile a plugin and put it in its place."""
        return install(self._build(source, *flags), self.directory, name)

    def start(self, *flags: str, **arguments: Any) -> Daemon:
        """Start the daemon, with what has been installed and these Python plugins."""
        self.running = self._daemon(*flags, **{"plugins": {}, **arguments})
        return self.running

    def values(self, plugin: str) -> dict[tuple[str, ...], float]:
        """Return the latest values of a plugin, by metric and labels."""
        rows = self.running.call("stats", patterns=[plugin])["metrics"]
        return {(row["name"], *row["labels"].values()): row["value"] for row in rows}

    def wait_collected(self, plugin: str) -> None:
        """Wait for two more complete collections."""
        start = self.running.plugin(plugin)["collects"]
        wait_until(lambda: self.running.plugin(plugin)["collects"] >= start + 2, f"two collections of {plugin}")


@pytest.fixture
def native(daemon: Daemons, build: Compiler) -> Native:
    return Native(daemon, build)


@contextlib.contextmanager
def samples(client: Client, plugin: str) -> Iterator[Any]:
    """Subscribe to a plugin; call what is given for the next samples."""
    client.call("subscribe", patterns=[plugin])

    def next_samples() -> list[dict[str, Any]]:
        while True:
            method, params = client.next_notification()
            if method == "sample" and params["plugin"] == plugin:
                return list(params["samples"])

    yield next_samples


def test_a_native_plugin_is_a_plugin_like_any_other(native: Native) -> None:
    """It is listed with its kind, its ABI and its hash; its values are there, and counters have rates."""
    native.install("full", FULL)
    running = native.start(config="[plugins.full.options]\nratio = 1.5\ntree = { a = [1, 2] }\n")
    row = running.plugin("full")
    assert (row["kind"], row["state"], row["version"], row["api"]) == ("native", "running", "1.2.0", 1)
    assert len(row["sha256"]) == 64
    native.wait_collected("full")
    values = native.values("full")
    assert values[("full.plain",)] == 1.5
    assert values[("full.labelled", "user", "0")] == 7.0
    rates = [row["rate"] for row in running.call("stats")["metrics"] if row["name"] == "full.collected"]
    assert rates[0] > 0
    assert "opened full" in [each["line"] for each in running.records("plugin_output")]


def test_get_set_and_call_from_the_command_line(native: Native) -> None:
    """Typed, with clear errors; a setting survives a reload."""
    native.install("full", FULL)
    running = native.start()
    assert running.plugctl_json("call", "full", "add", "1", "2") == 3
    assert running.plugctl_json("call", "full", "add", "--", "-5", "b=5") == 0
    assert running.plugctl_json("call", "full", "structure") == {"cores": [1, 2], "model": "µ"}
    assert running.plugctl_json("get", "full", "level") == 7
    assert running.plugctl_json("set", "full", "level", "8") == 8
    wrong = running.plugctl("call", "full", "add", "one")
    assert (wrong.returncode, wrong.stderr.startswith("plugctl: add(a: int, b: int = 2): argument 'a': ")) == (1, True)
    refused = running.plugctl("set", "full", "level", "13")
    assert (refused.returncode, refused.stderr) == (1, "plugctl: setting 'level': set refused: 13 is bad luck\n")
    running.call("reload", names=["full"])
    native.wait_collected("full")
    assert native.values("full")[("full.labelled", "user", "0")] == 8.0
    described = running.plugctl_json("describe", "full")
    assert [each["name"] for each in described["commands"]][:2] == ["add", "divide"]
    assert {each["name"]: each["value"] for each in described["settings"]}["level"] == 8


def test_a_reload_runs_the_new_code(native: Native) -> None:
    """Compiled again under the same name; its state goes over, and no tick is missed."""
    native.install("full", FULL)
    running = native.start()
    with running.client() as client, samples(client, "full") as next_samples:
        counts = []
        for generation in range(2, 6):
            native.install("full", FULL, f'-DVERSION="1.{generation}"', f"-DSTEP={generation}.0")
            assert running.call("reload")["reloaded"] == ["full"]
            assert running.plugin("full")["version"] == f"1.{generation}"
            while True:
                values = {row["name"]: row["value"] for row in next_samples()}
                counts.append(values["full.collected"])
                if values["full.plain"] == 0.5 * generation:
                    break
    assert counts == sorted(set(counts))  # No collection is counted twice, and none begins anew.
    assert running.plugin("full")["generation"] == 5


@pytest.mark.parametrize("damage", ["truncated", "overwritten", "deleted", "replaced"])
def test_what_becomes_of_the_file_is_nothing_to_what_runs(damage: str, native: Native) -> None:
    """It runs from a copy that nobody can change; also when it has to be started again."""
    path = native.install("full", FULL)
    running = native.start(config="[restart]\ndelay = 0.1\n")
    if damage == "truncated":
        os.truncate(path, 100)
    elif damage == "overwritten":
        with path.open("r+b") as file:
            file.write(b"\xcc" * path.stat().st_size)
    elif damage == "deleted":
        path.unlink()
    else:
        native.install("full", "int nothing;\n")
    native.wait_collected("full")
    assert running.call("call", name="full", command="add", args=[1, 2]) == 3
    with pytest.raises(RpcError):
        running.call("call", name="full", command="crash")
    wait_until(lambda: running.plugin("full")["state"] == "running", "a restart")
    native.wait_collected("full")
    assert running.call("call", name="full", command="add", args=[1, 2]) == 3


def test_a_worker_has_nothing_of_the_file_mapped(native: Native) -> None:
    """Only the sealed copy, under a name that says whose it is; and no descriptor of it is left open."""
    path = native.install("full", FULL)
    running = native.start()
    worker = Path(f"/proc/{running.plugin('full')['pid']}")
    mapped = {line.split(maxsplit=5)[-1] for line in (worker / "maps").read_text().splitlines() if "full.so" in line}
    assert mapped == {f"/memfd:{path} (deleted)"}
    assert not [link for link in (worker / "fd").iterdir() if "memfd" in os.readlink(link)]


def test_a_write_through_null_is_one_workers_death(native: Native) -> None:
    """`why` names the signal and the plugin and has its last words; nine others miss nothing."""
    body = 'static int turn; printf("turn %d", turn); if (turn++ == 5) *(volatile int *)0 = 1;'
    native.install("fatal", plugin_source(body + ' printf("\\n");'))
    names = [f"steady{letter}" for letter in "abcdefghi"]
    sources = {name: STEADY.replace("class Steady", f"class {name.title()}") for name in names}
    running = native.start(plugins=sources, config="[restart]\ndelay = 60\n")
    wait_until(lambda: running.plugin("fatal")["state"] == "backoff", "its death")
    why = running.call("why", name="fatal")
    assert why["summary"].startswith("fatal failed: killed by SIGSEGV.")
    assert why["exit"] == "killed by SIGSEGV"
    assert why["output"][-1] == "turn 4"
    for name in names:
        native.wait_collected(name)
    stats = running.call("stats")["plugins"]
    assert {stats[name]["failures"] + stats[name]["restarts"] for name in names} == {0}


def test_another_abi_refuses_that_plugin_alone(native: Native) -> None:
    """With both versions; the others run."""
    native.install("full", FULL)
    future = ".header = {9, 168, 40, 160, 176, 40, 40, 0}"
    native.install("future", plugin_source("").replace(".header = PLUGD_HEADER", future))
    running = native.start()
    assert running.plugin("full")["state"] == "running"
    row = running.plugin("future")
    assert row["state"] == "failed"
    assert row["last_error"].startswith("written for ABI 9; this plugd speaks ABI 1: compile it again")


def test_a_reload_that_is_refused_leaves_the_old_code(native: Native) -> None:
    """Every fault is told, and the old generation goes on."""
    native.install("full", FULL)
    running = native.start()
    native.install("full", plugin_source("").replace('"probe.value"', '"1st"').replace('"probe.labelled"', '"2nd"'))
    done = running.plugctl("reload")
    assert done.returncode == 1
    assert "metric '1st': not a metric name" in done.stderr
    assert "metric '2nd': not a metric name" in done.stderr
    assert running.plugin("full")["generation"] == 1
    native.wait_collected("full")
    assert running.call("check", name="full")["ok"] is False


def test_other_options_are_taken_in_place(native: Native) -> None:
    """The worker is the same."""
    native.install("full", FULL)
    running = native.start(config="[plugins.full.options]\nratio = 1.0\n")
    pid = running.plugin("full")["pid"]
    running.config.write_text("[plugins.full.options]\nratio = 3.0\n")
    assert running.call("reload")["reloaded"] == ["full"]
    native.wait_collected("full")
    assert native.values("full")[("full.plain",)] == 3.0
    assert running.plugin("full")["pid"] == pid


def test_instances_have_options_of_their_own(native: Native) -> None:
    """One file, two workers."""
    native.install("full", FULL)
    native.start(config='[plugins.full.options]\nratio = 1.0\n[plugins."full@two".options]\nratio = 2.0\n')
    assert native.values("full")[("full.plain",)] == 1.0
    assert native.values("full@two")[("full.plain",)] == 2.0


def test_ten_thousand_samples_a_collection(native: Native) -> None:
    """Each of them is there, and moves."""
    native.install("many", Path("many.c"))
    running = native.start()
    native.wait_collected("many")
    with running.client() as client, samples(client, "many") as next_samples:
        rows = next_samples()
    assert len(rows) == 10_000
    offsets = {row["value"] - int(row["labels"]["n"]) for row in rows}
    assert len(offsets) == 1
    assert running.plugin("many")["failures"] == 0


def test_the_limits_of_samples_hold(native: Native) -> None:
    """What is over them is dropped and counted, and told by `why`."""
    native.install("many", Path("many.c"))
    running = native.start(config="[plugins.many.limits]\nseries = 50\nsamples = 60\n")
    assert len(native.values("many")) == 50
    native.wait_collected("many")
    assert running.call("stats")["plugins"]["many"]["dropped"] >= 9950 * 2
    assert "too many values of label n of many.value" in running.call("why", name="many")["summary"]


def test_a_sandbox_that_reads_little_does_not_keep_it_from_being_linked(native: Native) -> None:
    """The copy is no file that a sandbox could forbid; the plugin's own file it could not even open."""
    before = """static int start(struct plugd_host *host, const struct plugd_value *options)
    { (void)options; FILE *file = fopen("/etc/shells", "r"); return file ? plugd_fail(host, "it could") : PLUGD_OK; }"""
    native.install("probe", plugin_source("", ".open = start,", before))
    running = native.start(config="[plugins.probe.sandbox]\nread = []\n")
    row = running.plugin("probe")
    unconfined = running.call("describe", name="probe")["unconfined"]
    if any("no Landlock" in each for each in unconfined):
        pytest.skip(unconfined[0])
    assert (row["state"], row["last_error"]) == ("running", None)


def test_what_hangs_is_killed_at_its_deadline(native: Native) -> None:
    """As any plugin is."""
    native.install("probe", plugin_source("static int turn; if (turn++) for (;;) pause();", ".timeout = 0.2,"))
    running = native.start(config="[restart]\ndelay = 60\n")
    wait_until(lambda: running.plugin("probe")["state"] == "backoff", "its end")
    assert running.plugin("probe")["last_error"] == "collect took longer than 0.2 s"


def test_what_open_fails_at_is_tried_again(native: Native) -> None:
    """And what it refuses is not."""
    before = """static int start(struct plugd_host *host, const struct plugd_value *options)
    { (void)options; return strcmp(host->name, "one") ? plugd_refuse(host, "never") : plugd_fail(host, "not now"); }"""
    for name in ("one", "two"):
        native.install(name, plugin_source("", ".open = start,", before))
    running = native.start(config="[restart]\ndelay = 60\n")
    rows = {name: running.plugin(name) for name in ("one", "two")}
    assert (rows["one"]["state"], rows["one"]["last_error"]) == ("backoff", "open() failed: not now")
    assert (rows["two"]["state"], rows["two"]["last_error"]) == ("failed", "open() refused: never")


def test_python_becomes_native_and_back(native: Native) -> None:
    """A file of the other kind in its place is a reload; both at once are refused, with both names."""
    native.install("full", FULL)
    source = STEADY.replace("class Steady", "class Full")
    running = native.start()
    (native.directory / "full.py").write_text(source)
    failed = running.call("reload")["failed"]
    assert "full.py or " in failed[0]["error"]["message"]
    assert running.plugin("full")["kind"] == "native"
    (native.directory / "full.so").unlink()
    assert running.call("reload")["reloaded"] == ["full"]
    assert running.plugin("full")["kind"] == "python"
    (native.directory / "full.py").unlink()
    native.install("full", FULL)
    assert running.call("reload")["reloaded"] == ["full"]
    assert running.plugin("full")["kind"] == "native"


def test_reloads_and_unloads_leave_no_copy_behind(native: Native) -> None:
    """The daemon has one descriptor for each plugin that is there, however often it was reloaded."""

    def copies() -> int:
        links = [os.readlink(path) for path in Path(f"/proc/{running.pid}/fd").iterdir() if path.is_symlink()]
        return sum("memfd" in link for link in links)

    native.install("full", FULL)
    native.install("many", Path("many.c"))
    running = native.start()
    for turn in range(10):
        native.install("full", FULL, f"-DSTEP={turn % 2}.0")
        assert running.call("reload")["reloaded"] == ["full"]
        running.call("reload", names=["many"])
    # The generation before is kept as long as the new one is on probation.
    for name in ("full", "many"):
        native.wait_collected(name)
        native.wait_collected(name)
    wait_until(lambda: copies() == 2, "no more copies than plugins")
    running.call("unload", names=["full"])
    wait_until(lambda: copies() == 1, "no copy of what is unloaded")


def test_the_lock_holds_for_native_plugins(native: Native) -> None:
    """`list --json` names its hash, and other bytes do not run."""
    native.install("full", FULL)
    running = native.start()
    lock = running.directory / "plugins.lock"
    lock.write_text(running.plugctl("--json", "list").stdout)
    running.stop()
    assert native.start("--lock", str(lock)).plugin("full")["state"] == "running"
    native.running.stop()
    native.install("full", FULL, "-DSTEP=2.0")
    running = native.start("--lock", str(lock))
    assert "differs from the lock" in running.plugin("full")["last_error"]


def test_a_python_worker_has_none_of_it(native: Native, daemon: Daemons) -> None:
    """What runs native plugins is not in the memory of others."""
    modules = '''"""Tells what is loaded."""
import sys
from plugd.plugin import Plugin, command

class Modules(Plugin):
    def collect(self):
        return []

    @command
    def loaded(self) -> list[str]:
        return sorted(name for name in sys.modules if "native" in name or "elf" in name)
'''
    running = native.start(plugins={"modules": modules})
    assert running.call("call", name="modules", command="loaded") == []


def test_a_file_that_is_no_plugin_is_refused_by_name(native: Native) -> None:
    """And everything else runs."""
    native.install("full", FULL)
    shutil.copyfile("/bin/sh", native.directory / "shell.so")
    (native.directory / "text.so").write_text("hello\n")
    running = native.start()
    errors = {name: running.plugin(name)["last_error"] for name in ("shell", "text")}
    assert errors == {
        "shell": "a program, not a shared object: link it with -shared",
        "text": "not an ELF shared object: it begins with 'hell'",
    }
    assert running.plugin("full")["state"] == "running"
