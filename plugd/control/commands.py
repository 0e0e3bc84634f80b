"""Every method of the control socket: its name, who may call it, what it takes, what runs. The API on one screen.

A handler takes the session and its parameters and returns what msgpack can carry, or an awaitable of that.
CommandError is the only exception that becomes an answer.
"""

import contextlib
import functools
import os
import platform
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import msgpack
import msgspec

from plugd import __version__
from plugd.control import parameters as p
from plugd.control import reports
from plugd.control.access import Role
from plugd.errors import REQUEST_INVALID, CommandError
from plugd.hosting.calls import Tell
from plugd.hosting.cost import cost_of
from plugd.hosting.events import Actor
from plugd.plugin import API_VERSION
from plugd.rpc.codec import Encoded

if TYPE_CHECKING:
    from plugd.control.session import Session

PROTOCOL_VERSION = 1


class Command(NamedTuple):
    """One method. A ``lasting`` one goes on when its client is gone, or cancels it: half done is worse.

    The handler of a ``telling`` one is also given what tells the client how far it is.
    """

    name: str
    role: Role
    parameters: type[p.Parameters]
    handler: "Callable[..., Any]"
    description: str
    lasting: bool = False
    telling: bool = False


def handle_hello(session: "Session", params: p.Hello) -> dict[str, Any]:
    limits = session.context.settings.config.control.limits
    session.client = params.client
    return {
        "name": "plugd",
        "version": __version__,
        "api": API_VERSION,
        "protocol": PROTOCOL_VERSION,
        "role": str(session.role),
        "uid": session.peer.uid,
        "boot_id": session.context.boot_id,
        "pid": os.getpid(),
        "limits": {
            "request_bytes": limits.request_bytes,
            "depth": limits.depth,
            "elements": limits.elements,
            "partial_request_seconds": limits.partial_request,
            "write_seconds": limits.write,
            "unread_bytes": limits.unread_bytes,
            "idle_seconds": limits.idle,
            "ping_seconds": limits.ping,
            "connections": limits.connections,
            "connections_per_uid": limits.connections_per_uid,
            "requests_in_flight": limits.requests_in_flight,
            "subscriptions": limits.subscriptions,
            "subscriptions_per_uid": limits.subscriptions_per_uid,
            "queue": limits.queue,
        },
    }


def handle_ping(_session: "Session", _params: p.Parameters) -> str:
    return "pong"


@functools.cache
def _methods() -> list[dict[str, Any]]:
    return [
        {
            "name": command.name,
            "role": str(command.role),
            "description": command.description,
            "parameters": _schema(command.parameters),
        }
        for command in COMMANDS.values()
    ]


def handle_methods(_session: "Session", _params: p.Parameters) -> list[dict[str, Any]]:
    return _methods()


def handle_version(_session: "Session", _params: p.Parameters) -> dict[str, Any]:
    return {
        "version": __version__,
        "api": API_VERSION,
        "protocol": PROTOCOL_VERSION,
        "python": platform.python_version(),
        "platform": f"{os.uname().sysname} {os.uname().release} {os.uname().machine}",
    }


def handle_list(session: "Session", _params: p.Parameters) -> list[dict[str, Any]]:
    return [reports.list_row(each) for each in session.context.registry.all()]


def handle_status(session: "Session", _params: p.Parameters) -> dict[str, Any]:
    context = session.context
    supervisors = context.registry.all()
    cost = cost_of(os.getpid())
    return {
        "version": __version__,
        "pid": os.getpid(),
        "uid": os.getuid(),
        "time": time.time(),
        "uptime": time.monotonic() - context.started_monotonic,
        "started_at": context.started_at,
        "socket": context.settings.socket,
        "config": context.settings.config_path,
        "plugin_dirs": list(context.settings.plugin_dirs),
        "plugins": reports.status_plugins(supervisors),
        "problems": reports.problems(supervisors),
        "series": len(context.store),
        "connections": context.connections,
        "subscriptions": len(context.broker),
        "control": context.counts.as_dict(),
        "scheduler": {
            "wakeups": context.scheduler.wakeups,
            "late_max": context.scheduler.late_max,
            "resynchronised": context.scheduler.resynchronised,
        },
        "cgroups": context.registry.environment.cgroups.controllers,
        "forkserver_restarts": context.registry.environment.forkserver.restarts,
        "memory_bytes": cost.memory_bytes,
        "cpu_seconds": cost.cpu_seconds,
        "notes": [*context.notes, *(f"ignored {path}: {reason}" for path, reason in context.registry.ignored)],
    }


async def handle_stats(session: "Session", params: p.Stats) -> Encoded:
    context = session.context
    head = {"time": time.time(), "uptime": time.monotonic() - context.started_monotonic}
    async with session.large_answer():
        return await reports.encoded_stats(head, context.registry.all(), context.store, params.patterns or None)


async def handle_describe(session: "Session", params: p.OneName) -> dict[str, Any]:
    supervisor = session.context.registry.get(params.name, "describe")
    if supervisor.current is None:
        return reports.describe(supervisor, None, {})
    details = await supervisor.calls.describe()
    return reports.describe(supervisor, details, await supervisor.calls.get())


def handle_why(session: "Session", params: p.OneName) -> dict[str, Any]:
    context = session.context
    return reports.why(context.registry.get(params.name, "explain"), context.events)


def handle_logs(session: "Session", params: p.Logs) -> list[dict[str, Any]]:
    return session.context.ring.records(params.name, params.lines)


async def handle_get(session: "Session", params: p.Get) -> Any:
    supervisor = session.context.registry.get(params.name, "read")
    values = await supervisor.calls.get(params.setting)
    return reports.with_origin(supervisor, params.setting, values) if params.origin else values


async def handle_set(session: "Session", params: p.Set) -> Any:
    supervisor = session.context.registry.get(params.name, "set")
    actor = _actor(session, params, [params.name])
    return await supervisor.calls.set(params.setting, params.value, actor, persist=params.persist)


async def handle_unset(session: "Session", params: p.Unset) -> Any:
    supervisor = session.context.registry.get(params.name, "unset")
    return await supervisor.calls.unset(params.setting, _actor(session, params, [params.name]))


async def handle_call(session: "Session", params: p.Call, tell: Tell) -> Any:
    supervisor = session.context.registry.get(params.name, "call")
    actor = _actor(session, params, [params.name])
    return await supervisor.calls.run(
        params.command, params.args, params.kwargs, timeout=params.timeout, tell=tell, actor=actor
    )


async def handle_check(session: "Session", params: p.OneName) -> dict[str, Any]:
    return await session.context.registry.check(params.name)


async def handle_load(session: "Session", params: p.Load) -> dict[str, Any]:
    return await session.context.registry.load(params.names, session.actor)


async def handle_unload(session: "Session", params: p.Unload) -> dict[str, Any]:
    actor = _actor(session, params, params.names)
    return await session.context.registry.unload(params.names, actor, cascade=params.cascade)


async def handle_reload(session: "Session", params: p.Reload) -> dict[str, Any]:
    context = session.context
    actor = _actor(session, params, params.names)
    if params.names:
        return await context.registry.reload(params.names, dry_run=params.dry_run, actor=actor)
    with context.reloading() if not params.dry_run else contextlib.nullcontext():
        discover = await context.reload_settings(params.dry_run)
        return await context.registry.reload(None, dry_run=params.dry_run, actor=actor, discover=discover)


async def handle_pause(session: "Session", params: p.Pause) -> dict[str, Any]:
    actor = _actor(session, params, params.names)
    return await session.context.registry.pause(params.names, params.duration, params.reason, actor)


async def handle_resume(session: "Session", params: p.Resume) -> dict[str, Any]:
    return await session.context.registry.resume(params.names, _actor(session, params, params.names))


def handle_subscribe(session: "Session", params: p.Subscribe) -> dict[str, Any]:
    return {"subscription": session.subscribe(params)}


def handle_unsubscribe(session: "Session", params: p.Unsubscribe) -> dict[str, Any]:
    session.unsubscribe(params.subscription)
    return {"unsubscribed": params.subscription}


def handle_cancel(session: "Session", params: p.Cancel) -> dict[str, Any]:
    return {"cancelled": session.requests.cancel(params.request)}


READ, OPERATE, ADMIN = Role.READ, Role.OPERATE, Role.ADMIN

COMMANDS: dict[str, Command] = {
    command.name: command
    for command in (
        Command("hello", READ, p.Hello, handle_hello, "Versions, the caller's role, limits. Optional."),
        Command("ping", READ, p.Parameters, handle_ping, "Answer pong."),
        Command("methods", READ, p.Parameters, handle_methods, "Every method with its role and parameters."),
        Command("version", READ, p.Parameters, handle_version, "Versions of plugd, its API and its protocol."),
        Command("list", READ, p.Parameters, handle_list, "Every plugin with its state."),
        Command("status", READ, p.Parameters, handle_status, "The daemon in brief."),
        Command("stats", READ, p.Stats, handle_stats, "Latest samples, and each plugin's own figures."),
        Command("describe", READ, p.OneName, handle_describe, "A plugin's metrics, commands, settings and options."),
        Command("why", READ, p.OneName, handle_why, "Why a plugin is in the state that it is in."),
        Command("logs", READ, p.Logs, handle_logs, "Recent log records."),
        Command("get", READ, p.Get, handle_get, "The value of a plugin's setting, or of all."),
        Command("subscribe", READ, p.Subscribe, handle_subscribe, "Have samples and events sent."),
        Command("unsubscribe", READ, p.Unsubscribe, handle_unsubscribe, "End a subscription."),
        Command("cancel", READ, p.Cancel, handle_cancel, "Cancel a request of this connection."),
        Command("reload", OPERATE, p.Reload, handle_reload, "Reload plugins, or do what has changed.", lasting=True),
        Command(
            "pause", OPERATE, p.Pause, handle_pause, "Collect no more, for a while or until resumed.", lasting=True
        ),
        Command(
            "resume", OPERATE, p.Resume, handle_resume, "End a pause; try a failed plugin again now.", lasting=True
        ),
        Command("call", OPERATE, p.Call, handle_call, "Run one of a plugin's commands.", telling=True),
        Command("set", OPERATE, p.Set, handle_set, "Change a plugin's setting."),
        Command("unset", OPERATE, p.Unset, handle_unset, "Forget what a plugin's setting was set to."),
        Command("check", OPERATE, p.OneName, handle_check, "Try a plugin in a worker of its own; change nothing."),
        Command("load", ADMIN, p.Load, handle_load, "Load plugins by name.", lasting=True),
        Command("unload", ADMIN, p.Unload, handle_unload, "Unload plugins.", lasting=True),
    )
}


def _actor(session: "Session", params: p.Change, names: Sequence[str] | None) -> Actor:
    """Return who asks for a change, and which generations they expect.

    Raises:
        CommandError: ``request.invalid``: they expect them of other plugins than they name.
    """
    expected = params.expect_generation
    if expected is None:
        return session.actor
    named = set(names or ())
    if isinstance(expected, int):
        if len(named) != 1:
            what = "expect_generation is a number with one name, and {name: number} with several"
            raise CommandError(REQUEST_INVALID, what)
        expected = dict.fromkeys(named, expected)
    elif not named.issuperset(expected):
        others = ", ".join(map(repr, sorted(set(expected) - named)))
        raise CommandError(REQUEST_INVALID, f"expect_generation has what names has not: {others}")
    return session.actor._replace(expected=expected)


def convert_parameters(command: Command, params: list[Any]) -> p.Parameters:
    """Return a request's parameters as the command takes them.

    Raises:
        CommandError: ``request.invalid``, with the parameter and the reason.
    """
    if len(params) > 1:
        raise CommandError(REQUEST_INVALID, f"cannot {command.name}: params are [] or [{{name: value}}]")
    given = params[0] if params else {}
    if type(given) is not dict:
        raise CommandError(REQUEST_INVALID, f"cannot {command.name}: params are [] or [{{name: value}}]")
    for name, value in given.items():
        if _has_extension(value):
            what = f"cannot {command.name}: a msgpack extension type is nothing that a parameter takes - at `$.{name}`"
            raise CommandError(REQUEST_INVALID, what)
    try:
        return msgspec.convert(given, command.parameters)
    except (msgspec.ValidationError, TypeError, ValueError) as error:
        try:
            return msgspec.convert(_as_text(given), command.parameters)
        except (msgspec.ValidationError, TypeError, ValueError):
            raise CommandError(REQUEST_INVALID, f"cannot {command.name}: {error}") from error


def _has_extension(value: Any) -> bool:
    """Whether there is an extension type or timestamp in it; the decoder has bounded how deep it is."""
    if isinstance(value, dict):
        return any(_has_extension(item) for item in value.values())
    if type(value) is list:
        return any(map(_has_extension, value))
    return isinstance(value, (msgpack.ExtType, msgpack.Timestamp))


def _as_text(value: Any) -> Any:
    """The value with bin as text where it is some: so do the libraries of languages that have but one of the two."""
    if isinstance(value, dict):
        return {_as_text(key): _as_text(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_as_text(item) for item in value]
    return value.decode() if isinstance(value, bytes) else value


def _schema(kind: type[p.Parameters]) -> dict[str, Any]:
    schema = msgspec.json.schema(kind)
    (definition,) = schema["$defs"].values()
    return {key: value for key, value in definition.items() if key != "title"}
