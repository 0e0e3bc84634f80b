"""The command lines of plugd install and uninstall, and when they are refused."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from harness import ROOT
from install_rig import Image, needs_systemd, run

from plugd.install import command, errors
from plugd.install.installer import Installer

booted = pytest.mark.skipif(os.path.isdir("/run/systemd/system"), reason="systemd runs here, so it is not refused")


@pytest.mark.parametrize(
    "arguments",
    [["install", "--purge"], ["uninstall", "--now"], ["install", "x"], ["install", "--dry"], ["install", "--root"]],
)
def test_wrong_usage_exits_64(arguments: list[str]) -> None:
    """It is told on stderr, with the usage of the verb."""
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (64, "")
    assert done.stderr.startswith(f"usage: plugd {arguments[0]} ")


def test_nothing_can_be_started_in_an_image(image: Image) -> None:
    """--now is for the system that runs."""
    assert "with --root nothing runs" in image.plugd("install", "--now", status=64)


@pytest.mark.parametrize("verb", ["install", "uninstall"])
def test_help_names_flags_and_exit_codes(verb: str) -> None:
    """As plugd's own help does, which names both verbs."""
    done = run(verb, "--help")
    assert done.returncode == 0
    for word in ("--dry-run", "--root", "--json", "69", "71", "77", "--now" if verb == "install" else "--purge"):
        assert word in done.stdout
    assert f"plugd {verb}" in run("--help").stdout


def test_a_verb_is_the_first_word() -> None:
    """After a flag it is wrong usage, as any other word is."""
    assert run("--log-level", "info", "install").returncode == 64


@pytest.mark.parametrize("verb", ["install", "uninstall"])
def test_only_root_may(
    verb: str, image: Image, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Others are told so, and that there are no services of users; nothing is looked at before."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(Installer, "_carry_out", None)  # lest a fault of the check install anything here
    assert command.main(verb, ["--root", "/"]) == 77
    told = capsys.readouterr().err
    assert "only root can" in told
    assert "systemctl --user" in told


@booted
@pytest.mark.parametrize("verb", ["install", "uninstall"])
def test_without_a_running_systemd_it_is_refused(verb: str) -> None:
    """With the way out for chroots and images. It is a dry run, lest a fault of the test install anything."""
    done = run(verb, "--dry-run")
    assert (done.returncode, done.stdout) == (69, "")
    assert "systemd does not run here" in done.stderr
    assert "--root" in done.stderr


@needs_systemd
def test_an_ordinary_user_can_install_into_an_image_of_theirs(image: Image) -> None:
    """No root is needed for files that are one's own."""
    if os.geteuid() == 0:
        pytest.skip("these tests are root's")
    image.plugd("install")


def test_paths_never_reach_the_terminal_raw(tmp_path: Path) -> None:
    """A directory's name with an escape sequence is shown, and not obeyed."""
    done = run("install", "--root", str(tmp_path / "\x1b[31m"))
    assert done.returncode == 69
    assert "\\x1b[31m" in done.stderr
    assert "\x1b" not in done.stderr


def test_the_daemon_has_nothing_of_it(tmp_path: Path) -> None:
    """What only root needs, once, is not in a process that runs for months."""
    program = "import sys, plugd.cli, plugd.daemon; print([name for name in sys.modules if 'plugd.install' in name])"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_documentation_has_every_flag_and_exit_status() -> None:
    """docs/install.md names exactly those that there are."""
    page = (ROOT / "docs/install.md").read_text()
    documented = {int(number) for number in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)}
    assert documented == {value for name, value in vars(errors).items() if name.startswith("EXIT_")}
    flags = set(re.findall(r"^\| `(--[\w-]+)", page, re.MULTILINE))
    for verb in ("install", "uninstall"):
        actions = [action.option_strings[-1] for action in command._parser(verb)._actions]
        assert set(actions) - {"--help"} <= flags, verb
        flags -= set() if verb == "install" else set(actions)
    assert flags == {"--now"}
