"""Plugins that are wrong, one in every way: each is `failed` and told where, and all others run."""

from typing import Any

import pytest
from harness import SHIPPED, Daemons, write_plugin

HEAD = "from plugd.plugin import Gauge, Plugin\n\n\n"
BODY = "    value = Gauge('bad.value', labels=('disk',))\n\n    def collect(self):\n"

BAD = {
    "syntax": ("def broken(:\n    pass\n", 1, "syntax"),
    "classless": ("value = 1\n", None, "Classless"),
    "misnamed": (HEAD + "class Wrong(Plugin):\n" + BODY + "        return []\n", None, "Misnamed"),
    "undeclared": (
        HEAD + "class Undeclared(Plugin):\n" + BODY + "        yield Gauge('another.value')(1)\n",
        None,
        "another.value",
    ),
    "labelled": (HEAD + "class Labelled(Plugin):\n" + BODY + "        yield self.value(1, dsik='sda')\n", 8, "dsik"),
    "notanumber": (
        HEAD + "class Notanumber(Plugin):\n" + BODY + "        yield self.value(float('nan'), disk='sda')\n",
        None,
        "nan",
    ),
    "importing": ("import no_such_module_anywhere\n", 1, "no_such_module_anywhere"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_plugin_fails_by_itself(name: str, daemon: Daemons) -> None:
    """It is `failed` or tried again, the reason names it, its file and line; the good one beside it runs."""
    source, line, reason = BAD[name]
    running = daemon(plugins={name: source, "load": SHIPPED / "load.py"})
    assert running.plugin("load")["state"] == "running"
    row = running.plugin(name)
    assert row["state"] in {"failed", "backoff"}
    assert row["pid"] is None
    assert reason.lower() in row["last_error"].lower()
    if line is not None:
        assert f"{row['path']}:{line}" in row["last_error"]
    why = running.plugctl("why", name)
    assert why.returncode == 0
    assert reason.lower() in why.stdout.lower()


@pytest.mark.parametrize("name", ["syntax", "classless", "misnamed", "undeclared", "labelled", "notanumber"])
def test_what_only_an_edit_can_mend_is_failed(name: str, daemon: Daemons) -> None:
    """It is not tried again and again: `failed`, until its file changes."""
    running = daemon(plugins={name: BAD[name][0]})
    assert running.plugin(name)["state"] == "failed"


def test_the_edit_that_mends_is_one_reload(daemon: Daemons) -> None:
    """A failed plugin runs after its file has been mended and reloaded."""
    running = daemon(plugins={"syntax": BAD["syntax"][0]})
    assert running.plugin_dir is not None
    write_plugin(running.plugin_dir, "syntax", HEAD + "class Syntax(Plugin):\n" + BODY + "        return []\n")
    assert running.plugctl_json("reload")["reloaded"] == ["syntax"]
    assert running.plugin("syntax")["state"] == "running"


@pytest.mark.parametrize("name", BAD)
def test_a_bad_edit_leaves_the_old_generation_running(name: str, daemon: Daemons) -> None:
    """The reload says why, and the worker that ran goes on, the same process."""
    title = name.title()
    good = HEAD + f"class {title}(Plugin):\n" + BODY + "        yield self.value(1, disk='sda')\n"
    running = daemon(plugins={name: good})
    assert running.plugin_dir is not None
    before = running.plugin(name)
    write_plugin(running.plugin_dir, name, BAD[name][0])
    answer: dict[str, Any] = running.call("reload")
    (failed,) = answer["failed"]
    assert failed["name"] == name
    assert BAD[name][2].lower() in failed["error"]["message"].lower()
    after = running.plugin(name)
    assert (after["pid"], after["generation"], after["state"]) == (before["pid"], 1, "running")
    assert running.plugctl("reload").returncode == 1


def test_every_fault_of_a_file_is_told_at_once(daemon: Daemons) -> None:
    """Two wrong metrics are two faults, each with its line."""
    source = HEAD + (
        "class Twice(Plugin):\n    interval = -1\n    first = Gauge('Not A Name')\n    second = Gauge('', unit='')\n\n"
        "    def collect(self):\n        return []\n"
    )
    running = daemon(plugins={"twice": source})
    report = running.plugctl("--json", "check", "twice")
    assert report.returncode == 1
    faults = running.call("check", name="twice")["faults"]
    assert len(faults) >= 3
    assert {fault["line"] for fault in faults} >= {5, 6, 7}
