"""Plugins of all kinds of behaviour, for the tests of what becomes of them."""

import os
import signal
from pathlib import Path
from typing import Any

import msgpack
from harness import wait_until

PLAIN = '''"""A plain plugin."""

from plugd.plugin import Gauge, Plugin


class {title}(Plugin):
    interval = {interval}

    value = Gauge("test.value")

    def collect(self):
        yield self.value({value})
'''


def plain(title: str = "Plain", interval: float = 3600.0, value: float = 1) -> str:
    """Return a plugin that always does the same."""
    return PLAIN.format(title=title, interval=interval, value=value)


def behaving(title: str, *, interval: float = 3600.0, timeout: float = 5.0, **parts: str) -> str:
    """Return a plugin with the given bodies of methods, and ``top`` and ``body`` of the module and the class."""
    top, body = parts.pop("top", ""), parts.pop("body", "")
    collect = parts.pop("collect", "yield self.value(1)")
    text = f'"""Behaves."""\n\nimport os\nimport signal\nimport sys\nimport threading\nimport time\n\n{top}\n\n'
    text += "from plugd.plugin import Counter, Gauge, Plugin, command, setting\n\n\n"
    text += f"class {title}(Plugin):\n    interval = {interval}\n    timeout = {timeout}\n\n"
    text += '    value = Gauge("test.value")\n    total = Counter("test.total")\n\n'
    text += indented(body, 4) + "\n\n    @command\n    def pid(self) -> int:\n        return os.getpid()\n\n"
    text += "    @command\n    def run(self, source: str):\n        return eval(source)\n\n"
    for name, source in {"collect": collect, **parts}.items():
        arguments = "self, state" if name == "load_state" else "self"
        text += f"    def {name}({arguments}):\n{indented(source, 8)}\n\n"
    return text


def indented(source: str, columns: int) -> str:
    return "\n".join(" " * columns + line if line else "" for line in source.splitlines())


# At the top of a plugin that waits for SIGUSR1, however early that comes. Not with sigwait, in which the signal does
# not count as blocked.
WAITING = "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})"
WAIT = "while signal.SIGUSR1 not in signal.sigpending():\n    time.sleep(0.005)"


def release(pid: int) -> None:
    """Let a worker go on that waits, or is about to."""
    wait_until(lambda: _blocks(pid, signal.SIGUSR1), "that the worker is ready for a signal")
    os.kill(pid, signal.SIGUSR1)


def _blocks(pid: int, number: int) -> bool:
    """Whether the signal is blocked: /proc/PID/status, SigBlk."""
    status = Path(f"/proc/{pid}/status").read_text()
    (mask,) = [line.split()[1] for line in status.splitlines() if line.startswith("SigBlk:")]
    return bool(int(mask, 16) >> number - 1 & 1)


IMPOSTOR = '''"""Answers for itself what plugd asks its worker."""

import os
import stat

import msgpack

SCRIPT = msgpack.unpackb({script!r}, strict_map_key=False)


def rpc_socket():
    for fd in range(3, 256):
        try:
            if stat.S_ISSOCK(os.fstat(fd).st_mode):
                return fd
        except OSError:
            pass


def send(rpc, data):
    while data:
        data = data[os.write(rpc, data):]


def answer(rpc, identifier, method):
    for step in SCRIPT.get(method, SCRIPT["other"]):
        if isinstance(step, bytes):
            send(rpc, step)
        elif step == "close":
            os.close(rpc)
            os.read(os.pipe()[0], 1)
        elif step == "exit":
            os._exit(3)
        elif step == "hang":
            os.read(os.pipe()[0], 1)
        else:
            send(rpc, msgpack.packb([1, identifier, *step]))


def serve():
    rpc = rpc_socket()
    unpacker = msgpack.Unpacker(strict_map_key=False)
    answer(rpc, 1, "load")
    while data := os.read(rpc, 65536):
        unpacker.feed(data)
        for request in unpacker:
            answer(rpc, request[1], request[2])
    os._exit(0)


serve()
'''

LOADED: dict[str, Any] = {
    "version": "1",
    "api": 1,
    "description": "An impostor.",
    "interval": 3600.0,
    "timeout": 1.0,
    "requires": [],
    "metrics": [{"name": "test.value", "kind": "gauge", "unit": "1", "labels": ["place"], "help": ""}],
    "reconfigurable": False,
}
COLLECTED: dict[str, Any] = {
    "time": 1.0,
    "monotonic": 1.0,
    "duration": 0.1,
    "ids": b"",
    "values": b"",
    "forget": [],
    "dropped": {},
}


def impostor(**script: list[Any]) -> str:
    """Return a plugin that takes over its worker's channel.

    Args:
        script: for each method what it does: a pair is the error and result that it answers, bytes are sent as
            they are, and ``close``, ``exit`` and ``hang`` are what it then does. Other methods answer nil.
    """
    whole: dict[str, list[Any]] = {
        "load": [(None, LOADED)],
        "collect": [(None, COLLECTED)],
        "other": [(None, None)],
        **script,
    }
    return IMPOSTOR.format(script=msgpack.packb(whole))
