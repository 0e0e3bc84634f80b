"""Bytes to messages and back: msgpack-RPC without I/O.

Two decoders, for two kinds of peer. :class:`Decoder` reads what anybody may have sent: it measures a frame
before a single object of it is built, so that a frame over a limit costs nothing but the bytes that were
read. :class:`TrustedDecoder` reads what the daemon sends to its own workers and clients, at C speed.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
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
        limit: the name of the limit that was broken, as ``[control.limits]`` has it: ``request_bytes``, ``depth``,
            ``elements``, or of a stream ``partial_request``; None where it was none of them.
    """

    def __init__(self, code: str, message: str, limit: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.limit = limit


class MessageError(ValueError):
    """A frame is sound msgpack, but no message of msgpack-RPC; the stream can be read on.

    Attributes:
        id: the id of the request that was meant, or None.
        limit: None, as of a :class:`FrameError` that broke none.
    """

    code = REQUEST_INVALID
    limit: str | None = None

    def __init__(self, message: str, id: int | None = None) -> None:
        super().__init__(message)
        self.id = id


class Encoded:
    """A value that is msgpack already, in pieces: what is large is encoded piece by piece, and copied once.

    Args:
        chunks: together the bytes of exactly one value.
    """

    __slots__ = ("chunks",)

    def __init__(self, *chunks: bytes) -> None:
        self.chunks = chunks


def encode_map(fields: Mapping[str, Any]) -> Encoded:
    """Return a map of values, some of which may be encoded already."""
    chunks = [_headers.pack_map_header(len(fields))]
    for name, value in fields.items():
        chunks.append(_pack(name))
        chunks += value.chunks if type(value) is Encoded else (_pack(value),)
    return Encoded(*chunks)


def encode_array(length: int, chunks: Sequence[bytes]) -> Encoded:
    """Return an array of so many values; ``chunks`` are their bytes."""
    return Encoded(_headers.pack_array_header(length), *chunks)


def encode_request(id: int, method: str, params: dict[str, Any] | None = None) -> bytes:
    """Return the bytes of a request; ``params`` are named."""
    return _pack([REQUEST, id, method, [params] if params else []])


def encode_response(id: int | None, error: Any, result: Any) -> bytes:
    """Return the bytes of a response: ``error`` is None or ``{code, message, data}``, ``result`` may be Encoded.

    Raises:
        TypeError, ValueError, OverflowError: the result holds what msgpack cannot carry.
    """
    if type(result) is Encoded:
        return encode_response_of(id, encode_answer(error, result))
    return _pack([RESPONSE, id, error, result])


def encode_answer(error: Any, result: Any) -> bytes:
    """Return the bytes of a response from its error on: what of it may be kept, and sent again under another id.

    ``result`` may be Encoded.

    Raises:
        TypeError, ValueError, OverflowError: as of :func:`encode_response`.
    """
    if type(result) is Encoded:
        return b"".join((_pack(error), *result.chunks))
    return _pack(error) + _pack(result)


def encode_response_raw(id: int | None, result: Encoded) -> tuple[bytes, ...]:
    """Return the bytes of a response without an error, in pieces: nothing of a large result is copied.

    They are to be sent one after the other, with nothing of another message between them.
    """
    return (_RESPONSE_HEAD + _pack(id) + _NIL, *result.chunks)


def encode_response_of(id: int | None, answer: bytes) -> bytes:
    """Return the bytes of a response whose error and result are encoded already."""
    return _RESPONSE_HEAD + _pack(id) + answer


def encode_notification(method: str, params: dict[str, Any] | Encoded | None = None) -> bytes:
    """Return the bytes of a notification; ``params`` are named, and may be Encoded."""
    if type(params) is Encoded:
        return b"".join((_NOTIFICATION_HEAD, _pack(method), _ARRAY_OF_ONE, *params.chunks))
    return _pack([NOTIFICATION, method, [params] if params else []])


class Decoder:
    """A strict, incremental decoder for peers that are not trusted.

    Feed it what was received, in pieces of any size; take the messages out with :meth:`next_message`. Each
    byte is looked at once, however slowly they come. After a :class:`FrameError` the decoder is of no use.

    Args:
        limits: what a frame may hold.
        step: how many items one call of :meth:`next_message` looks at; a thousand take about 0.2 ms. None: all.

    Attributes:
        unfinished: whether the last :meth:`next_message` returned None because of ``step``, and not for want of
            bytes: it is to be called again, after others have had their turn.
    """

    def __init__(self, limits: Limits | None = None, step: int | None = None) -> None:
        self._limits = limits or Limits()
        self._step = -1 if step is None else step  # which never comes to zero
        self._buffer = bytearray()
        self.unfinished = False
        self._start_frame()

    @property
    def pending_bytes(self) -> int:
        """Bytes received that no message has been made of yet: not zero while a frame is incomplete."""
        return len(self._buffer)

    def feed(self, data: bytes) -> None:
        """Take bytes as they were received."""
        self._buffer += data

    def next_message(self) -> Message | None:
        """Return the next message, or None until more bytes are fed; see also :attr:`unfinished`.

        Raises:
            MessageError: a frame is no message; the next call goes on behind it.
            FrameError: the bytes are not msgpack, or go beyond a limit.
        """
        if not self._buffer or not self._measure():
            return None
        frame = self._take_frame()
        self._start_frame()
        return to_message(_unpack(frame))

    def _take_frame(self) -> bytearray:
        frame = self._buffer
        if self._position == len(frame):
            self._buffer = bytearray()  # It is all that there is: nothing needs to be copied.
            return frame
        frame = frame[: self._position]
        del self._buffer[: self._position]
        return frame

    def _start_frame(self) -> None:
        self._position = 0  # start of the next item; may lie beyond what has been received
        self._left = 1  # items that are left at this depth
        self._outer: list[int] = []  # items that are left at each depth outside of it
        self._elements = 0

    def _measure(self) -> bool:
        """Walk over the items that have arrived; whether the frame is complete."""
        buffer, position, left, outer = self._buffer, self._position, self._left, self._outer
        received, frame_bytes, steps = len(buffer), self._limits.frame_bytes, self._step
        while left and position < received and steps:
            size, width, unit = _ITEMS[buffer[position]]
            body = position + 1 + width
            if body > received:
                break  # the length itself has not arrived
            steps -= 1
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
            if position > frame_bytes:
                what = f"longer than {frame_bytes} bytes"
                raise FrameError(REQUEST_TOO_LARGE, what, "request_bytes")
            while not left and outer:
                left = outer.pop()
        self._position, self._left = position, left
        self.unfinished = not steps and left > 0 and position < received
        return not left and position <= received

    def _enter(self, count: int) -> None:
        if count < 0:
            raise FrameError(REQUEST_INVALID, "not msgpack: byte 0xc1")
        self._elements += count
        if self._elements > self._limits.elements:
            raise FrameError(REQUEST_TOO_LARGE, f"more than {self._limits.elements} elements", "elements")
        if len(self._outer) >= self._limits.depth:
            raise FrameError(REQUEST_TOO_LARGE, f"deeper than {self._limits.depth} levels", "depth")


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
            raise FrameError(REQUEST_TOO_LARGE, f"longer than {TRUSTED_FRAME_BYTES} bytes", "request_bytes") from error
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


def _unpack(frame: bytearray) -> Any:
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


_RESPONSE_HEAD = bytes((0x94, RESPONSE))  # an array of four, and its first element
_NOTIFICATION_HEAD = bytes((0x93, NOTIFICATION))
_NIL = b"\xc0"
_ARRAY_OF_ONE = b"\x91"

# A packer for each message: a shared one keeps the memory of the largest for ever, and mixes two messages up
# when it is entered again, by another thread or by the methods of what it packs.
_pack: Callable[[Any], bytes] = msgpack.packb
_headers = msgpack.Packer()  # for these alone one can be shared: they are small, and call nothing

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
