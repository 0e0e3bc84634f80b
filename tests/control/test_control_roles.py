"""What each role may do."""

import pytest
from control_rig import serving, until
from test_control_requests import METHODS, required

from plugd.control.access import Role

pytestmark = pytest.mark.anyio

ROLES = {str(role): role for role in Role}


@pytest.mark.parametrize("role", Role)
async def test_a_role_may_call_what_it_includes_and_nothing_else(role: Role) -> None:
    """A method that takes more is denied, whatever its parameters; one that does not is never."""
    async with serving(role) as server:
        client = await server.connect()
        denied = []
        for method in METHODS:
            error, _ = await client.ask(method, **required(method))
            if error is not None and error["code"] == "auth.denied":
                denied.append(method)
                assert error["data"] == {"role": str(role), "needed": METHODS[method][0]}
                assert method in error["message"]
        assert denied == [method for method, (needed, _) in METHODS.items() if ROLES[needed] > role]


async def test_a_denial_says_nothing_of_the_parameters() -> None:
    """Who may not call a method is told so, and not what is wrong with the parameters."""
    async with serving(Role.READ) as server:
        client = await server.connect()
        error, _ = await client.ask("load", nosuch=1)
        assert error["code"] == "auth.denied"


@pytest.mark.parametrize("role", Role)
async def test_hello_tells_the_role(role: Role) -> None:
    """And everybody is told what each method takes."""
    async with serving(role) as server:
        client = await server.connect()
        assert (await client.call("hello"))["role"] == str(role)
        told = {row["name"]: row["role"] for row in await client.call("methods")}
        assert {name: told.get(name) for name in METHODS} == {name: needed for name, (needed, _) in METHODS.items()}


async def test_a_role_is_settled_when_the_client_connects() -> None:
    """Another policy counts for those who connect from then on."""
    async with serving(Role.READ) as server:
        before = await server.connect()
        assert (await before.call("hello"))["role"] == "read"
        object.__setattr__(server.context.policy, "_role", Role.ADMIN)
        after = await server.connect()
        assert (await after.call("hello"))["role"] == "admin"
        assert (await before.call("hello"))["role"] == "read"
        assert (await before.ask("reload"))[0]["code"] == "auth.denied"


async def test_denials_are_counted() -> None:
    """`status` has how many requests were refused, by code."""
    async with serving(Role.READ) as server:
        client = await server.connect()
        for _ in range(3):
            await client.ask("reload")
        await client.ask("nosuch")
        counts = (await client.call("status"))["control"]
        assert counts["refused.auth.denied"] == 3
        assert counts["refused.request.unknown_method"] == 1


async def test_stopping_closes_the_connections() -> None:
    """When the server ends, so do its sessions."""
    async with serving() as server:
        client = await server.connect()
        assert await client.call("ping") == "pong"
        context, sock = server.context, client.socket.dup()
    await until(lambda: context.connections == 0, "the end of the session")
    with sock:
        assert sock.recv(1) == b""
