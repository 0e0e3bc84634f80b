"""One client process of the request benchmark: several connections, one request in flight on each.

Run as ``client.py SOCKET METHOD CONNECTIONS START SECONDS``; START is on CLOCK_MONOTONIC, so that several begin
together. Prints JSON: ``requests``, and ``latencies``, how many answers took so many whole microseconds.
"""

import json
import select
import socket
import sys
import time
from collections import Counter

import msgpack

CONNECT_TIMEOUT = 10.0  # seconds


def main() -> None:
    path, method, connections, start, seconds = sys.argv[1:]
    request = msgpack.packb([0, 1, method, []])
    sockets = [connected(path, request) for _ in range(int(connections))]
    time.sleep(max(0.0, float(start) - time.monotonic()))
    latencies = ask(sockets, request, float(seconds))
    print(json.dumps({"requests": latencies.total(), "latencies": latencies}))


def connected(path: str, request: bytes) -> socket.socket:
    """Connect, and see that the request is answered and not refused: only that is worth counting."""
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(CONNECT_TIMEOUT)
    client.connect(path)
    client.sendall(request)
    unpacker = msgpack.Unpacker()
    while data := client.recv(65536):
        unpacker.feed(data)
        for kind, identifier, error, result in unpacker:
            if (kind, identifier, error) != (1, 1, None) or not result:
                raise SystemExit(f"refused: {error}")
            return client
    raise SystemExit("the server closed the connection")


def ask(sockets: list[socket.socket], request: bytes, seconds: float) -> Counter[int]:
    """Ask on every connection, again as soon as its answer is complete, for so many seconds."""
    poller = select.epoll()
    clients = {}
    now = time.perf_counter
    end = now() + seconds
    asked = {}
    for client in sockets:
        number = client.fileno()
        poller.register(number, select.EPOLLIN)
        clients[number] = (client, msgpack.Unpacker())
        asked[number] = now()
        client.sendall(request)
    latencies: Counter[int] = Counter()
    while asked:
        for number, _ in poller.poll(CONNECT_TIMEOUT):
            client, unpacker = clients[number]
            data = client.recv(65536)
            if not data:
                raise SystemExit("the daemon closed a connection")
            unpacker.feed(data)
            try:
                unpacker.skip()
            except msgpack.OutOfData:
                continue
            answered = now()
            latencies[int((answered - asked[number]) * 1e6)] += 1
            if answered < end:
                asked[number] = now()
                client.send(request)
            else:
                del asked[number]
    return latencies


if __name__ == "__main__":
    main()
