"""Cgroups of workers: real ones, where there are some to be had, and how they are found, named and told of."""

import errno
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cgroup_rig import HINT, Subtree, Unavailable, cgroup_of, subtree
from harness import Daemon, Daemons, daemons, runs_as, wait_until
from hosting_plugins import behaving, plain

from plugd.config import WorkerLimitsConfig
from plugd.hosting import cgroups, delegation
from plugd.hosting.cgroups import Cgroups, Leaf, cpu_max, escaped
from plugd.hosting.delegation import Delegation, DelegationError, own_cgroup, take
from plugd.worker.cgroup import enter

NOBODY = 65534

AT_IMPORT = "CGROUP = open('/proc/self/cgroup').read()"
CGROUP_AT_IMPORT = "@command\ndef at_import(self):\n    return CGROUP"

# Two that have left their session and their parent, one of them without the environment by which others are found.
ORPHANS = """
for command in (["sleep", "3600"], ["env", "-i", "/bin/sleep", "3600"]):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.execvp(command[0], command)
        os._exit(0)
    os.wait()
"""


@pytest.fixture
def given() -> Iterator[Subtree]:
    """A delegated cgroup."""
    try:
        with subtree() as made:
            yield made
    except Unavailable as error:
        pytest.skip(f"{error}; {HINT}")


def needs(given: Subtree, *controllers: str) -> None:
    missing = sorted(set(controllers) - given.controllers)
    if missing:
        pytest.skip(f"the kernel's cgroups of version 2 have no controller {', '.join(missing)} here; {HINT}")


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def worker_of(running: Daemon, name: str) -> int:
    pid = running.plugin(name)["pid"]
    assert isinstance(pid, int)
    return pid


def test_each_worker_is_in_a_leaf_of_its_own(given: Subtree, daemon: Daemons) -> None:
    """From before its plugin's module runs; the daemon and its forkserver are in another, and nobody is above them."""
    body = CGROUP_AT_IMPORT
    running = given.start(daemon, plugins={"one": behaving("One", top=AT_IMPORT, body=body), "two": plain("Two")})
    one, two = (cgroup_of(worker_of(running, name)) for name in ("one", "two"))
    assert one.parent == two.parent == given.path
    assert one.name.startswith("plugin-one.")
    assert two.name.startswith("plugin-two.")
    assert running.call("call", name="one", command="at_import").strip().endswith(f"/{one.name}")
    assert cgroup_of(running.pid) == given.path / "daemon"
    assert delegation.pids_in(str(given.path)) == []
    forkserver = set(delegation.pids_in(str(given.path / "daemon"))) - {running.pid}
    assert len(forkserver) == 1
    assert set(running.call("status")["cgroups"]) == given.controllers
    assert running.call("status")["notes"] == []


def test_without_delegation_everything_is_as_it_is(daemon: Daemons) -> None:
    """A cgroup that the daemon might write is not its own for that: nothing of it is touched."""
    try:
        with subtree(marked=False) as other, subtree(marked=False, above=other.path) as inner:
            running = inner.start(daemon, plugins={"one": plain("One")})
            assert running.call("status")["cgroups"] is None
            assert running.call("status")["notes"] == []
            assert inner.leaves() == []
            assert cgroup_of(running.pid) == cgroup_of(worker_of(running, "one")) == inner.path
            running.stop()
    except Unavailable as error:
        pytest.skip(f"{error}; {HINT}")


def test_a_daemon_of_another_user_has_what_was_given_to_that(given: Subtree, daemon: Daemons) -> None:
    """As a unit with User= has it."""
    if os.getuid() != 0 or not runs_as(NOBODY):
        pytest.skip("nobody else can run plugd where it is installed")
    given.give_to(NOBODY)
    running = given.start(daemon, plugins={"one": plain("One")}, uid=NOBODY)
    leaf = cgroup_of(worker_of(running, "one"))
    assert leaf.name.startswith("plugin-one.")
    assert leaf.stat().st_uid == NOBODY
    assert [note for note in running.call("describe", name="one")["unconfined"] if "cgroup" in note] == []


def test_a_generation_that_goes_takes_its_leaf_with_it(given: Subtree, daemon: Daemons) -> None:
    """Of a reload, a check, an unload; and a daemon that stops leaves none."""
    running = given.start(daemon, plugins={"one": plain("One"), "two": plain("Two")})
    for _ in range(3):
        running.call("reload", names=["one"])
    assert running.call("check", name="one")["ok"]
    wait_until(lambda: len(given.leaves()) == 2, "two leaves")
    assert {cgroup_of(worker_of(running, name)) for name in ("one", "two")} == set(given.leaves())
    running.call("unload", names=["one"])
    wait_until(lambda: len(given.leaves()) == 1, "one leaf")
    running.stop()
    assert given.leaves() == []


def test_a_worker_is_killed_with_all_that_it_started(given: Subtree, daemon: Daemons) -> None:
    """Also with what has left its session and its parent."""
    running = given.start(daemon, plugins={"one": behaving("One", start=ORPHANS, stop="time.sleep(60)")})
    leaf = cgroup_of(worker_of(running, "one"))
    wait_until(lambda: len(delegation.pids_in(str(leaf))) == 3, "its orphans")
    pids = delegation.pids_in(str(leaf))
    running.call("unload", names=["one"])
    wait_until(lambda: not any(map(alive, pids)), "their end")
    wait_until(lambda: not leaf.exists(), "the end of the leaf")


def test_what_a_crash_leaves_is_killed(given: Subtree, daemon: Daemons) -> None:
    """The worker is dead, what it started is in its leaf yet."""
    running = given.start(daemon, plugins={"one": behaving("One", start=ORPHANS)})
    worker = worker_of(running, "one")
    leaf = cgroup_of(worker)
    wait_until(lambda: len(delegation.pids_in(str(leaf))) == 3, "its orphans")
    pids = delegation.pids_in(str(leaf))
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: not any(map(alive, pids)), "their end")
    wait_until(lambda: not leaf.exists(), "the end of the leaf")
    assert running.call("why", name="one")["last_error"] == "killed by SIGKILL"


def test_what_a_daemon_that_was_killed_has_left_is_removed_by_the_next(given: Subtree, daemon: Daemons) -> None:
    """With the processes in it, however they are hidden."""
    stranger = subprocess.Popen(["sleep", "3600"])
    try:
        running = given.start(daemon, plugins={"one": plain("One")})
        leaf = given.path / "plugin-left.7"
        leaf.mkdir()
        delegation.write(f"{leaf}/cgroup.procs", str(stranger.pid))
        assert running.stop(signal.SIGKILL) == -signal.SIGKILL
        assert leaf in given.leaves()
        given.start(daemon, plugins={"one": plain("One")})
        assert leaf not in given.leaves()
        assert stranger.wait(20) == -signal.SIGKILL
        assert len(given.leaves()) == 1
    finally:
        stranger.kill()
        stranger.wait()


def test_a_delegated_cgroup_that_is_no_leaf_any_more_is_taken_again(given: Subtree, daemon: Daemons) -> None:
    """A second daemon, after the first, finds its leaf and its controllers there."""
    given.start(daemon, plugins={"one": plain("One")}).stop()
    second = given.start(daemon, plugins={"one": plain("One")})
    assert set(second.call("status")["cgroups"]) == given.controllers


def test_two_daemons_are_not_in_one(given: Subtree, daemon: Daemons) -> None:
    """The second would end what the first has there: it does without, and says so."""
    first = given.start(daemon, plugins={"one": plain("One")})
    delegation.write(f"{given.path}/daemon/cgroup.procs", str(os.getpid()))
    try:
        with daemons() as others:
            second = others(plugins={"one": plain("One")})
            assert second.call("status")["cgroups"] is None
            assert "another plugd has it" in second.call("status")["notes"][0]
            assert first.plugin("one")["state"] == "running"
    finally:
        given.go_home()


def test_the_limits_are_those_of_the_plugin(given: Subtree, daemon: Daemons) -> None:
    """What the kernel holds the leaf to is what the configuration says, and a reload changes it."""
    needs(given, "cpu", "memory", "pids")
    config = '[plugins.one]\nlimits = {{ memory = "{}MiB", cpu = {}, processes = {} }}\n'
    running = given.start(daemon, plugins={"one": plain("One")}, config=config.format(64, 0.25, 9))

    def limits() -> list[str]:
        leaf = cgroup_of(worker_of(running, "one"))
        return [(leaf / file).read_text().strip() for file in ("memory.max", "memory.oom.group", "cpu.max", "pids.max")]

    assert limits() == [str(64 * 2**20), "1", "125000 100000", "9"]
    running.config.write_text(config.format(128, 2, 99))
    assert running.call("reload")["reloaded"] == ["one"]
    assert limits() == [str(128 * 2**20), "1", "300000 100000", "99"]


def test_memory_beyond_the_limit_is_told_as_such(given: Subtree, daemon: Daemons) -> None:
    """What is in a file of no file system is in no process's memory: the kernel kills the worker with its children."""
    needs(given, "memory")
    eat = """
    @command
    def eat(self):
        if os.fork() == 0:
            time.sleep(3600)
        file = os.memfd_create("eaten")
        while True:
            os.write(file, bytes(1024 * 1024))
    """
    body = "\n".join(line[4:] for line in eat.splitlines())
    running = given.start(
        daemon,
        plugins={"one": behaving("One", body=body), "two": plain("Two")},
        config='[plugins.one]\nlimits = { memory = "48MiB" }\n',
    )
    leaf = cgroup_of(worker_of(running, "one"))
    other = worker_of(running, "two")
    with running.client() as client:
        client.socket.sendall(b"\x94\x00\x01\xa4call\x91\x82\xa4name\xa3one\xa7command\xa3eat")
        wait_until(lambda: running.plugin("one")["state"] != "running", "the end of it")
    expected = "killed by the kernel (OOM): it needed more memory than its limit of 48 MiB"
    why = running.call("why", name="one")
    assert (why["last_error"], why["exit"]) == (expected, "killed by SIGKILL")
    assert expected in why["summary"]
    wait_until(lambda: not leaf.exists(), "the end of the leaf")
    assert worker_of(running, "two") == other


def test_processes_are_limited_whoever_has_them(given: Subtree, daemon: Daemons) -> None:
    """Also of root, whom the kernel limits in no other way."""
    needs(given, "pids")
    count = """
    @command
    def count(self):
        pids = []
        try:
            for _ in range(50):
                pid = os.fork()
                if pid == 0:
                    time.sleep(3600)
                pids.append(pid)
        except BlockingIOError:
            pass
        for pid in pids:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
        return len(pids)
    """
    body = "\n".join(line[4:] for line in count.splitlines())
    user = 'user = "root"\n' if os.getuid() == 0 else ""
    running = given.start(
        daemon,
        plugins={"one": behaving("One", body=body)},
        config=f"[plugins.one]\n{user}limits = {{ processes = 8 }}\n",
    )
    assert running.call("call", name="one", command="count") == 7
    assert not [note for note in running.call("describe", name="one")["unconfined"] if "processes" in note]


def test_a_plugin_takes_no_more_cores_than_it_may(given: Subtree, daemon: Daemons) -> None:
    """What would be killed a moment later for the CPU time that it takes is slowed down meanwhile."""
    needs(given, "cpu")
    spin = """
    @command
    def spin(self):
        for _ in range(4):
            if os.fork() == 0:
                while True:
                    pass
    """
    body = "\n".join(line[4:] for line in spin.splitlines())
    running = given.start(
        daemon, plugins={"one": behaving("One", body=body)}, config="[plugins.one]\nlimits.cpu = 0.1\n"
    )
    leaf = cgroup_of(worker_of(running, "one"))
    before = wait_until(lambda: (leaf / "cpu.stat").read_text())
    assert "nr_throttled 0" in before
    running.call("call", name="one", command="spin")

    def throttled() -> bool:
        try:
            return "nr_throttled 0" not in (leaf / "cpu.stat").read_text()
        except OSError:
            return False

    if (os.cpu_count() or 1) > 1:
        wait_until(throttled, "that it is slowed down")
    wait_until(lambda: running.plugin("one")["state"] != "running", "that it is killed")
    assert "of a core outside of its collections" in running.call("why", name="one")["last_error"]


# How they are found, on files as the kernel has them

HYBRID = """\
24 1 0:23 / /sys/fs/cgroup rw - tmpfs tmpfs rw
25 24 0:24 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
26 24 0:25 / /sys/fs/cgroup/uni\\040fied rw - cgroup2 cgroup2 rw
"""
UNIFIED = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
BOUND = "30 23 0:26 /machine.slice/c1 /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"


@pytest.mark.parametrize(
    ("own", "mounts", "path"),
    [
        ("0::/system.slice/plugd.service\n", UNIFIED, "/sys/fs/cgroup/system.slice/plugd.service"),
        ("4:memory:/x\n0::/system.slice/p\n", HYBRID, "/sys/fs/cgroup/uni fied/system.slice/p"),
        ("0::/machine.slice/c1/p\n", BOUND, "/sys/fs/cgroup/p"),
        ("0::/machine.slice/c12/p\n", BOUND, None),
        ("0::/\n", UNIFIED, None),
        ("0::/../other\n", UNIFIED, None),
        ("0::/gone (deleted)\n", UNIFIED, None),
        ("4:memory:/x\n", HYBRID, None),
        ("0::/p\n", "25 24 0:24 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n", None),
        ("", "", None),
    ],
)
def test_the_own_cgroup_is_found_wherever_it_is_mounted(own: str, mounts: str, path: str | None) -> None:
    """Of a machine, of a container, and beside the old ones; never the root, and nothing outside of a namespace."""
    assert own_cgroup(own, mounts) == path


def marked(path: Path) -> None:
    try:
        os.setxattr(path, "user.delegate", b"1")
    except OSError:
        pytest.skip("this file system has no attributes of users")


def test_the_mark_of_systemd_is_what_counts(tmp_path: Path) -> None:
    """On the own cgroup, or on the one above it, where DelegateSubgroup= has made a leaf."""
    leaf = tmp_path / "unit" / "leaf"
    leaf.mkdir(parents=True)
    assert delegation.delegated(str(leaf)) is None
    marked(tmp_path / "unit")
    assert delegation.delegated(str(leaf)) == str(tmp_path / "unit")
    assert delegation.delegated(str(tmp_path / "unit")) == str(tmp_path / "unit")
    (leaf / "further").mkdir()
    assert delegation.delegated(str(leaf / "further")) is None


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Makes cgroups of plain files, which are written as the kernel's are: a line is added, or a word."""

    def write(path: str, value: str) -> None:
        assert Path(path).exists(), path
        with open(path, "a") as file:
            file.write(f"{value}\n" if path.endswith("procs") else f"{value.removeprefix('+')} ")

    def make(directory: Path, procs: str = "", controllers: str = "") -> Path:
        directory.mkdir(exist_ok=True)
        (directory / "cgroup.procs").write_text(procs)
        (directory / "cgroup.controllers").write_text(controllers)
        (directory / "cgroup.subtree_control").write_text("")
        return directory

    monkeypatch.setattr(delegation, "write", write)
    return make


def test_the_daemon_moves_into_a_leaf_with_all_that_is_there(kernel: Callable[..., Path], tmp_path: Path) -> None:
    """Then only are controllers enabled: those that are there, and are of use."""
    unit = kernel(tmp_path / "unit", procs="4242\n", controllers="cpuset memory io pids\n")
    leaf = kernel(unit / "daemon")
    taken = take(str(unit), str(unit))
    os.close(taken.lock)
    assert taken == Delegation(str(unit), str(leaf), taken.lock, ("memory", "pids"))
    assert (leaf / "cgroup.procs").read_text() == f"{os.getpid()}\n4242\n"


def test_a_daemon_that_is_in_a_leaf_already_stays(kernel: Callable[..., Path], tmp_path: Path) -> None:
    """DelegateSubgroup= has put it there. Nobody else has it then."""
    unit = kernel(tmp_path / "unit")
    leaf = kernel(unit / "supervisor")
    taken = take(str(unit), str(leaf))
    with pytest.raises(BlockingIOError):
        take(str(unit), str(leaf))
    os.close(taken.lock)
    assert taken == Delegation(str(unit), str(leaf), taken.lock, ())
    assert (leaf / "cgroup.procs").read_text() == ""
    assert not (unit / "daemon").exists()


def test_what_was_delegated_and_cannot_be_used_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with ProtectControlGroups=, which makes it read-only."""

    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(delegation, "own_cgroup", lambda *_: str(tmp_path))
    monkeypatch.setattr(delegation, "delegated", lambda path: path)
    monkeypatch.setattr(delegation, "take", refuse)
    with pytest.raises(DelegationError, match="read-only file system"):
        delegation.take_delegated()
    there = Cgroups.take()
    assert there.controllers is None
    assert "ProtectControlGroups=" in there.notes[0]
    assert there.assign("cpu", WorkerLimitsConfig()) is None


# How they are named, and what is said of them


def test_a_leaf_has_the_name_of_its_plugin_and_a_number(tmp_path: Path) -> None:
    """No two have the same, and only the controllers that there are have files."""
    there = Cgroups(Delegation(str(tmp_path), str(tmp_path / "daemon"), -1, ("memory",)))
    limits = WorkerLimitsConfig(memory=2**25)
    first, second = there.assign("disk@data", limits), there.assign("disk@data", limits)
    assert first is not None
    assert second is not None
    assert first.path == f"{tmp_path}/plugin-disk@data.1"
    assert first.path != second.path
    assert first.limits == {"memory.max": str(2**25), "memory.oom.group": "1"}
    (tmp_path / "memory.swap.max").touch()
    swapping = Cgroups(Delegation(str(tmp_path), str(tmp_path / "daemon"), -1, ("memory",))).assign("disk", limits)
    assert swapping is not None
    assert swapping.limits["memory.swap.max"] == "0"


@pytest.mark.parametrize(
    ("name", "directory"),
    [
        ("cpu", "cpu"),
        ("munin.df_abs", "munin.df_abs"),
        ("a/../b", "a\\x2f..\\x2fb"),
        ("tür\n", "t\\xc3\\xbcr\\x0a"),
    ],
)
def test_a_name_is_no_path(name: str, directory: str) -> None:
    """What means something to the kernel is escaped as systemd does it."""
    assert escaped(name) == directory


def test_a_long_name_is_cut_and_stays_its_own() -> None:
    """A directory's name has at most 255 bytes."""
    names = {escaped("x" * 200 + end) for end in "ab"}
    assert len(names) == 2
    assert {len(name) for name in names} == {cgroups.NAME_BYTES}


@pytest.mark.parametrize(("share", "value"), [(0.01, "101000 100000"), (0.5, "150000 100000"), (3, "400000 100000")])
def test_the_share_is_on_top_of_the_core_for_requests(share: float, value: str) -> None:
    """Nothing that keeps to its limit is slowed down."""
    assert cpu_max(share) == value


@pytest.mark.parametrize(
    ("events", "said"),
    [
        ("low 0\nhigh 0\nmax 9\noom 1\noom_kill 2\noom_group_kill 1\n", "its limit of 32 MiB"),
        ("low 0\nhigh 0\nmax 0\noom 0\noom_kill 1\n", "the host had no memory left"),
        ("low 0\nhigh 0\nmax 5\noom 1\noom_kill 0\n", None),
        ("", None),
        (None, None),
    ],
)
def test_the_end_of_memory_is_told(tmp_path: Path, events: str | None, said: str | None) -> None:
    """The plugin's limit and the host's end of memory are two things: memory.events has both."""
    if events is not None:
        (tmp_path / "memory.events").write_text(events)
    why = Leaf(str(tmp_path), {}, 2**25).why_killed()
    assert (why is None) == (said is None)
    assert said is None or said in (why or "")


def test_a_worker_without_its_cgroup_says_so(tmp_path: Path) -> None:
    """It runs all the same, within the limits that there are without."""
    assert enter({"path": str(tmp_path / "none" / "leaf"), "limits": {}}) == ["cgroup: No such file or directory"]
    failed = enter({"path": str(tmp_path / "leaf"), "limits": {"pids.max": "3"}})
    assert failed == ["cgroup: pids.max: No such file or directory", "cgroup: No such file or directory"]


def test_a_leaf_that_was_never_made_is_gone(tmp_path: Path) -> None:
    """A worker may die before it makes it; one that stays has its deadline."""
    assert delegation.remove(str(tmp_path / "none"), time.monotonic())
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    assert not delegation.remove(str(tmp_path / "full"), time.monotonic())
