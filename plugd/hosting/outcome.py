"""What a request about several plugins answers: what was done, and what failed and why."""

from collections.abc import Mapping, Sequence
from typing import Any

from plugd.errors import INTERNAL, PLUGIN_IN_USE, CommandError


def outcome(
    verb: str, done: dict[str, Any], errors: Mapping[str, CommandError], wanted: Sequence[str]
) -> dict[str, Any]:
    """Return the answer: what was done, and ``failed``.

    Raises:
        CommandError: with a single name, its failure is the request's.
    """
    failed = failures(verb, errors, wanted)
    if len(wanted) == 1 and failed:
        error = failed[0]["error"]
        raise CommandError(error["code"], error["message"], error["data"]) from errors[wanted[0]]
    return {**done, "failed": failed}


def failures(verb: str, errors: Mapping[str, CommandError], order: Sequence[str]) -> list[dict[str, Any]]:
    """Return ``[{name, error}]``; each error as a client reads it: "cannot load plugin 'x': …"."""
    return [{"name": name, "error": _worded(verb, name, errors[name])} for name in order if name in errors]


def refusal(users: Sequence[str], prefix: str = "") -> CommandError:
    """Return the error of a plugin that cannot go because others require it."""
    return CommandError(PLUGIN_IN_USE, f"{prefix}it is required by {', '.join(users)}", {"dependents": list(users)})


def _worded(verb: str, name: str, error: CommandError) -> dict[str, Any]:
    prefix = f"cannot {verb} plugin {name!r}: "
    message = error.message if error.message.startswith(prefix) else prefix + error.message
    return {"code": error.code or INTERNAL, "message": message, "data": {"name": name, **error.data}}
