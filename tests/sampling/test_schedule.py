"""When a plugin is due: arithmetic that cannot drift."""

import math
from fractions import Fraction

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from plugd.sampling.schedule import Schedule, TimeLine

INTERVALS = st.one_of(
    st.sampled_from([0.01, 0.1, 0.25, 0.3, 1.0, 5.0, 7.0, 10.0, 60.0, 3600.0, 86400.0]),
    st.floats(0.01, 86400.0),
)
INSTANTS = st.floats(0.0, 4e9)


@st.composite
def schedules(draw: st.DrawFn) -> Schedule:
    interval = draw(INTERVALS)
    return Schedule(interval, draw(st.sampled_from([0.0, interval / 2, interval / 3]) | st.floats(0.0, 100.0)))


def tick(schedule: Schedule, number: int) -> float:
    return schedule.offset + number * schedule.interval


def number_of(schedule: Schedule, instant: float) -> int:
    """Return which tick an instant is; exactly one, computed without rounding."""
    exact = (Fraction(instant) - Fraction(schedule.offset)) / Fraction(schedule.interval)
    number = round(exact)
    assert tick(schedule, number) == instant
    return number


@settings(deadline=None)
@given(schedules(), INSTANTS)
def test_the_next_tick_is_later_and_by_no_more_than_an_interval(schedule: Schedule, now: float) -> None:
    """Later than now, and not later than one interval from it but for rounding."""
    due = schedule.after(now)
    assert due > now
    assert due - now <= schedule.interval * (1 + 1e-9) + 2 * math.ulp(due)


@settings(deadline=None)
@given(schedules(), INSTANTS)
def test_a_tick_is_a_whole_multiple_of_the_interval(schedule: Schedule, now: float) -> None:
    """Behind the offset: whatever the time of the question was."""
    number_of(schedule, schedule.after(now))


@settings(deadline=None)
@given(schedules(), st.integers(0, 10**9), st.integers(-2, 2))
def test_no_tick_is_passed_over(schedule: Schedule, number: int, ulps: int) -> None:
    """At the very edge of a tick, where division rounds either way, the next one is still the first that is later."""
    now = tick(schedule, number)
    assume(now < 1e10)
    for _ in range(abs(ulps)):
        now = math.nextafter(now, math.copysign(math.inf, ulps))
    expected = next(due for step in range(-2, 3) if (due := tick(schedule, number + step)) > now)
    assert schedule.after(now) == expected


@settings(deadline=None)
@given(schedules(), st.integers(0, 10**6), st.lists(st.floats(0.0, 0.999), min_size=1, max_size=20))
def test_ticks_do_not_drift(schedule: Schedule, start: int, delays: list[float]) -> None:
    """However late each tick is taken, within its interval, the next is the next multiple: none is lost or gained."""
    due = tick(schedule, start)
    for step, delay in enumerate(delays, 1):
        now = due + delay * schedule.interval * 0.999
        assert schedule.missed(due, now) == 0
        due = schedule.after(now)
        assert due == tick(schedule, start + step)


@settings(deadline=None)
@given(schedules(), st.integers(0, 10**6), st.floats(0.0, 1000.0) | st.integers(0, 1000))
def test_ticks_are_delivered_or_missed_and_nothing_else(schedule: Schedule, start: int, late: float) -> None:
    """Between the one that is taken late and the next one there are as many as are said to be missed.

    Also where the question comes at the very instant of another tick.
    """
    due = tick(schedule, start)
    now = tick(schedule, start + late) if isinstance(late, int) else due + late * schedule.interval
    missed = schedule.missed(due, now)
    assert missed >= 0
    assert number_of(schedule, schedule.after(now)) == start + missed + 1


@settings(deadline=None)
@given(schedules(), INSTANTS, st.floats(0.0, 1e6))
def test_nothing_is_missed_before_a_tick_is_due(schedule: Schedule, now: float, early: float) -> None:
    """A question ahead of time has the answer none, and never less."""
    assert schedule.missed(schedule.after(now), now - early) == 0


@pytest.mark.parametrize(
    ("interval", "offset", "now", "due"),
    [
        (10.0, 0.0, 0.0, 10.0),
        (10.0, 0.0, 9.999, 10.0),
        (10.0, 0.0, 10.0, 20.0),
        (10.0, 3.0, 0.0, 3.0),
        (10.0, 3.0, 3.0, 13.0),
        (10.0, 25.0, 0.0, 5.0),
        (0.1, 0.0, 1_700_000_000.05, 1_700_000_000.1),
        (86400.0, 0.0, 1_700_000_000.0, 1_700_006_400.0),
        (1.0, 0.0, -0.5, 0.0),
    ],
)
def test_ticks_are_those_of_the_clock_on_the_wall(interval: float, offset: float, now: float, due: float) -> None:
    """Every ten seconds is :00, :10, :20; the offset moves them all."""
    assert Schedule(interval, offset).after(now) == pytest.approx(due, abs=1e-6)


@pytest.mark.parametrize(
    ("now", "missed"), [(10.0, 0), (10.5, 0), (19.999, 0), (20.0, 1), (29.0, 1), (35.0, 2), (1010.0, 100)]
)
def test_missed_ticks_are_counted(now: float, missed: int) -> None:
    """Of a tick due at 10, every 10 seconds."""
    assert Schedule(10.0).missed(10.0, now) == missed


def test_plugins_of_one_interval_tick_together() -> None:
    """Also those that were added at different times."""
    assert Schedule(5.0).after(101.0) == Schedule(5.0).after(104.9) == 105.0
    assert Schedule(15.0).after(101.0) == 105.0


def test_a_time_line_is_monotonic_time_in_wall_clock_terms() -> None:
    """Both ways."""
    line = TimeLine(100.0, 1_700_000_000.0)
    assert line.at(101.5) == 1_700_000_001.5
    assert line.monotonic(1_700_000_001.5) == 101.5


@pytest.mark.parametrize("jump", [-3600.0, -0.5, 0.5, 2.0, 86400.0])
def test_a_clock_that_was_set_is_followed_at_once(jump: float) -> None:
    """Forward as by a suspended machine, backward as by an operator; the second look finds no jump."""
    line = TimeLine(100.0, 1000.0)
    assert line.resynchronise(110.0, 1010.0 + jump) == jump
    assert line.at(110.0) == 1010.0 + jump
    assert line.resynchronise(110.0, 1010.0 + jump) == 0.0


@pytest.mark.parametrize("difference", [-0.49, -0.001, 0.0, 0.001, 0.49])
def test_a_small_difference_is_let_be(difference: float) -> None:
    """Ticks do not tremble with every correction of the clock."""
    line = TimeLine(100.0, 1000.0)
    assert line.resynchronise(110.0, 1010.0 + difference) == 0.0
    assert line.at(110.0) == 1010.0


def test_small_differences_add_up() -> None:
    """A slewed clock is followed as soon as it has come to the tolerance, from where the line was last laid."""
    line = TimeLine(0.0, 0.0)
    jumps = [line.resynchronise(float(step), step * 1.125) for step in range(1, 9)]
    assert jumps == [0.0, 0.0, 0.0, 0.5, 0.0, 0.0, 0.0, 0.5]


@settings(deadline=None)
@given(INSTANTS, INSTANTS, st.floats(0.0, 1e6))
def test_the_line_runs_at_the_speed_of_the_monotonic_clock(monotonic: float, wall: float, elapsed: float) -> None:
    """What the wall clock does meanwhile is nothing to it."""
    line = TimeLine(monotonic, wall)
    assert line.at(monotonic + elapsed) - line.at(monotonic) == pytest.approx(elapsed, abs=1e-5)
