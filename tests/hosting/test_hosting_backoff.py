"""When a failed plugin is tried again: arithmetic, with the clock passed in."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugd.hosting.backoff import Backoff, BackoffPolicy, Verdict

PLAIN = BackoffPolicy(
    first=1.0, factor=2.0, cap=10.0, jitter=0.0, settled=60.0, offences=6, window=600.0, quarantine=3600.0
)


def delays(backoff: Backoff, times: list[float]) -> list[float]:
    return [backoff.offend(time).delay for time in times]


def test_delays_grow_to_the_cap() -> None:
    """Each failure in a row doubles the delay, up to the cap."""
    assert delays(Backoff(PLAIN), [0, 2, 5, 10, 20]) == [1, 2, 4, 8, 10]


def test_the_cap_holds_without_quarantine() -> None:
    """However often it fails, seldom enough not to be quarantined, the delay is never longer."""
    policy = BackoffPolicy(jitter=0.1, cap=300.0, offences=5, window=10.0)
    backoff = Backoff(policy, random.Random(1))
    assert max(delays(backoff, [number * 30.0 for number in range(2000)])) <= 300.0


def test_the_last_of_too_many_is_a_quarantine() -> None:
    """So many offences within the window, and it is quarantined."""
    backoff = Backoff(PLAIN)
    verdicts = [backoff.offend(time) for time in (0, 100, 200, 300, 400, 500)]
    assert [verdict.quarantined for verdict in verdicts] == [False] * 5 + [True]
    assert verdicts[-1] == Verdict(3600.0, quarantined=True)


def test_offences_beyond_the_window_do_not_count() -> None:
    """The same number, spread over more than the window, is no quarantine."""
    backoff = Backoff(PLAIN)
    assert not any(backoff.offend(time).quarantined for time in range(0, 12_100, 121))


def test_the_window_is_inclusive_and_slides() -> None:
    """It is the oldest of the last offences that must be recent enough."""
    backoff = Backoff(PLAIN)
    for time in (0, 500, 510, 520, 530):
        assert not backoff.offend(time).quarantined
    assert not backoff.offend(601).quarantined
    assert backoff.offend(1100).quarantined


def test_a_quarantine_begins_anew() -> None:
    """After it the first failures are met with short delays again."""
    backoff = Backoff(PLAIN)
    for time in range(6):
        backoff.offend(time)
    assert backoff.recent == 0
    assert delays(backoff, [4000, 4002]) == [1, 2]


def test_good_behaviour_is_rewarded() -> None:
    """A plugin that ran well for long enough starts with the shortest delay again."""
    backoff = Backoff(PLAIN)
    assert delays(backoff, [0, 2, 5]) == [1, 2, 4]
    backoff.behave(10)
    assert delays(backoff, [70]) == [1]


def test_good_behaviour_must_last() -> None:
    """Running well for a moment is not enough, and every failure starts the time anew."""
    backoff = Backoff(PLAIN)
    assert delays(backoff, [0, 2]) == [1, 2]
    backoff.behave(10)
    assert delays(backoff, [69.9]) == [4]
    backoff.behave(75)
    assert delays(backoff, [130]) == [8]


def test_behaving_again_does_not_start_the_time_anew() -> None:
    """It is the beginning of the good time that counts."""
    backoff = Backoff(PLAIN)
    delays(backoff, [0, 2])
    for time in range(10, 80, 5):
        backoff.behave(time)
    assert delays(backoff, [80]) == [1]


def test_good_behaviour_does_not_wipe_out_the_offences() -> None:
    """A plugin that fails every few minutes is quarantined in the end, for all the time between."""
    backoff = Backoff(PLAIN)
    for time in (0, 100, 200, 300, 400):
        assert not backoff.offend(time).quarantined
        backoff.behave(time + 1)
    assert backoff.offend(500).quarantined


def test_forgiving_forgets_everything() -> None:
    """Somebody has looked after it: neither delay nor number of offences remains."""
    backoff = Backoff(PLAIN)
    delays(backoff, [0, 1, 2, 3, 4])
    assert backoff.recent == 5
    backoff.forgive()
    assert backoff.recent == 0
    assert delays(backoff, [5, 6, 7, 8, 9]) == [1, 2, 4, 8, 10]


@given(seed=st.integers(0, 1000), count=st.integers(1, 5))
def test_jitter_spreads_the_delay(seed: int, count: int) -> None:
    """By the share that is set, to either side, and never beyond the cap."""
    policy = BackoffPolicy(first=1.0, factor=2.0, cap=8.0, jitter=0.2, offences=100)
    backoff = Backoff(policy, random.Random(seed))
    for number in range(count):
        plain = min(2.0**number, 8.0)
        assert plain * 0.8 <= backoff.offend(number).delay <= min(plain * 1.2, 8.0)


def test_two_plugins_do_not_restart_in_step() -> None:
    """Without a given source of randomness, delays differ."""
    policy = BackoffPolicy(offences=1000)
    assert len({Backoff(policy).offend(0).delay for _ in range(20)}) > 1


@given(
    times=st.lists(st.floats(0, 1e9), max_size=200).map(sorted),
    good=st.sets(st.integers(0, 199)),
)
def test_every_verdict_is_sane(times: list[float], good: set[int]) -> None:
    """Whatever happens when: a delay is positive and bounded, and a quarantine is one."""
    policy = BackoffPolicy()
    backoff = Backoff(policy, random.Random(0))
    for number, time in enumerate(times):
        verdict = backoff.offend(time)
        if verdict.quarantined:
            assert verdict.delay == policy.quarantine
        else:
            assert policy.first * (1 - policy.jitter) <= verdict.delay <= policy.cap
        if number in good:
            backoff.behave(time)
        assert backoff.recent <= policy.offences


def test_a_plugin_that_always_dies_costs_little() -> None:
    """In a day of dying at once there are at most so many starts as the default policy allows."""
    policy = BackoffPolicy()
    backoff = Backoff(policy, random.Random(3))
    now, starts, closest = 0.0, 0, float("inf")
    while now < 86_400:
        delay = backoff.offend(now).delay
        closest = min(closest, delay)
        now += delay
        starts += 1
    assert closest >= 0.9
    assert starts < 24 * (policy.offences + 1)


@pytest.mark.parametrize("name", ["first", "factor", "cap", "settled", "window", "quarantine"])
def test_the_default_policy_is_set(name: str) -> None:
    """No default is zero or negative: a plugin could otherwise be restarted in a busy loop."""
    assert getattr(BackoffPolicy(), name) > 0
