"""The rig itself: nothing of a machine is left, however its end came."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import cgroups
import pytest
from conftest import or_skip
from harness import wait_until
from machine import booted
from tree import RELEASES, Release, UnavailableError

HERE = Path(__file__).parent

WAITING = """
import subprocess
import sys

import machine
import tree


def test_that_waits():
    with machine.booted(tree.RELEASES[{release!r}]) as booted:
        with booted.popen("sh", "-c", "echo; exec sleep infinity", stdout=subprocess.PIPE) as process:
            process.stdout.readline()
            print("booted", booted.name, file=sys.__stdout__, flush=True)
            process.wait()
"""


# What has nothing to do with what is on the machine.
once = pytest.mark.parametrize("release", ["bookworm"], indirect=True)


def left(name: str) -> list[str]:
    """Return what is left of a machine: directories, groups, mounts, processes."""
    directories = [str(path) for path in Path(tempfile.gettempdir()).glob(f"{name}*")]
    hierarchies = Path("/sys/fs/cgroup").rglob(f"{name}*")
    mounts = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if name in line]
    return [*directories, *map(str, hierarchies), *mounts, *processes(name)]


def processes(name: str) -> list[str]:
    """Return the processes that are in a group of this name, or have the name in their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            text = (path / "cgroup").read_text() + (path / "cmdline").read_text()
        except OSError:
            continue  # It has ended.
        if name in text:
            found.append(f"process {path.name}: {text}")
    return found


def test_nothing_is_left(release: Release, package: Path) -> None:
    """Neither after its end, nor is the tree that it was made of another one."""
    with booted(release) as machine:
        name = machine.name
        machine.shell("echo changed >/etc/changed; mkdir /srv/changed; sleep infinity >/dev/null 2>&1 &")
        assert left(name)
    assert left(name) == []
    with booted(release) as machine:
        assert machine.run("ls", "/etc/changed", "/srv/changed").stdout == ""
        assert machine.output("systemctl", "is-system-running") == "running"
        assert machine.output("systemctl", "--version").split()[1] == str(release.systemd)
        assert machine.output("python3", "--version").startswith(f"Python {release.python}.")


@once
def test_machines_do_not_meet(release: Release, package: Path) -> None:
    """Two of them, one beside the other: each has its own files, processes and names."""
    with booted(release) as one, booted(release) as other:
        assert one.output("uname", "-n") == one.name != other.name == other.output("uname", "-n")
        one.write("/srv/mine", "")
        assert other.run("ls", "/srv/mine").returncode != 0
        process = one.popen("sleep", "infinity")
        assert other.run("pgrep", "sleep").stdout == ""
    process.wait()
    assert left(one.name) + left(other.name) == []


@once
def test_a_command_is_run_as_a_user(release: Release, package: Path) -> None:
    """With the user's groups, and not in a directory of this machine's."""
    with booted(release) as machine:
        machine.output("usermod", "--append", "--groups", "games", "alice")
        assert machine.output("id", "-un", user="alice") == "alice"
        assert "games" in machine.output("id", "-Gn", user="alice").split()
        assert machine.output("pwd", user="alice") == "/"


@once
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_run_leaves_nothing(
    release: Release, package: Path, tmp_path: Path, number: signal.Signals
) -> None:
    """Ctrl-C takes the machine down; where pytest is killed, the kernel does, and the next run removes the rest."""
    (tmp_path / "test_waiting.py").write_text(WAITING.format(release=release.name))
    with subprocess.Popen(
        [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", f"--rootdir={tmp_path}", tmp_path],
        env=os.environ | {"PYTHONPATH": f"{HERE.parent}:{HERE}"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as run:
        assert run.stdout is not None
        try:
            name = next(line for line in run.stdout if "booted" in line).split()[-1]
            run.send_signal(number)
            run.wait(60)
        finally:
            run.kill()
        wait_until(lambda: not processes(name), f"the end of {name}")
    assert run.returncode == (2 if number == signal.SIGINT else -number)
    if number != signal.SIGINT:
        with booted(release):
            pass
    assert left(name) == []


@pytest.mark.parametrize(
    ("release", "preventable", "ci", "outcome"),
    [
        ("bookworm", True, "", pytest.skip.Exception),
        ("bookworm", True, "true", pytest.fail.Exception),
        ("bookworm", False, "true", pytest.skip.Exception),
        ("trixie", True, "true", pytest.skip.Exception),
    ],
)
def test_what_ci_prepares_is_not_skipped(
    release: str, preventable: bool, ci: str, outcome: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Elsewhere, and for what it cannot help, the reason is told, with the release."""
    monkeypatch.setenv("CI", ci)

    def cannot() -> None:
        raise UnavailableError("there is no mmdebstrap: apt-get install mmdebstrap", preventable=preventable)

    with pytest.raises(outcome, match="there is no mmdebstrap: apt-get install mmdebstrap"):
        or_skip(RELEASES[release], cannot)


def test_the_hierarchies_of_a_container_are_found() -> None:
    """Of both versions, and where a mount shows but a part of them."""
    both = "12:cpu:/\n1:name=systemd:/a\n0::/a\n"
    mounts = (
        "30 25 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
        "31 25 0:27 / /sys/fs/cgroup/systemd rw shared:9 - cgroup cgroup rw,xattr,name=systemd\n"
        "32 25 0:28 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
    )
    expected = [Path("/sys/fs/cgroup/systemd/a"), Path("/sys/fs/cgroup/unified/a")]
    assert cgroups.hierarchies(both, mounts) == expected
    part = "40 25 0:26 /docker/x /sys/fs/cgroup rw - cgroup2 cgroup rw,nsdelegate\n"
    assert cgroups.hierarchies("0::/docker/x/y\n", part) == [Path("/sys/fs/cgroup/y")]
    assert cgroups.hierarchies("0::/\n", part) == [Path("/sys/fs/cgroup")]
    assert cgroups.hierarchies("0::/\n", mounts.splitlines()[2]) == []
