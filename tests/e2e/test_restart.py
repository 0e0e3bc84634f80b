"""A daemon that is killed at any instant while it is at work: what it has answered holds in the next one."""

import random
import signal
import time
from contextlib import suppress

from harness import Daemon, Daemons, RpcError, wait_until

ROUNDS = 12

PLUGIN = '''"""Counts."""

from plugd.plugin import Counter, Plugin, setting


class {title}(Plugin):
    interval = 0.02

    total = Counter("test.total")
    level = setting(0)
    count = 0

    def collect(self):
        self.count += 1
        yield self.total(self.count)
'''
NAMES = ("ann", "bob", "cat")
PLUGINS = {name: PLUGIN.format(title=name.title()) for name in NAMES}


class Operator:
    """Changes what there is to change, and knows what has been answered, and what has been asked last."""

    def __init__(self, source: random.Random) -> None:
        self.source = source
        self.paused = dict.fromkeys(NAMES, "")
        self.levels = dict.fromkeys(NAMES, 0)
        self.numbers = dict.fromkeys(NAMES, 0)
        self.asked: tuple[str, str, str | int] | None = None

    def work(self, running: Daemon, end: float) -> None:
        """Change one thing after the other until a time, or until the daemon is gone."""
        with running.client() as client:
            while time.monotonic() < end:
                name = self.source.choice(NAMES)
                match self.source.randrange(4):
                    case 0:
                        reason = f"reason {self.source.random()}"
                        self.asked = ("pause", name, reason)
                        client.call("pause", names=[name], reason=reason)
                        self.paused[name] = reason
                    case 1:
                        self.asked = ("pause", name, "")
                        client.call("resume", names=[name])
                        self.paused[name] = ""
                    case 2:
                        level = self.source.randrange(1_000_000)
                        self.asked = ("level", name, level)
                        self.levels[name] = client.call("set", name=name, setting="level", value=level, persist=True)
                    case 3:
                        client.call("reload", names=[name])
                self.asked = None
                self.see(client.call("list"))

    def see(self, rows: list[dict[str, object]]) -> None:
        """Take note of the generations: none is lower than one that was seen."""
        for row in rows:
            number = int(str(row["generation"]))
            assert number >= self.numbers[str(row["name"])]
            self.numbers[str(row["name"])] = number

    def check(self, running: Daemon) -> None:
        """What was answered is so; what was asked last, and not answered, is so or is not."""
        for row in running.call("list"):
            name = row["name"]
            assert row["generation"] > self.numbers[name], "a number was given twice"
            reason = running.call("why", name=name)["summary"].removeprefix(f"{name} is paused: ").removesuffix(".")
            reason = reason if row["state"] == "paused" else ""
            level = running.call("get", name=name, setting="level")
            if self.asked is not None and self.asked[:2] == ("pause", name) and self.asked[2] == reason:
                self.paused[name] = reason
            if self.asked is not None and self.asked[:2] == ("level", name) and self.asked[2] == level:
                self.levels[name] = level
            assert (reason, level) == (self.paused[name], self.levels[name])
            if reason:
                assert row["collects"] == 0
        self.asked = None


def test_what_was_answered_holds_after_a_kill(daemon: Daemons) -> None:
    """Pauses, settings and the numbers of generations; every file is whole, and nothing is told to be broken."""
    source = random.Random(7)
    operator = Operator(source)
    for number in range(ROUNDS):
        running = daemon(plugins=PLUGINS, config="[sampling]\nflush = 1\n")
        operator.check(running)
        assert running.call("status")["notes"] == []
        with suppress(OSError, RpcError):  # It may be killed amid a request.
            operator.work(running, time.monotonic() + source.uniform(0.0, 1.2))
            if number % 2:
                with running.client() as client:
                    operator.asked = ("pause", "ann", "the last word")
                    client.socket.sendall(
                        b"\x94\x00\x01\xa5pause\x91\x82\xa5names\x91\xa3ann\xa6reason\xadthe last word"
                    )
                    time.sleep(source.uniform(0.0, 0.01))
        running.stop(signal.SIGKILL)
    running = daemon(plugins=PLUGINS)
    operator.check(running)
    running.call("resume")
    wait_until(lambda: all(row["collects"] for row in running.call("list")), "collections of all")
