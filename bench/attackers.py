"""One attacker of the load test, with a user of its own: slow-loris clients, deaf subscribers, a flood of connects.

Run as ``attackers.py SETTINGS``, the JSON of :class:`Settings`. It works in beats of 5 ms, so that it takes as little
of the machine as it can; it ends by itself, and then prints JSON: what came of its connections, and how many of each
kind were held at each second.
"""

import contextlib
import json
import os
import select
import socket
import sys
import time
from collections import Counter, deque
from typing import NamedTuple

import msgpack

BEAT = 0.005  # seconds
DRIBBLE = 1.0  # seconds between two bytes of a loris
HELD = 0.5  # seconds, after which a connection counts as held: the kernel connects it before plugd has accepted it
FLOOD_PATIENCE = 0.02  # seconds for a refusal
BURST = 64  # connects of one beat at most
SUBSCRIPTIONS = 16  # of one deaf subscriber: to everything, each
LORIS, DEAF, FLOOD = "loris", "deaf", "flood"

PING = msgpack.packb([0, 0, "ping", []])
ENDLESS = msgpack.packb([0, 1, "subscribe", [{"patterns": ["a" * 60_000]}]])  # below the limit, and never complete
SUBSCRIBE = b"".join(
    msgpack.packb([0, number, "subscribe", [{"events": True}]]) for number in range(1, SUBSCRIPTIONS + 1)
)
OPENING = {LORIS: ENDLESS[:1], DEAF: SUBSCRIBE, FLOOD: b""}
EVENTS = {LORIS: select.EPOLLIN, DEAF: select.EPOLLRDHUP, FLOOD: select.EPOLLIN}


class Settings(NamedTuple):
    path: str
    uid: int | None  # None: the user that it is
    loris: int
    deaf: int
    connects: float  # of the flood, per second
    start: float  # on CLOCK_MONOTONIC
    seconds: float
    retry: float  # seconds before a loris or subscriber that was refused comes again
    answered: bool  # whether each loris has a ping answered before it dribbles


class Client:
    """One connection of an attacker."""

    __slots__ = ("born", "kind", "sent", "socket")

    def __init__(self, kind: str, sock: socket.socket, born: float) -> None:
        self.kind = kind
        self.socket = sock
        self.born = born
        self.sent = 1  # bytes of the endless request


class Attacker:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._epoll = select.epoll()
        self._clients: dict[int, Client] = {}
        self._flood: deque[tuple[float, int, Client]] = deque()  # each with the time at which it is closed
        self._dribbles: deque[tuple[float, int, Client]] = deque()  # with the time of the next byte
        self._retries: deque[tuple[float, str]] = deque()
        self.counts: Counter[str] = Counter()
        self.held: list[dict[str, int]] = []  # at each second

    def run(self) -> None:
        settings = self._settings
        end = settings.start + settings.seconds
        time.sleep(max(0.0, settings.start - time.monotonic()))
        # The subscribers first: they take more of the daemon, and lorises would leave them no room.
        self._retries.extend((0.0, DEAF) for _ in range(settings.deaf))
        self._retries.extend((0.0, LORIS) for _ in range(settings.loris))
        flooded = 0
        beat = settings.start
        while (now := time.monotonic()) < end:
            self._handle_events(now)
            self._dribble(now)
            while self._flood and self._flood[0][0] <= now:
                _, number, client = self._flood.popleft()
                if self._clients.get(number) is client:
                    self._drop(number, client, "kept")
            for _ in range(BURST):
                if not self._retries or self._retries[0][0] > now:
                    break
                self._connect(self._retries.popleft()[1], now)
            due = int((now - settings.start) * settings.connects) - flooded
            for _ in range(min(due, BURST)):
                self._connect(FLOOD, now)
                flooded += 1
            if now >= settings.start + len(self.held) + 1:
                self._count_held(now)
            beat = max(beat + BEAT, time.monotonic())
            time.sleep(max(0.0, beat - time.monotonic()))

    def _connect(self, kind: str, now: float) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self.counts[f"{kind} connects"] += 1
        client = Client(kind, sock, now)
        number = sock.fileno()
        try:
            sock.connect(self._settings.path)
            if kind is LORIS and self._settings.answered:
                sock.send(PING)
            if OPENING[kind]:
                sock.send(OPENING[kind])
        except BlockingIOError:  # The listener's backlog is full.
            self._refused(client, "backlog", now)
            return
        except OSError:  # It was refused while this was under way.
            self._refused(client, "refused", now)
            return
        self._clients[number] = client
        self._epoll.register(number, EVENTS[kind])
        if kind is FLOOD:
            self._flood.append((now + FLOOD_PATIENCE, number, client))
        elif kind is LORIS:
            self._dribbles.append((now + DRIBBLE, number, client))

    def _handle_events(self, now: float) -> None:
        for number, _ in self._epoll.poll(0, 4096):
            client = self._clients[number]
            if client.kind is not DEAF and self._says_more(client):
                continue
            if client.kind is FLOOD:
                self._drop(number, client, "refused")
            else:
                self._lost(number, client, now)

    def _says_more(self, client: Client) -> bool:
        """Take what has come; whether the connection still stands, as far as it tells."""
        with contextlib.suppress(OSError):
            return bool(client.socket.recv(4096)) and client.kind is LORIS
        return False

    def _dribble(self, now: float) -> None:
        while self._dribbles and self._dribbles[0][0] <= now:
            _, number, client = self._dribbles.popleft()
            if self._clients.get(number) is not client:
                continue
            try:
                client.socket.send(ENDLESS[client.sent : client.sent + 1])
            except OSError:
                self._lost(number, client, now)
                continue
            client.sent += 1
            self._dribbles.append((now + DRIBBLE, number, client))

    def _lost(self, number: int, client: Client, now: float) -> None:
        """A loris or subscriber was dropped: it comes again at once, or later if it had not even been let in."""
        if now - client.born < HELD:
            del self._clients[number]
            self._refused(client, "refused", now)
            return
        self._drop(number, client, "dropped")
        self._retries.appendleft((now, client.kind))

    def _refused(self, client: Client, how: str, now: float) -> None:
        client.socket.close()
        self.counts[f"{client.kind} {how}"] += 1
        if client.kind is not FLOOD:
            self._retries.append((now + self._settings.retry, client.kind))

    def _drop(self, number: int, client: Client, how: str) -> None:
        del self._clients[number]
        client.socket.close()
        self.counts[f"{client.kind} {how}"] += 1

    def _count_held(self, now: float) -> None:
        held = Counter(each.kind for each in self._clients.values() if now - each.born >= HELD)
        self.held.append({LORIS: held[LORIS], DEAF: held[DEAF]})


def main() -> None:
    settings = Settings(**json.loads(sys.argv[1]))
    if settings.uid is not None:
        os.setgroups([])
        os.setresgid(settings.uid, settings.uid, settings.uid)
        os.setresuid(settings.uid, settings.uid, settings.uid)
    attacker = Attacker(settings)
    cpu = time.process_time()
    attacker.run()
    print(json.dumps({"counts": attacker.counts, "held": attacker.held, "cpu": time.process_time() - cpu}))


if __name__ == "__main__":
    main()
