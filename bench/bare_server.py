"""The yardstick of the request benchmark: a server in plain Python that has nothing to decide.

Run as ``bare_server.py SOCKET``. It unpacks a request and packs the answer, with no limits, roles or commands, on
asyncio's readiness callbacks; ``list`` answers ten rows like a daemon's.
"""

import asyncio
import socket
import sys

import msgpack

ROW = {
    "name": "filesystem",
    "kind": "python",
    "state": "running",
    "version": "1.0.0",
    "api": 1,
    "description": "Space and inodes of every mounted filesystem, as the kernel tells it.",
    "path": "/usr/lib/plugd/plugins/filesystem.py",
    "sha256": "0" * 64,
    "generation": 1,
    "pid": 12345,
    "interval": 30.0,
    "loaded_at": 1.8e9,
    "collects": 1000,
    "failures": 0,
    "last_error": None,
}
RESULTS = {"ping": "pong", "list": [ROW] * 10}


def main() -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(sys.argv[1])
        listener.listen(64)
        listener.setblocking(False)
        print("ready", flush=True)
        asyncio.run(serve(listener))


async def serve(listener: socket.socket) -> None:
    loop = asyncio.get_running_loop()

    def accept() -> None:
        client, _ = listener.accept()
        client.setblocking(False)
        loop.add_reader(client, answer, client, msgpack.Unpacker())

    def answer(client: socket.socket, unpacker: msgpack.Unpacker) -> None:
        data = client.recv(65536)
        if not data:
            loop.remove_reader(client)
            client.close()
        unpacker.feed(data)
        for _, identifier, method, _ in unpacker:
            client.send(msgpack.packb([1, identifier, None, RESULTS[method]]))

    loop.add_reader(listener, accept)
    await asyncio.Event().wait()


if __name__ == "__main__":
    main()
