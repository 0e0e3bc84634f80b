"""What is due when: the scheduler with the clock passed in."""

import heapq

from hypothesis import given, settings
from hypothesis import strategies as st

from plugd.hosting.environment import Tick
from plugd.sampling.schedule import Schedule
from plugd.sampling.scheduler import SPARE, Agenda


def ignore(tick: Tick) -> None:
    """Take a tick and do nothing."""


def take(agenda: Agenda, now: float) -> list[tuple[object, float, int]]:
    """Return what is due: each as its callback, when it was due, and how many ticks it lost."""
    return [(entry.on_tick, entry.due, missed) for entry, missed in agenda.take_due(now)]


def test_an_empty_agenda_has_nothing_due() -> None:
    """Neither now nor ever."""
    agenda = Agenda()
    assert agenda.next_due() is None
    assert agenda.take_due(1e12) == []
    assert len(agenda) == 0


def test_what_is_due_at_one_instant_is_taken_at_once() -> None:
    """All plugins of one tick in one wake-up, those of other ticks not."""
    agenda = Agenda()
    for number in range(100):
        agenda.add(f"p{number:03}", Schedule(10.0), ignore, 5.0)
    agenda.add("other", Schedule(15.0), ignore, 5.0)
    assert agenda.next_due() == 10.0
    assert take(agenda, 9.999) == []
    assert take(agenda, 10.0) == [(ignore, 10.0, 0)] * 100
    assert agenda.next_due() == 15.0
    assert len(agenda.take_due(15.0)) == 1
    assert len(agenda.take_due(20.0)) == 100


def test_a_tick_is_taken_once() -> None:
    """The second question at the same instant finds nothing."""
    agenda = Agenda()
    agenda.add("a", Schedule(1.0), ignore, 0.0)
    assert len(agenda.take_due(1.0)) == 1
    assert agenda.take_due(1.0) == []
    assert agenda.next_due() == 2.0


def test_missed_ticks_are_counted_and_not_delivered() -> None:
    """One tick after a long sleep, with the number of those that were lost; the next is in time again."""
    agenda = Agenda()
    agenda.add("fast", Schedule(1.0), ignore, 0.0)
    agenda.add("slow", Schedule(10.0), ignore, 0.0)
    assert take(agenda, 25.5) == [(ignore, 1.0, 24), (ignore, 10.0, 1)]
    assert agenda.next_due() == 26.0


def test_what_is_due_comes_in_the_order_of_time() -> None:
    """The longest overdue first."""
    agenda = Agenda()
    agenda.add("a", Schedule(10.0, 3.0), ignore, 0.0)
    agenda.add("b", Schedule(10.0, 1.0), ignore, 0.0)
    agenda.add("c", Schedule(10.0, 2.0), ignore, 0.0)
    assert [due for _, due, _ in take(agenda, 5.0)] == [1.0, 2.0, 3.0]


def test_what_is_removed_is_due_no_more() -> None:
    """At once, and the next of the others is what comes next; removing twice is no error."""
    agenda = Agenda()
    agenda.add("a", Schedule(1.0), ignore, 0.0)
    agenda.add("b", Schedule(5.0), ignore, 0.0)
    agenda.remove("a")
    agenda.remove("a")
    assert len(agenda) == 1
    assert agenda.next_due() == 5.0
    assert take(agenda, 5.0) == [(ignore, 5.0, 0)]


def test_a_plugin_may_be_removed_by_the_tick_of_another() -> None:
    """What has been taken is the caller's; it is not set again."""
    agenda = Agenda()
    agenda.add("a", Schedule(1.0), ignore, 0.0)
    agenda.add("b", Schedule(1.0), ignore, 0.0)
    assert len(agenda.take_due(1.0)) == 2
    agenda.remove("b")
    assert len(agenda.take_due(2.0)) == 1


def test_a_replacement_with_the_same_schedule_keeps_the_tick() -> None:
    """A reload must not lose the tick that is due at this very moment; the new callback gets it."""
    agenda = Agenda()

    def newer(tick: Tick) -> None: ...

    agenda.add("a", Schedule(10.0), ignore, 0.0)
    agenda.add("a", Schedule(10.0), newer, 10.5)
    assert take(agenda, 10.5) == [(newer, 10.0, 0)]
    assert take(agenda, 10.5) == []
    assert len(agenda) == 1


def test_a_replacement_with_another_schedule_starts_anew() -> None:
    """The old tick is gone."""
    agenda = Agenda()
    agenda.add("a", Schedule(10.0), ignore, 0.0)
    agenda.add("a", Schedule(60.0), ignore, 5.0)
    assert agenda.next_due() == 60.0
    assert take(agenda, 10.0) == []
    assert take(agenda, 60.0) == [(ignore, 60.0, 0)]


def test_what_comes_back_starts_anew() -> None:
    """A plugin that was unloaded misses nothing while it was not there."""
    agenda = Agenda()
    agenda.add("a", Schedule(10.0), ignore, 0.0)
    agenda.remove("a")
    agenda.add("a", Schedule(10.0), ignore, 55.0)
    assert take(agenda, 60.0) == [(ignore, 60.0, 0)]
    assert agenda.next_due() == 70.0


def test_a_jump_of_the_clock_loses_no_tick() -> None:
    """Forward nothing is counted as missed; backward nobody waits for a time long past."""
    for now, due in ((100_000.0, 100_010.0), (-100_000.0, -99_990.0)):
        agenda = Agenda()
        agenda.add("a", Schedule(10.0), ignore, 0.0)
        agenda.realign(now)
        assert take(agenda, now) == []
        assert agenda.next_due() == due
        assert take(agenda, due) == [(ignore, due, 0)]


def test_reloads_leave_nothing_behind() -> None:
    """Ten thousand replacements of a plugin that ticks once a day take the place of one."""
    agenda = Agenda()
    for _ in range(10_000):
        agenda.add("a", Schedule(86400.0), ignore, 0.0)
    for _ in range(10_000):
        agenda.remove("b")
        agenda.add("b", Schedule(86400.0), ignore, 0.0)
    for _ in range(10_000):
        agenda.realign(0.0)
    assert len(agenda._heap) <= 2 * len(agenda) + SPARE
    assert len(agenda.take_due(86400.0)) == 2
    agenda.remove("a")
    agenda.remove("b")
    assert agenda.next_due() is None


ACTIONS = st.lists(
    st.one_of(
        st.tuples(
            st.just("add"), st.sampled_from("abcd"), st.sampled_from([1.0, 2.5, 10.0]), st.sampled_from([0.0, 0.5])
        ),
        st.tuples(st.just("remove"), st.sampled_from("abcd")),
        st.tuples(st.just("wait"), st.floats(0.0, 15.0)),
    ),
    max_size=60,
)


@settings(max_examples=200, deadline=None)
@given(ACTIONS)
def test_the_agenda_agrees_with_a_plain_table(actions: list[tuple]) -> None:  # type: ignore[type-arg]
    """Whatever is added, replaced and removed: what is due is what a table without a heap says."""
    agenda, now = Agenda(), 0.0
    table: dict[str, tuple[Schedule, float]] = {}
    for action in actions:
        if action[0] == "add":
            schedule = Schedule(*action[2:])
            agenda.add(action[1], schedule, ignore, now)
            known = table.get(action[1])
            table[action[1]] = (schedule, known[1] if known and known[0] == schedule else schedule.after(now))
        elif action[0] == "remove":
            agenda.remove(action[1])
            table.pop(action[1], None)
        else:
            now += action[1]
            due = {name: each for name, each in table.items() if each[1] <= now}
            found = [(entry.schedule, entry.due, missed) for entry, missed in agenda.take_due(now)]
            assert sorted(found) == sorted((schedule, at, schedule.missed(at, now)) for schedule, at in due.values())
            table.update({name: (schedule, schedule.after(now)) for name, (schedule, _) in due.items()})
        assert len(agenda) == len(table)
        assert agenda.next_due() == min((at for _, at in table.values()), default=None)
        assert agenda._heap == [] or agenda._heap[0] == heapq.nsmallest(1, agenda._heap)[0]
