"""Room for one more: who only holds connections makes way, and who uses them does not."""

import contextlib
from collections.abc import Iterator
from typing import Any, cast

import pytest
from control_rig import HOLD, Wire, as_user, release
from harness import Daemon, Daemons, wait_until

from plugd.config import LimitsConfig
from plugd.control.access import Peer
from plugd.control.connections import SEARCH_PERIOD, Connections
from plugd.control.session import Session

LIMITS = LimitsConfig(connections=10, connections_per_uid=4, partial_request=5.0)
LONG = 100.0  # seconds, after which nobody's partial request may still be under way
ANNA, BERT, CARL = 1001, 1002, 1003


class FakeSession:
    """A session as far as it matters here; one that is not ``idle`` may be ``stalled`` since a moment."""

    def __init__(
        self,
        table: Connections,
        uid: int,
        active_at: float,
        *,
        proven: bool = True,
        idle: bool = True,
        stalled: float | None = None,
    ) -> None:
        self.peer = Peer(1, uid, uid, frozenset())
        self.active_at = active_at
        self.proven = proven
        self.idle = idle
        self.stalled = stalled
        self.evicted = False
        self._table = table

    def useless_for(self, now: float) -> float:
        if self.idle:
            return now - self.active_at
        return 0.0 if self.stalled is None else now - self.stalled

    def evict(self) -> None:
        self.evicted = True
        self._table.discard(cast("Session", self))


class Table:
    """A table of connections, with a clock."""

    def __init__(self, limits: LimitsConfig = LIMITS) -> None:
        self.connections = Connections()
        self.limits = limits
        self.now = LONG
        self.sessions: list[FakeSession] = []

    def add(self, uid: int, count: int = 1, *, active_at: float = 0.0, **state: Any) -> list[FakeSession]:
        """Let connections in, whether there is room or not; each is a little younger than the one before."""
        new = [FakeSession(self.connections, uid, active_at + number / 1000, **state) for number in range(count)]
        for each in new:
            self.connections.add(cast("Session", each))
        self.sessions += new
        return new

    def come(self, uid: int) -> str | None:
        """Return the limit that keeps one more out, some time after the last one came."""
        self.now += 2 * SEARCH_PERIOD
        return self.connections.make_room(uid, self.limits, self.now)

    @property
    def evicted(self) -> list[FakeSession]:
        return [each for each in self.sessions if each.evicted]


def test_nobody_goes_while_there_is_room() -> None:
    """However long they have been silent."""
    table = Table()
    table.add(ANNA, 3, proven=False)
    assert table.come(ANNA) is None
    assert table.evicted == []


def test_a_user_who_has_all_of_theirs_loses_the_oldest_silent_one() -> None:
    """One at a time, for each that comes."""
    table = Table()
    silent = table.add(ANNA, 4, proven=False)
    assert table.come(ANNA) is None
    assert table.evicted == silent[:1]
    table.add(ANNA, active_at=table.now)
    assert table.come(ANNA) is None
    assert table.evicted == silent[:2]


@pytest.mark.parametrize(
    "state",
    [
        {"proven": True},
        {"proven": False, "idle": False},
        {"idle": False, "stalled": LONG - LIMITS.partial_request + 1},
        {"proven": False, "active_at": LONG - LIMITS.partial_request + 1},
    ],
    ids=["asked", "busy", "reading slowly", "new"],
)
def test_a_users_limit_takes_nothing_that_is_used(state: dict[str, Any]) -> None:
    """What has asked for something, has something under way, or has just come, stays: the newcomer is refused."""
    table = Table()
    table.add(ANNA, 4, **state)
    assert table.come(ANNA) == "connections_per_uid"
    assert table.evicted == []
    assert table.come(BERT) is None


def test_a_users_limit_takes_nothing_of_others() -> None:
    """Their silent connections are theirs."""
    table = Table()
    table.add(BERT, 4, proven=False)
    table.add(ANNA, 4)
    assert table.come(ANNA) == "connections_per_uid"
    assert table.evicted == []


def test_who_has_most_makes_room_for_who_has_little() -> None:
    """When the table is full, the idlest connection of the user who has most goes, though it has asked before."""
    table = Table(LimitsConfig(connections=10, connections_per_uid=9))
    table.add(BERT, 3)
    hoarded = table.add(ANNA, 6, active_at=10.0)
    hoarded[3].active_at = 1.0
    assert table.come(CARL) is None
    assert table.evicted == [hoarded[3]]


@pytest.mark.parametrize(
    "state",
    [
        {"idle": False},
        {"idle": False, "stalled": LONG - LIMITS.partial_request + 1},
        {"active_at": LONG - LIMITS.partial_request + 1},
    ],
    ids=["busy", "reading slowly", "new"],
)
@pytest.mark.parametrize("newcomer", [CARL, 0], ids=["user", "root"])
def test_a_full_table_takes_nothing_that_is_used(newcomer: int, state: dict[str, Any]) -> None:
    """Where everybody has something under way, nobody goes, for nobody."""
    table = Table(LimitsConfig(connections=10, connections_per_uid=10))
    table.add(ANNA, 10, **state)
    assert table.come(newcomer) == "connections"
    assert table.evicted == []


def test_who_does_not_read_makes_room_too() -> None:
    """At both limits, and whatever is under way: nobody will ever see an answer to it."""
    table = Table()
    table.add(ANNA, 3, idle=False)
    (deaf,) = table.add(ANNA, idle=False, stalled=1.0)
    assert table.come(ANNA) is None
    assert table.evicted == [deaf]
    table = Table(LimitsConfig(connections=10, connections_per_uid=9))
    table.add(ANNA, 8, idle=False)
    (deaf,) = table.add(ANNA, idle=False, stalled=1.0)
    assert table.come(BERT) is None
    assert table.evicted == [deaf]


@pytest.mark.parametrize(("own", "room"), [(0, True), (3, True), (4, False), (5, False)])
def test_who_has_as_much_gets_no_more(own: int, room: bool) -> None:
    """Two users do not take turns in closing each other's connections: it must be fewer with one more, too."""
    table = Table(LimitsConfig(connections=own + 6, connections_per_uid=9))
    table.add(BERT, own)
    table.add(ANNA, 5)
    assert (table.come(BERT) is None) == room
    assert len(table.evicted) == room
    assert all(each.peer.uid == ANNA for each in table.evicted)


def test_nobody_makes_room_for_themselves() -> None:
    """Who has filled the table alone is refused, and not served at the cost of what they have open."""
    table = Table(LimitsConfig(connections=10, connections_per_uid=32))
    table.add(ANNA, 9)
    assert table.come(ANNA) == "connections"
    assert table.evicted == []


def test_one_place_is_roots() -> None:
    """Others are refused while it is free; root is served in it, and then at the cost of who has most."""
    table = Table()
    for uid in (ANNA, BERT, CARL):
        table.add(uid, 3, idle=False)
    assert table.come(1004) == "connections"
    assert table.come(0) is None
    table.add(0, idle=True)
    assert table.come(0) == "connections"
    (idle,) = [each for each in table.sessions if each.peer.uid == ANNA][:1]
    idle.idle = True
    assert table.come(0) is None
    assert table.evicted == [idle]


def test_root_loses_nothing_to_others() -> None:
    """Though it has most, and all of it idle."""
    table = Table(LimitsConfig(connections=10, connections_per_uid=32))
    table.add(0, 9)
    assert table.come(ANNA) == "connections"
    assert table.evicted == []


def test_at_both_limits_one_goes() -> None:
    """A silent one of the newcomer's own makes room in both."""
    table = Table(LimitsConfig(connections=10, connections_per_uid=4))
    silent = table.add(ANNA, 4, proven=False)
    table.add(BERT, 4)
    table.add(CARL)
    assert table.come(ANNA) is None
    assert table.evicted == silent[:1]


def test_a_search_in_vain_is_not_repeated_at_once() -> None:
    """A flood costs a look at all connections ten times a second and no more; one that goes is seen at once."""
    table = Table()
    sessions = table.add(ANNA, 4, proven=False, active_at=LONG)
    assert table.come(ANNA) == "connections_per_uid"
    began = table.now
    for each in sessions:
        each.active_at = 0.0
    assert table.connections.make_room(ANNA, table.limits, began + SEARCH_PERIOD / 2) == "connections_per_uid"
    assert table.evicted == []
    assert table.connections.make_room(ANNA, table.limits, began + 2 * SEARCH_PERIOD) is None
    assert len(table.evicted) == 1
    table.add(ANNA, proven=False)
    assert table.connections.make_room(ANNA, table.limits, began + 2 * SEARCH_PERIOD) is None
    assert len(table.evicted) == 2


def test_counting_out_is_done_once() -> None:
    """Who has gone twice has gone once."""
    table = Table()
    one, other = table.add(ANNA, 2)
    for _ in range(3):
        table.connections.discard(cast("Session", one))
    assert len(table.connections) == 1
    assert table.connections.all() == [other]
    table.add(ANNA, 3)
    assert table.come(ANNA) == "connections_per_uid"


# In a real daemon

QUICK = '[control]\nmode = "0666"\n[control.limits]\npartial_request = "300ms"\n'


def served(running: Daemon, stack: contextlib.ExitStack) -> Wire | None:
    """Connect; return the connection if it is served."""
    wire = stack.enter_context(Wire(running.socket))
    with contextlib.suppress(OSError):  # It has been refused already.
        wire.send([0, 1, "ping", []])
    try:
        kind, identifier, error, _ = wire.frame()
    except OSError:
        return None
    assert kind == 1
    assert identifier == 1 or error["code"] == "busy"
    return wire if identifier == 1 else None


def open_some(running: Daemon, stack: contextlib.ExitStack, count: int) -> list[Wire]:
    return [stack.enter_context(Wire(running.socket)) for _ in range(count)]


@pytest.fixture
def stack() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as stack:
        yield stack


def test_silent_connections_keep_nobody_out(daemon: Daemons, stack: contextlib.ExitStack) -> None:
    """At the user's limit the oldest that never asked for anything goes, once it has had its time; none else."""
    running = daemon(plugins={}, config=QUICK + "connections_per_uid = 4\n")
    asked, *silent = open_some(running, stack, 4)
    assert asked.ask("ping") == (None, "pong")
    last = silent[-1]
    new = [wait_until(lambda: served(running, stack), "a place") for _ in silent]
    assert [wire.closed for wire in silent] == [True] * 3
    assert all(wire.rest() == [] for wire in silent[:-1])
    assert last.rest() == []
    # All that is there has asked for something now: one more is refused, however long they wait.
    assert served(running, stack) is None
    counts = asked.ask("status")[1]["control"]
    assert counts["refused.evicted"] == 3
    assert counts["refused.connections_per_uid"] >= 1
    assert all(wire.ask("ping") == (None, "pong") for wire in new)


def test_who_does_not_read_keeps_nobody_out(daemon: Daemons, stack: contextlib.ExitStack) -> None:
    """At the user's limit a connection goes on which nothing is read, long before its own deadline."""
    running = daemon(plugins={}, config=QUICK + "connections_per_uid = 2\n")
    asked, deaf = open_some(running, stack, 2)
    assert asked.ask("ping") == (None, "pong")
    deaf.send(*([0, number, "methods", []] for number in range(200)))
    new = wait_until(lambda: served(running, stack), "a place")
    assert [asked.closed, deaf.closed] == [False, True]
    assert new.ask("status", id=2)[1]["control"]["refused.evicted"] == 1
    assert len(deaf.rest()) < 200


def test_who_hoards_makes_room(daemon: Daemons, stack: contextlib.ExitStack) -> None:
    """Another user's idle connections go for one who has none, and for root; those in use never."""
    running = daemon(plugins={"hold": HOLD}, config=QUICK + "connections = 7\n")
    with as_user(60001):
        hoarded = open_some(running, stack, 6)
    listening, *idle = hoarded
    assert listening.ask("subscribe", {"patterns": []})[0] is None  # Nothing has come or gone there for longest.
    for wire in (*idle, idle[0]):
        assert wire.ask("ping") == (None, "pong")

    def another() -> Wire | None:
        with as_user(60002):
            return served(running, stack)

    other = wait_until(another, "a place for another user")
    assert [wire.closed for wire in idle] == [False, True, False, False, False]
    busy = stack.enter_context(Wire(running.socket))
    busy.send([0, 1, "call", [{"name": "hold", "command": "hold"}]])
    wait_until(lambda: served(running, stack), "a second place for root")
    assert [wire.closed for wire in idle] == [False, True, True, False, False]
    for number in range(2):
        with as_user(60003 + number):
            wait_until(lambda: served(running, stack), "a place for a third user")
    # One that is idle is left of the five, and has as many brothers as anybody: nobody has more than they need.
    assert [wire.closed for wire in idle].count(True) == 4
    assert not listening.closed
    assert other.ask("ping") == (None, "pong")
    assert busy.ask("status", id=2)[1]["control"]["refused.evicted"] == 4
    release(running, "hold")
    assert busy.frame() == [1, 1, None, 1]
