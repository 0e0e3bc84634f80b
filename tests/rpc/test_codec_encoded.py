"""Values that are msgpack already: spliced into what is sent, byte for byte as if they were not."""

from typing import Any

import msgpack
import pytest

from plugd.rpc.codec import (
    Encoded,
    encode_answer,
    encode_array,
    encode_map,
    encode_notification,
    encode_response,
    encode_response_of,
    encode_response_raw,
)

ROWS = [{"value": number / 7, "labels": {"number": str(number)}} for number in range(20)]
VALUES: list[Any] = [None, 7, "text", b"bin", [], {}, ROWS, {"rows": ROWS}]


def encoded(value: Any, pieces: int = 3) -> Encoded:
    """Return the value encoded, in so many pieces."""
    data: bytes = msgpack.packb(value)
    size = len(data) // pieces + 1
    return Encoded(*(data[start : start + size] for start in range(0, len(data), size)))


@pytest.mark.parametrize("identifier", [0, 1, 127, 128, 2**64 - 1, -1, -(2**63), None])
@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_response_is_the_same(identifier: int | None, value: Any) -> None:
    """In one piece and in several, with any id."""
    plain = encode_response(identifier, None, value)
    assert plain == msgpack.packb([1, identifier, None, value])
    assert encode_response(identifier, None, encoded(value)) == plain
    assert encode_response_of(identifier, encode_answer(None, encoded(value))) == plain
    assert b"".join(encode_response_raw(identifier, encoded(value))) == plain


def test_the_pieces_of_a_result_are_not_copied() -> None:
    """They are sent as they are, behind one that holds the rest of the response."""
    result = encoded(ROWS)
    head, *rest = encode_response_raw(1, result)
    assert head == b"\x94\x01\x01\xc0"
    assert [id(chunk) for chunk in rest] == [id(chunk) for chunk in result.chunks]


@pytest.mark.parametrize("length", [0, 1, 15, 16, 65535, 65536])
def test_an_array_is_the_same(length: int) -> None:
    """Whatever its length, and however its values lie in the pieces."""
    values = list(range(length))
    data = [msgpack.packb(value) for value in values]
    array = encode_array(length, [b"".join(data[: length // 3]), *data[length // 3 :]])
    assert b"".join(array.chunks) == msgpack.packb(values)


@pytest.mark.parametrize("length", [0, 1, 15, 16, 65536])
def test_a_map_is_the_same(length: int) -> None:
    """With values that are encoded and values that are not, in their order."""
    fields = {f"key{number}": [number] for number in range(length)}
    given = {name: encoded(value) if value[0] % 2 else value for name, value in fields.items()}
    assert b"".join(encode_map(given).chunks) == msgpack.packb(fields)


def test_maps_and_arrays_nest() -> None:
    """An encoded value is a value of another one."""
    inner = encode_map({"rows": encode_array(len(ROWS), [msgpack.packb(row) for row in ROWS]), "n": 1})
    outer = encode_map({"inner": inner, "time": 1.5})
    assert msgpack.unpackb(encode_response(3, None, outer)) == [
        1,
        3,
        None,
        {"inner": {"rows": ROWS, "n": 1}, "time": 1.5},
    ]


def test_a_notification_is_the_same() -> None:
    """Its params are a map, encoded or not."""
    params = {"subscription": 1, "samples": ROWS}
    given = encode_map({"subscription": 1, "samples": encoded(ROWS)})
    assert encode_notification("sample", given) == encode_notification("sample", params)


def test_what_cannot_be_carried_is_refused_in_a_map() -> None:
    """As it is anywhere else."""
    with pytest.raises(TypeError):
        encode_map({"good": encoded(1), "bad": object()})
