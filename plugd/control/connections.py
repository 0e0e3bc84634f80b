"""Who is connected, and whether there is room for one more: nobody keeps others out by holding connections."""

from collections import Counter
from collections.abc import Iterator
from typing import Final

from plugd.config import LimitsConfig
from plugd.control.session import Session

ROOT: Final = 0
SEARCH_PERIOD = 0.1  # seconds: where no place could be made, none can be a moment later


class Connections:
    """The sessions, in the order in which they came."""

    def __init__(self) -> None:
        self._sessions: dict[Session, None] = {}
        self._of_uid: Counter[int] = Counter()
        self._searched: dict[int, float] = {}  # when a place for this user was last sought in vain

    def __len__(self) -> int:
        return len(self._sessions)

    def all(self) -> list[Session]:
        """Return the sessions, the oldest first."""
        return list(self._sessions)

    def add(self, session: Session) -> None:
        """Count a session in; there is room for it."""
        self._sessions[session] = None
        self._of_uid[session.peer.uid] += 1

    def discard(self, session: Session) -> None:
        """Count a session out."""
        if self._sessions.pop(session, self) is self:
            return
        uid = session.peer.uid
        self._of_uid[uid] -= 1
        if not self._of_uid[uid]:
            del self._of_uid[uid]
        self._searched.clear()

    def make_room(self, uid: int, limits: LimitsConfig, now: float) -> str | None:
        """See that there is room for one more of a user; return the limit that leaves none, or None.

        Where there is none, a connection goes that for ``partial_request`` seconds has had nothing under way, or whose
        client has not read what waits for it. For a limit of the user's it is one of their own, and has never asked
        for anything if it has nothing under way; for the limit of all, it is of the user who has most, and more than
        the newcomer will have.
        """
        most = limits.connections - (0 if uid == ROOT else 1)  # One is kept for root.
        if self._of_uid[uid] >= limits.connections_per_uid and not self._evict(uid, self._silent(uid), limits, now):
            return "connections_per_uid"
        if len(self._sessions) >= most and not self._evict(uid, self._hoarded(uid), limits, now):
            return "connections"
        return None

    def _silent(self, uid: int) -> Iterator[Session]:
        return (each for each in self._sessions if each.peer.uid == uid and not (each.proven and each.idle))

    def _hoarded(self, uid: int) -> Iterator[Session]:
        """Yield those of users who have more than the newcomer will have; for root, those of all others."""
        fewer = 0 if uid == ROOT else self._of_uid[uid] + 1
        hoarders = {other for other, number in self._of_uid.items() if number > fewer} - {ROOT, uid}
        return (each for each in self._sessions if each.peer.uid in hoarders)

    def _evict(self, uid: int, candidates: Iterator[Session], limits: LimitsConfig, now: float) -> bool:
        if now - self._searched.get(uid, -SEARCH_PERIOD) < SEARCH_PERIOD:
            return False
        useless = [each for each in candidates if each.useless_for(now) > limits.partial_request]
        if not useless:
            self._searched[uid] = now
            return False
        max(useless, key=lambda each: (self._of_uid[each.peer.uid], each.useless_for(now))).evict()
        return True
