"""The lock: which plugins may run, and which bytes of them."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from harness import Daemons, RpcError, write_plugin

from plugd.catalog.discovery import discover
from plugd.catalog.lock import Lock, parse_lock, read_lock
from plugd.config import ConfigError, PluginConfig
from plugd.settings import Flags, resolve

A, B = "a" * 64, "b" * 64

PLUGIN = '''"""A plugin."""

from plugd.plugin import Gauge, Plugin


class {title}(Plugin):
    version = "{version}"
    value = Gauge("test.value")

    def collect(self):
        yield self.value(1)
'''


def plugin(name: str, version: str = "1.0") -> str:
    return PLUGIN.format(title=name.title(), version=version)


def lock_of(document: Any) -> Lock:
    return parse_lock(json.dumps(document).encode(), "/lock")


def test_a_lock_is_what_list_prints() -> None:
    """An array of objects; all but name and sha256 is ignored, and so is a plugin without a hash."""
    lock = lock_of([{"name": "cpu", "sha256": A, "state": "running"}, {"name": "x", "sha256": ""}, {"name": "y"}])
    assert lock.hashes == {"cpu": A}


def test_a_lock_may_be_an_object() -> None:
    """``{name: sha256}``, for those who write one by hand; capitals are as good."""
    assert lock_of({"cpu": A.upper()}).hashes == {"cpu": A}


@pytest.mark.parametrize(
    "document",
    [
        1,
        "cpu",
        None,
        ["cpu"],
        [{"sha256": A}],
        [{"name": 1, "sha256": A}],
        {"cpu": 1},
        {"cpu": "abc"},
        {"cpu": A + "0"},
    ],
)
def test_what_is_no_lock_is_a_fault(document: Any) -> None:
    """A lock that cannot be understood locks nothing, so it is refused as a whole."""
    with pytest.raises(ConfigError, match="/lock: not a lock: "):
        lock_of(document)


@pytest.mark.parametrize("data", [b"", b"[", b"\xff", b"[" * 100_000])
def test_what_is_no_json_is_a_fault(data: bytes) -> None:
    """Neither broken text nor absurd nesting is more than a fault."""
    with pytest.raises(ConfigError, match="/lock: not a lock: "):
        parse_lock(data, "/lock")


def test_two_hashes_for_one_name_are_a_fault() -> None:
    """Nobody could say which of them holds."""
    with pytest.raises(ConfigError, match="'cpu' is in it twice"):
        lock_of([{"name": "cpu", "sha256": A}, {"name": "cpu", "sha256": B}])


def test_a_lock_that_is_not_there_is_a_fault(tmp_path: Path) -> None:
    """No file is not an empty lock, nor no lock."""
    with pytest.raises(ConfigError, match="cannot read the lock: no such file"):
        read_lock(str(tmp_path / "none"))


def test_an_instance_may_run_as_its_file_may() -> None:
    """It is the same code; it may have an entry of its own all the same."""
    lock = Lock("/lock", {"disk": A, "net": A, "net@a": B})
    assert lock.fault_of("disk@data", A) is None
    assert lock.fault_of("net@a", A) == f"differs from the lock /lock: sha256 {A}, locked {B}"


def test_discovery_refuses_what_the_lock_does_not_have(tmp_path: Path) -> None:
    """One is as locked, one is not in the lock, one differs, and so does its instance."""
    for name in ("one", "two", "three"):
        (tmp_path / f"{name}.py").write_text(name)
    hashes = {name: hashlib.sha256(name.encode()).hexdigest() for name in ("one", "two", "three")}
    lock = Lock("/lock", {"one": hashes["one"], "three": A})
    specs = discover([str(tmp_path)], {"three@x": PluginConfig()}, lock).specs
    assert (specs["one"].fault, specs["one"].source) == (None, b"one")
    assert specs["two"].fault == f"not in the lock /lock: sha256 {hashes['two']}"
    assert specs["three"].fault == f"differs from the lock /lock: sha256 {hashes['three']}, locked {A}"
    assert specs["three@x"].fault == specs["three"].fault
    assert {specs[name].sha256 for name in ("two", "three", "three@x")} == {""}


def test_a_flag_wins_over_the_configurations_lock(tmp_path: Path) -> None:
    """``--lock`` over ``lock``, and that over none."""
    config = tmp_path / "plugd.toml"
    config.write_text('lock = "~/lock.json"')
    environ = {"HOME": "/home/ann"}
    assert resolve(Flags(config=str(config)), environ, 1000).lock == "/home/ann/lock.json"
    assert resolve(Flags(config=str(config), lock="/flag"), environ, 1000).lock == "/flag"
    config.write_text("")
    assert resolve(Flags(config=str(config)), environ, 1000).lock is None


@pytest.mark.parametrize("arguments", [["--check-config"], []])
def test_a_daemon_does_not_start_with_a_bad_lock(arguments: list[str], daemon: Daemons) -> None:
    """Exit status 78, and the lock is named."""
    (daemon.directory / "lock.json").write_text("{")
    refused = daemon("--lock", "lock.json", *arguments, plugins={}, wait=False)
    assert refused.process.wait(20) == 78
    assert f"{daemon.directory}/lock.json: not a lock: " in refused.log


def test_the_life_of_a_lock(daemon: Daemons) -> None:
    """Made from a running daemon; it refuses another version until it is made anew, and the old one stays."""
    first = daemon(plugins={"one": plugin("one"), "two": plugin("two")})
    lock = daemon.directory / "lock.json"
    lock.write_text(first.plugctl("list", "--json").stdout)
    assert first.stop() == 0

    second = daemon("--lock", str(lock), plugins={"three": plugin("three")})
    assert {row["name"]: row["state"] for row in second.call("list")} == {
        "one": "running",
        "two": "running",
        "three": "failed",
    }
    assert "not in the lock" in second.plugin("three")["last_error"]

    assert second.plugin_dir is not None
    changed = write_plugin(second.plugin_dir, "one", plugin("one", "2.0"))
    (failed,) = second.call("reload")["failed"]
    assert (failed["name"], failed["error"]["code"]) == ("one", "plugin.invalid")
    assert "differs from the lock" in failed["error"]["message"]
    assert (second.plugin("one")["state"], second.plugin("one")["version"]) == ("running", "1.0")

    lock.write_text("not a lock")
    with pytest.raises(RpcError, match=r"config\.invalid.*not a lock") as caught:
        second.call("reload")
    assert caught.value.data["faults"]
    assert second.plugin("two")["state"] == "running"

    lock.write_text(json.dumps({"one": hashlib.sha256(changed.read_bytes()).hexdigest(), "two": A}))
    answer = second.call("reload")
    assert answer["reloaded"] == ["one"]
    assert [each["name"] for each in answer["failed"]] == ["two"]
    assert second.plugin("one")["version"] == "2.0"
    assert second.plugin("two")["state"] == "running"
