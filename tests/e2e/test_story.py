"""The stories that plugd is for, told to an installed plugd by an installed plugctl."""

import json
import subprocess
from pathlib import Path

from harness import BIN, ROOT, SHIPPED, Daemons, wait_until, write_plugin


def test_what_is_tested_is_what_is_installed(tmp_path: Path) -> None:
    """With PLUGD_TEST_BIN set, plugd comes from there, shipped plugins included, and sees no source tree."""
    program = "import plugd, plugd.paths as p; print(plugd.__file__); print(p.shipped_plugins())"
    done = subprocess.run(
        [BIN / "python", "-I", "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60
    )
    module, shipped = map(Path, done.stdout.splitlines())
    if BIN.parent.name == ".venv":  # the editable installation, where nobody has named another
        assert shipped == SHIPPED
    else:
        assert module.is_relative_to(BIN.parent)
        assert shipped == module.parent / "shipped"
    assert {each.name for each in shipped.glob("*.py")} == {each.name for each in (ROOT / "plugins").glob("*.py")}


def test_shipped_plugins_run_each_in_a_process_of_its_own(daemon: Daemons) -> None:
    """Out of the box: at least 8 plugins, each with its own pid, and more than 60 series of them."""
    running = daemon()
    rows = running.plugctl_json("list")
    assert len(rows) >= 8
    assert {row["state"] for row in rows} == {"running"}
    pids = {row["pid"] for row in rows}
    assert len(pids) == len(rows)
    assert running.pid not in pids
    assert pids <= set(running.processes())
    stats = running.plugctl_json("stats")
    assert len(stats["metrics"]) > 60
    assert len({row["plugin"] for row in stats["metrics"]}) >= 8
    assert all(isinstance(row["value"], float) for row in stats["metrics"])
    assert sum(plugin["series"] for plugin in stats["plugins"].values()) == len(stats["metrics"])


def test_plugins_come_and_change_and_go_without_a_restart(daemon: Daemons) -> None:
    """The first demo's story: add disk to a running cpu, edit it, take it away; the daemon stays the same."""
    running = daemon(plugins={"cpu": SHIPPED / "cpu.py"})
    before = running.plugin("cpu")
    directory = running.plugin_dir
    assert directory is not None

    write_plugin(directory, "disk", SHIPPED / "disk.py")
    added = running.plugctl_json("reload")
    assert (added["loaded"], added["reloaded"], added["unloaded"]) == (["disk"], [], [])
    assert added["unchanged"] == ["cpu"]
    assert {row["plugin"] for row in running.plugctl_json("stats")["metrics"]} == {"cpu", "disk"}

    source = (SHIPPED / "disk.py").read_text()
    write_plugin(directory, "disk", '"""Another sentence about disks."""\n' + source.partition('"""\n')[2])
    edited = running.plugctl_json("reload")
    assert (edited["loaded"], edited["reloaded"], edited["unloaded"]) == ([], ["disk"], [])
    row = running.plugin("disk")
    assert (row["generation"], row["state"], row["description"]) == (2, "running", "Another sentence about disks.")

    (directory / "disk.py").unlink()
    removed = running.plugctl_json("reload")
    assert (removed["loaded"], removed["reloaded"], removed["unloaded"]) == ([], [], ["disk"])
    assert [row["name"] for row in running.plugctl_json("list")] == ["cpu"]
    assert {row["plugin"] for row in running.plugctl_json("stats")["metrics"]} == {"cpu"}

    assert running.plugin("cpu")["pid"] == before["pid"]
    assert running.plugin("cpu")["generation"] == 1
    assert running.call("status")["pid"] == running.pid
    wait_until(lambda: "plugd:disk" not in running.processes().values(), "the end of disk's processes")


def test_an_edit_within_the_same_second_is_seen(daemon: Daemons) -> None:
    """What a file holds decides, not its time: several edits in a moment are each live at once."""
    template = "from plugd.plugin import Gauge, Plugin\n\n\nclass Tide(Plugin):\n    interval = 0.05\n"
    template += "    level = Gauge('tide.level')\n\n    def collect(self):\n        yield self.level({0})\n"
    running = daemon(plugins={"tide": template.format(1)})
    assert running.plugin_dir is not None
    for level in (2, 3, 4):
        write_plugin(running.plugin_dir, "tide", template.format(level))
        assert running.plugctl_json("reload")["reloaded"] == ["tide"]
        wait_until(lambda: running.call("stats")["metrics"][0]["value"] == level, f"a sample of {level}")  # noqa: B023


def test_loading_what_is_loaded_is_refused_and_disturbs_nothing(daemon: Daemons) -> None:
    """`plugctl load cpu` a second time: status 1, plugin.already_loaded on stderr and as JSON, the same worker."""
    running = daemon(plugins={"cpu": SHIPPED / "cpu.py"})
    before = running.plugin("cpu")
    done = running.plugctl("load", "cpu")
    assert done.returncode == 1
    assert done.stderr.startswith("plugctl: cannot load plugin 'cpu': it is already loaded")
    done = running.plugctl("--json", "load", "cpu")
    assert done.returncode == 1
    assert json.loads(done.stdout)["code"] == "plugin.already_loaded"
    after = running.plugin("cpu")
    assert {key: after[key] for key in ("pid", "generation", "loaded_at", "state")} == {
        key: before[key] for key in ("pid", "generation", "loaded_at", "state")
    }


def test_unload_and_load_by_name(daemon: Daemons) -> None:
    """An unloaded plugin stays away until it is loaded by name, and leaves neither process nor series."""
    running = daemon(plugins={"cpu": SHIPPED / "cpu.py", "load": SHIPPED / "load.py"})
    assert running.plugctl_json("unload", "load")["unloaded"] == ["load"]
    assert "load" not in running.plugctl_json("stats")["plugins"]
    assert running.plugctl_json("reload")["loaded"] == []
    wait_until(lambda: "plugd:load" not in running.processes().values(), "the end of load's process")
    assert running.plugctl_json("load", "load")["loaded"] == ["load"]
    assert running.plugin("load")["state"] == "running"


def test_a_dry_run_tells_and_does_nothing(daemon: Daemons) -> None:
    """`reload --dry-run` has the answer of a reload, and changes nothing."""
    running = daemon(plugins={"cpu": SHIPPED / "cpu.py"})
    assert running.plugin_dir is not None
    write_plugin(running.plugin_dir, "load", SHIPPED / "load.py")
    assert running.plugctl_json("reload", "--dry-run")["loaded"] == ["load"]
    assert [row["name"] for row in running.call("list")] == ["cpu"]


def test_what_a_plugin_prints_is_in_its_log(daemon: Daemons) -> None:
    """stdout and stderr of a plugin are lines of `plugctl logs NAME`, whole and in order, and of no other plugin's."""
    source = """
import os, sys
from plugd.plugin import Gauge, Plugin

class Talker(Plugin):
    value = Gauge("talker.value")

    def start(self):
        print("good morning")
        sys.stderr.write("and a warning\\n")
        sys.stderr.flush()
        os.write(1, b"raw \\xff\\x1b[31m bytes\\n")

    def collect(self):
        yield self.value(1)
"""
    running = daemon(plugins={"talker": source, "load": SHIPPED / "load.py"})

    def printed() -> list[tuple[str, str]]:
        rows = running.plugctl_json("logs", "talker", "--lines", "100")
        return [(r["fields"]["stream"], r["fields"]["line"]) for r in rows if r["event"] == "plugin_output"]

    wait_until(lambda: len(printed()) == 3, "three lines")
    assert next(line for stream, line in printed() if stream == "stdout") == "good morning"
    assert ("stderr", "and a warning") in printed()
    assert "\x1b" not in running.plugctl("logs", "talker").stdout
    assert not [r for r in running.plugctl_json("logs", "load") if r["event"] == "plugin_output"]


def test_why_tells_the_cause_and_who_asked(daemon: Daemons) -> None:
    """Every change of state has a cause, and a client's has its uid and pid."""
    running = daemon(plugins={"load": SHIPPED / "load.py"})
    running.plugctl_json("pause", "load", "--reason", "maintenance")
    reasons = running.plugctl_json("why", "load")
    assert reasons["state"] == "paused"
    assert "maintenance" in reasons["summary"]
    last = reasons["events"][-1]
    assert (last["from"], last["to"]) == ("running", "paused")
    assert isinstance(last["uid"], int)
    assert isinstance(last["pid"], int)
