"""Fixtures for every test: the anyio backend, real daemons, and the check that nothing is left behind."""

import asyncio
import functools
import inspect
import os
import threading
import time
from collections.abc import Awaitable, Callable, Generator, Iterator
from typing import Any

import pytest
from harness import Daemons, adopt_orphans, children, daemons

SETTLING = 5.0  # seconds that what a test has ended may take to be gone


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def daemon() -> Iterator[Daemons]:
    """Call it to start a plugd: see harness.Daemons. Each is ended, and nothing of it may be left."""
    with daemons() as started:
        yield started


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """After a test there are no threads, children or descriptors that were not there before it."""
    adopt_orphans(wanted=False)  # A forkserver in a test before has asked for them.
    before = _threads(), _children(), _descriptors()
    yield
    end = time.monotonic() + SETTLING
    while left := _left(before):
        assert time.monotonic() < end, f"left behind: {left}"
        time.sleep(0.01)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, Any, Any]:
    """Have an asynchronous test fail that leaves a task behind: its runner would cancel that and say nothing."""
    function = pyfuncitem.obj
    if inspect.iscoroutinefunction(function) and not hasattr(function, "hypothesis"):
        pyfuncitem.obj = _without_tasks_left(function)
    try:
        return (yield)
    finally:
        pyfuncitem.obj = function


def _without_tasks_left(function: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    @functools.wraps(function)
    async def test(**arguments: Any) -> None:
        before = asyncio.all_tasks()
        await function(**arguments)
        end = time.monotonic() + SETTLING
        while left := asyncio.all_tasks() - before:
            assert time.monotonic() < end, f"left behind: {left}"
            await asyncio.sleep(0.01)

    return test


def _left(before: tuple[set[str], set[str], dict[str, str]]) -> list[str]:
    threads, children, descriptors = before
    new = _descriptors()
    changed = [f"descriptor {fd}: {target}" for fd, target in new.items() if descriptors.get(fd) != target]
    return [*(_threads() - threads), *(_children() - children), *changed]


def _threads() -> set[str]:
    # anyio's worker threads belong to an event loop, and end with it or soon after.
    return {f"thread {each.name} ({each.ident})" for each in threading.enumerate()}


def _children() -> set[str]:
    # Zombies included: who starts a process reaps it.
    return {f"process {pid} ({name})" for pid, (name, _) in children(os.getpid()).items()}


def _descriptors() -> dict[str, str]:
    found = {}
    for entry in os.listdir("/proc/self/fd"):
        try:
            found[entry] = os.readlink(f"/proc/self/fd/{entry}")
        except OSError:
            continue  # That of the listing itself.
    return found
