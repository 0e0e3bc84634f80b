"""Services that say just enough for a check of them to succeed, on ports of their own."""

import socket
import struct
import threading
import time

GREETINGS = {
    "check_ftp": b"220 ready\r\n",
    "check_imap": b"* OK ready\r\n",
    "check_nntp": b"200 ready\r\n",
    "check_pop": b"+OK ready\r\n",
    "check_smtp": b"220 here ESMTP\r\n",
    "check_ssh": b"SSH-2.0-Parity_1.0\r\n",
    "check_tcp": b"hello\r\n",
    "check_jabber": b"",
    "check_clamd": b"",
    "check_http": b"",
    "check_real": b"",
    "check_time": b"",
}
ANSWERS = {
    "check_clamd": b"PONG\n",
    "check_http": b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nyes",
    "check_jabber": b"<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>",
    "check_real": b"RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n",
    "check_smtp": b"250 here\r\n",
    "check_ftp": b"221 bye\r\n",
    "check_pop": b"+OK bye\r\n",
    "check_imap": b"* BYE\r\na1 OK\r\n",
    "check_nntp": b"205 bye\r\n",
}
CLOSING = ("check_http", "check_real")
EPOCH_1900 = 2_208_988_800  # seconds between 1900 and 1970: RFC 868


class Services:
    """A context manager: they run in threads, and end with it."""

    def __init__(self) -> None:
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self.ports: dict[str, int] = {}  # by the plugin that checks it

    def __enter__(self) -> "Services":
        for name in GREETINGS:
            listener = socket.create_server(("127.0.0.1", 0))
            self._start(name, listener, self._accept)
        echo = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        echo.bind(("127.0.0.1", 0))
        self._start("check_udp", echo, self._echo)
        return self

    def __exit__(self, *_: object) -> None:
        for each in self._sockets:
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # A datagram socket is not connected; its thread is woken all the same.
            each.close()

    def extra(self, name: str) -> list[str]:
        """Return further arguments that a check needs."""
        return ["-s", "hello", "-e", "hello"] if name == "check_udp" else []

    def _start(self, name: str, listener: socket.socket, serve: object) -> None:
        self.ports[name] = listener.getsockname()[1]
        self._sockets.append(listener)
        thread = threading.Thread(target=serve, args=(name, listener), daemon=True)  # type: ignore[arg-type]
        thread.start()
        self._threads.append(thread)

    def _accept(self, name: str, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=(name, connection), daemon=True).start()

    def _talk(self, name: str, connection: socket.socket) -> None:
        with connection:
            try:
                if name == "check_time":
                    connection.sendall(struct.pack(">I", int(time.time()) + EPOCH_1900))
                    return
                connection.sendall(GREETINGS[name])
                while connection.recv(4096):
                    connection.sendall(ANSWERS.get(name, b""))
                    if name in CLOSING:
                        return
            except OSError:
                pass  # The check has what it wants.

    def _echo(self, _name: str, udp: socket.socket) -> None:
        while True:
            try:
                data, peer = udp.recvfrom(4096)
                udp.sendto(data, peer)
            except (OSError, TypeError):  # The shutdown gives a datagram of nobody.
                return
