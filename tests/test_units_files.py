"""The unit files, without a booted systemd: they agree with plugd, with each other and with docs/systemd.md."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from harness import ROOT, SHIPPED

from plugctl.arguments import parse
from plugd import cli
from plugd.config import ControlConfig
from plugd.rpc.address import SYSTEM_SOCKET
from plugd.units import parse_duration

UNITS = ROOT / "systemd"
EXAMPLES = sorted((UNITS / "examples").glob("*.conf"))
DOCS = (ROOT / "docs" / "systemd.md").read_text()

NEWER = {"type-notify-reload": 253}  # the version of systemd that a drop-in is for

needs_analyze = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to others")

Assignments = dict[tuple[str, str], list[str]]


def assignments(path: Path) -> Assignments:
    """Return what a unit file assigns, by section and key: systemd.syntax(7), of which no line is continued here."""
    found: Assignments = {}
    section = ""
    for line in path.read_text().splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line and not line.startswith(("#", ";")):
            key, equals, value = line.partition("=")
            assert equals, line
            found.setdefault((section, key), []).append(value)
    return found


SERVICE = assignments(UNITS / "plugd.service")
SOCKET = assignments(UNITS / "plugd.socket")


def the(unit: Assignments, section: str, key: str) -> str:
    """Return the only value of a key."""
    [value] = unit[section, key]
    return value


def documented(heading: str) -> set[str]:
    """Return what the rows of the table below a heading are about."""
    text = DOCS.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return set(re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE))


def test_every_program_is_one_of_plugds_and_understands_its_arguments() -> None:
    """They are where the package has them, and ``plugd install`` finds them by these paths."""
    commands = {key: values for (_, key), values in SERVICE.items() if key.startswith("Exec")}
    assert set(commands) == {"ExecStartPre", "ExecStart", "ExecReload"}
    for [command] in commands.values():
        program, *arguments = command.removeprefix("-").split()
        assert program in {"/usr/bin/plugd", "/usr/bin/plugctl"}
        if program.endswith("plugd"):
            cli._parser().parse_args(arguments)
        else:
            parse(arguments)


def test_a_reload_is_waited_for_no_longer_than_systemd_does() -> None:
    """So it is plugctl that tells why it gave up."""
    call = parse(the(SERVICE, "Service", "ExecReload").split()[1:])
    assert call.verb.name == "reload"
    assert call.timeout < parse_duration(the(SERVICE, "Service", "TimeoutStartSec"))


def test_the_socket_is_where_everybody_looks_for_it() -> None:
    """Clients, ``ExecReload=`` and the directory that is made for it name one place; its mode is plugd's default."""
    assert the(SOCKET, "Socket", "ListenStream") == SYSTEM_SOCKET
    assert the(SERVICE, "Service", "Environment") == f"PLUGD_SOCKET={SYSTEM_SOCKET}"
    assert int(the(SOCKET, "Socket", "SocketMode"), 8) == ControlConfig().mode
    lines = [line.split() for line in (UNITS / "plugd.tmpfiles").read_text().splitlines() if line[:1] != "#"]
    owners = {path: (kind, mode, user) for kind, path, mode, user, *_ in lines}
    assert owners[os.path.dirname(SYSTEM_SOCKET)] == ("d", the(SOCKET, "Socket", "DirectoryMode"), "root")
    # Else it would belong to plugd's user, who could then put another socket in its place.
    assert the(SERVICE, "Service", "RuntimeDirectory") == "plugd/private"


def test_an_invalid_configuration_is_not_tried_again() -> None:
    """The exit status that systemd is told of is plugd's own; what runs before it cannot start a loop."""
    assert the(SERVICE, "Service", "RestartPreventExitStatus") == str(cli.EXIT_CONFIG)
    assert the(SERVICE, "Service", "ExecStartPre").startswith("-")


def test_crashes_never_take_the_socket_down() -> None:
    """At a start limit, systemd would have the socket fail with the service; FlushPending would lose who waits."""
    assert the(SERVICE, "Unit", "StartLimitIntervalSec") == "0"
    assert the(SERVICE, "Service", "Restart") == "on-failure"
    assert ("Socket", "FlushPending") not in SOCKET


def test_credentials_may_be_missing() -> None:
    """A service does not start if a directory of LoadCredential= is not there, unless there is a default."""
    identifier, path = the(SERVICE, "Service", "LoadCredential").split(":")
    assert the(SERVICE, "Service", "SetCredential").startswith(f"{identifier}:")
    assert path in (UNITS / "plugd.tmpfiles").read_text()


def test_the_docs_have_every_plugin_and_every_drop_in() -> None:
    """docs/systemd.md says of each shipped plugin what it needs, and of each drop-in what it costs."""
    assert documented("The shipped plugins") == {path.stem for path in SHIPPED.glob("*.py")}
    assert documented("Drop-ins") >= {path.name for path in EXAMPLES}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_a_drop_in_says_where_it_goes_and_what_it_costs(path: Path) -> None:
    """In the comment at its head."""
    text = re.sub(r"\n# ?", " ", path.read_text().partition("\n[")[0])
    assert "Goes to /etc/systemd/system/plugd.service.d/" in text
    assert "It costs: " in text


@needs_analyze
@pytest.mark.parametrize("example", [None, *EXAMPLES], ids=lambda path: path.stem if path else "none")
def test_systemd_understands_every_line(example: Path | None, tmp_path: Path) -> None:
    """``systemd-analyze verify`` is silent, for each drop-in that this version of systemd is new enough for."""
    version = int(subprocess.check_output(["systemd-analyze", "--version"], text=True).split()[1])
    if example and version < NEWER.get(example.stem, 0):
        pytest.skip(f"{example.stem} needs systemd {NEWER[example.stem]}; this is {version}")
    program = shutil.which("true")
    for unit in ("plugd.service", "plugd.socket"):
        # What it checks besides the syntax is that the programs are there.
        text = re.sub(r"/usr/bin/plug(d|ctl)\b", str(program), (UNITS / unit).read_text())
        (tmp_path / unit).write_text(text)
    if example:
        (tmp_path / "plugd.service.d").mkdir()
        shutil.copy(example, tmp_path / "plugd.service.d")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "plugd.service", "plugd.socket"],
        cwd=tmp_path,
        env=os.environ | {"SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@needs_root
@pytest.mark.skipif(shutil.which("systemd-sysusers") is None, reason="there is no systemd-sysusers")
def test_the_user_is_made_with_a_group_of_its_name(tmp_path: Path) -> None:
    """It cannot log in, and its home is where plugd may write."""
    (tmp_path / "etc").mkdir()
    subprocess.run(["systemd-sysusers", f"--root={tmp_path}", UNITS / "plugd.sysusers"], check=True)
    name, _, uid, gid, _, home, shell = (tmp_path / "etc" / "passwd").read_text().strip().split(":")
    assert (name, home, shell) == ("plugd", "/var/lib/plugd", "/usr/sbin/nologin")
    assert 0 < int(uid) < 1000
    assert (tmp_path / "etc" / "group").read_text().startswith(f"plugd:x:{gid}:")


@needs_root
@pytest.mark.skipif(shutil.which("systemd-tmpfiles") is None, reason="there is no systemd-tmpfiles")
def test_the_directories_are_roots(tmp_path: Path) -> None:
    """Nobody else can write to them, or read the credentials."""
    subprocess.run(["systemd-tmpfiles", "--create", f"--root={tmp_path}", UNITS / "plugd.tmpfiles"], check=True)
    made = {path: (tmp_path / path).stat() for path in ("run/plugd", "etc/plugd/credentials")}
    assert {path: (each.st_uid, each.st_mode & 0o777) for path, each in made.items()} == {
        "run/plugd": (0, 0o755),
        "etc/plugd/credentials": (0, 0o700),
    }
