"""The forkserver behind a real daemon: many workers at once, its own death, and what is left of those nobody wants."""

import os
import signal
import time

import msgpack
from harness import Daemon, Daemons, wait_until, write_plugin
from hosting_plugins import plain

MANY = 20


def forkserver(running: Daemon) -> int | None:
    return next((pid for pid, name in running.processes().items() if name == "plugd:forksrv"), None)


def children(running: Daemon) -> set[int]:
    """Return the daemon's children, zombies included."""
    found = set()
    for thread in os.listdir(f"/proc/{running.pid}/task"):
        with open(f"/proc/{running.pid}/task/{thread}/children") as file:
            found.update(map(int, file.read().split()))
    return found


def descriptors(running: Daemon) -> int:
    return running.descriptors()


def test_many_workers_at_once(daemon: Daemons) -> None:
    """Twenty plugins that are loaded together are twenty processes, each the daemon's own child."""
    titles = [f"Plug{number}" for number in range(MANY)]
    running = daemon(plugins={title.lower(): plain(title, value=number) for number, title in enumerate(titles)})
    rows = running.call("list")
    assert [row["state"] for row in rows] == ["running"] * MANY
    pids = {row["pid"] for row in rows}
    assert len(pids) == MANY
    assert pids | {forkserver(running)} == children(running)
    values = {row["plugin"]: row["value"] for row in running.call("stats")["metrics"]}
    assert values == {title.lower(): number for number, title in enumerate(titles)}


def test_workers_are_named_and_hold_no_descriptor_of_another(daemon: Daemons) -> None:
    """ps shows whose a worker is; it has its streams, its channel, and nothing that was opened before it."""
    running = daemon(plugins={"one": plain("One"), "two": plain("Two")})
    for name in ("one", "two"):
        pid = running.plugin(name)["pid"]
        assert running.processes()[pid] == f"plugd:{name}"
        links = {int(fd): os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}
        assert sorted(links) == [0, 1, 2, 3]
        assert links[0] == "/dev/null"
        assert links[1].startswith("pipe:")
        assert links[2].startswith("pipe:")
        assert links[3].startswith("socket:")


def test_all_unloaded_leave_nothing(daemon: Daemons) -> None:
    """Processes and descriptors of the daemon are those of before."""
    running = daemon(plugins={})
    names = [f"plug{number}" for number in range(MANY)]
    for name in names:
        write_plugin(running.plugin_dir, name, plain(name.title()))
    with running.client() as client:  # The only connection: each would be a descriptor.
        wait_until(lambda: client.call("status")["connections"] == 1, "the end of the others")
        before = children(running), descriptors(running)
        for _ in range(2):
            assert client.call("load", names=names)["failed"] == []
            assert len(children(running)) == MANY + len(before[0])
            assert client.call("unload", names=names)["failed"] == []
            wait_until(lambda: (children(running), descriptors(running)) == before, "what there was before")


def test_workers_that_nobody_waits_for_leave_nothing(daemon: Daemons) -> None:
    """Requests that are given up while a worker is being forked leave no process, no zombie, no descriptor."""
    running = daemon(plugins={"plug": plain("Plug")})
    with running.client() as client:
        client.call("check", name="plug")
        wait_until(lambda: client.call("status")["connections"] == 1, "the end of the others")
        before = children(running), descriptors(running)
        for number in range(30):
            with running.client() as leaving:
                leaving.socket.sendall(msgpack.packb([0, 1, "check", [{"name": "plug"}]]))
                time.sleep(number * 0.0005)  # Another moment of its work each time.
        wait_until(lambda: (children(running), descriptors(running)) == before, "what there was before")
        assert client.call("check", name="plug")["ok"]
    assert "Traceback" not in running.log


def test_a_worker_may_be_unwanted_as_soon_as_it_is_there(daemon: Daemons) -> None:
    """One that is killed before it is the daemon's child, in the moment of its double fork, is reaped nevertheless."""
    running = daemon(plugins={"plug": plain("Plug")})
    with running.client() as client:
        wait_until(lambda: client.call("status")["connections"] == 1, "the end of the others")
        before = children(running), descriptors(running)
        for number in range(300):
            client.socket.sendall(msgpack.packb([0, 1, "check", [{"name": "plug"}]]))
            time.sleep(number % 50 * 0.0001)  # Another moment of its birth each time.
            client.socket.sendall(msgpack.packb([0, 2, "cancel", [{"request": 1}]]))
            answered: set[int] = set()
            unpacker = msgpack.Unpacker()
            while answered != {1, 2}:
                unpacker.feed(client.socket.recv(65536))
                answered |= {frame[1] for frame in unpacker}
            assert "Traceback" not in running.log
        wait_until(lambda: (children(running), descriptors(running)) == before, "what there was before")


def test_a_forkserver_that_dies_is_replaced(daemon: Daemons) -> None:
    """Again and again; its workers do not notice, and no zombie is left."""
    running = daemon(plugins={"quick": plain("Quick", interval=0.05)})
    worker = running.plugin("quick")["pid"]
    for count in range(1, 4):
        first = forkserver(running)
        assert first is not None
        os.kill(first, signal.SIGKILL)
        # What one that dies while it starts leaves behind has its name for a moment: the count tells them apart.
        wait_until(lambda count=count: running.call("status")["forkserver_restarts"] == count, "another forkserver")
        wait_until(lambda first=first: forkserver(running) not in (None, first), "its name")
        wait_until(lambda: children(running) == {worker, forkserver(running)}, "no more children than those")
    row = running.plugin("quick")
    assert (row["pid"], row["failures"], row["state"]) == (worker, 0, "running")
    collects = row["collects"]
    wait_until(lambda: running.plugin("quick")["collects"] > collects, "its ticks")


def test_a_load_outlives_the_forkservers_death(daemon: Daemons) -> None:
    """A load that finds the forkserver dead, however lately it died, is served by the next one."""
    running = daemon(plugins={})
    for title in ("One", "Two", "Three", "Four"):
        write_plugin(running.plugin_dir, title.lower(), plain(title))
        pid = forkserver(running)
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
        assert running.call("load", names=[title.lower()])["loaded"] == [title.lower()]


def test_a_forkserver_that_hangs_is_replaced(daemon: Daemons) -> None:
    """One that does not answer is of no use to anybody; the load that met it succeeds."""
    running = daemon(plugins={})
    first = wait_until(lambda: forkserver(running), "the forkserver's name")
    os.kill(first, signal.SIGSTOP)
    write_plugin(running.plugin_dir, "guest", plain("Guest"))
    with running.client() as loading:
        loading.socket.sendall(msgpack.packb([0, 1, "load", [{"names": ["guest"]}]]))
        assert running.call("ping") == "pong"
        wait_until(lambda: running.call("list") and running.plugin("guest")["state"] == "running", "the plugin")
    assert forkserver(running) not in (None, first)
    assert first not in children(running)
