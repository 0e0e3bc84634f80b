"""Munin's plugins, imported as a directory with Munin's own configuration of them."""

import os
import pwd
from pathlib import Path

import pytest
from harness import Daemons, wait_until
from programs import metrics, table, write_program

MULTIGRAPH = """
case $1 in
config) echo 'multigraph disk'; echo 'a.type COUNTER'; echo 'multigraph disk.sda'; echo 'a.label x';;
*) echo 'multigraph disk'; echo 'a.value 1'; echo 'multigraph disk.sda'; echo 'a.value 2';;
esac
"""


def munin(directory: Path, conf: str = "", **plugins: str) -> str:
    """Write plugins and Munin's configuration of them; return the table that imports both."""
    (directory / "munin").mkdir(exist_ok=True)
    (directory / "conf").mkdir(exist_ok=True)
    (directory / "conf" / "munin-node").write_text(conf)
    for name, source in plugins.items():
        write_program(directory / "munin" / name, source)
    return f'[import.munin]\ndirectory = "{directory}/munin"\nconf_dir = "{directory}/conf"\ninterval = 0.1\n'


def test_every_plugin_of_the_directory_is_imported(daemon: Daemons) -> None:
    """A link is a plugin by its own name, which it is called by; what is no program is not, and what nobody wants."""
    config = munin(daemon.directory, df='echo "a.value 1"', skip="echo a.value 1")
    wildcard = write_program(daemon.directory / "if_", 'echo "a.value ${0##*/if_}"')
    (daemon.directory / "munin" / "if_42").symlink_to(wildcard)
    (daemon.directory / "munin" / "README").write_text("nothing")
    (daemon.directory / "munin" / "gone").symlink_to("/nowhere")
    running = daemon(plugins={}, config=f'{config}except = ["skip"]\n')
    states = {row["name"]: row["state"] for row in running.call("list")}
    assert states == {"munin.df": "running", "munin.if_42": "running"}
    assert metrics(running, "munin.if_42") == {("munin.if_42.a",): 42}
    notes = " ".join(running.call("status")["notes"])
    assert "gone: a symbolic link to what is not there" in notes


def test_reload_sees_what_comes_and_goes(daemon: Daemons) -> None:
    """A new link is loaded and one that is gone unloaded, as files of plugins are."""
    running = daemon(plugins={}, config=munin(daemon.directory, one="echo a.value 1"))
    write_program(daemon.directory / "munin" / "two", "echo a.value 2")
    (daemon.directory / "munin" / "one").unlink()
    answer = running.call("reload")
    assert (answer["loaded"], answer["unloaded"]) == (["munin.two"], ["munin.one"])


def test_a_table_of_its_own_wins(daemon: Daemons) -> None:
    """What [plugins."munin.NAME"] says holds for an imported plugin, and what it leaves out stays."""
    config = munin(daemon.directory, one='echo "a.value $X$Y"', two="echo a.value 2", conf="[one]\nenv.X 1\nenv.Y 2\n")
    config += '[plugins."munin.one"]\ninterval = 7\nenvironment = { X = "3" }\n[plugins."munin.two"]\nenabled = false\n'
    running = daemon(plugins={}, config=config)
    assert [(row["name"], row["interval"]) for row in running.call("list")] == [("munin.one", 7.0)]
    assert metrics(running, "munin.one") == {("munin.one.a",): 32}


def test_graphs_of_one_plugin_keep_their_names(daemon: Daemons) -> None:
    """Each `multigraph` section is a graph, and each field has its own type."""
    running = daemon(plugins={}, config=munin(daemon.directory, disk=MULTIGRAPH))
    rows = {row["name"]: (row["kind"], row["value"]) for row in running.call("stats")["metrics"]}
    assert rows == {"munin.disk.a": ("counter", 1.0), "munin.disk.sda.a": ("gauge", 2.0)}


def test_the_configuration_is_read_once_and_a_dirty_one_needs_no_fetch(daemon: Daemons) -> None:
    """`config` is run at the start and seldom after it; where it has the values, nothing else is run with it."""
    log = daemon.directory / "calls"
    log.touch()
    log.chmod(0o666)
    source = f'echo "${{1:-fetch}} $MUNIN_CAP_DIRTYCONFIG" >>{log}; echo "a.value 5"'
    config = munin(daemon.directory, probe=source) + f'[plugins."munin.probe"]\nsandbox = {{ write = ["{log}"] }}\n'
    running = daemon(plugins={}, config=config)
    wait_until(lambda: running.plugin("munin.probe")["collects"] > 3)
    calls = log.read_text().splitlines()
    assert calls[0] == "config 1"
    assert set(calls[1:]) == {"fetch 1"}
    assert metrics(running, "munin.probe") == {("munin.probe.a",): 5}


def test_it_has_the_environment_of_munin(daemon: Daemons) -> None:
    """MUNIN_* and what plugin-conf.d says are in it; the state directory is its own, and stays over a reload."""
    source = (
        'read n <$MUNIN_PLUGSTATE/n || n=0; echo $((n+1)) >$MUNIN_PLUGSTATE/n; echo "$MUNIN_LIBDIR $LC_ALL $own" >&2;'
        'echo "a.value $n"'
    )
    running = daemon(plugins={}, config=munin(daemon.directory, probe=source, conf="[pro*]\nenv.own mine\n"))
    wait_until(lambda: metrics(running, "munin.probe").get(("munin.probe.a",), 0) > 3)
    running.call("reload", names=["munin.probe"])
    wait_until(lambda: metrics(running, "munin.probe")[("munin.probe.a",)] > 6)
    assert "/usr/share/munin C mine" in [row["line"] for row in running.records("plugin_output")]
    state = daemon.directory / "state" / "munin" / "munin.probe"
    assert state.stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_it_runs_as_the_user_of_plugin_conf(daemon: Daemons) -> None:
    """`user` of plugin-conf.d by name, and else a user of its own; each can write to its state directory."""
    source = 'touch $MUNIN_PLUGSTATE/x && echo "a.value $(id -u)"'
    config = munin(
        daemon.directory, one=source, two=source, three=source, conf="[one]\nuser nobody\n[three]\nuser root\n"
    )
    running = daemon(plugins={}, config=config)
    values = {row["name"]: row["value"] for row in running.call("stats")["metrics"]}
    assert values["munin.one.a"] == pwd.getpwnam("nobody").pw_uid
    assert 61184 <= values["munin.two.a"] <= 65519
    assert values["munin.three.a"] == 0


def test_autoconf_may_be_asked_first(daemon: Daemons) -> None:
    """With `autoconf = true`, one that says no is `failed` with its reason, and is not run."""
    no = '[ "$1" = autoconf ] && exec echo "no (no such server)"; echo a.value 1'
    yes = '[ "$1" = autoconf ] && exec echo yes; echo a.value 1'
    running = daemon(plugins={}, config=munin(daemon.directory, no=no, yes=yes) + "autoconf = true\n")
    assert running.plugin("munin.yes")["state"] == "running"
    row = running.plugin("munin.no")
    assert row["state"] == "failed"
    assert "no such server" in row["last_error"]


def test_what_plugd_cannot_do_is_a_fault_of_that_plugin(daemon: Daemons) -> None:
    """A plugin that Munin runs by another program is not run without it."""
    config = munin(daemon.directory, one="echo a.value 1", conf="[one]\ncommand sudo -u x %c\n")
    running = daemon(plugins={}, config=config)
    assert "runs it by another program" in running.plugin("munin.one")["last_error"]


def test_names_that_no_plugin_can_have_are_fitted(daemon: Daemons) -> None:
    """Capitals and colons are replaced; of two that come to be the same, the second is left out, and told of."""
    running = daemon(plugins={}, config=munin(daemon.directory, Pg_ALL="echo a.value 1", pg_all="echo a.value 2"))
    assert metrics(running, "munin.pg_all") == {("munin.Pg_ALL.a",): 1}
    assert any("the same name, munin.pg_all" in note for note in running.call("status")["notes"])


def test_a_plugin_can_be_named_by_itself(daemon: Daemons) -> None:
    """Without [import], format = "munin" gives a program the same environment and the same care."""
    program = write_program(daemon.directory / "own", 'echo "a.value ${#MUNIN_PLUGSTATE}"')
    running = daemon(plugins={}, config=table("own", command=[program], format="munin"))
    assert metrics(running, "own") == {("munin.own.a",): float(len(f"{daemon.directory}/state/munin/own"))}


def test_it_can_be_asked_by_hand(daemon: Daemons) -> None:
    """`plugctl call NAME run config` and `autoconf` show what it says; other arguments are refused."""
    running = daemon(plugins={}, config=munin(daemon.directory, one='echo "got.value 1 $1"'))
    assert running.call("call", name="munin.one", command="run", args=["config"])["stdout"] == "got.value 1 config\n"
    assert running.plugctl("call", "munin.one", "run", "--rm").returncode != 0
