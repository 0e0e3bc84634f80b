"""What is refused: parameters of every method, methods that are none, messages that are no requests."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest
from control_rig import DEMO, Wire
from harness import daemons

REQUIRED, OPTIONAL = True, False

# What methods that change something take besides.
WRITE = {"request_key": ("key", OPTIONAL)}
CHANGE = {"expect_generation": ("generation", OPTIONAL), **WRITE}

# The methods of the wire's contract: the role that each takes, and its parameters: what they are, and if required.
METHODS: dict[str, tuple[str, dict[str, tuple[str, bool]]]] = {
    "hello": ("read", {"client": ("text", OPTIONAL)}),
    "ping": ("read", {}),
    "methods": ("read", {}),
    "version": ("read", {}),
    "list": ("read", {}),
    "status": ("read", {}),
    "stats": ("read", {"patterns": ("patterns", OPTIONAL)}),
    "describe": ("read", {"name": ("name", REQUIRED)}),
    "why": ("read", {"name": ("name", REQUIRED)}),
    "logs": ("read", {"name": ("name", OPTIONAL), "lines": ("count", OPTIONAL)}),
    "get": ("read", {"name": ("name", REQUIRED), "setting": ("text", OPTIONAL), "origin": ("flag", OPTIONAL)}),
    "subscribe": (
        "read",
        {"patterns": ("patterns", OPTIONAL), "events": ("flag", OPTIONAL), "interval": ("seconds", OPTIONAL)},
    ),
    "unsubscribe": ("read", {"subscription": ("number", REQUIRED)}),
    "cancel": ("read", {"request": ("number", REQUIRED)}),
    "reload": ("operate", {"names": ("names", OPTIONAL), "dry_run": ("flag", OPTIONAL), **CHANGE}),
    "pause": (
        "operate",
        {"names": ("names", OPTIONAL), "duration": ("seconds", OPTIONAL), "reason": ("text", OPTIONAL), **CHANGE},
    ),
    "resume": ("operate", {"names": ("names", OPTIONAL), **CHANGE}),
    "call": (
        "operate",
        {
            "name": ("name", REQUIRED),
            "command": ("text", REQUIRED),
            "args": ("list", OPTIONAL),
            "kwargs": ("map", OPTIONAL),
            "timeout": ("seconds", OPTIONAL),
            **CHANGE,
        },
    ),
    "set": (
        "operate",
        {
            "name": ("name", REQUIRED),
            "setting": ("text", REQUIRED),
            "value": ("anything", REQUIRED),
            "persist": ("flag", OPTIONAL),
            **CHANGE,
        },
    ),
    "unset": ("operate", {"name": ("name", REQUIRED), "setting": ("text", REQUIRED), **CHANGE}),
    "check": ("operate", {"name": ("name", REQUIRED)}),
    "load": ("admin", {"names": ("names", REQUIRED), **WRITE}),
    "unload": ("admin", {"names": ("names", REQUIRED), "cascade": ("flag", OPTIONAL), **CHANGE}),
}

# A value of every type that msgpack has, and what may not be taken for anything.
VALUES: dict[str, Any] = {
    "nil": None,
    "true": True,
    "false": False,
    "zero": 0,
    "negative": -1,
    "uint64": 2**64 - 1,
    "int64": -(2**63),
    "float": 1.5,
    "nan": float("nan"),
    "infinity": float("inf"),
    "empty text": "",
    "text": "text",
    "not a name": "No/Name",
    "long text": "x" * 10_000,
    "bytes": b"\xff\xfe",
    "empty list": [],
    "list of numbers": [1],
    "list of texts": ["text"],
    "list of nil": [None],
    "list of bytes": [b"\xff\xfe"],
    "list of lists": [[]],
    "list of maps": [{"text": 1}],
    "list of many types": ["text", 1, None, True, 1.5, b"text"],
    "list, nested": [[[["text"]]]],
    "empty map": {},
    "map": {"text": 1},
    "map, nested": {"text": {"text": [{"text": ["text"]}]}},
    "map with another key": {"No/Name": "text"},
    "map with keys of bytes": {b"\xff": 1},
    "extension": msgpack.ExtType(5, b"text"),
    "timestamp": msgpack.Timestamp(1, 2),
}
TAKEN: dict[str, set[str]] = {
    "text": {"empty text", "text", "not a name"},
    "key": {"text", "not a name"},
    "generation": {"zero", "empty map", "map"},
    "name": {"text"},
    "names": {"empty list", "list of texts"},
    "patterns": {"empty list", "list of texts"},
    "flag": {"true", "false"},
    "count": set(),
    "number": {"zero", "negative", "uint64", "int64"},
    "seconds": {"zero", "float"},
    "list": {name for name in VALUES if name.startswith(("list", "empty list"))},
    "map": {"empty map", "map", "map, nested", "map with another key"},
    "anything": set(VALUES),
}
EXTENSIONS: list[Any] = [
    msgpack.ExtType(0, b""),
    msgpack.ExtType(127, b"text"),
    msgpack.Timestamp(0, 0),
    msgpack.Timestamp(-(2**63), 999_999_999),
]
GOOD = {
    "text": "text",
    "name": "nosuch",
    "names": ["nosuch"],
    "number": 1,
    "anything": 1,
}


@pytest.fixture(scope="module")
def path() -> Iterator[Path]:
    """The socket of a daemon that serves all tests of this module, and is as well at their end as before."""
    with daemons() as start:
        running = start(plugins={"demo": DEMO})
        yield running.socket
        assert running.call("ping") == "pong"
        assert not running.records("command_failed")
        assert running.plugin("demo")["name"] == "demo"


@pytest.fixture
def wire(path: Path) -> Iterator[Wire]:
    with Wire(path) as connected:
        yield connected
        assert connected.ask("ping", id=2**31) == (None, "pong")


def required(method: str) -> dict[str, Any]:
    return {name: GOOD[kind] for name, (kind, needed) in METHODS[method][1].items() if needed}


def test_the_contracts_methods_are_there(wire: Wire) -> None:
    """`methods` names each of them with its role and exactly its parameters, required or not."""
    error, rows = wire.ask("methods")
    assert error is None
    described = {
        row["name"]: (row["role"], {name: name in schema.get("required", []) for name in schema["properties"]})
        for row in rows
        for schema in [row["parameters"]]
    }
    expected = {
        name: (role, {key: needed for key, (_, needed) in parameters.items()})
        for name, (role, parameters) in METHODS.items()
    }
    assert {name: described.get(name) for name in expected} == expected


@pytest.mark.parametrize("method", [name for name in METHODS if required(name)])
def test_a_method_wants_what_it_requires(wire: Wire, method: str) -> None:
    """Without any parameters, or without one that is required, the request is invalid and says which is missing."""
    wanted = required(method)
    for params in ([], [{}]):
        error, _ = wire.ask(method, *params)
        assert error["code"] == "request.invalid"
        assert any(name in error["message"] for name in wanted)
    for left_out in wanted:
        error, _ = wire.ask(method, {key: value for key, value in wanted.items() if key != left_out})
        assert error["code"] == "request.invalid"
        assert left_out in error["message"]


@pytest.mark.parametrize("method", [name for name in METHODS if not required(name)])
def test_a_method_that_requires_nothing_takes_nothing(wire: Wire, method: str) -> None:
    """Params may be [] and [{}]."""
    assert wire.ask(method)[0] is None
    assert wire.ask(method, {})[0] is None


@pytest.mark.parametrize("method", METHODS)
def test_a_value_of_another_type_is_refused(wire: Wire, method: str) -> None:
    """For each parameter, every value that is not of its type is invalid; the message names the parameter."""
    for name, (kind, needed) in METHODS[method][1].items():
        for label, value in VALUES.items():
            if label in TAKEN[kind] or (label == "nil" and not needed and kind not in ("flag", "list", "map")):
                continue
            error, result = wire.ask(method, {**required(method), name: value})
            assert error is not None, (name, label, result)
            assert error["code"] == "request.invalid", (name, label, error)
            assert name in error["message"], (name, label, error)


@pytest.mark.parametrize("method", METHODS)
def test_an_extension_type_is_refused_wherever_it_is(wire: Wire, method: str) -> None:
    """No parameter takes one, by itself or within lists and maps, not even those that take any value."""
    for name in METHODS[method][1]:
        for extension in EXTENSIONS:
            for value in (extension, [extension], {"a": extension}, [1, [[[extension]]]], {"a": [{"b": extension}]}):
                error, result = wire.ask(method, {**required(method), name: value})
                assert error is not None, (name, value, result)
                assert error["code"] == "request.invalid", (name, value, error)
                assert name in error["message"], (name, value, error)


@pytest.mark.parametrize("method", METHODS)
def test_an_unknown_parameter_is_refused(wire: Wire, method: str) -> None:
    """A parameter that a method does not have is invalid, and named; a typing error is never ignored."""
    for unknown in ("nosuch", "Name", "", "__class__", "\u202e"):
        error, _ = wire.ask(method, {**required(method), unknown: 1})
        assert error["code"] == "request.invalid"
        assert unknown in error["message"]


@pytest.mark.parametrize("method", METHODS)
def test_params_are_one_map_or_none(wire: Wire, method: str) -> None:
    """Positional parameters, two maps, and what is no map at all are invalid."""
    good = required(method)
    for params in ([1], ["demo"], [None], [[]], [[good]], [good, good], [good, 1], [b""], [msgpack.ExtType(1, b"")]):
        error, _ = wire.ask(method, *params)
        assert error["code"] == "request.invalid", params


@pytest.mark.parametrize("params", [None, 1, "text", {}, b"", True])
def test_params_are_a_list(wire: Wire, params: Any) -> None:
    """Params that are no list make the message no request; its id is told."""
    wire.send([0, 9, "ping", params])
    kind, identifier, error, _ = wire.frame()
    assert (kind, identifier, error["code"]) == (1, 9, "request.invalid")


@pytest.mark.parametrize(
    "method",
    [
        "",
        " ping",
        "ping ",
        "ping\0",
        "PING",
        "pîng",
        "__class__",
        "__init__",
        "__getattribute__",
        "handle_ping",
        "COMMANDS",
        "ping.__call__",
        "../ping",
        "\u202egnip",
        "💥",
        "\U0010ffff",
        "x" * 50_000,
    ],
)
def test_an_unknown_method_is_refused(wire: Wire, method: str) -> None:
    """Whatever it is called; the answer stays short."""
    error, result = wire.ask(method)
    assert (error["code"], result) == ("request.unknown_method", None)
    assert set(error) == {"code", "message", "data"}
    assert len(error["message"]) < 1000


@pytest.mark.parametrize("method", [None, 1, b"\xff", ["ping"], {"ping": 1}, True, 1.5])
def test_a_method_is_text(wire: Wire, method: Any) -> None:
    """A method of another type makes the message no request."""
    error, _ = wire.ask(method)
    assert error["code"] == "request.invalid"


def test_a_notification_is_ignored(wire: Wire) -> None:
    """Nothing is answered, and nothing done."""
    wire.send([2, "unload", [{"names": ["demo"]}]], [2, "ping", []], [2, "nosuch", []], [2, "__class__", [1, 2]])
    error, rows = wire.ask("list")
    assert error is None
    assert [row["name"] for row in rows] == ["demo"]


def test_a_response_is_ignored(wire: Wire) -> None:
    """A client is asked nothing: what it answers is nothing."""
    wire.send([1, 1, None, "pong"], [1, None, {"code": "x"}, None], [1, 2**63, [], {}])
    assert wire.ask("ping") == (None, "pong")


@pytest.mark.parametrize("identifier", [0, 1, 2**32 - 1, 2**63, 2**64 - 1, -1, -(2**63)])
def test_an_id_is_any_integer(wire: Wire, identifier: int) -> None:
    """It comes back as it was sent."""
    assert wire.ask("ping", id=identifier) == (None, "pong")


@pytest.mark.parametrize("identifier", [None, True, False, 1.0, "1", b"1", [1], {}, msgpack.ExtType(1, b"")])
def test_an_id_is_nothing_but_an_integer(wire: Wire, identifier: Any) -> None:
    """A request with another id is refused with the id nil, and the connection goes on."""
    wire.send([0, identifier, "ping", []])
    kind, answered, error, result = wire.frame()
    assert (kind, answered, error["code"], result) == (1, None, "request.invalid", None)


@pytest.mark.parametrize("message", [None, 1, "ping", [], [0], [0, 1], [0, 1, "ping"], [0, 1, "ping", [], 1], [3], {}])
def test_a_message_that_is_none_is_refused(wire: Wire, message: Any) -> None:
    """And the connection goes on."""
    wire.send(message)
    kind, _, error, result = wire.frame()
    assert (kind, error["code"], result) == (1, "request.invalid", None)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\xc1", "request.invalid"),
        (msgpack.packb([0, 1, "ping", [{"a": "x" * 70_000}]]), "request.too_large"),
        (b"\xdd\xff\xff\xff\xff", "request.too_large"),
        (b"\xdf\xff\xff\xff\xff", "request.too_large"),
        (b"\xdb\xff\xff\xff\xff", "request.too_large"),
        (b"\x91" * 33, "request.too_large"),
        (msgpack.packb([0, 1, "ping", [None] * 5000]), "request.too_large"),
        (b"\x94\x00\x01\xa4ping\x91\x82\xa1a\x01\xa1a\x02", "request.invalid"),
        (b"\x94\x00\x01\xa2\xff\xff\x90", "request.invalid"),
    ],
    ids=["not msgpack", "long", "huge list", "huge map", "huge text", "deep", "many", "same key twice", "not utf-8"],
)
def test_a_broken_frame_is_told_and_ends_the_connection(path: Path, data: bytes, code: str) -> None:
    """What cannot be read on is refused with its code; requests before it are answered, others go on."""
    with Wire(path) as broken, Wire(path) as other:
        broken.send([0, 5, "ping", []], data)
        *answers, last = broken.rest()
        assert answers == [[1, 5, None, "pong"]]
        assert (last[0], last[1], last[2]["code"], last[3]) == (1, None, code, None)
        assert other.ask("ping") == (None, "pong")
