"""The scheduler on a real event loop: short intervals, and conditions instead of times."""

import itertools
import time
from collections.abc import Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from plugd.hosting.environment import Tick
from plugd.sampling import scheduler as module
from plugd.sampling.scheduler import SLACK, Scheduler

pytestmark = pytest.mark.anyio

DEADLINE = 20.0  # seconds


@asynccontextmanager
async def running():
    """A scheduler that runs, and is cancelled at the end."""
    scheduler = Scheduler()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(scheduler.run)
        try:
            yield scheduler
        finally:
            tasks.cancel_scope.cancel()


async def until(condition: Callable[[], Any]) -> None:
    with anyio.fail_after(DEADLINE):
        while not condition():  # noqa: ASYNC110 - conditions are all kinds of things
            await anyio.sleep(0.001)


async def test_a_plugin_is_ticked_again_and_again() -> None:
    """At its own ticks, one interval apart, never early but for the slack; those that were lost are counted."""
    ticks: list[tuple[float, Tick]] = []
    async with running() as scheduler:
        scheduler.add("a", 0.02, 0.0, lambda tick: ticks.append((time.monotonic(), tick)))
        await until(lambda: len(ticks) >= 5)
    dues = [tick.due for _, tick in ticks]
    steps = [later - earlier for earlier, later in itertools.pairwise(dues)]
    for step, (_, tick) in zip(steps, ticks, strict=False):
        assert step == pytest.approx(0.02 * (1 + tick.skipped), abs=1e-5)
    assert all(at >= tick.due - SLACK for at, tick in ticks)
    assert all(tick.late >= 0 for _, tick in ticks)
    assert scheduler.late_max == max(tick.late for _, tick in ticks)


async def test_ticks_fall_on_whole_multiples_of_the_wall_clock() -> None:
    """With the offset: the same in every daemon."""
    ticks: list[Tick] = []
    async with running() as scheduler:
        scheduler.add("a", 0.05, 0.01, ticks.append)
        await until(lambda: len(ticks) >= 3)
        phases = [(scheduler._line.at(tick.due) - 0.01) % 0.05 for tick in ticks]
    assert all(min(phase, 0.05 - phase) < 1e-5 for phase in phases)


async def test_a_plugin_that_comes_later_is_not_kept_waiting() -> None:
    """The scheduler sleeps for the slow one, and is woken for the fast one that is added meanwhile."""
    ticks: list[Tick] = []
    async with running() as scheduler:
        scheduler.add("slow", 86400.0, 0.0, ticks.append)
        await anyio.wait_all_tasks_blocked()
        scheduler.add("fast", 0.01, 0.0, ticks.append)
        await until(lambda: ticks)


async def test_a_scheduler_with_nothing_to_do_sleeps() -> None:
    """It does not wake at all until there is something."""
    async with running() as scheduler:
        await anyio.wait_all_tasks_blocked()
        assert scheduler.wakeups == 0


async def test_a_removed_plugin_is_ticked_no_more() -> None:
    """While the others go on."""
    removed: list[Tick] = []
    others: list[Tick] = []
    async with running() as scheduler:
        scheduler.add("a", 0.01, 0.0, removed.append)
        scheduler.add("b", 0.01, 0.0, others.append)
        await until(lambda: removed)
        scheduler.remove("a")
        count, seen = len(removed), len(others)
        await until(lambda: len(others) >= seen + 5)
        assert len(removed) == count


async def test_plugins_of_one_instant_share_one_wake_up() -> None:
    """A hundred plugins cost the timer of one."""
    ticks: list[Tick] = []
    async with running() as scheduler:
        for number in range(100):
            scheduler.add(f"p{number}", 0.05, 0.0, ticks.append)
        await until(lambda: len(ticks) >= 300)
        # One for what was added, and one for each instant.
        assert scheduler.wakeups <= len({tick.due for tick in ticks}) + 2


async def test_a_blocked_loop_loses_ticks_and_counts_them() -> None:
    """They are not made up for: one tick, and the number of those that are lost."""
    ticks: list[Tick] = []
    async with running() as scheduler:
        scheduler.add("a", 0.01, 0.0, ticks.append)
        await until(lambda: ticks)
        ticks.clear()
        end = time.monotonic() + 0.1
        while time.monotonic() < end:
            pass  # Nothing else runs meanwhile.
        await until(lambda: ticks)
        assert ticks[0].skipped >= 8
        assert ticks[0].late >= 0.08


async def test_ticks_that_lie_closely_together_let_others_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the next tick is always due already, the event loop is not kept for the scheduler alone."""
    monkeypatch.setattr(module, "SLACK", 60.0)
    turns, ticks = 0, 0

    def count(tick: Tick) -> None:
        nonlocal ticks
        ticks += 1
        assert turns or ticks < 50, "nothing else has run"

    async with running() as scheduler:
        scheduler.add("a", 0.01, 0.0, count)
        while turns < 100:
            await checkpoint()
            turns += ticks > 0


async def test_a_jump_of_the_clock_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is late or missed by it, and ticks go on, on the new time's multiples."""
    ahead = [0.0]  # seconds
    real = time.time
    monkeypatch.setattr(module.time, "time", lambda: real() + ahead[0])
    ticks: list[Tick] = []
    async with running() as scheduler:
        scheduler.add("a", 0.02, 0.0, ticks.append)
        await until(lambda: ticks)
        for ahead[0] in (3600.005, -3600.0):
            jumps = scheduler.resynchronised
            await until(lambda jumps=jumps: scheduler.resynchronised == jumps + 1)
            ticks.clear()
            await until(lambda: len(ticks) >= 2)
            assert all(tick.skipped < 1000 for tick in ticks)
            phases = [scheduler._line.at(tick.due) % 0.02 for tick in ticks]
            assert all(min(phase, 0.02 - phase) < 1e-5 for phase in phases)
        assert scheduler.late_max < 3000


async def test_a_replacement_keeps_the_next_tick() -> None:
    """A reload between two ticks loses none: the dues go on in steps of one interval, but for those counted."""
    ticks: list[Tick] = []
    async with running() as scheduler:
        scheduler.add("a", 0.02, 0.0, ticks.append)
        for _ in range(20):
            seen = len(ticks)
            scheduler.add("a", 0.02, 0.0, ticks.append)
            await until(lambda seen=seen: len(ticks) > seen)
    for earlier, later in itertools.pairwise(ticks):
        assert later.due - earlier.due == pytest.approx(0.02 * (1 + earlier.skipped), abs=1e-5)


async def test_it_is_overdue_when_it_does_not_come_round() -> None:
    """As long as it sleeps it is not; a loop that is held up, or a task that has ended, shows."""
    async with running() as scheduler:
        ticks: list[Tick] = []
        scheduler.add("often", 0.02, 0.0, ticks.append)
        await until(lambda: len(ticks) > 3)
        assert scheduler.overdue() < 1.0
        time.sleep(0.1)  # noqa: ASYNC251 - it holds up the loop, as nothing should
        assert scheduler.overdue() > 0.05
        seen = len(ticks)
        await until(lambda: len(ticks) > seen + 1)
    with anyio.fail_after(DEADLINE):
        while scheduler.overdue() == 0:  # noqa: ASYNC110 - nothing runs that could tell
            await anyio.sleep(0.001)
