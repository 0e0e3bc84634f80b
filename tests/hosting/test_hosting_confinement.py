"""What workers are told to confine themselves to, and that real ones have done it."""

import os
from pathlib import Path
from typing import Any

import pytest
from harness import Daemons, wait_until

from plugd.catalog.spec import PluginSpec
from plugd.config import PluginConfig, SandboxConfig, WorkerLimitsConfig
from plugd.hosting import confinement

as_root = pytest.mark.skipif(
    os.getuid() != 0 or confinement.why_no_own_users() is not None, reason="only root can change its user"
)

PROBE = '''
"""Tells who and where it is, and tries what it should not."""

import os
from plugd.plugin import Gauge, Plugin, command


class Probe(Plugin):
    value = Gauge("test.value", labels=("a", "b"))

    def collect(self):
        yield self.value(1, a=0, b=0)

    @command
    def identity(self):
        return [os.getuid(), os.getgid(), os.getcwd(), dict(os.environ)]

    @command
    def signal_daemon(self):
        try:
            os.kill(os.getppid(), 15)
        except PermissionError:
            return "refused"
'''


def spec(**changes: Any) -> PluginSpec:
    return PluginSpec("probe", "python", "", b"", "", PluginConfig(**changes.pop("config", {})), **changes)


def ended(pid: int) -> bool:
    """Whether a process is gone, or waits to be reaped by whoever inherited it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


@pytest.fixture
def numbers(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """The users that have been given away: none."""
    given: dict[str, int] = {}
    monkeypatch.setattr(confinement, "_uids", given)
    return given


def test_limits_and_sandbox_are_those_of_the_plugin() -> None:
    """What the worker applies is what the specification says."""
    rules = confinement.rules_of(
        spec(
            limits=WorkerLimitsConfig(memory=2**30, open_files=99, processes=7),
            config={"sandbox": SandboxConfig(write=("/var/lib/x",), read=("/srv",))},
        )
    )
    assert (rules["memory"], rules["open_files"], rules["processes"]) == (2**30, 99, 7)
    assert rules["sandbox"] == {"write": ("/var/lib/x",), "read": ("/srv",), "hidden": (), "credentials": None}
    assert confinement.rules_of(spec(config={"sandbox": SandboxConfig(enabled=False)}))["sandbox"] is None


def test_the_environment_is_built_from_nothing() -> None:
    """The time zone of the daemon's is passed on; what systemd has told it, and secrets, never."""
    own = {
        "TZ": "UTC",
        "NOTIFY_SOCKET": "/n",
        "CREDENTIALS_DIRECTORY": "/c",
        "LISTEN_FDS": "1",
        "PYTHONPATH": "/p",
        "TOKEN": "t",
        "PATH": "/evil",
    }
    assert confinement.base_environment(own) == {
        "PATH": confinement.SEARCH_PATH,
        "LANG": "C.UTF-8",
        "HOME": "/",
        "TZ": "UTC",
    }
    configured = confinement.rules_of(spec(config={"environment": {"HOME": "/h", "X": "1"}}))["environment"]
    assert (configured["HOME"], configured["X"], configured["PLUGD_PLUGIN"]) == ("/h", "1", "probe")


def test_a_configured_user_comes_before_one_of_its_own() -> None:
    """Root too: who writes it, means it."""
    for user in ("nobody", "root", 1000):
        rules = confinement.rules_of(spec(user=user))
        assert (rules["uid"], rules["user"]) == (None, user)


def test_a_plugin_has_the_same_user_in_every_run(numbers: dict[str, int]) -> None:
    """It comes from its name, and lies in the range that nobody else gives away."""
    first = confinement.uid_of("cpu")
    numbers.clear()
    assert confinement.uid_of("cpu") == first
    assert confinement.FIRST_UID <= first <= confinement.LAST_UID


def test_no_two_plugins_share_a_user(numbers: dict[str, int]) -> None:
    """Even names that lead to the same number: of a thousand there are many."""
    assert len({confinement.uid_of(f"plugin{number}") for number in range(1000)}) == 1000
    assert confinement.uid_of("plugin7") == numbers["plugin7"]


def test_a_user_that_systemd_has_given_away_is_not_taken(
    numbers: dict[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service with DynamicUser= has the same range."""
    monkeypatch.setattr(confinement, "DYNAMIC_USERS", str(tmp_path))
    first = confinement.uid_of("cpu")
    numbers.clear()
    (tmp_path / str(first)).touch()
    assert confinement.uid_of("cpu") != first


@pytest.mark.parametrize(
    ("table", "mapped"),
    [
        (b"         0          0 4294967295\n", True),
        (b"0 1000 1\n1 100000 65535\n", True),
        (b"0 1000 1\n", False),
        (b"0 100000 65000\n", False),
        (b"", False),
    ],
)
def test_users_of_their_own_need_the_numbers_in_the_user_namespace(table: bytes, mapped: bool) -> None:
    """A container of one user only has none to give."""
    assert confinement._is_mapped(table) == mapped


@as_root
def test_a_worker_of_root_has_a_user_of_its_own(daemon: Daemons) -> None:
    """So that it cannot signal the daemon, and its environment has nothing of the daemon's."""
    running = daemon(plugins={"probe": PROBE}, environ={"TOKEN": "secret", "TZ": "UTC"})
    uid, gid, directory, environment = running.call("call", name="probe", command="identity")
    assert uid == gid == confinement.uid_of("probe")
    assert directory == "/"
    assert {"TZ", "PLUGD_PLUGIN", "PATH", "LANG", "HOME"} <= set(environment)
    assert not {"TOKEN", "CONFIGURATION_DIRECTORY", "STATE_DIRECTORY"} & set(environment)
    assert running.call("call", name="probe", command="signal_daemon") == "refused"
    assert running.call("ping") == "pong"


@as_root
def test_a_worker_of_another_user_dies_with_the_daemon(daemon: Daemons) -> None:
    """The death signal survives the change of user: however the daemon ends."""
    running = daemon(plugins={"probe": PROBE})
    pid = running.plugin("probe")["pid"]
    running.process.kill()
    wait_until(lambda: ended(pid), "the end of the worker")


def test_other_limits_are_applied_by_a_reload(daemon: Daemons) -> None:
    """A new worker has the new environment; a plugin that is not concerned keeps its own."""
    running = daemon(plugins={"probe": PROBE, "other": PROBE.replace("Probe", "Other")}, config="[plugins.probe]\n")
    other = running.plugin("other")["pid"]
    running.config.write_text('[plugins.probe]\nenvironment = { X = "1" }\n')
    assert running.call("reload")["reloaded"] == ["probe"]
    assert running.call("call", name="probe", command="identity")[3]["X"] == "1"
    assert running.plugin("other")["pid"] == other
