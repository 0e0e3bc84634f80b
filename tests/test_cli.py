"""plugd's command line, in processes of its own."""

import grp
import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest

from plugd import __version__, cli
from plugd.settings import Settings


def plugd(*arguments: str, cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    clean = {"PATH": os.environ["PATH"], "HOME": str(cwd), "CONFIGURATION_DIRECTORY": str(cwd / "etc"), **environ}
    return subprocess.run(
        [sys.executable, "-m", "plugd", *arguments],
        cwd=cwd,
        env=clean,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
    )


def test_version(tmp_path: Path) -> None:
    """--version names the program and its version."""
    result = plugd("--version", cwd=tmp_path)
    assert (result.returncode, result.stdout, result.stderr) == (0, f"plugd {__version__}\n", "")


def test_help_names_every_flag(tmp_path: Path) -> None:
    """--help has every flag of the contract, and the exit codes."""
    result = plugd("--help", cwd=tmp_path)
    assert result.returncode == 0
    for flag in (
        "--config",
        "--plugin-dir",
        "--socket",
        "--state-dir",
        "--log-level",
        "--log-format",
        "--check-config",
        "--version",
        "69",
    ):
        assert flag in result.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["--no-such-flag"],
        ["--check-conf"],
        ["argument"],
        ["--log-level", "loud"],
        ["--log-format", "xml"],
        ["--config"],
    ],
)
def test_wrong_usage_exits_64(arguments: list[str], tmp_path: Path) -> None:
    """Wrong usage is told on stderr; abbreviations are wrong usage."""
    result = plugd(*arguments, cwd=tmp_path)
    assert (result.returncode, result.stdout) == (64, "")
    assert result.stderr.startswith("usage: plugd ")


def test_check_config_without_a_file(tmp_path: Path) -> None:
    """No file at all is a valid configuration."""
    result = plugd("--check-config", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == "configuration is valid: no file, all defaults\n"


def test_check_config_names_the_files(tmp_path: Path) -> None:
    """All files that were read are named, in order."""
    (tmp_path / "etc" / "plugd.d").mkdir(parents=True)
    files = [tmp_path / "etc" / "plugd.toml", tmp_path / "etc" / "plugd.d" / "a.toml"]
    for file in files:
        file.write_text("")
    result = plugd("--check-config", cwd=tmp_path)
    assert result.stdout == f"configuration is valid: {files[0]} {files[1]}\n"


@pytest.mark.parametrize("arguments", [["--check-config"], []])
def test_an_invalid_configuration_exits_78_with_every_fault(arguments: list[str], tmp_path: Path) -> None:
    """One fault a line on stderr, whether it is to be checked or to be run."""
    file = tmp_path / "x.toml"
    file.write_text('[plugins.cpu]\ninterval = "soon"\n[log]\nlevle = "info"\n')
    result = plugd(*arguments, "--config", "x.toml", cwd=tmp_path)
    assert (result.returncode, result.stdout) == (78, "")
    assert result.stderr.splitlines() == [
        f"{file}: $.plugins.cpu.interval: expected a duration such as '10s' or '1h30m', got 'soon'",
        f"{file}: $.log.levle: unknown key; did you mean 'level'?",
    ]


@pytest.mark.parametrize("arguments", [["--check-config"], []])
def test_unknown_groups_and_users_are_faults(arguments: list[str], tmp_path: Path) -> None:
    """Each is told with its file and key, whether the configuration is to be checked or to be run."""
    file, drop_in = tmp_path / "x.toml", tmp_path / "plugd.d" / "a.toml"
    drop_in.parent.mkdir()
    file.write_text(
        '[control]\ngroup = "no_group"\noperators = ["root", "no_operators"]\nadmins = ["no\\u0000admins"]\n'
        '[plugins."disk@data"]\nuser = "no_user"\n'
    )
    drop_in.write_text('[workers]\nuser = "no_worker"\n')
    result = plugd(*arguments, "--config", "x.toml", cwd=tmp_path)
    assert (result.returncode, result.stdout) == (78, "")
    assert result.stderr.splitlines() == [
        f"{file}: $.control.group: there is no group 'no_group'",
        f"{file}: $.control.operators[1]: there is no group 'no_operators'",
        f"{file}: $.control.admins[0]: there is no group 'no\\x00admins'",
        f"{drop_in}: $.workers.user: there is no user 'no_worker'",
        f"{file}: $.plugins.\"disk@data\".user: there is no user 'no_user'",
    ]


def test_known_groups_and_users_are_no_faults(tmp_path: Path) -> None:
    """A number needs no entry, and auto is no name."""
    group, user = grp.getgrall()[0].gr_name, pwd.getpwall()[-1].pw_name
    (tmp_path / "x.toml").write_text(
        f'[control]\ngroup = "{group}"\noperators = ["{group}"]\nadmins = ["{group}"]\n[workers]\nuser = "auto"\n'
        f'[plugins]\na.user = "{user}"\nb.user = "root"\nc.user = 4000000001\nd.user = 0\n'
    )
    result = plugd("--check-config", "--config", "x.toml", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")


def test_faults_of_flags_and_files_are_listed_together(tmp_path: Path) -> None:
    """A missing plugin directory and a missing file are both told."""
    result = plugd("--config", "none.toml", "--plugin-dir", "none", "--plugin-dir", ".", cwd=tmp_path)
    assert result.returncode == 78
    assert result.stderr.splitlines() == [
        f"--plugin-dir: cannot use '{tmp_path}/none': no such directory",
        f"{tmp_path}/none.toml: cannot read: no such file or directory",
    ]


def test_faults_never_reach_the_terminal_raw(tmp_path: Path) -> None:
    """A key with an escape sequence is shown, not obeyed, and stays on its line."""
    (tmp_path / "x.toml").write_text('"\\u001b[31m\\n" = 1\n')
    result = plugd("--check-config", "--config", "x.toml", cwd=tmp_path)
    assert result.stderr == f'{tmp_path}/x.toml: $."\\x1b[31m\\n": unknown key\n'


def test_closed_standard_descriptors_are_no_failure(tmp_path: Path) -> None:
    """Without stdin, stdout and stderr the exit code still tells, and no other file takes their numbers."""
    program = "import os; os.closerange(0, 3); from plugd.cli import main; code = main(['--check-config'])\n"
    program += "os._exit(code if os.path.samefile('/proc/self/fd/2', '/dev/null') else 1)"
    result = subprocess.run(
        [sys.executable, "-c", program], env={"CONFIGURATION_DIRECTORY": str(tmp_path)}, timeout=30, check=False
    )
    assert result.returncode == 0


def test_starting_imports_no_rich(tmp_path: Path) -> None:
    """structlog alone would import rich, where it is installed: 50 ms and 5 MB for nothing."""
    program = "import sys, plugd.cli; sys.exit(any(name.split('.')[0] == 'rich' for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", program], cwd=tmp_path, timeout=30, check=False).returncode == 0


def test_the_daemon_is_run_with_the_resolved_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What flags say arrives in the daemon, absolute, and its exit code is the program's."""
    seen: list[Settings] = []

    class FakeDaemon:
        @staticmethod
        def run(settings: Settings) -> int:
            seen.append(settings)
            return 69

    monkeypatch.setitem(sys.modules, "plugd.daemon", FakeDaemon)
    monkeypatch.setenv("CONFIGURATION_DIRECTORY", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    code = cli.main(["--plugin-dir", ".", "--socket", "s", "--state-dir", "/state", "--log-level", "debug"])
    assert code == 69
    (settings,) = seen
    assert settings.plugin_dirs == (str(tmp_path),)
    assert (settings.socket, settings.state_dir) == (str(tmp_path / "s"), "/state")
    assert settings.config.log.level == "debug"
    assert settings.config_path is None
