"""What the configuration says of programs, and what `plugd --check-config` finds wrong with it."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from harness import BIN, Daemons, clean_environ
from programs import table, write_program

from plugd.catalog.commands import command_plugin
from plugd.catalog.lock import Lock
from plugd.catalog.programs import follow, inspect_program
from plugd.catalog.trust import Distrusted, Trust, trusted_owners
from plugd.config import Config, ConfigError, PluginConfig, merge, parse, validate
from plugd.formats.nrpe import parse_nrpe


def config_of(text: str) -> Config:
    return validate(merge([parse(text.encode(), "x.toml")]))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (
            'command = "ls -l"\nformat = "influx"',
            "command: expected an array of text, got 'ls -l'; a command is an array",
        ),
        ('command = []\nformat = "influx"', "command: expected a program and its arguments"),
        ('command = ["bin/x"]\nformat = "influx"', "command: expected an absolute path, or a program's name"),
        ('command = ["-x"]\nformat = "influx"', "command: expected an absolute path, or a program's name"),
        ('command = ["ls", 5]\nformat = "influx"', "command: expected an array of text, got 5"),
        ('command = ["ls", "a\\u0000b"]\nformat = "influx"', "command: an argument has no NUL"),
        ('command = ["ls"]', "command: needs a format as well"),
        ('command = ["ls"]\nformat = "nagois"', "format: expected one of nagios"),
        ('command = ["ls"]\nformat = "nagios"\nmode = "daemon"', "mode: format 'nagios' has no mode 'daemon'"),
        ('command = ["ls"]\nformat = "plugd"\nmode = "oneshot"', "mode: format 'plugd' has no mode 'oneshot'"),
        ('command = ["ls"]\nformat = "influx"\ncwd = "~/x"', "cwd: expected an absolute path"),
        ('format = "influx"', "format: is for a plugin with a command"),
        ('mode = "oneshot"', "mode: is for a plugin with a command"),
    ],
)
def test_what_does_not_go_together_is_a_fault(text: str, fault: str) -> None:
    """Each is told with its key."""
    with pytest.raises(ConfigError) as caught:
        config_of(f"[plugins.x]\n{text}\n")
    assert any(f"$.plugins.x.{fault}" in str(each) for each in caught.value.faults), caught.value.faults


def test_words_of_python_are_keys() -> None:
    """`import` and `except` are keys of the configuration as any other."""
    config = config_of('[import.munin]\ndirectory = "/x"\nexcept = ["a*"]\n')
    assert config.import_.munin.except_ == ("a*",)
    with pytest.raises(ConfigError, match=r"\$\.import\.munin\.excepted: unknown key"):
        config_of("[import.munin]\nexcepted = []\n")


def test_check_config_names_every_program_that_may_not_run(tmp_path: Path, daemon: Daemons) -> None:
    """Each with its file, its key and the remedy; it starts nothing, and a start goes on without them."""
    directory = daemon.directory
    loose = write_program(directory / "loose", "true")
    loose.chmod(0o757)
    (directory / "plain").write_text("x")
    config = directory / "x.toml"
    programs = {
        "gone": "/nowhere/x",
        "loose": str(loose),
        "plain": str(directory / "plain"),
        "unknown": "nosuchprogram",
    }
    text = "".join(table(name, command=[program], format="influx") for name, program in programs.items())
    config.write_text(f'{text}[import.munin]\ndirectory = "/nowhere/munin"\n')
    done = subprocess.run(
        [BIN / "plugd", "--check-config", "--config", config],
        env=clean_environ(directory),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 78
    lines = done.stderr.splitlines()
    assert [line.split(": ")[1] for line in lines] == [
        *(f"$.plugins.{name}.command" for name in programs),
        "$.import.munin.directory",
    ]
    for line, reason in zip(
        lines, ("no such file", "chmod go-w", "chmod +x", "no program", "no such file"), strict=True
    ):
        assert reason in line


def test_links_are_followed_and_judged() -> None:
    """A program may be reached by links, as half of a system's are; what it leads to is what is hashed."""
    with Trust(trusted_owners()) as trust:
        assert follow(trust, "/bin/../bin/sh") == os.path.realpath("/bin/sh")
        assert inspect_program(trust, "/bin/sh").path == "/bin/sh"


def test_a_link_that_anybody_could_change_is_refused(daemon: Daemons) -> None:
    """In a directory that others may write, and where it leads in circles."""
    loose = daemon.directory / "loose"
    loose.mkdir()
    loose.chmod(0o777)
    (loose / "sh").symlink_to("/bin/sh")
    (daemon.directory / "a").symlink_to("b")
    (daemon.directory / "b").symlink_to("a")
    with Trust(trusted_owners()) as trust:
        with pytest.raises(Distrusted, match="can be written by everybody"):
            follow(trust, str(loose / "sh"))
        with pytest.raises(Distrusted, match="more than 40 symbolic links"):
            follow(trust, str(daemon.directory / "a"))


def test_the_hash_is_of_the_bytes(daemon: Daemons) -> None:
    """It changes with each byte, also where nothing else does, and not with the time."""
    program = write_program(daemon.directory / "probe", "echo 1")
    seen = []
    for text in ("echo 1", "echo 2", "echo 1"):
        program.write_text(f"#!/bin/sh\n{text}")
        os.utime(program, (1, 1))
        with Trust(trusted_owners()) as trust:
            seen.append(inspect_program(trust, str(program)).sha256)
    assert seen[0] == seen[2] != seen[1]


def test_binaries_are_told_from_scripts(daemon: Daemons) -> None:
    """Only a binary can be run by its descriptor."""
    script = write_program(daemon.directory / "script", "true")
    binary = shutil.copy2("/bin/true", daemon.directory / "binary")
    with Trust(trusted_owners()) as trust:
        assert [inspect_program(trust, str(path)).binary for path in (script, binary)] == [False, True]


def test_the_lock_holds_for_programs(daemon: Daemons) -> None:
    """A program with another hash than the lock's does not run."""
    program = write_program(daemon.directory / "probe", "true")
    config = PluginConfig(command=(str(program),), format="influx")
    with Trust(trusted_owners()) as trust:
        sha256 = command_plugin(trust, "probe", config).sha256
        assert command_plugin(trust, "probe", config, Lock("lock", {"probe": sha256})).fault is None
        assert "differs from the lock" in (
            command_plugin(trust, "probe", config, Lock("lock", {"probe": "0" * 64})).fault or ""
        )


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("command[a]=/x -w 1", ("/x", "-w", "1")),
        ("command[a] = /x 'b c' \"d|e\" f\\ g", ("/x", "b c", "d|e", "f g")),
        ("command[a]=/x -p '$HOME'", ("/x", "-p", "$HOME")),
        ("command[a]=/x $ARG1$", None),
        ('command[a]=/x "$HOME"', None),
        ("command[a]=/x; y", None),
        ("command[a]=/x > /y", None),
        ("command[a]=/x 'open", None),
        ("command[a]=", None),
        ("command[]=/x", None),
    ],
)
def test_lines_of_nrpe(line: str, words: tuple[str, ...] | None) -> None:
    """Words are as a shell would have them; what only a shell could do is a fault."""
    commands, faults = parse_nrpe(f"# a comment\nserver_port=1\n{line}\n".encode())
    if words is None:
        assert not commands
        assert [fault.line for fault in faults] == [3]
    else:
        assert [command.argv for command in commands] == [words]
        assert not faults
