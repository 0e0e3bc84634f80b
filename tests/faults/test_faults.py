"""Whatever a plugin does, the others and the control socket do not notice; it is named with its cause, and mended.

Each fault is a real plugin, in a real daemon, beside nine well-behaved ones at 100 ms. What becomes of it stands in
the table of matrix.py; ``python bench/faults.py`` prints what the others felt.
"""

import functools
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import BIN
from matrix import FAULTS
from rig import INTERVAL, NEIGHBOURS, Fault, Outcome, Rig, run_fault, stop_for

ANOTHER_UID = 54321  # a number that no system gives to anybody
ATTEMPTS = 2  # the machine itself may fail to wake anybody for a tenth of a second, but not at the same fault twice
STOPPED = 5.0  # seconds


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    """A daemon of the user who runs the tests."""
    with tempfile.TemporaryDirectory(prefix="pt-") as directory, Rig(Path(directory), FAULTS) as rig:
        yield rig


@pytest.fixture(scope="module")
def user_rig() -> Iterator[Rig]:
    """A daemon without privileges, where the tests have them."""
    if os.getuid():
        pytest.skip("the other tests run without root already")
    if not _runs_as(ANOTHER_UID):
        pytest.skip(f"another user may not run {BIN / 'plugd'}")
    with tempfile.TemporaryDirectory(prefix="pt-") as directory, Rig(Path(directory), FAULTS, ANOTHER_UID) as rig:
        yield rig


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_is_its_own_affair(fault: Fault, rig: Rig) -> None:
    """The others miss no tick; `why` names the cause; nothing is left of it; a good version mends it."""
    if fault.needs_root and os.getuid():
        pytest.skip("needs root")
    _assert_harmless(_tried(rig, fault))


@pytest.mark.parametrize("fault", [each for each in FAULTS if each.unprivileged], ids=lambda fault: fault.name)
def test_a_fault_is_its_own_affair_without_root(fault: Fault, user_rig: Rig) -> None:
    """The same where the daemon has no privileges, and its workers have its user."""
    _assert_harmless(_tried(user_rig, fault))


def test_a_stopped_daemon_goes_on_in_time(rig: Rig) -> None:
    """Stopped for 5 s: the ticks of that time are counted as skipped, the next are on time, rates and counts right."""
    before = {name: rig.stats(name) for name in NEIGHBOURS}
    pids = rig.pids()
    rig.probe.figures()
    stop_for(rig.daemon.pid, STOPPED)
    rig.wait(lambda: _all_collected(rig, before, 5), lambda: f"they do not go on: {rig.client.call('list')}")
    after = {name: rig.stats(name) for name in NEIGHBOURS}
    over = rig.probe.figures()
    rig.wait(lambda: _all_collected(rig, after, 5), lambda: "they do not go on")
    later = rig.probe.figures()

    skipped = [after[name]["skipped"] - before[name]["skipped"] for name in NEIGHBOURS]
    assert min(skipped) >= STOPPED / INTERVAL - 2, skipped
    assert abs(sum(skipped) - over["missed"]) <= len(NEIGHBOURS), (skipped, over)
    assert over["wrong_steps"] == 0, over
    assert 0.5 < over["rate_min"] <= over["rate_max"] < 1.5, over
    assert later["late_p50"] < INTERVAL / 2, later
    assert rig.pids() == pids
    assert all(figures["failures"] == figures["restarts"] == 0 for figures in after.values()), after


@functools.cache
def _runs_as(uid: int) -> bool:
    try:
        done = subprocess.run([BIN / "plugd", "--version"], user=uid, group=uid, extra_groups=[], cwd="/",
                              capture_output=True, check=False)  # fmt: skip
    except PermissionError:
        return False
    return done.returncode == 0


def _tried(rig: Rig, fault: Fault) -> Outcome:
    for _ in range(ATTEMPTS):
        outcome = run_fault(rig, fault)
        if outcome.probe and not outcome.skipped and not outcome.probe["missed"]:
            break
    return outcome


def _assert_harmless(outcome: Outcome) -> None:
    assert outcome.problems == []
    assert outcome.skipped == 0, outcome
    assert outcome.probe["missed"] == 0, outcome
    assert outcome.probe["wrong_steps"] == 0, outcome
    assert 0.5 < outcome.probe["rate_min"] <= outcome.probe["rate_max"] < 1.5, outcome


def _all_collected(rig: Rig, before: dict[str, dict[str, int]], times: int) -> bool:
    return all(rig.stats(name)["collects"] >= before[name]["collects"] + times for name in NEIGHBOURS)
