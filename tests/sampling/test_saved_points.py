"""Points and rates over a restart of the daemon, be it stopped or killed, and a file that cannot be written."""

import asyncio
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from harness import BIN, Daemon, Daemons, wait_until
from sampling_rig import record

from plugd import state_file
from plugd.hosting.collection import Collection, MetricDeclaration, SeriesKey
from plugd.sampling import saved_points
from plugd.sampling.points_format import MAGIC, VERSION, Header, frame, read_frames
from plugd.sampling.points_unpacking import unpack
from plugd.sampling.saved_points import SavedPoints, boot
from plugd.sampling.store import MetricStore, PluginSeries

KILLS = 60  # of a process that writes all the time
SERIES = 2000  # that it writes

CLOCK = '''"""A counter that grows by ten a second, whoever runs it; it may wait for a file before it starts."""

import os
import time

from plugd.plugin import Counter, Gauge, Plugin


class Clock(Plugin):
    interval = {interval}

    class Options:
        offset: float = 0.0
        wait: str = ""

    grown = Counter("test.grown", unit="s")
    level = Gauge("test.level")

    def start(self):
        while self.options.wait and not os.path.exists(self.options.wait):
            time.sleep(0.01)

    def collect(self):
        yield self.grown(10 * time.monotonic() + self.options.offset)
        yield self.level(self.options.offset)
'''

ends = pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])


def clock(interval: float = 3600.0) -> dict[str, str]:
    return {"clock": CLOCK.format(interval=interval)}


def metric(running: Daemon, name: str) -> Any:
    return next((row for row in running.call("stats")["metrics"] if row["name"] == name), None)


def points_file(daemon: Daemons) -> Path:
    return daemon.directory / "state" / "points"


def in_file(daemon: Daemons) -> dict[str, PluginSeries]:
    try:
        with points_file(daemon).open("rb") as file:
            return unpack(read_frames(file), 60, boot(), time.monotonic())
    except FileNotFoundError:
        return {}


def stop(daemon: Daemons, running: Daemon, end: int) -> None:
    """End it; where it is killed, after its points have been written."""
    if end == signal.SIGKILL:
        now = time.monotonic()

        def written() -> bool:
            series = in_file(daemon).get("clock", PluginSeries()).by_identity.values()
            return any(each.monotonic > now - 1.0 or len(each.values) == 1 for each in series)

        wait_until(written, "the points in the file")
    running.stop(end)


@ends
def test_a_rate_goes_on(daemon: Daemons, end: int) -> None:
    """That of the first collection after the restart is from the last one before it, by the time between."""
    config = "[sampling]\nflush = 1\n"
    running = daemon(plugins=clock(), config=config)
    assert metric(running, "test.grown")["rate"] is None
    stop(daemon, running, end)
    before, _ = in_file(daemon)["clock"].latest.series
    again = daemon(plugins=clock(), config=config)
    rate = metric(again, "test.grown")["rate"]
    assert "rate" not in metric(again, "test.level")
    again.stop()
    after, _ = in_file(daemon)["clock"].latest.series
    assert rate == (after.value - before.value) / (after.monotonic - before.monotonic)
    assert rate == pytest.approx(10.0, rel=0.2)  # The clock is read a moment after the collection has begun.


@ends
def test_points_go_on(daemon: Daemons, end: int) -> None:
    """Those of both daemons are in one row, the oldest first."""
    config = "[sampling]\nflush = 1\n"
    running = daemon(plugins=clock(0.05), config=config)
    wait_until(lambda: running.plugin("clock")["collects"] > 5, "points")
    stop(daemon, running, end)
    before = [series.recent() for series in in_file(daemon)["clock"].by_identity.values()]
    again = daemon(plugins=clock(0.05), config=config)
    wait_until(lambda: again.plugin("clock")["collects"] > 2, "points")
    again.stop()
    after = [series.recent() for series in in_file(daemon)["clock"].by_identity.values()]
    for old, new in zip(before, after, strict=True):
        assert old[-2:] == [point for point in new if point in old[-2:]]
        assert new == sorted(new, key=lambda point: point[0])
        assert new[-1][0] > old[-1][0]


def test_a_counter_that_began_anew_has_no_rate(daemon: Daemons) -> None:
    """It is smaller than before the restart: neither a negative rate nor a guess."""
    running = daemon(plugins=clock(), config="[plugins.clock.options]\noffset = 1e9\n")
    running.stop()
    again = daemon(plugins=clock(), config="")
    row = metric(again, "test.grown")
    assert (row["rate"], row["value"] < 1e9) == (None, True)


def test_after_another_boot_rates_begin_anew(daemon: Daemons) -> None:
    """CLOCK_MONOTONIC began anew with it; the points are there all the same."""
    daemon(plugins=clock()).stop()
    path = points_file(daemon)
    with path.open("rb") as file:
        header, *frames = read_frames(file)
    assert isinstance(header, Header)
    payloads = [msgspec.msgpack.encode(each) for each in (Header(header.order, "another boot"), *frames)]
    path.write_bytes(MAGIC + VERSION + b"".join([frame(payload) + payload for payload in payloads]))
    again = daemon(plugins=clock())
    assert metric(again, "test.grown")["rate"] is None
    again.stop()
    assert {len(series.values) for series in in_file(daemon)["clock"].by_identity.values()} == {2}


def test_another_time_namespace_is_another_clock(daemon: Daemons) -> None:
    """It has a CLOCK_MONOTONIC of its own within one boot: time_namespaces(7)."""
    shifted = ["unshare", "--time", "--monotonic", "100000", "--fork", "--kill-child"]
    if not shutil.which("unshare") or subprocess.run([*shifted, "true"], capture_output=True, check=False).returncode:
        pytest.skip("takes root, and unshare(1) with time namespaces")
    program = "from plugd.sampling.saved_points import boot; import time; print(boot(), time.monotonic())"
    outputs = [
        subprocess.run([*prefix, BIN / "python", "-c", program], capture_output=True, text=True, check=True).stdout
        for prefix in ([], [], shifted)
    ]
    first, second, third = [output.rpartition(" ") for output in outputs]
    assert first[0] == second[0] != third[0]
    assert float(third[2]) > float(first[2]) + 90_000


def test_the_last_values_are_there_until_new_ones_come(daemon: Daemons) -> None:
    """With the time that they are of, and their rates; a plugin that takes long to start has them meanwhile."""
    running = daemon(plugins=clock(0.1))
    wait_until(lambda: metric(running, "test.grown")["rate"], "a rate")
    running.call("pause")
    before = running.call("stats")["metrics"]
    running.stop()
    gate = daemon.directory / "gate"
    config = f'[plugins.clock.options]\nwait = "{gate}"\n'
    paused = daemon(plugins=clock(0.1), wait=False)
    paused.wait_ready()
    assert paused.call("stats")["metrics"] == before
    assert paused.call("status")["series"] == 2
    paused.stop()
    states = daemon.directory / "state" / "states.json"
    states.unlink()  # The pause.
    starting = daemon(plugins=clock(0.1), config=config, wait=False)
    wait_until(starting.socket.exists, "the socket")
    wait_until(lambda: "plugin_starting" in starting.log, "the start")
    assert starting.call("stats")["metrics"] == before
    assert starting.plugin("clock")["state"] == "starting"
    gate.touch()
    starting.wait_ready()
    wait_until(lambda: metric(starting, "test.grown")["time"] > before[0]["time"], "a new collection")
    assert metric(starting, "test.grown")["rate"] == pytest.approx(10.0, rel=0.5)


@pytest.mark.parametrize("how", ["gone", "disabled"])
def test_who_is_not_loaded_any_more_leaves_nothing(daemon: Daemons, how: str) -> None:
    """Its points are neither shown nor written again."""
    other = CLOCK.format(interval=3600.0).replace("class Clock", "class Other").replace("test.", "other.")
    running = daemon(plugins=clock() | {"other": other})
    assert running.call("status")["series"] == 4
    running.stop()
    if how == "gone":
        (daemon.directory / "plugins" / "other.py").unlink()
    again = daemon(plugins=clock(), config="[plugins.other]\nenabled = false\n" if how == "disabled" else None)
    assert {row["plugin"] for row in again.call("stats")["metrics"]} == {"clock"}
    assert again.call("status")["series"] == 2
    again.stop()
    assert list(in_file(daemon)) == ["clock"]


def test_a_series_that_does_not_come_back_is_forgotten(daemon: Daemons) -> None:
    """After as many collections as without a restart; until then it is known, and not shown."""
    running = daemon(plugins=clock())
    running.stop()
    source = CLOCK.format(interval=0.01).replace("        yield self.level(self.options.offset)\n", "")
    again = daemon(plugins={"clock": source})
    assert [row["name"] for row in again.call("stats")["metrics"]] == ["test.grown"]
    wait_until(lambda: again.call("status")["series"] == 1, "only one series")
    assert again.plugin("clock")["collects"] >= 90


def test_without_an_interval_points_are_written_at_the_end(daemon: Daemons) -> None:
    """`flush = 0`: not before, and so they are lost with a kill."""
    config = "[sampling]\nflush = 0\n"
    running = daemon(plugins=clock(0.05), config=config)
    wait_until(lambda: running.plugin("clock")["collects"] > 30, "collections")
    assert not points_file(daemon).exists()
    running.stop()
    assert points_file(daemon).exists()


def test_a_daemon_that_is_stopped_as_it_starts_loses_nothing(daemon: Daemons) -> None:
    """Its points are those of before: what it has not read it does not replace."""
    running = daemon(plugins=clock(0.05))
    wait_until(lambda: running.plugin("clock")["collects"] > 5, "collections")
    running.stop()
    before = points_file(daemon).read_bytes()
    for delay in (0.0, 0.05, 0.1):
        early = daemon(plugins=clock(), config='[plugins.clock.options]\nwait = "/nonexistent"\n', wait=False)
        wait_until(early.socket.exists, "the socket")
        time.sleep(delay)
        early.stop()
    assert points_file(daemon).read_bytes() == before


def test_a_kill_at_any_instant_loses_one_write_at_most(tmp_path: Path) -> None:
    """A process that writes on and on is killed in the middle: the file is whole, and of the last write or this."""
    source = random.Random(1)
    program = [sys.executable, str(Path(__file__).with_name("killed_writer.py")), str(tmp_path), str(SERIES)]
    new, caught = tmp_path / "points.new", 0
    for number in range(KILLS):
        with subprocess.Popen(program, stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            told = int(writer.stdout.readline())
            if number % 2:
                wait_until(new.exists, "a write")
            time.sleep(source.uniform(0.0, 0.004 if number % 2 else 0.03))
            writer.kill()
            told = max([told, *(int(line) for line in writer.stdout.read().split())])
        caught += new.exists()
        store, notes = MetricStore(), []
        asyncio.run(SavedPoints(str(tmp_path), store, 60, 0.0, notes).restore())
        assert notes == []
        [(_, latest)] = store.collections()
        assert len(latest.values) == SERIES
        assert len(set(latest.values)) == 1  # all of one write
        assert told <= latest.values[0] <= told + 1
    assert caught > KILLS / 10  # Otherwise none was killed in the middle.


# A disk that refuses


@contextlib.contextmanager
def small_disk(directory: Path) -> Iterator[None]:
    """A file system of a quarter of a megabyte."""
    directory.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k,mode=0755", "tmpfs", str(directory)]
    if os.getuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("takes root that may mount")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


def test_a_full_disk_ends_nothing(daemon: Daemons) -> None:
    """It is logged once for each file, `status` tells, and when there is room again everything is written."""
    state = daemon.directory / "state"
    with small_disk(state):
        running = daemon(plugins=clock(0.05), config="[sampling]\nflush = 1\n")
        wait_until(points_file(daemon).exists, "the points")
        with contextlib.suppress(OSError), (state / "filler").open("wb", buffering=0) as filler:
            while filler.write(b"x" * 4096):
                pass
        running.call("pause", reason="the disk is full")
        running.call("resume")
        wait_until(lambda: len(running.call("status")["notes"]) == 3, "notes")
        full = "no space left on device; what it would hold will be lost when plugd ends"
        assert {note.partition(": ")[2] for note in running.call("status")["notes"]} == {full}
        collects = running.plugin("clock")["collects"]
        wait_until(lambda: running.plugin("clock")["collects"] > collects + 30, "collections")
        paths = [record["path"] for record in running.records("state_not_written")]
        assert sorted(paths) == [str(state / name) for name in ("events.json", "points", "states.json")]
        assert [each.name for each in state.glob("*.new")] == []
        (state / "filler").unlink()
        running.call("pause", reason="there is room")
        wait_until(lambda: running.call("status")["notes"] == [], "no notes")
        running.stop(signal.SIGKILL)
        again = daemon(plugins=clock(0.05))
        assert again.call("why", name="clock")["summary"] == "clock is paused: there is room."
        again.stop()


METRIC = MetricDeclaration("test.value", "gauge", "1", (), "")


def one_more(store: MetricStore, value: float) -> None:
    record(store, "p", Collection([SeriesKey(METRIC, ())], array("d", [value]), value, value, 0.001, {}))


pytestmark = pytest.mark.anyio


async def test_a_disk_that_refuses_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old file is whole, and the next write that succeeds has all of it."""
    store, notes = MetricStore(), []
    saved = SavedPoints(str(tmp_path), store, 60, 0.0, notes)
    await saved.restore()
    one_more(store, 1.0)
    await saved.flush()
    before = (tmp_path / "points").read_bytes()

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(state_file.os, "fsync", refuse)
        for value in (2.0, 3.0):
            one_more(store, value)
            await saved.flush()
            assert len(notes) == 1
            assert (tmp_path / "points").read_bytes() == before
            assert os.listdir(tmp_path) == ["points"]
    await saved.flush()
    assert notes == []
    again = MetricStore()
    await SavedPoints(str(tmp_path), again, 60, 0.0, notes).restore()
    assert [value for _, value in again.series_of("p")[0].recent()] == [1.0, 2.0, 3.0]


async def test_what_cannot_be_packed_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a fault of plugd's own, and leaves the file as it was."""
    store = MetricStore()
    saved = SavedPoints(str(tmp_path), store, 60, 0.0, [])
    await saved.restore()
    one_more(store, 1.0)
    await saved.flush()
    one_more(store, 2.0)
    with monkeypatch.context() as patched:
        patched.setattr(saved_points, "pack", lambda *_: 1 / 0)
        await saved.flush()
    with (tmp_path / "points").open("rb") as file:
        assert unpack(read_frames(file), 60, "", 0.0)["p"].latest.values[0] == 1.0


async def test_nothing_new_is_nothing_to_write(tmp_path: Path) -> None:
    """A daemon whose plugins are all paused lets the disk sleep."""
    store = MetricStore()
    saved = SavedPoints(str(tmp_path), store, 60, 0.0, [])
    await saved.restore()
    await saved.flush()
    assert not (tmp_path / "points").exists()
    one_more(store, 1.0)
    await saved.flush()
    (tmp_path / "points").unlink()
    await saved.flush()
    assert not (tmp_path / "points").exists()


async def test_what_has_not_been_read_is_not_replaced(tmp_path: Path) -> None:
    """A daemon that ends before has nothing that the file has not."""
    store = MetricStore()
    saved = SavedPoints(str(tmp_path), store, 60, 0.0, [])
    one_more(store, 1.0)
    await saved.flush()
    assert not (tmp_path / "points").exists()


async def test_a_large_store_holds_the_loop_for_moments(tmp_path: Path) -> None:
    """It is packed in slices: others have hundreds of turns meanwhile."""
    store = MetricStore(60)
    keys = [SeriesKey(METRIC._replace(name=f"m{number}"), ()) for number in range(10_000)]
    for at in range(60):
        await store.record("p", Collection(keys, array("d", [1.5]) * len(keys), 1.0 + at, 1.0 + at, 0.001, {}))
    saved = SavedPoints(str(tmp_path), store, 60, 0.0, [])
    await saved.restore()
    store.recorded += 1
    turns = 0
    writing = asyncio.create_task(saved.flush())
    while not writing.done():
        await asyncio.sleep(0)
        turns += 1
    assert turns > 10
    assert (tmp_path / "points").stat().st_size < 6_000_000
