"""Secrets of plugins: that each has its own, and nobody else has them; with real daemons, of root and of others."""

import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from harness import ROOT, Daemon, Daemons, RpcError, runs_as, wait_until, write_plugin

from plugd.worker import landlock

NOBODY = 65534
SECRET = "correct horse battery staple"

needs_landlock = pytest.mark.skipif(not landlock.abi(), reason="this kernel has no Landlock")

READER = '''
"""Tells what it can read."""

import os
from plugd.plugin import Gauge, Plugin, command


class {title}(Plugin):
    interval = 3600.0

    value = Gauge("test.value")

    def __init__(self):
        self.at_once = dict(self.credentials)

    def collect(self):
        yield self.value(1)

    @command
    def credentials_of_it(self):
        return {{name: value.decode() for name, value in self.credentials.items()}}

    @command
    def shown(self):
        return [repr(self.credentials), self.at_once == dict(self.credentials)]

    @command
    def missing(self):
        return self.credentials["another"]

    @command
    def environment(self):
        return dict(os.environ)

    @command
    def read(self, path: str):
        try:
            with open(path) as file:
                return file.read()
        except OSError as error:
            return type(error).__name__

    @command
    def walk(self, path: str):
        return sorted(os.path.join(top, file) for top, _, files in os.walk(path) for file in files)
'''

VAULT = r"""
#include <plugd.h>
#include <stdio.h>
#include <stdlib.h>

static long length;

static int open_vault(struct plugd_host *host, const struct plugd_value *options)
{
    char path[4096], text[256];
    const char *directory = getenv("CREDENTIALS_DIRECTORY");

    (void)options;
    snprintf(path, sizeof path, "%s/password", directory ? directory : "");
    FILE *file = fopen(path, "r");
    if (!file)
        return plugd_fail(host, "cannot open %s", path);
    length = (long)fread(text, 1, sizeof text, file);
    fclose(file);
    return PLUGD_OK;
}

static const struct plugd_metric metrics[] = {{.kind = PLUGD_GAUGE, .name = "vault.length", .unit = "By"}};

static int collect(struct plugd_host *host, struct plugd_buffer *buffer)
{
    plugd_emit(buffer, plugd_series0(host, 0), (double)length);
    return PLUGD_OK;
}

static const struct plugd_descriptor plugin = {
    .header = PLUGD_HEADER, .version = "1", .metrics = metrics, .metric_count = PLUGD_COUNT(metrics),
    .open = open_vault, .collect = collect,
};

const struct plugd_descriptor *plugd_plugin(void) { return &plugin; }
"""

CONFIG = '[plugins.holder]\ncredentials = ["password"]\n'


def reader(name: str) -> str:
    return READER.format(title=name.title())


@pytest.fixture(params=["root", "nobody"])
def uid(request: pytest.FixtureRequest) -> int | None:
    """The user that the daemon has: its workers have users of their own, or all the same."""
    if os.getuid() != 0:
        if request.param == "root":
            pytest.skip("only root can run plugd as root")
        return None
    if request.param == "nobody" and not runs_as(NOBODY):
        pytest.skip("nobody else can run plugd where it is installed")
    return NOBODY if request.param == "nobody" else None


class Place:
    """A directory of credentials, as systemd makes one for a unit."""

    def __init__(self, directory: Path, uid: int | None) -> None:
        self.path = directory / "given"
        self.uid = os.getuid() if uid is None else uid
        self.path.mkdir(mode=0o700)
        os.chown(self.path, self.uid, -1)
        self.environ = {"CREDENTIALS_DIRECTORY": str(self.path)}

    def put(self, name: str, text: str) -> Path:
        file = self.path / name
        file.unlink(missing_ok=True)
        file.write_text(text)
        file.chmod(0o400)
        os.chown(file, self.uid, -1)
        return file


@pytest.fixture
def place(daemon: Daemons, uid: int | None) -> Place:
    """Where the daemon's credentials are: one of them is there."""
    made = Place(daemon.directory, uid)
    made.put("password", SECRET)
    return made


def start(daemon: Daemons, place: Place, config: str = CONFIG, **changes: object) -> Daemon:
    plugins = {"holder": reader("holder"), "other": reader("other")}
    uid = place.uid if place.uid != os.getuid() else None
    return daemon(plugins=plugins, config=config, environ=place.environ, uid=uid, **changes)  # type: ignore[arg-type]


def call(running: Daemon, name: str, command: str, *arguments: str) -> object:
    return running.call("call", name=name, command=command, args=list(arguments))


def test_a_plugin_has_the_credentials_that_its_table_names(daemon: Daemons, place: Place) -> None:
    """As a mapping, from ``__init__`` on; another plugin has none."""
    place.put("another", "not for it")
    running = start(daemon, place)
    assert call(running, "holder", "credentials_of_it") == {"password": SECRET}
    assert call(running, "holder", "shown") == ["<credentials: password>", True]
    assert call(running, "other", "credentials_of_it") == {}
    with pytest.raises(RpcError, match="no credential 'another'"):
        call(running, "holder", "missing")


def test_the_files_of_a_directory_that_systemd_loads_have_a_prefix(daemon: Daemons, place: Place) -> None:
    """LoadCredential=plugd:/etc/plugd/credentials makes plugd_NAME of NAME; the plain name comes first."""
    place.put("plugd_token", "of the directory")
    place.put("plugd_password", "not this one")
    running = start(daemon, place, '[plugins.holder]\ncredentials = ["password", "token"]\n')
    assert call(running, "holder", "credentials_of_it") == {"password": SECRET, "token": "of the directory"}


def test_the_variable_is_the_plugins_own(daemon: Daemons, place: Place) -> None:
    """It leads to a directory with this plugin's credentials; the daemon's own is nobody's."""
    place.put("another", "not for it")
    running = start(daemon, place)
    environment = call(running, "holder", "environment")
    assert isinstance(environment, dict)
    directory = environment["CREDENTIALS_DIRECTORY"]
    assert directory != str(place.path)
    assert call(running, "holder", "walk", directory) == [f"{directory}/password"]
    assert call(running, "holder", "read", f"{directory}/password") == SECRET
    other = call(running, "other", "environment")
    assert isinstance(other, dict)
    assert "CREDENTIALS_DIRECTORY" not in other


@needs_landlock
def test_no_plugin_reads_what_it_was_not_given(daemon: Daemons, place: Place) -> None:
    """Neither where systemd put it nor where another plugin has it: even as a user who may read everything."""
    kept = place.put("another", "not for it")
    running = start(daemon, place)
    environment = call(running, "holder", "environment")
    assert isinstance(environment, dict)
    copy = f"{environment['CREDENTIALS_DIRECTORY']}/password"
    for path in (copy, str(place.path / "password"), str(kept)):
        assert call(running, "other", "read", path) == "PermissionError"
        assert call(running, "other", "read", f"/proc/1/root{path}") == "PermissionError"
        assert (
            call(running, "other", "read", f"/proc/{running.plugin('holder')['pid']}/root{path}") == "PermissionError"
        )
    for path in (str(place.path / "password"), str(kept)):
        assert call(running, "holder", "read", path) == "PermissionError"
    # All else is as it was.
    for path in ("/etc/passwd", "/proc/self/stat", str(running.config)):
        assert call(running, "other", "read", path) != "PermissionError"


@needs_landlock
def test_paths_of_the_sandbox_do_not_open_what_is_hidden(daemon: Daemons, place: Place) -> None:
    """A directory that leads to it may be named all the same: everything in it but that is allowed."""
    (daemon.directory / "near").mkdir()
    (daemon.directory / "near" / "file").write_text("read")
    tables = ""
    for name, sandbox in (("holder", "read"), ("other", "write")):
        tables += f"[plugins.{name}]\ncredentials = {['password'] if name == 'holder' else []}\n"
        tables += f'[plugins.{name}.sandbox]\n{sandbox} = ["{daemon.directory}"]\n'
    running = start(daemon, place, tables)
    for name in ("holder", "other"):
        assert call(running, name, "read", str(daemon.directory / "near" / "file")) == "read"
        assert call(running, name, "read", str(place.path / "password")) == "PermissionError"
    assert call(running, "holder", "credentials_of_it") == {"password": SECRET}


def test_a_missing_credential_fails_its_plugin_alone(daemon: Daemons, place: Place) -> None:
    """The error names it and where it was looked for; `check` finds it too; when it is there, a reload loads it."""
    running = start(daemon, place, '[plugins.holder]\ncredentials = ["password", "db_password"]\n')
    row = running.plugin("holder")
    expected = f"there is no credential 'db_password': neither db_password nor plugd_db_password is in {place.path}"
    assert row["state"] == "failed"
    assert expected in row["last_error"]
    assert running.plugin("other")["state"] == "running"
    assert expected in running.call("check", name="holder")["faults"][0]["message"]
    assert expected in running.call("reload", names=["holder"])["failed"][0]["error"]["message"]
    place.put("db_password", "there")
    assert running.call("check", name="holder")["ok"]
    assert running.call("reload")["reloaded"] == ["holder"]
    assert call(running, "holder", "credentials_of_it") == {"password": SECRET, "db_password": "there"}


def test_a_reload_reads_them_anew(daemon: Daemons, place: Place) -> None:
    """What counts is the value, and not the time; where it is gone, the old generation goes on with what it has."""
    running = start(daemon, place)
    place.put("password", SECRET)
    assert "holder" in running.call("reload")["unchanged"]
    place.put("password", "changed")
    assert running.call("reload")["reloaded"] == ["holder"]
    assert call(running, "holder", "credentials_of_it") == {"password": "changed"}
    (place.path / "password").unlink()
    (failed,) = running.call("reload")["failed"]
    assert "no credential 'password'" in failed["error"]["message"]
    assert call(running, "holder", "credentials_of_it") == {"password": "changed"}


def test_the_first_secret_has_all_plugins_walled_off(daemon: Daemons, place: Place) -> None:
    """Workers that started when there was none could read it, and are replaced."""
    (place.path / "password").unlink()
    running = start(daemon, place, "")
    before = running.plugin("other")["pid"]
    place.put("password", SECRET)
    running.config.write_text(CONFIG)
    assert running.call("reload")["reloaded"] == ["holder", "other"]
    assert running.plugin("other")["pid"] != before
    if landlock.abi():
        assert call(running, "other", "read", str(place.path / "password")) == "PermissionError"


def test_values_are_told_to_nobody(daemon: Daemons, place: Place) -> None:
    """Neither in the log nor in an answer, and the daemon has none in its memory, which might end in a core."""
    running = start(daemon, place, "[log]\nlevel = 'debug'\n" + CONFIG)
    place.put("password", SECRET + " 2")
    running.call("reload")
    answers = [running.call(method) for method in ("list", "status", "stats", "logs", "version")]
    answers += [running.call(method, name="holder") for method in ("describe", "why", "check")]
    os.kill(running.plugin("holder")["pid"], signal.SIGKILL)
    wait_until(lambda: running.plugin("holder")["state"] != "running", "the failure")
    answers += [running.call(method, name="holder") for method in ("describe", "why")]
    assert SECRET not in str(answers)
    assert SECRET not in running.log
    if os.getuid() == 0:
        assert not in_memory(running.pid, SECRET.encode())
        assert in_memory(running.pid, b"plugd_ready")  # It would be found.


def in_memory(pid: int, text: bytes) -> bool:
    """Whether a process has a text anywhere in its memory."""
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in maps:
            start, _, end = line.split()[0].partition("-")
            if "rw" not in line.split()[1]:
                continue
            try:
                memory.seek(int(start, 16))
                if text in memory.read(int(end, 16) - int(start, 16)):
                    return True
            except (OSError, OverflowError):
                continue  # The kernel's own.
    return False


def test_nothing_of_them_is_left(daemon: Daemons, place: Place) -> None:
    """Neither by a plugin that goes, nor by a daemon that stops, nor for long by one that is killed."""
    running = start(daemon, place)
    copies = daemon.directory / "run" / "credentials"

    def there() -> list[Path]:
        return [path for path in copies.rglob("*") if path.is_file()]

    assert len(there()) == 1
    running.call("reload", names=["holder"])
    assert len(there()) == 1
    assert running.call("check", name="holder")["ok"]
    running.call("unload", names=["holder"])
    assert there() == []
    running.call("load", names=["holder"])
    running.stop()
    assert there() == []
    killed = start(daemon, place)
    assert killed.stop(signal.SIGKILL) == -signal.SIGKILL
    assert len(there()) == 1
    last = start(daemon, place, "")
    assert there() == []
    assert last.plugin("holder")["state"] == "running"


@pytest.mark.parametrize(
    ("kind", "reason"), [("directory", "not a regular file"), ("fifo", "not a regular file"), ("large", "larger than")]
)
def test_what_is_no_credential_is_refused(daemon: Daemons, place: Place, kind: str, reason: str) -> None:
    """A FIFO is not waited for."""
    odd = place.path / "odd"
    if kind == "directory":
        odd.mkdir()
    elif kind == "fifo":
        os.mkfifo(odd)
    else:
        odd.write_bytes(bytes(1024 * 1024 + 1))
    os.chown(odd, place.uid, -1)
    running = start(daemon, place, '[plugins.holder]\ncredentials = ["odd"]\n')
    assert f"{odd}: {reason}" in running.plugin("holder")["last_error"]
    assert running.plugin("other")["state"] == "running"


def test_without_systemd_they_are_beside_the_configuration(daemon: Daemons) -> None:
    """Or where `credentials_dir` says, which has the last word; a link leads to what it leads to."""
    directory = daemon.directory / "etc" / "credentials"
    directory.mkdir(parents=True)
    (daemon.directory / "there").write_text("by a link")
    (directory / "password").symlink_to(daemon.directory / "there")
    running = daemon(plugins={"holder": reader("holder")}, config=CONFIG)
    assert call(running, "holder", "credentials_of_it") == {"password": "by a link"}
    elsewhere = daemon.directory / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "password").write_text("elsewhere")
    running.config.write_text(f'credentials_dir = "{elsewhere}"\n{CONFIG}')
    assert running.call("reload")["reloaded"] == ["holder"]
    assert call(running, "holder", "credentials_of_it") == {"password": "elsewhere"}


def test_a_program_finds_them_as_systemds_units_do(daemon: Daemons, place: Place) -> None:
    """$CREDENTIALS_DIRECTORY/NAME, for a program of any kind."""
    script = daemon.directory / "script"
    script.write_text('#!/bin/sh\necho "size value=$(wc -c <"$CREDENTIALS_DIRECTORY/password")i"\n')
    script.chmod(0o755)
    table = f'[plugins.program]\ncommand = ["{script}"]\nformat = "influx"\ncredentials = ["password"]\n'
    running = start(daemon, place, CONFIG + table)
    wait_until(lambda: running.plugin("program")["collects"], "a collection")
    (row,) = running.call("stats", patterns=["program"])["metrics"]
    assert row["value"] == len(SECRET)


def test_a_shared_object_finds_them_in_the_same_way(daemon: Daemons, place: Place) -> None:
    """getenv(3) and open(2)."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no cc on PATH")
    file = daemon.directory / "vault.c"
    file.write_text(VAULT)
    plugins = daemon.directory / "plugins"
    plugins.mkdir()
    include = ROOT / "plugd" / "include"
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-Wall", "-Werror", f"-I{include}", "-o", plugins / "vault.so", file], check=True
    )
    place.put("password", "12345")
    running = start(daemon, place, CONFIG + '[plugins.vault]\ncredentials = ["password"]\n')
    wait_until(lambda: running.plugin("vault")["collects"], "a collection")
    (row,) = running.call("stats", patterns=["vault"])["metrics"]
    assert row["value"] == 5


def test_a_plugin_that_comes_later_has_its_own_at_once(daemon: Daemons, place: Place) -> None:
    """Two plugins may be given the same."""
    running = start(daemon, place)
    write_plugin(daemon.directory / "plugins", "late", reader("late"))
    running.config.write_text(CONFIG + '[plugins.late]\ncredentials = ["password"]\n')
    assert running.call("reload")["loaded"] == ["late"]
    assert call(running, "late", "credentials_of_it") == {"password": SECRET}
    assert call(running, "holder", "credentials_of_it") == {"password": SECRET}


def test_the_example_reads_its_password(daemon: Daemons, place: Place) -> None:
    """The plugin of docs/secrets.md, without the line end that a file mostly has."""
    (source,) = re.findall(
        r"<!-- orders.py -->\n+```python\n(.*?)```", (ROOT / "docs/secrets.md").read_text(), re.DOTALL
    )
    place.put("db_password", "123456\n")
    (daemon.directory / "plugins").mkdir()
    write_plugin(daemon.directory / "plugins", "orders", source)
    running = start(daemon, place, '[plugins.orders]\ncredentials = ["db_password"]\n')
    (row,) = running.call("stats", patterns=["orders"])["metrics"]
    assert row["value"] == 6
