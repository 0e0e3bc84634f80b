"""Work in slices: done to its end, with turns for others."""

import asyncio
from typing import Any

import anyio
import pytest

from plugd.sampling import slices
from plugd.sampling.slices import Work, in_slices

pytestmark = pytest.mark.anyio


def counting(steps: int) -> Work[int]:
    for _ in range(steps):
        yield
    return steps


async def test_the_result_is_that_of_the_work() -> None:
    """Of no step, and of many."""
    assert await in_slices(counting(0)) == 0
    assert await in_slices(counting(10_000)) == 10_000


async def test_others_have_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """After every slice; each step is one here."""
    monkeypatch.setattr(slices, "SLICE", -1.0)
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(other)
        await in_slices(counting(20))
        tasks.cancel_scope.cancel()
    assert turns >= 19


async def test_little_work_gives_no_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Within its first slice it is done at once: nothing is waited for."""
    monkeypatch.setattr(slices, "SLICE", 3600.0)
    work: Any = in_slices(counting(3))
    with pytest.raises(StopIteration) as finished:
        work.send(None)
    assert finished.value.value == 3


async def test_a_fault_comes_out() -> None:
    """What the work raises, its caller gets."""

    def failing() -> Work[None]:
        yield
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await in_slices(failing())
