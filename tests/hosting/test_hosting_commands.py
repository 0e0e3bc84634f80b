"""Commands and collections share one worker: neither takes the other's time."""

import msgpack
from harness import Daemons, wait_until

SLOW = '''"""Has a slow command."""

import time

from plugd.plugin import Gauge, Plugin, command


class Slow(Plugin):
    interval = 0.2
    timeout = 0.5

    level = Gauge("test.level")

    def collect(self):
        yield self.level(1)

    @command
    def doze(self, seconds: float) -> float:
        """Take a while."""
        time.sleep(seconds)
        return seconds
'''


def test_a_long_command_is_not_the_collections_fault(daemon: Daemons) -> None:
    """Ticks that fall into it are skipped, and counted; nothing times out, and collections go on."""
    running = daemon(plugins={"slow": SLOW})
    before = running.plugin("slow")
    assert running.call("call", name="slow", command="doze", args=[1.2]) == 1.2
    wait_until(lambda: running.plugin("slow")["collects"] > before["collects"] + 1, "the next collections")
    row = running.plugin("slow")
    assert (row["pid"], row["failures"]) == (before["pid"], 0)
    assert running.call("stats")["plugins"]["slow"]["skipped"] >= 1


def test_each_command_has_its_own_time(daemon: Daemons) -> None:
    """Many that are asked for at once are done one after the other, and collections come between them."""
    running = daemon(plugins={"slow": SLOW})
    before = running.plugin("slow")["collects"]
    with running.client() as client:
        for identifier in range(20):
            params = [{"name": "slow", "command": "doze", "args": [0.1]}]
            client.socket.sendall(msgpack.packb([0, 1000 + identifier, "call", params]))
        unpacker = msgpack.Unpacker()
        answers = []
        while len(answers) < 20:
            unpacker.feed(client.socket.recv(65536))
            answers += list(unpacker)
    assert [error for _, _, error, _ in answers] == [None] * 20
    row = running.plugin("slow")
    assert row["failures"] == 0
    assert row["collects"] > before + 3
