"""The daemon's log: structlog, written to stderr and kept in memory for ``plugctl logs``.

An event is a fixed name and its facts are keys: ``log.info("plugin_started", plugin="load", pid=12)``.
Modules take their logger from ``structlog.get_logger()`` at any time; :func:`configure` takes effect on all of
them at once.
"""

import json
import logging
import os
import select
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

# structlog imports rich where it is installed, for tracebacks that we do not show: 50 ms and 5 MB.
if "structlog" not in sys.modules and "rich" not in sys.modules:
    sys.modules["rich"] = None  # type: ignore[assignment]  # what makes an import fail
    try:
        import structlog
    finally:
        del sys.modules["rich"]
else:
    import structlog

Record = dict[str, Any]
"""One event: time (Unix seconds), level, event, then its facts; only values that go over the wire."""

RECORDS = 500
PLUGIN_RECORDS = 100
PLUGINS = 1000  # that have a ring of their own
_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
_PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}  # sd-daemon(3)
_COLOURS = {"debug": "2", "info": "32", "warning": "33", "error": "31", "critical": "1;31"}  # ANSI SGR
_TEXT_LENGTH = 2000  # characters of one value
_TRACEBACK_LENGTH = 16_000  # characters
_ELEMENTS = 64  # of one list or table
_CHUNK = 4096  # bytes; PIPE_BUF: what a pipe that poll(2) calls writable takes at once
_FIRST_KEYS = ("time", "level", "event")


class LogRing:
    """The latest records, oldest first, of all and of each plugin: one that says much displaces no other's.

    Args:
        size: how many are kept of all together.
        plugin_size: how many are kept of each plugin besides, for as long as the daemon runs.
    """

    def __init__(self, size: int = RECORDS, plugin_size: int = PLUGIN_RECORDS) -> None:
        self._records: deque[Record] = deque(maxlen=size)
        self._plugin_size = plugin_size
        self._of_plugins: dict[str, deque[Record]] = {}

    def append(self, record: Record) -> None:
        """Keep a record; it must not be changed afterwards."""
        self._records.append(record)
        name = record.get("plugin")
        if isinstance(name, str):  # A fact can be anything
            kept = self._of_plugins.pop(name, None)
            if kept is None:
                kept = deque(maxlen=self._plugin_size)
                if len(self._of_plugins) >= PLUGINS:  # A client can ask for plugins of any name.
                    del self._of_plugins[next(iter(self._of_plugins))]
            kept.append(record)
            self._of_plugins[name] = kept  # at the end: the first has been silent for longest

    def records(self, name: str | None = None, lines: int = 50) -> list[dict[str, Any]]:
        """Return the latest records as the ``logs`` method answers them.

        Args:
            name: only records of this plugin, those that have it as ``plugin``, from a ring of its own; None: all.
            lines: at most so many, the latest.

        Returns:
            ``{time, level, event, plugin, fields}`` each, oldest first; ``plugin`` is None where there is none.
        """
        kept = self._records if name is None else self._of_plugins.get(name, ())
        chosen: deque[Record] = deque(kept, maxlen=max(0, lines))
        return [
            {
                **{key: record[key] for key in _FIRST_KEYS},
                "plugin": record.get("plugin"),
                "fields": {key: value for key, value in record.items() if key not in (*_FIRST_KEYS, "plugin")},
            }
            for record in chosen
        ]


def configure(level: str, log_format: str, ring: LogRing, fd: int = 2) -> None:
    """Set up logging for the whole process; may be called again, as after a reload.

    Args:
        level: the least level that is logged: debug, info, warning, error or critical.
        log_format: text, json, journal (text for systemd's journal), or auto: text on a terminal, otherwise json.
        ring: is given every record that is logged.
        fd: where to write; stays open, and stays the caller's.
    """
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            _as_record,
            _keep_in(ring),
            _renderer(log_format, fd),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=_WriterFactory(LogWriter(fd)),
        cache_logger_on_first_use=False,  # a logger that a module holds must follow the next configure()
    )
    _forward_stdlib()


class LogWriter:
    """Writes lines to a descriptor, and neither waits nor fails: a log that nobody reads must not stop the daemon.

    The descriptor is not made non-blocking, since that would also hit others who have it open, such as the shell.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.lost = 0
        """Messages that could not be written, or not whole."""
        self._torn = False
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)

    def write(self, message: str) -> None:
        """Write a message and the end of its line, or lose what does not fit now."""
        data = f"{message}\n".encode(errors="backslashreplace")
        if self._torn:
            data = b"\n" + data
        written = self._write_now(data)
        if written < len(data):
            self.lost += 1
        if written:
            self._torn = written < len(data)

    debug = info = warning = error = critical = write  # structlog calls the method that the level is named for

    def _write_now(self, data: bytes) -> int:
        fd = self._reopen() if _is_terminal(self.fd) else self.fd
        written = 0
        try:
            while written < len(data) and self._poll.poll(0):
                written += os.write(fd, data[written : written + _CHUNK])
        except OSError:
            pass  # Full, closed, its reader gone: there is nobody left to tell
        finally:
            if fd != self.fd:
                os.close(fd)
        return written

    def _reopen(self) -> int:
        # A terminal that poll(2) calls writable has room for one byte, and blocks on the second when it is
        # stopped (Ctrl-S). Opened anew it can be non-blocking for us alone.
        try:
            return os.open(f"/proc/self/fd/{self.fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        except OSError:  # Another user's terminal, after su: better to risk waiting than to say nothing
            return self.fd


def escape(text: str) -> str:
    """Return text without control characters, which could drive the reader's terminal; they become escapes."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )


def render_text(record: Record, colour: bool = False) -> str:
    """Return a record for people: ``14:02:11 info plugin_started plugin=load pid=12``."""
    clock = time.strftime("%H:%M:%S", time.localtime(record["time"]))
    level = f"{record['level']:<8}"
    event = escape(record["event"])
    if colour:
        clock = f"\x1b[2m{clock}\x1b[0m"
        level = f"\x1b[{_COLOURS.get(record['level'], '0')}m{level}\x1b[0m"
        event = f"\x1b[1m{event}\x1b[0m"
    return "\n".join([f"{clock} {level} {event}{_facts(record)}", *_traceback(record)])


def render_journal(record: Record) -> str:
    """Return a record for the journal, which has the time itself; ``<6>`` is its priority: sd-daemon(3)."""
    prefix = f"<{_PRIORITIES.get(record['level'], 6)}>"
    lines = [f"{escape(record['event'])}{_facts(record)}", *_traceback(record)]
    return "\n".join(prefix + line for line in lines)


def render_json(record: Record) -> str:
    """Return a record as one JSON object on one line, in ASCII."""
    return json.dumps(record).replace("\x7f", "\\u007f")


def plain(value: object, depth: int = 4) -> Any:
    """Return a value as one that goes over the wire and into JSON, and is bounded; anything else as its text."""
    try:
        return _plain(value, depth)
    except Exception:  # noqa: BLE001 - whatever a value's own methods raise, the event is worth more
        return f"<{type(value).__name__}>"


def _plain(value: object, depth: int) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _plain_text(value, _TEXT_LENGTH)
    if isinstance(value, int) and -(2**63) <= value < 2**64:
        return int(value)
    if isinstance(value, float) and abs(value) < float("inf"):
        return float(value)
    if depth and isinstance(value, Mapping):
        items = list(value.items())[:_ELEMENTS]
        return {_plain_text(str(key), 100): plain(item, depth - 1) for key, item in items}
    if depth and isinstance(value, list | tuple | set | frozenset):
        return [plain(item, depth - 1) for item in list(value)[:_ELEMENTS]]
    return _plain_text(str(value) if isinstance(value, BaseException) else repr(value), _TEXT_LENGTH)


def _plain_text(text: str, longest: int) -> str:
    if len(text) > longest:
        text = f"{text[:longest]}… ({len(text)} characters)"
    # Lone surrogates stand for bytes of file names that are no UTF-8, and are none themselves.
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _as_record(_logger: object, _method: str, event: Any) -> Record:
    record: Record = {"time": time.time(), "level": event.pop("level"), "event": str(event.pop("event", ""))}
    exception = event.pop("exception", None)
    record.update((key, plain(value)) for key, value in event.items() if key not in record)
    if exception is not None:
        # The last lines of a traceback say what happened.
        record["exception"] = _plain_text(str(exception)[-_TRACEBACK_LENGTH:], _TRACEBACK_LENGTH)
    return record


def _keep_in(ring: LogRing) -> Callable[[object, str, Any], Any]:
    def keep(_logger: object, _method: str, record: Any) -> Any:
        ring.append(record)
        return record

    return keep


def _renderer(log_format: str, fd: int) -> Callable[[object, str, Any], str]:
    terminal = _is_terminal(fd)
    if log_format == "auto":
        log_format = "text" if terminal else "json"
    colour = terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"

    def render(_logger: object, _method: str, record: Any) -> str:
        if log_format == "json":
            return render_json(record)
        return render_journal(record) if log_format == "journal" else render_text(record, colour)

    return render


def _is_terminal(fd: int) -> bool:
    try:
        return os.isatty(fd)
    except OSError:
        return False


def _facts(record: Record) -> str:
    return "".join(
        f" {escape(key)}={_fact(value)}"
        for key, value in record.items()
        if key not in _FIRST_KEYS and key != "exception"
    )


def _fact(value: object) -> str:
    if not isinstance(value, str):
        return escape(json.dumps(value, ensure_ascii=False))
    if value and value.isprintable() and not any(character in ' "=\\' for character in value):
        return value
    return escape(json.dumps(value, ensure_ascii=False))


def _traceback(record: Record) -> list[str]:
    return [f"    {escape(line)}" for line in str(record.get("exception", "")).splitlines()]


class _WriterFactory:
    """Gives structlog the one writer, whatever names a logger is asked for by."""

    def __init__(self, writer: LogWriter) -> None:
        self.writer = writer

    def __call__(self, *_arguments: object) -> LogWriter:
        return self.writer


class _Forwarder(logging.Handler):
    """Brings what libraries tell the standard library's logging, asyncio above all, into this log."""

    def emit(self, record: logging.LogRecord) -> None:
        level = next((name for name, number in _LEVELS.items() if record.levelno <= number), "critical")
        try:
            message = record.getMessage()
        except Exception:  # noqa: BLE001 - arguments that do not fit their format; logging is not to raise
            message = str(record.msg)
        log = structlog.get_logger()
        getattr(log, level)("library_logged", logger=record.name, message=message, exc_info=record.exc_info)


def _forward_stdlib() -> None:
    root = logging.getLogger()
    if not any(isinstance(handler, _Forwarder) for handler in root.handlers):
        root.addHandler(_Forwarder())
