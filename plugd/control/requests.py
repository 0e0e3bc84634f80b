"""The requests of one connection: checked, carried out side by side, answered, cancelled, and written down."""

import asyncio
import inspect
import time
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

import anyio
import structlog

from plugd.control.access import Role
from plugd.control.audit import CANCELLED, OK
from plugd.control.commands import COMMANDS, Command, convert_parameters
from plugd.control.parameters import Parameters, Write
from plugd.control.progress import Teller
from plugd.control.replies import Reply
from plugd.errors import AUTH_DENIED, BUSY, CODES, INTERNAL, REQUEST_INVALID, REQUEST_UNKNOWN_METHOD, CommandError
from plugd.rpc.codec import Encoded, encode_answer, encode_response, encode_response_of, encode_response_raw
from plugd.rpc.message import Request

if TYPE_CHECKING:
    from plugd.control.session import Session

log = structlog.get_logger()

METHOD_SHOWN = 64  # characters of a method's name that are repeated to whoever sent it

_TAKING_TIME = frozenset(name for name, command in COMMANDS.items() if inspect.iscoroutinefunction(command.handler))


class Requests:
    """What a session was asked for and has not answered yet.

    Args:
        session: whose requests they are; it sends the answers.
        maximum: how many may be under way at one time.
    """

    def __init__(self, session: "Session", maximum: int) -> None:
        self._session = session
        self._context = session.context
        self._maximum = maximum
        self._under_way: dict[int, anyio.CancelScope] = {}
        self._kept: set[int] = set()  # of these, those whose answer may be asked for again

    def __bool__(self) -> bool:
        return bool(self._under_way)

    def handle(self, request: Request) -> None:
        """Answer a request, now or when it is done."""
        command = COMMANDS.get(request.method)
        try:
            if command is None:
                raise CommandError(REQUEST_UNKNOWN_METHOD, f"no method {request.method[:METHOD_SHOWN]!r}")
            self._check_role(command)
            params = convert_parameters(command, request.params)
            if command.name in _TAKING_TIME:
                self._begin(request.id, command, params)
                return
            self._session.send(encode_response(request.id, None, command.handler(self._session, params)))
            return
        except CommandError as error:
            self._context.counts.refuse_error(error)
            answer = encode_answer(error.as_dict(), None)
            if command is not None:
                self._write_down(command, None, error.code, 0.0)
        except Exception as error:  # noqa: BLE001 - a fault of the daemon's own must not end it; it is logged as such
            answer = self._internal(request.method, error)
        self._session.send(encode_response_of(request.id, answer))

    def cancel(self, identifier: int) -> bool:
        """Cancel a request that is under way; whether there was one that can be."""
        scope = self._under_way.get(identifier)
        if scope is None or scope.shield:
            return False
        scope.cancel()
        return True

    def cancel_all(self) -> None:
        """Cancel what nobody waits for any longer; what lasts goes on, and what its client may ask for again."""
        for identifier in self._under_way.keys() - self._kept:
            self.cancel(identifier)

    def _check_role(self, command: Command) -> None:
        role = self._session.role
        if role < command.role:
            raise CommandError(
                AUTH_DENIED,
                f"cannot {command.name}: it takes the role {command.role}, and you have {role}",
                {"role": str(role), "needed": str(command.role)},
            )

    def _begin(self, identifier: int, command: Command, params: Parameters) -> None:
        """Have a request that takes time carried out beside the others; or wait for the one that it repeats."""
        if identifier in self._under_way:
            raise CommandError(REQUEST_INVALID, f"request id {identifier} is still in flight")
        if len(self._under_way) >= self._maximum:
            what = f"{self._maximum} requests are in flight, which is the most"
            raise CommandError(BUSY, what, {"limit": "requests_in_flight", "maximum": self._maximum})
        key = params.request_key if isinstance(params, Write) else None
        uid, replies = self._session.peer.uid, self._context.replies
        reply = replies.find(uid, key, command.name, params) if key is not None else None
        if reply is not None:
            self._under_way[identifier] = anyio.CancelScope()
            self._session.tasks.start_soon(self._finish, identifier, command, _answer_of(reply))
            return
        if command.role > Role.READ:
            self._session.identify()  # While its process is there.
        if key is not None:
            replies.begin(uid, key, command.name, params)
            self._kept.add(identifier)
        self._under_way[identifier] = anyio.CancelScope(shield=command.lasting)
        work = self._carry_out(identifier, command, params, time.monotonic())
        self._session.tasks.start_soon(self._finish, identifier, command, work)

    async def _finish(
        self, identifier: int, command: Command, work: Coroutine[Any, Any, bytes | Encoded | None]
    ) -> None:
        answer = None
        try:
            with self._under_way[identifier]:
                answer = await work
        finally:
            del self._under_way[identifier]
            self._kept.discard(identifier)
        if answer is None:
            answer = encode_answer(CommandError(BUSY, f"{command.name} was cancelled").as_dict(), None)
        if isinstance(answer, Encoded):
            self._session.send(*encode_response_raw(identifier, answer))
        else:
            self._session.send(encode_response_of(identifier, answer))
        self._session.finish_if_done()

    async def _carry_out(
        self, identifier: int, command: Command, params: Parameters, started: float
    ) -> bytes | Encoded | None:
        outcome, answer = CANCELLED, None
        try:
            if command.telling:
                with Teller(self._session, identifier) as teller:
                    result = await command.handler(self._session, params, teller.tell)
            else:
                result = await command.handler(self._session, params)
            outcome = OK
            if isinstance(result, Encoded):
                return result  # Only what is read is so large; it is not copied.
            answer = encode_answer(None, result)
        except CommandError as error:
            outcome = error.code if error.code in CODES else INTERNAL  # A plugin may give any.
            answer = _encode_error(error)
        except Exception as error:  # noqa: BLE001 - as above
            outcome = INTERNAL
            answer = self._internal(command.name, error)
        finally:
            if isinstance(params, Write) and params.request_key is not None:
                self._context.replies.end(self._session.peer.uid, params.request_key, answer)
            self._write_down(command, params, outcome, time.monotonic() - started)
        return answer

    def _write_down(self, command: Command, params: Parameters | None, outcome: str, duration: float) -> None:
        """Tell the audit, if it is a request that changes something."""
        if command.role > Role.READ:
            session = self._session
            caller = session.identify()
            self._context.audit.record(session.peer, caller, command.name, outcome, duration, _subject_of(params))

    def _internal(self, method: str, error: Exception) -> bytes:
        shown = method[:METHOD_SHOWN]
        who = {"session": self._session.number, "uid": self._session.peer.uid}
        log.error("command_failed", exc_info=error, method=shown, **who)
        answer = CommandError(INTERNAL, f"{shown} failed inside plugd; its log has the traceback")
        return encode_answer(answer.as_dict(), None)


async def _answer_of(reply: Reply) -> bytes | None:
    return await asyncio.shield(reply)  # Others may wait for it as well.


def _subject_of(params: Parameters | None) -> dict[str, Any]:
    """Return what a request is about, in its own words; values that are set or passed on may be secrets."""
    shown = {"names": "plugins", "name": "plugin", "setting": "setting", "command": "plugin_command"}
    subject = {shown_as: getattr(params, name, None) for name, shown_as in shown.items()}
    return {name: value for name, value in subject.items() if value}


def _encode_error(error: CommandError) -> bytes:
    try:
        return encode_answer(error.as_dict(), None)
    except (TypeError, ValueError, OverflowError):  # what a plugin put into the data
        return encode_answer({"code": error.code, "message": error.message, "data": {}}, None)
