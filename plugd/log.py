"""The daemon's log: structlog, written to stderr or to systemd's journal, and kept in memory for ``plugctl logs``.

An event is a fixed name and its facts are keys: ``log.info("plugin_started", plugin="load", pid=12)``.
Modules take their logger from ``structlog.get_logger()`` at any time; :func:`configure` takes effect on all of
them at once. Not on one that was made with ``bind()``: ``get_logger(plugin="load")`` binds facts as well.
"""

import logging
import os
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from plugd.journal import Journal, leads_to_journal
from plugd.log_text import FIRST_KEYS, Record, escape, plain, plain_text, render_journal, render_json, render_text
from plugd.log_writers import JournalWriter, LogWriter, is_terminal

# structlog imports rich where it is installed, for tracebacks that we do not show: 50 ms and 5 MB.
if "structlog" not in sys.modules and "rich" not in sys.modules:
    sys.modules["rich"] = None  # type: ignore[assignment]  # what makes an import fail
    try:
        import structlog
    finally:
        del sys.modules["rich"]
else:
    import structlog

__all__ = [
    "LogRing",
    "LogWriter",
    "Record",
    "configure",
    "escape",
    "flush",
    "plain",
    "render_journal",
    "render_json",
    "render_text",
]

RECORDS = 500
PLUGIN_RECORDS = 100
PLUGINS = 1000  # that have a ring of their own
_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
_TRACEBACK_LENGTH = 16_000  # characters


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
                **{key: record[key] for key in FIRST_KEYS},
                "plugin": record.get("plugin"),
                "fields": {key: value for key, value in record.items() if key not in (*FIRST_KEYS, "plugin")},
            }
            for record in chosen
        ]


def configure(level: str, log_format: str, ring: LogRing, fd: int = 2, journal: Journal | None = None) -> None:
    """Set up logging for the whole process; may be called again, as after a reload.

    Args:
        level: the least level that is logged: debug, info, warning, error or critical.
        log_format: text, json, journal, or auto: journal where ``fd`` leads to systemd's journal, text on a
            terminal, otherwise json. ``journal`` is the journal's own protocol, or lines with their priority where
            there is no journal, or while it takes nothing.
        ring: is given every record that is logged.
        fd: where to write; stays open, and stays the caller's.
        journal: where entries go; it is closed when this is called again. None: systemd's.
    """
    if log_format == "auto":
        log_format = "journal" if leads_to_journal(fd) else "text" if is_terminal(fd) else "json"
    lines = LogWriter(fd)
    journal = journal or Journal()
    native = log_format == "journal" and journal.there()
    writer = JournalWriter(journal, lines) if native else lines
    before = _writer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            _as_record,
            _keep_in(ring),
            _as_arguments if native else _renderer(log_format, fd),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=_WriterFactory(writer),
        cache_logger_on_first_use=False,  # a logger that a module holds must follow the next configure()
    )
    if isinstance(before, JournalWriter):
        before.close()
    _forward_stdlib()


def flush() -> None:
    """Wait until what has been logged is read, for half a second at most; for a process that is about to end."""
    writer = _writer()
    if isinstance(writer, JournalWriter):
        writer.flush()


def _as_record(_logger: object, _method: str, event: Any) -> Record:
    record: Record = {"time": time.time(), "level": event.pop("level"), "event": str(event.pop("event", ""))}
    exception = event.pop("exception", None)
    record.update((key, plain(value)) for key, value in event.items() if key not in record)
    if exception is not None:
        # The last lines of a traceback say what happened.
        record["exception"] = plain_text(str(exception)[-_TRACEBACK_LENGTH:], _TRACEBACK_LENGTH)
    return record


def _keep_in(ring: LogRing) -> Callable[[object, str, Any], Any]:
    def keep(_logger: object, _method: str, record: Any) -> Any:
        ring.append(record)
        return record

    return keep


def _renderer(log_format: str, fd: int) -> Callable[[object, str, Any], str]:
    colour = is_terminal(fd) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"

    def render(_logger: object, _method: str, record: Any) -> str:
        if log_format == "json":
            return render_json(record)
        return render_journal(record) if log_format == "journal" else render_text(record, colour)

    return render


def _as_arguments(_logger: object, _method: str, record: Any) -> tuple[tuple[Record], dict[str, Any]]:
    return (record,), {}  # for the writer, which then renders it in one of two ways


def _writer() -> LogWriter | JournalWriter | None:
    factory = structlog.get_config()["logger_factory"]
    return factory.writer if isinstance(factory, _WriterFactory) else None


class _WriterFactory:
    """Gives structlog the one writer, whatever names a logger is asked for by."""

    def __init__(self, writer: LogWriter | JournalWriter) -> None:
        self.writer = writer

    def __call__(self, *_arguments: object) -> LogWriter | JournalWriter:
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
