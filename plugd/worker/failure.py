"""What a worker tells the daemon when a plugin's code is wrong or raises."""

import linecache
import traceback
from collections.abc import Iterable
from types import TracebackType
from typing import Any, NamedTuple

INVALID = "plugin.invalid"
CRASHED = "plugin.crashed"
REQUEST_INVALID = "request.invalid"

TRACEBACK_CHARACTERS = 8192
MESSAGE_CHARACTERS = 1000


class Fault(NamedTuple):
    """One thing that is wrong with a plugin's file; the line is None where there is none to point at."""

    message: str
    line: int | None = None


class Failure(Exception):  # noqa: N818 - a fact about the plugin, not an error of this program
    """A request to the plugin that failed, as the daemon is to hear of it."""

    def __init__(self, code: str, message: str, **data: Any) -> None:
        super().__init__(message)
        self.code = code
        self.message = message[:MESSAGE_CHARACTERS]
        self.data = data

    def as_dict(self) -> dict[str, Any]:
        """Return the failure as the wire has it."""
        return {"code": self.code, "message": _encodable(self.message), "data": _encodable(self.data)}


def _encodable(value: Any) -> Any:
    """Escape what UTF-8 cannot carry: Python's stand-ins for the bytes of a file name that are no text."""
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, dict):
        return {key: _encodable(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_encodable(each) for each in value]
    return value


def invalid(path: str, faults: Iterable[Fault]) -> Failure:
    """Return the failure that names every fault of a file."""
    rows = [{"message": fault.message, "path": path, "line": fault.line} for fault in faults]
    text = "; ".join(f"{path}:{row['line']}: {row['message']}" if row["line"] else str(row["message"]) for row in rows)
    return Failure(INVALID, text, faults=rows)


def no_such(what: str, name: str, known: Iterable[str]) -> str:
    """Return what to say to somebody who has named what is not there: what is."""
    return f"no {what} {name!r} (there are: {', '.join(sorted(known)) or 'none'})"


def describe_exception(error: BaseException, doing: str, path: str | None = None) -> Failure:
    """Return what an exception of the plugin's code says: its type, its text, where in the plugin's file."""
    try:
        text = str(error)
    except BaseException:  # noqa: BLE001 - it is the plugin's own method, and what it raises is not the point
        text = "(it cannot say what)"
    name = type(error).__name__
    message = f"{doing} raised {name}: {text}" if text else f"{doing} raised {name}"
    line = line_in(error.__traceback__, path) if path else None
    if line:
        message += f" ({path}:{line})"
    lines = traceback.format_exception(error, limit=-20)
    return Failure(CRASHED, message, traceback="".join(lines)[-TRACEBACK_CHARACTERS:], path=path, line=line)


def line_in(trace: TracebackType | None, path: str) -> int | None:
    """Return the last line of the file at ``path`` that the traceback passed through."""
    line = None
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == path:
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


def remember_source(path: str, source: bytes) -> None:
    """Have tracebacks quote the source that runs, and not what is at its path by then."""
    # linecache's own form of an entry that is made when it is asked for: see linecache.lazycache.
    linecache.cache[path] = (lambda: source.decode(errors="replace"),)
