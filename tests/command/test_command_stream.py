"""Programs that go on: their lines are read as they come, and their end is the plugin's failure."""

import os
import signal
from pathlib import Path

from harness import Daemons, children, wait_until
from programs import metrics, table, wait_failure, write_program


def pid_of(running: object, name: str) -> int:
    """Return the pid of a program by its command line."""
    processes: dict[int, str] = running.processes()  # type: ignore[attr-defined]
    return next(pid for pid in processes if name.encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"))


def test_its_lines_are_given_at_the_next_tick(daemon: Daemons) -> None:
    """It is started once, and the latest value of each series is stored."""
    source = 'n=0; while :; do n=$((n+1)); echo "m a=$n,b=1"; sleep 0.05; done'
    program = write_program(daemon.directory / "probe", source)
    running = daemon(plugins={}, config=table("probe", command=[program], format="influx", mode="daemon"))
    pid = pid_of(running, str(program))
    wait_until(lambda: metrics(running, "probe").get(("m.a",), 0) > 10)
    assert metrics(running, "probe")[("m.b",)] == 1
    assert pid_of(running, str(program)) == pid
    assert running.plugin("probe")["failures"] == 0


def test_between_two_lines_there_is_what_there_was(daemon: Daemons) -> None:
    """A tick at which nothing has come takes nothing away, and makes up nothing."""
    program = write_program(daemon.directory / "probe", "echo 'PUTVAL h/p/gauge N:5'; exec sleep 1000")
    running = daemon(plugins={}, config=table("probe", command=[program], format="collectd", mode="daemon"))
    key = ("collectd.p.gauge", "host=h", "plugin_instance=", "type_instance=")
    first = running.call("stats", patterns=["probe"])["metrics"][0]["time"]
    collects = running.plugin("probe")["collects"]
    wait_until(lambda: running.plugin("probe")["collects"] > collects + 3)
    assert metrics(running, "probe") == {key: 5}
    assert running.call("stats", patterns=["probe"])["metrics"][0]["time"] == first


def test_its_end_is_a_failure_and_it_is_started_again(daemon: Daemons) -> None:
    """`why` tells how it ended and what it said last; the backoff decides when it is tried again."""
    source = "echo 'm a=1'; while [ ! -e end ]; do sleep 0.02; done; rm end; echo 'lost the pool' >&2; exit 3"
    program = write_program(daemon.directory / "probe", source)
    config = table(
        "probe", command=[program], format="influx", mode="daemon", cwd=daemon.directory,
        sandbox={"write": [daemon.directory]}, user="root" if os.getuid() == 0 else "auto",
    )  # fmt: skip
    running = daemon(plugins={}, config=f'[restart]\ndelay = "0.1s"\n{config}')
    wait_until(lambda: running.plugin("probe")["collects"] > 3)
    (daemon.directory / "end").touch()
    wait_failure(running, "probe", "the program exited with status 3")
    assert "lost the pool" in running.call("why", name="probe")["output"]
    wait_until(lambda: running.plugin("probe")["state"] == "running")
    assert running.call("stats")["plugins"]["probe"]["restarts"] == 1


def test_one_that_is_killed_is_told_of_at_once(daemon: Daemons) -> None:
    """Also between two ticks: its worker looks after it all the time."""
    program = write_program(daemon.directory / "probe", "echo 'm a=1'; exec sleep 1000")
    running = daemon(plugins={}, config=table("probe", command=[program], format="influx", mode="daemon", interval=600))
    os.kill(next(pid for pid, name in running.processes().items() if name == "sleep"), signal.SIGKILL)
    wait_failure(running, "probe", "the program was killed by SIGKILL")


def test_it_ends_with_its_plugin(daemon: Daemons) -> None:
    """Unloaded, it is told to end, and killed with what it has started where it does not."""
    source = "trap '' TERM; (trap '' TERM; setsid sleep 4444) & echo 'm a=1'; while :; do sleep 1; done"
    program = write_program(daemon.directory / "probe", source)
    running = daemon(plugins={}, config=table("probe", command=[program], format="influx", mode="daemon"))
    running.call("unload", names=["probe"])
    wait_until(lambda: set(running.processes().values()) == {"plugd", "plugd:forksrv"})


def test_malformed_lines_have_their_numbers(daemon: Daemons) -> None:
    """Lines are numbered from its start on, and one without end is skipped."""
    source = (
        "echo 'm a=1'; echo bad; head -c 600000 /dev/zero | tr '\\0' x; echo; echo 'm b=1'; echo worse; exec sleep 99"
    )
    program = write_program(daemon.directory / "probe", source)
    running = daemon(plugins={}, config=table("probe", command=[program], format="influx", mode="daemon"))
    wait_until(lambda: running.call("stats")["plugins"]["probe"]["malformed"] == 3)
    assert metrics(running, "probe").keys() >= {("m.b",)}
    firsts = [row["first"] for row in running.records("output_malformed")]
    assert firsts[0].startswith("line 2: ")


def test_a_program_that_floods_is_held_to_its_limits(daemon: Daemons) -> None:
    """It takes CPU time outside of collections, is ended for that, and holds nobody else up."""
    flood = write_program(daemon.directory / "flood", "yes 'm a=1'")
    good = write_program(daemon.directory / "good", "echo 'm a=1'")
    config = table("flood", command=[flood], format="influx", mode="daemon", interval=2, limits={"cpu": 0.05})
    running = daemon(plugins={}, config=config + table("good", command=[good], format="influx"))
    wait_failure(running, "flood", "of a core outside of its collections")
    assert running.plugin("good")["failures"] == 0


def test_one_shot_programs_are_no_daemons(daemon: Daemons) -> None:
    """A program that ends after its output is told of as such."""
    config = table("probe", command=["echo", "m a=1"], format="influx", mode="daemon")
    running = daemon(plugins={}, config=config)
    wait_failure(running, "probe", "the program exited with status 0")


def test_a_reload_starts_the_new_one_beside_the_old(daemon: Daemons) -> None:
    """The old program is ended when the new one has shown that it works; one that does not is not taken."""
    program = write_program(daemon.directory / "probe", "echo 'm a=1'; exec sleep 1000")
    running = daemon(plugins={}, config=table("probe", command=[program], format="influx", mode="daemon"))
    write_program(program, "exit 1")
    assert "exited with status 1" in running.call("reload")["failed"][0]["error"]["message"]
    assert running.plugin("probe")["generation"] == 1
    write_program(program, "echo 'm a=2'; exec sleep 1001")
    assert running.call("reload")["reloaded"] == ["probe"]
    assert running.plugin("probe")["generation"] == 2
    wait_until(lambda: list(running.processes().values()).count("sleep") == 1)


def test_orphans_of_a_program_are_reaped(daemon: Daemons) -> None:
    """What its children leave behind does not pile up as zombies below its worker."""
    source = "while :; do (true & true) & wait; (sleep 0.01 & ) ; echo 'm a=1'; sleep 0.02; done"
    program = write_program(daemon.directory / "probe", source)
    running = daemon(plugins={}, config=table("probe", command=[program], format="influx", mode="daemon"))
    wait_until(lambda: running.plugin("probe")["collects"] > 20)
    zombies = [pid for pid, (_, state) in children(running.plugin("probe")["pid"]).items() if state == "Z"]
    assert len(zombies) < 10
