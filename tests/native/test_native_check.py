"""`plugctl check PATH`: a file is tried without a daemon."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from harness import SHIPPED, clean_environ, plugctl, wait_until
from native_rig import Compiler, install, plugin_source


def check(path: str | Path, directory: Path) -> tuple[int, dict[str, Any], str]:
    """Return the status of a check, its result, and what went to stderr."""
    done = plugctl("--json", "check", str(path), directory=directory)
    return done.returncode, json.loads(done.stdout), done.stderr


def messages(path: str | Path, directory: Path) -> list[str]:
    """Return the faults of a file that has some."""
    status, result, _ = check(path, directory)
    assert (status, result["ok"], result["samples"], result["duration"]) == (1, False, None, None)
    assert {fault["path"] for fault in result["faults"]} == {str(path)}
    return [fault["message"] for fault in result["faults"]]


def test_a_native_plugin_is_tried(build: Compiler, tmp_path: Path) -> None:
    """Loaded, opened, collected from and closed; what it prints is not mixed into the result."""
    status, result, output = check(install(build(Path("full.c")), tmp_path, "full"), tmp_path)
    duration = result.pop("duration")
    assert (status, result) == (0, {"name": "full", "ok": True, "faults": [], "samples": 4})
    assert 0 < duration < 5
    assert output.splitlines() == ["opened full", "closed full"]


def test_people_read_a_line(build: Compiler, tmp_path: Path) -> None:
    """As they do of a check by the daemon."""
    path = install(build(Path("full.c")), tmp_path, "full")
    done = plugctl("check", "./full.so", directory=tmp_path)
    assert done.returncode == 0
    assert done.stdout.startswith("full ok: 4 samples in ")
    path.write_text("hello")
    done = plugctl("check", "full.so", directory=tmp_path)
    assert (done.returncode, done.stdout) == (
        1,
        f"{path}: not an ELF shared object: it begins with 'hell'\nfull invalid\n",
    )


def test_a_python_plugin_is_tried_as_well(tmp_path: Path) -> None:
    """With the lines of its faults."""
    assert check(SHIPPED / "load.py", tmp_path)[1]["samples"] == 3
    broken = tmp_path / "broken.py"
    broken.write_text("from plugd.plugin import Gauge, Plugin\nclass Broken(Plugin):\n    g = Gauge('9')\n")
    status, result, _ = check(broken, tmp_path)
    assert status == 1
    assert [(fault["line"], fault["path"]) for fault in result["faults"]] == [(None, str(broken)), (3, str(broken))]


def test_every_fault_is_told(build: Compiler, tmp_path: Path) -> None:
    """Of a declaration, all of them."""
    source = plugin_source("").replace('"probe.value"', '"1st"').replace('"probe.labelled"', '"2nd"')
    path = install(build(source), tmp_path, "faulty")
    assert [text.partition(":")[0] for text in messages(path, tmp_path)] == ["metric '1st'", "metric '2nd'"]


@pytest.mark.parametrize(
    ("body", "members", "message"),
    [
        ("*(volatile int *)0 = 1;", "", "collect: the plugin's process was killed by SIGSEGV"),
        ("abort();", "", "collect: the plugin's process was killed by SIGABRT"),
        ("exit(3);", "", "collect: the plugin's process exited with status 3"),
        ("for (;;) pause();", ".timeout = 0.1,", "collect took longer than 0.1 s"),
        ('return plugd_fail(host, "no");', "", "collect() failed: no"),
        ("plugd_emit(buffer, 9, 1);", "", "series 9 is none that plugd_series() has returned"),
    ],
)
def test_a_plugin_that_fails_fails_its_check(
    body: str, members: str, message: str, build: Compiler, tmp_path: Path
) -> None:
    """However it does; nothing of it goes on."""
    path = install(build(plugin_source(body, members)), tmp_path, "bad")
    assert messages(path, tmp_path) == [message]


def test_a_plugin_is_confined_while_it_is_tried(build: Compiler, tmp_path: Path) -> None:
    """It writes nothing, as it could not under plugd; so its author hears of it now."""
    marker = tmp_path / "written"
    body = f'FILE *file = fopen("{marker}", "w"); if (file == NULL) return plugd_fail(host, "it could not");'
    path = install(build(plugin_source(body)), tmp_path, "writer")
    tmp_path.chmod(0o777)
    if messages_of_landlock():
        pytest.skip("this kernel has no Landlock")
    assert messages(path, tmp_path) == ["collect() failed: it could not"]
    assert not marker.exists()


def messages_of_landlock() -> bool:
    from plugd.worker import landlock

    return landlock.abi() == 0


def test_what_it_starts_ends_with_the_check(build: Compiler, tmp_path: Path) -> None:
    """And what it leaves running when it is killed."""
    body = 'int child = fork(); if (child == 0) for (;;) pause(); fprintf(stderr, "%d\\n", child);'
    path = install(build(plugin_source(body)), tmp_path, "forks")
    status, _, output = check(path, tmp_path)
    assert status == 0
    wait_until(lambda: not Path(f"/proc/{int(output)}").exists(), "its end")


def test_a_file_that_cannot_be_read_is_a_fault(tmp_path: Path) -> None:
    """As is one of another kind, and one whose name no plugin can have."""
    assert messages(tmp_path / "gone.so", tmp_path) == ["cannot be read: no such file or directory"]
    assert messages(tmp_path / "x", tmp_path) == ["neither .py nor .so: a plugin is one or the other"]
    assert messages(tmp_path / "Upper.so", tmp_path)[0].startswith("not a plugin's name: a lowercase letter")


def test_a_name_is_still_asked_of_the_daemon(tmp_path: Path) -> None:
    """Without a daemon there is nobody to ask."""
    done = plugctl("--socket", str(tmp_path / "none"), "check", "cpu", directory=tmp_path)
    assert done.returncode == 3


def test_an_impatient_check_leaves_nothing_running(build: Compiler, tmp_path: Path) -> None:
    """plugctl's own deadline ends it, with the status that a deadline has."""
    path = install(build(plugin_source("for (;;) pause();")), tmp_path, "hangs")
    done = plugctl("--timeout", "1", "check", str(path), directory=tmp_path)
    assert done.returncode == 6

    def workers() -> list[str]:
        listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, env=clean_environ(tmp_path))
        return [line for line in listed.stdout.splitlines() if str(path) in line and f"{os.getpid()}" not in line]

    wait_until(lambda: not workers(), "its end")
