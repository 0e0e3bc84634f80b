"""What keeps a file like what is in memory: the latest is written, soon, and a disk that refuses ends nothing."""

import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from plugd.hosting import saver as saver_module
from plugd.hosting.saver import Saver
from plugd.state_file import StateFile

pytestmark = pytest.mark.anyio

DEADLINE = 10.0  # seconds


class Thing:
    """A number in memory, and the file that is kept like it."""

    def __init__(self, directory: Path, delay: float = 0.0) -> None:
        self.notes: list[str] = []
        self.file = StateFile(str(directory / "number"), 100, self.notes)
        self.number = 0
        self.writes = 0
        self.before_write: Callable[[], None] = lambda: None
        self.saver = Saver(self.file, lambda: self.number, self._encode, delay)

    def set(self, number: int) -> None:
        self.number = number
        self.saver.change()

    def on_disk(self) -> int | None:
        try:
            return int(self.file.read())
        except FileNotFoundError:
            return None

    def _encode(self, number: int) -> bytes:
        self.writes += 1
        self.before_write()
        return str(number).encode()


@asynccontextmanager
async def running(thing: Thing) -> AsyncIterator[Thing]:
    with anyio.fail_after(DEADLINE):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(thing.saver.run)
            await anyio.wait_all_tasks_blocked()
            try:
                yield thing
            finally:
                thing.saver.close()


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - bounded by its caller
        await anyio.sleep(0.01)


def refuse() -> None:
    raise OSError(28, "No space left on device")


async def test_flush_returns_when_it_is_on_the_disk(tmp_path: Path) -> None:
    """What it is now, and not what it was."""
    async with running(Thing(tmp_path)) as thing:
        for number in (1, 2):
            thing.set(number)
            await thing.saver.flush()
            assert thing.on_disk() == number


async def test_of_many_changes_the_last_is_written(tmp_path: Path) -> None:
    """Not each of them: those that come during a write are written together."""
    async with running(Thing(tmp_path)) as thing:
        for number in range(100):
            thing.set(number)
        async with anyio.create_task_group() as tasks:
            for _ in range(10):
                tasks.start_soon(thing.saver.flush)
        assert (thing.on_disk(), thing.writes) == (99, 1)


async def test_nothing_is_written_where_nothing_changes(tmp_path: Path) -> None:
    """Neither meanwhile nor at the end."""
    async with running(Thing(tmp_path)) as thing:
        await thing.saver.flush()
    assert (thing.on_disk(), thing.writes) == (None, 0)


async def test_the_end_waits_for_no_delay(tmp_path: Path) -> None:
    """What is still being gathered is written when it closes."""
    async with running(Thing(tmp_path, delay=3600.0)) as thing:
        thing.set(1)
        await anyio.wait_all_tasks_blocked()
        assert thing.writes == 0
    assert thing.on_disk() == 1


async def test_a_change_during_a_write_is_written_after_it(tmp_path: Path) -> None:
    """Also when it closes in that very write."""
    for closing in (False, True):
        thing = Thing(tmp_path)
        started, go_on = threading.Event(), threading.Event()

        def wait(started: threading.Event = started, go_on: threading.Event = go_on) -> None:
            started.set()
            assert go_on.wait(DEADLINE)

        async with running(thing):
            thing.before_write = wait
            thing.set(1)
            await anyio.to_thread.run_sync(started.wait, DEADLINE)
            thing.set(2)
            if closing:
                thing.saver.close()
            thing.before_write = lambda: None
            go_on.set()
            if not closing:
                await thing.saver.flush()
                assert thing.on_disk() == 2
        assert thing.on_disk() == 2


async def test_what_could_not_be_written_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while without a change; it is told meanwhile, and nobody waits for it in vain."""
    monkeypatch.setattr(saver_module, "RETRY", 0.02)
    async with running(Thing(tmp_path)) as thing:
        thing.before_write = refuse
        thing.set(1)
        await thing.saver.flush()
        assert thing.on_disk() is None
        assert len(thing.notes) == 1
        await until(lambda: thing.writes >= 3)
        assert len(thing.notes) == 1
        thing.before_write = lambda: None
        await until(lambda: not thing.notes)
        assert thing.on_disk() == 1


async def test_a_change_is_tried_at_once(tmp_path: Path) -> None:
    """However long ago the last attempt has failed."""
    async with running(Thing(tmp_path)) as thing:
        thing.before_write = refuse
        thing.set(1)
        await thing.saver.flush()
        thing.before_write = lambda: None
        thing.set(2)
        await thing.saver.flush()
        assert (thing.on_disk(), thing.notes) == (2, [])


async def test_what_cannot_be_encoded_ends_nothing(tmp_path: Path) -> None:
    """It is a fault of plugd's own; what can be encoded later is written."""
    async with running(Thing(tmp_path)) as thing:
        thing.before_write = lambda: int("none")  # type: ignore[assignment]
        thing.set(1)
        await thing.saver.flush()
        thing.before_write = lambda: None
        thing.set(2)
        await thing.saver.flush()
        assert thing.on_disk() == 2


async def test_nobody_waits_for_ever_for_a_disk_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plugin must start all the same."""
    monkeypatch.setattr(saver_module, "PATIENCE", 0.05)
    go_on = threading.Event()
    async with running(Thing(tmp_path)) as thing:
        thing.before_write = lambda: None if go_on.wait(DEADLINE) else refuse()
        thing.set(1)
        await thing.saver.flush()
        assert thing.on_disk() is None
        go_on.set()
    assert thing.on_disk() == 1


async def test_without_a_task_nobody_waits(tmp_path: Path) -> None:
    """As before the start, and after the end."""
    thing = Thing(tmp_path)
    thing.set(1)
    await thing.saver.flush()
    assert thing.on_disk() is None
