"""Settings that last: saved, in force after a restart, forgotten, refused by another version, broken on the disk."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from harness import Daemon, Daemons, RpcError, write_plugin

from plugd.errors import CommandError
from plugd.hosting import saved as saved_module
from plugd.hosting.saved import MAXIMUM_BYTES, SavedSettings

PLUGIN = '''"""Has settings."""

from plugd.plugin import Gauge, Plugin, command, setting


class Tuned(Plugin):
    interval = 3600.0

    value = Gauge("test.value")

    level = setting(1, minimum={minimum}, maximum={maximum})
    colour = setting("red", choices=("red", "green"))
    names: list[str] = setting([])
    ratio: float = setting(0.5)
{body}
    def start(self):
        self.at_start = self.level

    def collect(self):
        yield self.value(self.level)

    @command
    def started_with(self) -> int:
        return self.at_start
'''


def tuned(minimum: int = 0, maximum: int = 100, body: str = "") -> str:
    return PLUGIN.format(minimum=minimum, maximum=maximum, body=body)


def values(running: Daemon) -> Any:
    return running.call("get", name="tuned")


def origins(running: Daemon) -> dict[str, str]:
    return {name: each["origin"] for name, each in running.call("get", name="tuned", origin=True).items()}


def put(running: Daemon, setting: str, value: Any, **params: Any) -> Any:
    return running.call("set", name="tuned", setting=setting, value=value, **params)


def file(daemon: Daemons) -> Path:
    return daemon.directory / "state" / "settings.json"


def test_what_is_saved_is_in_force_when_plugd_starts_anew(daemon: Daemons) -> None:
    """Before start() runs; what was set without that is not. Also after SIGKILL: the answer came when it was kept."""
    running = daemon(plugins={"tuned": tuned()})
    assert put(running, "level", "7", persist=True) == 7
    assert put(running, "names", ["a", "b"], persist=True) == ["a", "b"]
    assert put(running, "colour", "green") == "green"
    running.stop(signal.SIGKILL)
    second = daemon(plugins={"tuned": tuned()})
    assert values(second) == {"level": 7, "names": ["a", "b"], "colour": "red", "ratio": 0.5}
    assert second.call("call", name="tuned", command="started_with") == 7


def test_it_wins_over_the_configuration(daemon: Daemons) -> None:
    """And what is set after that wins over it, until plugd ends. Each says where it is from."""
    config = '[plugins.tuned]\nsettings = { level = 3, colour = "green" }\n'
    running = daemon(plugins={"tuned": tuned()}, config=config)
    assert origins(running) == {
        "level": "configuration",
        "colour": "configuration",
        "names": "default",
        "ratio": "default",
    }
    put(running, "level", 5, persist=True)
    put(running, "names", ["a"])
    assert (origins(running)["level"], origins(running)["names"]) == ("saved", "set")
    put(running, "level", 6)
    assert running.call("get", name="tuned", setting="level", origin=True) == {"value": 6, "origin": "set"}
    running.stop()
    second = daemon(plugins={"tuned": tuned()}, config=config)
    assert second.call("get", name="tuned", setting="level", origin=True) == {"value": 5, "origin": "saved"}
    described = {row["name"]: row["origin"] for row in second.call("describe", name="tuned")["settings"]}
    assert described == origins(second)


def test_saving_anew_replaces_what_was_set(daemon: Daemons) -> None:
    """The last word counts, be it saved or not."""
    running = daemon(plugins={"tuned": tuned()})
    put(running, "level", 5)
    put(running, "level", 6, persist=True)
    assert running.call("get", name="tuned", setting="level", origin=True) == {"value": 6, "origin": "saved"}
    running.call("reload", names=["tuned"])
    assert values(running)["level"] == 6


@pytest.mark.parametrize(("config", "value"), [("", 1), ("[plugins.tuned]\nsettings = { level = 3 }\n", 3)])
@pytest.mark.parametrize("persist", [True, False])
def test_unset_forgets(daemon: Daemons, config: str, value: int, persist: bool) -> None:
    """At once, and for good: the value is that of the configuration, or the default."""
    running = daemon(plugins={"tuned": tuned()}, config=config)
    put(running, "level", 7, persist=persist)
    assert running.call("unset", name="tuned", setting="level") == value
    assert values(running)["level"] == value
    assert origins(running)["level"] == ("configuration" if config else "default")
    running.call("reload", names=["tuned"])
    assert values(running)["level"] == value
    running.stop()
    assert values(daemon(plugins={"tuned": tuned()}, config=config))["level"] == value


def test_unset_of_what_was_not_set_changes_nothing(daemon: Daemons) -> None:
    """It answers the value; of a setting that there is not, it is an error."""
    running = daemon(plugins={"tuned": tuned()})
    assert running.call("unset", name="tuned", setting="level") == 1
    with pytest.raises(RpcError, match=r"request\.invalid: plugin 'tuned' has no setting 'nosuch'"):
        running.call("unset", name="tuned", setting="nosuch")


def test_a_value_that_another_version_does_not_take_is_told_and_ignored(daemon: Daemons) -> None:
    """At a start and at a reload: the plugin runs with the others, and `describe`, the log and `why` tell."""
    running = daemon(plugins={"tuned": tuned()})
    put(running, "level", 50, persist=True)
    put(running, "colour", "green", persist=True)
    assert running.plugin_dir is not None
    write_plugin(running.plugin_dir, "tuned", tuned(maximum=10))
    assert running.call("reload")["reloaded"] == ["tuned"]
    for each in (running, None):
        if each is None:
            running.stop()
            each = daemon(plugins={"tuned": tuned(maximum=10)})
        assert (values(each)["level"], values(each)["colour"]) == (1, "green")
        rows = {row["name"]: row for row in each.call("describe", name="tuned")["settings"]}
        assert (rows["level"]["origin"], rows["colour"]["origin"]) == ("default", "saved")
        assert rows["level"]["ignored"] == "setting 'level': 50 is above 10"
        assert rows["colour"]["ignored"] is None
        assert [record["setting"] for record in each.records("saved_setting_ignored")] == ["level"]
        causes = [event["cause"] for event in each.call("why", name="tuned")["events"]]
        assert "the saved value of setting 'level' is ignored: setting 'level': 50 is above 10" in causes
    put(each, "level", 5)
    assert each.call("describe", name="tuned")["settings"][0]["ignored"] is None


def test_it_is_still_there_for_the_version_that_takes_it(daemon: Daemons) -> None:
    """What is ignored is not forgotten: an edit that is taken back loses nothing."""
    running = daemon(plugins={"tuned": tuned()})
    put(running, "level", 50, persist=True)
    assert running.plugin_dir is not None
    write_plugin(running.plugin_dir, "tuned", tuned(maximum=10))
    running.call("reload")
    write_plugin(running.plugin_dir, "tuned", tuned())
    running.call("reload")
    assert values(running)["level"] == 50


def test_a_setting_that_is_gone_can_be_forgotten(daemon: Daemons) -> None:
    """Another version of the plugin does not have it any more; the answer is nil."""
    running = daemon(plugins={"tuned": tuned(body="    extra = setting(1)\n")})
    put(running, "extra", 2, persist=True)
    assert running.plugin_dir is not None
    write_plugin(running.plugin_dir, "tuned", tuned())
    running.call("reload")
    assert "extra" not in values(running)
    assert running.call("unset", name="tuned", setting="extra") is None
    assert json.loads(file(daemon).read_text()) == {"settings": {}}


def test_a_plugin_that_cannot_run_has_its_settings_forgotten(daemon: Daemons) -> None:
    """There is nothing that could take the default; the next start does."""
    running = daemon(plugins={"tuned": tuned()})
    put(running, "level", 50, persist=True)
    assert running.plugin_dir is not None
    running.stop()
    second = daemon(plugins={"tuned": tuned() + "\n    def collect(self):\n        raise ValueError(1)\n"})
    assert second.plugin("tuned")["state"] == "backoff"
    assert second.call("unset", name="tuned", setting="level") is None
    assert json.loads(file(daemon).read_text()) == {"settings": {}}


def test_instances_have_their_own(daemon: Daemons) -> None:
    """By their names."""
    running = daemon(plugins={"tuned": tuned()}, config='[plugins."tuned@b"]\n')
    put(running, "level", 7, persist=True)
    assert running.call("set", name="tuned@b", setting="level", value=8, persist=True) == 8
    running.stop()
    second = daemon(plugins={"tuned": tuned()}, config='[plugins."tuned@b"]\n')
    assert [second.call("get", name=name, setting="level") for name in ("tuned", "tuned@b")] == [7, 8]


def test_what_json_does_not_hold_is_not_saved(daemon: Daemons) -> None:
    """It is told, and in force until plugd ends: a file that says something else would be worse."""
    running = daemon(plugins={"tuned": tuned()})
    with pytest.raises(RpcError, match=r"request\.invalid: cannot save setting 'ratio' of plugin 'tuned'"):
        put(running, "ratio", float("nan"), persist=True)
    assert origins(running)["ratio"] == "set"
    assert not file(daemon).exists()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b'{"settings": 5}',
        b'{"settings": {"tuned": 5}}',
        b'{"settings": {"tuned": {"level": 99999999999999999999999}}}',
        b"[" * 100_000,
        b" " * (MAXIMUM_BYTES + 1),
    ],
    ids=lambda data: repr(data[:20]),
)
def test_a_broken_file_is_told_and_put_aside(daemon: Daemons, data: bytes) -> None:
    """plugd starts without; what is saved next has a file of its own, and the broken one is kept for people."""
    file(daemon).parent.mkdir()
    file(daemon).write_bytes(data)
    running = daemon(plugins={"tuned": tuned()})
    assert values(running)["level"] == 1
    (note,) = running.call("status")["notes"]
    assert note.startswith(f"saved settings are not in force: {file(daemon)} is broken (")
    assert len(running.records("saved_settings_broken")) == 1
    assert file(daemon).with_suffix(".json.broken").read_bytes() == data
    put(running, "level", 7, persist=True)
    running.stop()
    second = daemon(plugins={"tuned": tuned()})
    assert values(second)["level"] == 7
    assert second.call("status")["notes"] == []


def test_only_its_owner_reads_the_file(daemon: Daemons) -> None:
    """A value may be a secret."""
    running = daemon(plugins={"tuned": tuned()})
    put(running, "level", 7, persist=True)
    assert file(daemon).stat().st_mode & 0o777 == 0o600
    running.stop()
    modes = {each.name: each.stat().st_mode & 0o777 for each in file(daemon).parent.iterdir()}
    names = ("events.json", "points", "settings.json", "starting.json", "states.json")
    assert modes == dict.fromkeys(names, 0o600)


pytestmark = pytest.mark.anyio


async def test_a_file_that_cannot_be_read_stays_as_it_is(tmp_path: Path) -> None:
    """Nobody knows what is in it: nothing is in force, nothing is saved, and both are told."""
    (tmp_path / "settings.json").mkdir()
    saved = SavedSettings(str(tmp_path))
    assert saved.of("tuned") == {}
    assert "cannot be read: Is a directory" in saved.notes[0]
    with pytest.raises(CommandError, match="cannot be read: is a directory") as caught:
        await saved.put("tuned", "level", 1)
    assert caught.value.code == "internal"
    assert saved.of("tuned") == {}


async def test_a_file_that_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk: the error says so, the old file is whole, and what is saved is what it has."""
    saved = SavedSettings(str(tmp_path))
    await saved.put("tuned", "level", 1)
    before = (tmp_path / "settings.json").read_bytes()

    def fail(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(saved_module.os, "fsync", fail)
    with pytest.raises(CommandError, match="no space left on device") as caught:
        await saved.put("tuned", "level", 2)
    assert caught.value.code == "internal"
    assert (tmp_path / "settings.json").read_bytes() == before
    assert saved.of("tuned") == SavedSettings(str(tmp_path)).of("tuned") == {"level": 1}


async def test_all_that_is_saved_has_a_bound(tmp_path: Path) -> None:
    """Whoever may set must not fill the disk."""
    saved = SavedSettings(str(tmp_path))
    await saved.put("a", "text", "x" * (MAXIMUM_BYTES // 2))
    with pytest.raises(CommandError, match="at most") as caught:
        await saved.put("b", "text", "x" * (MAXIMUM_BYTES // 2))
    assert caught.value.code == "request.invalid"
    assert SavedSettings(str(tmp_path)).of("b") == {}


async def test_without_a_state_directory_nothing_is_saved() -> None:
    """And nobody is told that it was."""
    saved = SavedSettings()
    with pytest.raises(CommandError, match="there is no state directory"):
        await saved.put("a", "b", 1)
    assert await saved.forget("a", "b") is False
