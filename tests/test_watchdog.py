"""The watchdog's word: given only when every part makes progress."""

import anyio
import pytest

from plugd import systemd
from plugd.watchdog import Watchdog

pytestmark = pytest.mark.anyio


class Parts:
    """A scheduler and a forkserver that can be stuck."""

    def __init__(self) -> None:
        self.overdue = 0.0
        self.answers = True
        self.asked: list[float] = []

    async def ask(self, timeout: float) -> bool:
        self.asked.append(timeout)
        return self.answers


async def fed(parts: Parts, monkeypatch: pytest.MonkeyPatch, rounds: int = 3) -> int:
    """Return how often the watchdog is fed while so many rounds are slept."""
    count = 0
    slept: list[float] = []

    def feed() -> None:
        nonlocal count
        count += 1

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == rounds:
            scope.cancel()
        await anyio.lowlevel.checkpoint()

    monkeypatch.setattr(systemd, "notify_watchdog", feed)
    monkeypatch.setattr("plugd.watchdog.anyio.sleep", sleep)
    with anyio.CancelScope() as scope:
        await Watchdog(30.0, lambda: parts.overdue, parts.ask).run()
    assert set(slept) == ({15.0} if count else {1.0})
    return count


async def test_it_is_fed_twice_in_a_period(monkeypatch: pytest.MonkeyPatch) -> None:
    """As sd_watchdog_enabled(3) has it; the forkserver is asked each time."""
    parts = Parts()
    assert await fed(parts, monkeypatch) == 3
    assert parts.asked == [7.5] * 3


@pytest.mark.parametrize(("overdue", "answers"), [(7.6, True), (0.0, False)])
async def test_it_is_not_fed_while_a_part_is_stuck(
    overdue: float, answers: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scheduler that sleeps on, or a forkserver that does not answer: each is enough."""
    parts = Parts()
    parts.overdue, parts.answers = overdue, answers
    assert await fed(parts, monkeypatch) == 0


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-5"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "²"}, None),
    ],
)
def test_what_systemd_wants(environ: dict[str, str], seconds: float | None) -> None:
    """Its time, where it is meant for this process, and is one."""
    assert systemd.watchdog_seconds(environ) == seconds
