"""The table of methods is all that a client can reach: whatever else it names, nothing of that name is looked for."""

import builtins
import contextlib
import random
import re
import unicodedata
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any
from unittest import mock

import anyio
import pytest
from control_rig import AsyncWire, serving
from test_control_requests import METHODS

from plugd import errors
from plugd.control import access, commands, context, parameters, server, session
from plugd.control.access import Role
from plugd.control.commands import COMMANDS

pytestmark = pytest.mark.anyio

NAMES = 10_000
AT_ONCE = 500  # requests that are under way together

# Letters that look like those of the methods' names and are others.
HOMOGLYPHS = str.maketrans("aceilopsy", "\u0430\u0441\u0435\u0456\u04cf\u043e\u0440\u0455\u0443")
WIDE = str.maketrans({chr(code): chr(code + 0xFEE0) for code in range(0x21, 0x7F)})
ENDS = ["\0", " ", "\n", "\r\n", "\t", ".", "()", "__", "/", ";", "\u200b", "\u202e", "\ufeff", "\u0301"]
ENDS += [".__call__", ".handler", ";load", "\nload"]
STARTS = ["\0", " ", "\n", ".", "_", "__", "handle_", "Session.", "session.", "COMMANDS.", "commands.handle_", "self."]
STARTS += ["plugd.control.commands.", "rpc.", "system.", "\ufeff", "\u200b", "/", "../", "!", "@", "$", "%", "eval:"]
FAMOUS = ["__class__", "Session.close", "list\0", "LIST", "handle_list", "list.__call__", "\u04cf\u0456\u0455t"]
FAMOUS += ["session.__class__", "session.context.registry", "__import__('os')", "os.system", "{0.__class__}", "%s%s%n"]
FAMOUS += ["__class__.__init__.__globals__", "__class__.__mro__", "${jndi:ldap://x}", "\u202etsil"]


def near(name: str) -> Iterator[str]:
    """Yield names that a careless look-up may take for this one."""
    yield from (name.upper(), name.title(), name.swapcase(), name[::-1], name * 2, name[:-1], name[1:])
    yield from (name.translate(HOMOGLYPHS), name.translate(WIDE), unicodedata.normalize("NFD", name) + "\u0301")
    yield from (name + end for end in ENDS)
    yield from (start + name for start in STARTS)
    yield from (f"{name}.{other}" for other in dir(str))
    yield from (name[:at] + "\0" + name[at:] for at in range(len(name) + 1))
    yield from (name[:at] + name[at].upper() + name[at + 1 :] for at in range(len(name)))


def attributes() -> Iterator[str]:
    """Yield the names of all that there is in the daemon's own modules and classes."""
    modules = [access, builtins, commands, context, errors, parameters, server, session]
    classes = [session.Session, context.Context, server.ControlServer, commands.Command, dict, str, list, object, type]
    for each in [*modules, *classes]:
        for attribute in dir(each):
            yield attribute
            yield f"{each.__name__}.{attribute}"


def unknown_names() -> list[str]:
    """Return as many names as are wanted, none of them a method, each once."""
    source = random.Random(7)
    names = dict.fromkeys(attributes())
    for method in METHODS:
        names |= dict.fromkeys(near(method))
    while len(names) < NAMES + len(METHODS) + len(FAMOUS):
        letters = source.choice((range(0x20), range(0x20, 0x7F), range(0xA0, 0xD800), range(0xE000, 0x110000)))
        names["".join(chr(source.choice(letters)) for _ in range(source.randrange(24)))] = None
    others = [name for name in names if name not in METHODS and name not in FAMOUS]
    return FAMOUS + source.sample(others, NAMES - len(FAMOUS))


async def answers(client: AsyncWire, methods: Sequence[Any], params: Sequence[Any] = ()) -> AsyncIterator[Any]:
    """Ask for methods, pipelined; yield each with the error of its answer."""
    for start in range(0, len(methods), AT_ONCE):
        some = methods[start : start + AT_ONCE]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.send, *([0, start + at, method, list(params)] for at, method in enumerate(some)))
            for at, method in enumerate(some):
                kind, identifier, error, result = await client.frame()
                assert (kind, identifier, result) == (1, start + at, None), method
                yield method, error


@contextlib.contextmanager
def spied_on() -> Iterator[list[str]]:
    """Have every handler replaced by one that only notes the name of its method."""
    called: list[str] = []
    spies = {
        name: command._replace(handler=lambda _session, _params, name=name: called.append(name))
        for name, command in COMMANDS.items()
    }
    with mock.patch.dict(COMMANDS, spies):
        yield called


def test_the_names_that_others_were_broken_by_are_among_them() -> None:
    """The names of this module are the ones that it is about, each once, and none is a method."""
    names = unknown_names()
    assert len(set(names)) == len(names) == NAMES
    assert not set(names) & set(COMMANDS)
    assert {*FAMOUS} <= set(names)


async def test_ten_thousand_names_reach_nothing() -> None:
    """Each is answered request.unknown_method, shortly, and no handler is called."""
    names = unknown_names()
    async with serving(Role.ADMIN) as running:
        client = await running.connect()
        with spied_on() as called:
            assert await client.call("version") is None
            assert called == ["version"]  # The spies are where they should be.
            async for name, error in answers(client, names):
                assert error["code"] == "request.unknown_method", name
                assert len(error["message"]) < 1000
            assert called == ["version"]
        assert await client.call("ping") == "pong"
        counts = (await client.call("status"))["control"]
        assert counts["refused.request.unknown_method"] == NAMES


async def test_names_as_bytes_reach_no_more() -> None:
    """Libraries without text send bin: it is the same name, and where it is not UTF-8, none."""
    source = random.Random(8)
    names = [name.encode() for name in source.sample(unknown_names(), 1000)]
    names += [name.encode() + bytes([byte]) for name in COMMANDS for byte in (0x00, 0x80, 0xC0, 0xFF)]
    names += [name.encode("utf-16-le") for name in COMMANDS] + [b"\xc1\xac" + name.encode()[1:] for name in COMMANDS]
    async with serving(Role.ADMIN) as running:
        client = await running.connect()
        with spied_on() as called:
            async for name, error in answers(client, names):
                assert error["code"] in ("request.unknown_method", "request.invalid"), name
            assert called == []


async def test_nobody_is_told_more_for_a_role() -> None:
    """A name that is no method is unknown to the least as to the greatest: it says nothing of what there is."""
    names = random.Random(9).sample(unknown_names(), 500)
    told = []
    for role in Role:
        async with serving(role) as running:
            client = await running.connect()
            told.append([error async for _, error in answers(client, names, [{"name": "demo"}])])
    assert told[0] == told[1] == told[2]


def test_the_table_is_what_the_contract_has() -> None:
    """No method is there that the tests of parameters and roles do not know; each is a plain word of its own."""
    assert set(COMMANDS) == set(METHODS)
    assert all(re.fullmatch("[a-z]+", name) and name == command.name for name, command in COMMANDS.items())
