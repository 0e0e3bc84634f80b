"""Bytes to messages and back: msgpack-RPC without I/O.

Two decoders, for two kinds of peer. :class:`Decoder` reads what anybody may have sent: it measures a frame
before a single object of it is built, so that a frame over a limit costs nothing but the bytes that were
read. :class:`TrustedDecoder` reads what the daemon sends to its own workers and clients, at C speed.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import msgpack

from plugd.rpc.message import NOTIFICATION, REQUEST, RESPONSE, Message, Notification, Request, Response

REQUEST_INVALID = "request.invalid"
REQUEST_TOO_LARGE = "request.too_large"

TRUSTED_FRAME_BYTES = 256 * 1024 * 1024


class Limits(NamedTuple):
    """What one frame may hold."""

    frame_bytes: int = 64 * 1024
    depth: int = 32  # arrays and maps inside one another
    elements: int = 4096  # of all arrays and maps together; a map's key and value are two


# A worker is no more trusted than a client is; 10,000 samples come as two strings of bytes.
WORKER_LIMITS = Limits(frame_bytes=4 * 1024 * 1024, depth=32, elements=32_768)


class FrameError(ValueError):
    """The stream holds something that is no frame: nothing that follows in it can be trusted.

    Attributes:
        code: ``request.invalid`` or ``request.too_large``.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class MessageError(ValueError):
    """A frame is sound msgpack, but no message of msgpack-RPC; the stream can be read on.

    Attributes:
        id: the id of the request that was meant, or None.
    """

    code = REQUEST_INVALID

    def __init__(self, message: str, id: int | None = None) -> None:
        super().__init__(message)
        self.id = id


def encode_request(id: int, method: str, params: dict[str, Any] | None = None) -> bytes:
    """Return the bytes of a request; ``params`` are named."""
    return _pack([REQUEST, id, method, [params] if params else []])


def encode_response(id: int | None, error: Any, result: Any) -> bytes:
    """Return the bytes of a response: ``error`` is None or ``{code, message, data}``.

    Raises:
        TypeError, ValueError, OverflowError: the result holds what msgpack cannot carry.
    """
    return _pack([RESPONSE, id, error, result])


def encode_notification(method: str, params: dict[str, Any] | None = None) -> bytes:
    """Return the bytes of a notification; ``params`` are named."""
    return _pack([NOTIFICATION, method, [params] if params else []])


class Decoder:
    """A strict, incremental decoder for peers that are not trusted.

    Feed it what was received, in pieces of any size; take the messages out with :meth:`next_message`. Each
    byte is looked at once, however slowly they come. After a :class:`FrameError` the decoder is of no use.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._buffer = bytearray()
        self._start_frame()

    @property
    def pending_bytes(self) -> int:
        """Bytes received that no message has been made of yet: not zero while a frame is incomplete."""
        return len(self._buffer)

    def feed(self, data: bytes) -> None:
        """Take bytes as they were received."""
        self._buffer += data

    def next_message(self) -> Message | None:
        """Return the next message, or None until more bytes are fed.

        Raises:
            MessageError: a frame is no message; the next call goes on behind it.
            FrameError: the bytes are not msgpack, or go beyond a limit.
        """
        if not self._buffer or not self._measure():
            return None
        frame = bytes(self._buffer[: self._position])
        del self._buffer[: self._position]
        self._start_frame()
        return to_message(_unpack(frame))

    def _start_frame(self) -> None:
        self._position = 0  # start of the next item; may lie beyond what has been received
        self._left = 1  # items that are left at this depth
        self._outer: list[int] = []  # items that are left at each depth outside of it
        self._elements = 0

    def _measure(self) -> bool:
        """Walk over the items that have arrived; whether the frame is complete."""
        buffer, position, left, outer = self._buffer, self._position, self._left, self._outer
        received = len(buffer)
        while left and position < received:
            size, width, unit = _ITEMS[buffer[position]]
            body = position + 1 + width
            if body > received:
                break  # the length itself has not arrived
            length = int.from_bytes(buffer[position + 1 : body], "big") if width else 0
            left -= 1
            if unit:
                position = body
                count = (length or size) * unit
                self._enter(count)
                if count:
                    outer.append(left)
                    left = count
            else:
                position = body + size + length
            if position > self._limits.frame_bytes:
                raise FrameError(REQUEST_TOO_LARGE, f"longer than {self._limits.frame_bytes} bytes")
            while not left and outer:
                left = outer.pop()
        self._position, self._left = position, left
        return not left and position <= received

    def _enter(self, count: int) -> None:
        if count < 0:
            raise FrameError(REQUEST_INVALID, "not msgpack: byte 0xc1")
        self._elements += count
        if self._elements > self._limits.elements:
            raise FrameError(REQUEST_TOO_LARGE, f"more than {self._limits.elements} elements")
        if len(self._outer) >= self._limits.depth:
            raise FrameError(REQUEST_TOO_LARGE, f"deeper than {self._limits.depth} levels")


class TrustedDecoder:
    """A decoder for what the daemon itself sends: large frames, and no protection from them."""

    def __init__(self) -> None:
        self._unpacker = msgpack.Unpacker(max_buffer_size=TRUSTED_FRAME_BYTES, strict_map_key=False)

    def feed(self, data: bytes) -> Iterator[Message]:
        """Take bytes as they were received; return the messages that are complete.

        Raises:
            FrameError: the peer does not speak msgpack, or a frame is longer than 256 MiB.
            MessageError: it does not speak msgpack-RPC.
        """
        try:
            self._unpacker.feed(data)
        except msgpack.BufferFull as error:
            raise FrameError(REQUEST_TOO_LARGE, f"longer than {TRUSTED_FRAME_BYTES} bytes") from error
        return self._messages()

    def _messages(self) -> Iterator[Message]:
        while True:
            try:
                frame = self._unpacker.unpack()
            except msgpack.OutOfData:
                return
            except (TypeError, ValueError, msgpack.UnpackException) as error:
                # TypeError: a map's key is a list
                raise FrameError(REQUEST_INVALID, f"not msgpack: {_reason(error)}") from error
            yield to_message(frame)


def to_message(frame: Any) -> Message:
    """Return the message that an unpacked frame is.

    Raises:
        MessageError: it is none.
    """
    if type(frame) is not list or not frame:
        raise MessageError("a message is an array: [0, id, method, params]")
    kind = frame[0]
    if type(kind) is not int or not REQUEST <= kind <= NOTIFICATION:
        raise MessageError("a message starts with its type: 0, 1 or 2")
    if kind == REQUEST:
        identity = _identity(frame)
        if len(frame) != 4:
            raise MessageError("a request has four elements: [0, id, method, params]", identity)
        _, identifier, method, params = frame
        if identity is None:
            raise MessageError("a request's id is an integer")
        return Request(identifier, _method(method, params, identity), params)
    if kind == NOTIFICATION:
        if len(frame) != 3:
            raise MessageError("a notification has three elements: [2, method, params]")
        return Notification(_method(frame[1], frame[2], None), frame[2])
    if len(frame) != 4:
        raise MessageError("a response has four elements: [1, id, error, result]")
    if frame[1] is not None and type(frame[1]) is not int:
        raise MessageError("a response's id is an integer, or nil")
    return Response(frame[1], frame[2], frame[3])


def _identity(frame: list[Any]) -> int | None:
    """The request's id, where it is one: an integer, and not a bool."""
    return frame[1] if len(frame) > 1 and type(frame[1]) is int else None


def _method(method: Any, params: Any, identity: int | None) -> str:
    """The method's name; some libraries of other languages send their text as bin."""
    if type(params) is not list:
        raise MessageError("params are an array: [] or [{name: value}]", identity)
    if type(method) is bytes:
        try:
            return method.decode()
        except UnicodeDecodeError:
            pass  # Then it is no text either.
    if type(method) is not str:
        raise MessageError("a method's name is a string", identity)
    return method


def _unpack(frame: bytes) -> Any:
    try:
        # Keys are text or bytes: their hashes are keyed, so that nobody can choose them to collide.
        return msgpack.unpackb(frame, strict_map_key=True, object_pairs_hook=_unique_map)
    except FrameError:
        raise
    except (ValueError, msgpack.UnpackException) as error:
        raise FrameError(REQUEST_INVALID, f"not msgpack: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__  # msgpack's own errors often say nothing


def _unique_map(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise FrameError(REQUEST_INVALID, "a map has the same key twice")
    return result


# A packer for each message: a shared one keeps the memory of the largest for ever, and mixes two messages up
# when it is entered again, by another thread or by the methods of what it packs.
_pack: Callable[[Any], bytes] = msgpack.packb

_SCALAR = 0
_ARRAY = 1  # elements that each entry stands for
_MAP = 2


def _item(byte: int) -> tuple[int, int, int]:
    """How to walk over an item that starts so: bytes or entries behind it, width of a length field, kind.

    https://github.com/msgpack/msgpack/blob/master/spec.md#formats
    """
    if byte <= 0x7F or byte >= 0xE0:  # fixint
        return 0, 0, _SCALAR
    if byte <= 0x8F:
        return byte & 0x0F, 0, _MAP
    if byte <= 0x9F:
        return byte & 0x0F, 0, _ARRAY
    if byte <= 0xBF:  # fixstr
        return byte & 0x1F, 0, _SCALAR
    return _NAMED_ITEMS[byte]


_NAMED_ITEMS = {
    0xC0: (0, 0, _SCALAR),  # nil
    0xC1: (-1, 0, _ARRAY),  # never used: an array of less than nothing
    0xC2: (0, 0, _SCALAR),  # false
    0xC3: (0, 0, _SCALAR),  # true
    **{0xC4 + i: (0, width, _SCALAR) for i, width in enumerate((1, 2, 4))},  # bin
    **{0xC7 + i: (1, width, _SCALAR) for i, width in enumerate((1, 2, 4))},  # ext, with its type
    **{0xCA + i: (size, 0, _SCALAR) for i, size in enumerate((4, 8))},  # float
    **{0xCC + i: (size, 0, _SCALAR) for i, size in enumerate((1, 2, 4, 8))},  # uint
    **{0xD0 + i: (size, 0, _SCALAR) for i, size in enumerate((1, 2, 4, 8))},  # int
    **{0xD4 + i: (size, 0, _SCALAR) for i, size in enumerate((2, 3, 5, 9, 17))},  # fixext, with its type
    **{0xD9 + i: (0, width, _SCALAR) for i, width in enumerate((1, 2, 4))},  # str
    **{0xDC + i: (0, width, _ARRAY) for i, width in enumerate((2, 4))},
    **{0xDE + i: (0, width, _MAP) for i, width in enumerate((2, 4))},
}

_ITEMS = tuple(_item(byte) for byte in range(256))
