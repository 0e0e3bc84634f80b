"""Programs that do what they should not: each is a failure of that plugin alone, and nothing of it is left."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from harness import SHIPPED, Daemons, wait_until
from programs import metrics, table, wait_failure, write_program

GOOD = "echo 'm a=1'"
BAD = {
    "silent": ("true", "the program printed nothing"),
    "failing": ("echo first >&2; echo 'no such pool' >&2; exit 7", "exited with status 7: no such pool"),
    "killed": ("kill -SEGV $$", "was killed by SIGSEGV"),
    "binary": ("head -c 1000 /dev/zero", "printed what is no text"),
    "noise": ("head -c 5000 /dev/urandom | tr '\\0' x; echo", "nothing of its output can be read"),
    "endless": ("yes 'm a=1'", "printed more than 4 MiB, and was killed"),
    "hanging": ("exec sleep 1000", "took longer than"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_program_fails_alone(name: str, daemon: Daemons) -> None:
    """`why` says what it did; the plugin beside it misses nothing, and no process of it is left."""
    source, reason = BAD[name]
    bad = write_program(daemon.directory / "bad", source)
    good = write_program(daemon.directory / "good", GOOD)
    config = table("bad", command=[bad], format="influx", timeout=0.5) + table("good", command=[good], format="influx")
    running = daemon(plugins={}, config=config)
    wait_failure(running, "bad", reason)
    assert running.plugin("good")["failures"] == 0
    assert metrics(running, "good") == {("m.a",): 1}
    running.call("unload", names=["bad", "good"])
    wait_until(lambda: set(running.processes().values()) == {"plugd", "plugd:forksrv"}, "no process of a plugin")


def test_one_that_does_not_end_is_killed_with_its_tree_and_its_worker_lives(daemon: Daemons) -> None:
    """At the deadline the program goes with all that it has started, in whatever session; the worker stays the same."""
    slow = daemon.directory / "slow"
    program = write_program(
        daemon.directory / "probe", f"if [ -e {slow} ]; then setsid sleep 2222 & sleep 1111; fi\n{GOOD}\n"
    )
    running = daemon(plugins={}, config=table("probe", command=[program], format="influx", timeout=0.5))
    pid = running.plugin("probe")["pid"]
    wait_until(lambda: running.plugin("probe")["collects"] > 3)  # It is not on probation any more.
    slow.touch()
    wait_failure(running, "probe", "took longer than 0.45 s, and was killed with what it had started")
    slow.unlink()
    collects = running.plugin("probe")["collects"]
    wait_until(lambda: running.plugin("probe")["collects"] > collects)
    assert running.plugin("probe")["pid"] == pid
    assert running.call("stats")["plugins"]["probe"]["timeouts"] >= 1
    assert "sleep" not in running.processes().values()


def test_what_a_program_leaves_behind_is_ended(daemon: Daemons) -> None:
    """A process that goes on after its program has ended, with its output still open, holds nothing up."""
    program = write_program(daemon.directory / "probe", f"setsid sleep 3333 &\n{GOOD}\n")
    running = daemon(plugins={}, config=table("probe", command=[program], format="influx"))
    wait_until(lambda: running.plugin("probe")["collects"] > 3)
    assert running.plugin("probe")["failures"] == 0
    wait_until(lambda: "sleep" not in running.processes().values())


def test_good_lines_are_kept_and_malformed_ones_told(daemon: Daemons) -> None:
    """The lines that can be read are stored; the others are counted, and `why` has the first of them, escaped."""
    program = write_program(daemon.directory / "probe", r"printf 'm a=1\nm a=\033[2J\nm b=2\nnothing\n'")
    running = daemon(plugins={}, config=table("probe", command=[program], format="influx"))
    assert metrics(running, "probe") == {("m.a",): 1, ("m.b",): 2}
    told = running.call("why", name="probe")
    assert told["malformed"].startswith("line 2: ")
    assert "\\x1b[2J" in told["malformed"]
    assert told["malformed"] in told["summary"]
    assert running.call("stats")["plugins"]["probe"]["malformed"] >= 2
    assert running.plugin("probe")["failures"] == 0
    assert running.records("output_malformed")[0]["first"] == told["malformed"]


def test_errors_of_a_program_are_in_its_log(daemon: Daemons) -> None:
    """What it writes to stderr is logged, and within bounds: no flood of it holds anything up."""
    program = write_program(daemon.directory / "probe", f"echo careful >&2; yes noise | head -c 1000000 >&2; {GOOD}")
    running = daemon(plugins={}, config=table("probe", command=[program], format="influx"))
    wait_until(lambda: running.plugin("probe")["collects"] > 3)
    assert running.plugin("probe")["failures"] == 0
    assert running.records("plugin_output")[0]["line"] == "careful"


def test_a_script_that_has_changed_does_not_run_before_a_reload(daemon: Daemons) -> None:
    """What was checked is what runs: other bytes are refused until `reload` has taken them."""
    program = write_program(daemon.directory / "probe", "echo 'm a=1'")
    running = daemon(plugins={}, config=table("probe", command=[program], format="influx"))
    before = running.plugin("probe")["sha256"]
    wait_until(lambda: running.plugin("probe")["collects"] > 3)
    write_program(program, "echo 'm a=2'")
    wait_failure(running, "probe", "has changed since it was checked")
    assert metrics(running, "probe") == {("m.a",): 1}
    assert running.call("reload")["reloaded"] == ["probe"]
    wait_until(lambda: metrics(running, "probe") == {("m.a",): 2})
    assert running.plugin("probe")["sha256"] != before


def test_a_script_that_was_only_touched_runs_on(daemon: Daemons) -> None:
    """The bytes decide, and not the time."""
    program = write_program(daemon.directory / "probe", GOOD)
    running = daemon(plugins={}, config=table("probe", command=[program], format="influx"))
    os.utime(program, (1, 1))
    collects = running.plugin("probe")["collects"]
    wait_until(lambda: running.plugin("probe")["collects"] > collects + 2)
    assert running.plugin("probe")["failures"] == 0
    assert running.call("reload")["unchanged"] == ["probe"]


def test_a_binary_that_was_replaced_runs_on_as_it_was(daemon: Daemons) -> None:
    """A binary is run by its descriptor: the one that was checked, whatever has its name now."""
    program = daemon.directory / "probe"
    shutil.copy2("/bin/echo", program)
    running = daemon(plugins={}, config=table("probe", command=[program, "m a=1"], format="influx"))
    shutil.copy2("/bin/false", daemon.directory / "other")
    (daemon.directory / "other").rename(program)
    collects = running.plugin("probe")["collects"]
    wait_until(lambda: running.plugin("probe")["collects"] > collects + 2)
    assert running.plugin("probe")["failures"] == 0


def test_a_command_knows_no_shell(daemon: Daemons) -> None:
    """Arguments arrive as they are written: nothing of them is expanded, split or run."""
    words = ["$(touch x) `id` $HOME *;|&", "two  blanks", ""]
    program = write_program(daemon.directory / "probe", f'for word; do echo "<$word>" >&2; done\n{GOOD}\n')
    running = daemon(plugins={}, config=table("probe", command=[program, *words], format="influx"))
    lines = [row["line"] for row in running.records("plugin_output")]
    assert lines[:3] == [f"<{word}>" for word in words]


def test_an_interpreter_that_is_not_there_is_told(daemon: Daemons) -> None:
    """So is a file that is neither a binary nor a script."""
    wrong = write_program(daemon.directory / "wrong", GOOD, "/nowhere/sh")
    plain = daemon.directory / "plain"
    plain.write_text("echo 1")
    plain.chmod(0o755)
    config = table("wrong", command=[wrong], format="influx") + table("plain", command=[plain], format="influx")
    running = daemon(plugins={}, config=config)
    assert "the interpreter that it names is not there" in running.plugin("wrong")["last_error"]
    assert "no script whose first line names its interpreter" in running.plugin("plain")["last_error"]


def test_a_program_of_strangers_is_refused(daemon: Daemons) -> None:
    """One that everybody may write is `failed`, with the remedy; so is one reached by such a directory."""
    program = write_program(daemon.directory / "probe", GOOD)
    program.chmod(0o777)
    loose = daemon.directory / "loose"
    loose.mkdir()
    loose.chmod(0o777)
    (loose / "link").symlink_to(SHIPPED.parent / "Makefile")
    config = table("probe", command=[program], format="influx") + table(
        "other", command=[loose / "link"], format="influx"
    )
    running = daemon(plugins={}, config=config)
    row = running.plugin("probe")
    assert (row["state"], row["sha256"]) == ("failed", "")
    assert f"chmod go-w {program}" in row["last_error"]
    assert f"chmod go-w {loose}" in running.plugin("other")["last_error"]


def test_options_and_settings_are_refused(daemon: Daemons) -> None:
    """A program that only prints can be told nothing."""
    config = table("probe", command=["true"], format="influx", options={"a": 1})
    running = daemon(plugins={}, config=config)
    assert "has no options" in running.plugin("probe")["last_error"]


def test_a_program_can_be_run_by_hand(daemon: Daemons) -> None:
    """`plugctl call NAME run` runs it as a collection does, and gives what it prints."""
    program = write_program(daemon.directory / "probe", f"{GOOD}; echo ouch >&2; echo $PLUGD_PLUGIN")
    running = daemon(plugins={}, config=table("probe", command=[program], format="influx", interval=60))
    answer = running.call("call", name="probe", command="run")
    assert (answer["status"], answer["stdout"], answer["stderr"]) == (0, "m a=1\nprobe\n", "ouch")


def test_it_runs_where_and_with_what_it_is_told(daemon: Daemons) -> None:
    """Its working directory and its environment are those of its table, and nothing is on its stdin."""
    Path(daemon.directory / "here").mkdir()
    program = write_program(daemon.directory / "probe", 'echo "m,pwd=$PWD,x=$X,in=$(wc -c) a=1"')
    config = table("probe", command=[program], format="influx", cwd=daemon.directory / "here", environment={"X": "y-z"})
    running = daemon(plugins={}, config=config)
    labels = {f"pwd={daemon.directory}/here", "x=y-z", "in=0"}
    assert {frozenset(key[1:]) for key in metrics(running, "probe")} == {frozenset(labels)}


def test_it_may_write_to_tmp_and_to_nothing_else(daemon: Daemons) -> None:
    """Programs take /tmp for granted; whatever else they write to has to be named."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as other:
        Path(other).chmod(0o777)
        source = f'a=0 b=0; file=$(mktemp -p /tmp) && rm $file && a=1; (: >{other}/x) && b=1; echo "m a=$a,b=$b"'
        program = write_program(daemon.directory / "probe", source)
        running = daemon(plugins={}, config=table("probe", command=[program], format="influx"))
        unconfined = " ".join(running.call("describe", name="probe")["unconfined"])
        expected = 1 if "no Landlock" in unconfined else 0
        assert metrics(running, "probe") == {("m.a",): 1, ("m.b",): expected}


def test_what_it_may_read_includes_the_program(daemon: Daemons) -> None:
    """With `sandbox.read`, it can be run all the same."""
    program = write_program(daemon.directory / "probe", GOOD)
    config = table("probe", command=[program], format="influx", sandbox={"read": ["/srv"]})
    running = daemon(plugins={}, config=config)
    assert metrics(running, "probe") == {("m.a",): 1}
