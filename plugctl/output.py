"""Where a call's outcome goes: tables or JSON to stdout, errors to stderr."""

from __future__ import annotations

import os
import sys
from time import time

from plugctl.errors import CallError
from plugctl.text import Style, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    Renderer = Callable[[Any, Style], Iterable[str]]


class Output:
    """The two streams of this process, and how this call is to be shown.

    Args:
        json: whether results are shown as JSON.
        environ: looked at for ``NO_COLOR`` (https://no-color.org) and ``TERM``.
    """

    def __init__(self, *, json: bool, environ: Mapping[str, str]) -> None:
        self.json = json
        self.is_terminal = stdout_is_terminal()
        self.style = Style(
            colour=self.is_terminal and not environ.get("NO_COLOR") and environ.get("TERM", "dumb") != "dumb",
            width=_terminal_width() if self.is_terminal else None,
            now=time(),
        )

    def result(self, result: Any, render: Renderer) -> None:
        """Show a request's result: drawn by ``render``, or as it is with ``--json``."""
        if self.json:
            self.json_object(result, indent=2 if self.is_terminal else None)
        else:
            self.lines(drawn(render, result, self.style))

    def json_object(self, thing: Any, indent: int | None = None) -> None:
        """Print a thing as JSON, on one line unless indented."""
        from plugctl.jsontext import json_text

        self.lines([json_text(thing, indent)])

    def lines(self, lines: Iterable[str]) -> None:
        """Print lines at once, whoever reads them.

        Raises:
            BrokenPipeError: nobody does.
            CallError: ``client.output``: they cannot be written, as on a full disk.
        """
        text = "".join([line + "\n" for line in lines])
        if sys.stdout is None or not text:
            return
        try:
            sys.stdout.write(text)
            sys.stdout.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            silence_stdout()
            raise CallError("client.output", f"cannot write the output: {error.strerror}") from None

    def complain(self, message: str) -> None:
        """Print one line to stderr."""
        try:
            print(f"plugctl: {printable(message)}", file=sys.stderr, flush=True)
        except OSError:
            pass  # Nobody listens; the exit status still tells

    def fail(self, failure: CallError, hint: str = "") -> int:
        """Tell of a failure; return the status to exit with."""
        if self.json and failure.code != "client.output":
            self.json_object(failure.as_dict(), indent=2 if self.is_terminal else None)
        self.complain(failure.message + hint)
        return failure.status


def drawn(render: Renderer, result: Any, style: Style) -> list[str]:
    """Return what the renderer draws.

    Raises:
        CallError: ``client.protocol``: a daemon of another version answered in another shape.
    """
    try:
        return list(render(result, style))
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise misshapen(error) from error


def misshapen(error: Exception) -> CallError:
    """Return what to say of an answer whose shape led to this error."""
    message = f"cannot show the answer: {type(error).__name__}: {error} (try: plugctl --json, plugctl version)"
    return CallError("client.protocol", message)


def stdout_is_terminal() -> bool:
    """Whether somebody may be looking."""
    return sys.stdout is not None and sys.stdout.isatty()


def silence_stdout() -> None:
    """Send what is still buffered nowhere: the interpreter would complain of it at its end.

    https://docs.python.org/3/library/signal.html#note-on-sigpipe
    """
    try:
        descriptor = sys.stdout.fileno()
    except (AttributeError, OSError, ValueError):
        return  # No file: closed, or a test's
    nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)


def _terminal_width() -> int | None:
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or None  # 0: nobody has told it
    except (OSError, ValueError):
        return None
