"""A busy client, as a program to be run beside plugd: asks without a pause, and tells what came of it.

Usage: busy.py SOCKET. It prints a line when it has had its first answers, asks until its standard input ends, and then
prints one line of JSON for each of its ways: "connect" makes a connection for every request, "keep" keeps its own and
makes another where plugd will take no more.

A request that could not be sent has not been executed, and is sent anew; any other that has no answer, or an error
for one, has failed.
"""

import json
import socket
import sys
import threading
import time

import msgpack

METHODS = ("ping", "list", "version")
TIMEOUT = 30.0  # seconds without an answer, which is a failure
PAUSE = 0.0005  # seconds between requests: plugd, and not its client, is to have the processor


class Tally:
    """What came of the requests of one way."""

    def __init__(self, way: str) -> None:
        self.way = way
        self.answered = 0
        self.connections = 0
        self.sent_anew = 0
        self.failed: list[str] = []
        self.worst = 0.0

    def line(self) -> str:
        """Return it as JSON."""
        return json.dumps(vars(self))


class Connection:
    """A connection that is made by the first request."""

    def __init__(self, path: str, tally: Tally) -> None:
        self._path = path
        self._tally = tally
        self._socket: socket.socket | None = None
        self._last_id = 0

    def request(self, method: str) -> None:
        """Ask, until it is answered; raises OSError or ValueError where it was not, or not well."""
        self._last_id += 1
        data = msgpack.packb([0, self._last_id, method, []])
        while True:
            connection = self._socket or self._connect()
            try:
                connection.sendall(data)
            except (BrokenPipeError, ConnectionResetError):
                self.close()
                self._tally.sent_anew += 1
                continue
            break
        unpacker = msgpack.Unpacker(strict_map_key=False)
        while True:
            received = connection.recv(65536)
            if not received:
                raise ConnectionError("closed without an answer")
            unpacker.feed(received)
            for kind, number, error, _ in unpacker:
                if (kind, number, error) != (1, self._last_id, None):
                    raise ValueError(f"not the answer: {kind}, {number}, {error}")
                return

    def close(self) -> None:
        """End it; a further request makes another."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _connect(self) -> socket.socket:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(TIMEOUT)
        self._socket.connect(self._path)
        self._tally.connections += 1
        return self._socket


def ask(path: str, tally: Tally, stop: threading.Event) -> None:
    """Ask until told to stop."""
    connection = Connection(path, tally)
    number = 0
    while not stop.is_set():
        method = METHODS[number % len(METHODS)]
        number += 1
        begin = time.monotonic()
        try:
            connection.request(method)
            tally.answered += 1
        except (OSError, ValueError) as error:
            tally.failed.append(f"{method}: {type(error).__name__}: {error}")
            connection.close()
        tally.worst = max(tally.worst, time.monotonic() - begin)
        if tally.way == "connect":
            connection.close()
        time.sleep(PAUSE)
    connection.close()


def main(path: str) -> None:
    """Run both ways side by side."""
    stop = threading.Event()
    tallies = [Tally("connect"), Tally("keep")]
    threads = [threading.Thread(target=ask, args=(path, tally, stop)) for tally in tallies]
    for thread in threads:
        thread.start()
    while not all(tally.answered or tally.failed for tally in tallies):
        time.sleep(PAUSE)
    print("asking", flush=True)
    sys.stdin.read()
    stop.set()
    for thread in threads:
        thread.join()
    for tally in tallies:
        print(tally.line())


if __name__ == "__main__":
    main(sys.argv[1])
