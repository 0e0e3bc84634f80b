"""A command in steps: a generator, asynchronous or not, that yields how far it is until it has its result."""

import inspect
import math
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any, NamedTuple

from plugd.plugin import Progress
from plugd.worker.failure import INVALID, Failure, describe_exception

TEXT_CHARACTERS = 200  # of what a command is at

_END: Any = object()  # of an asynchronous generator


class Finished(NamedTuple):
    """The last step: what the command has returned."""

    result: Any


class Steps:
    """A command that was called and has not returned yet.

    Args:
        generator: what its method returned.
        name: of the command.
        path: of the plugin's file, for messages.
        settle: runs an awaitable in the plugin's event loop.
    """

    def __init__(self, generator: Any, name: str, path: str, settle: Callable[[Any], Any]) -> None:
        self._generator: Generator[Any, None, Any] | AsyncGenerator[Any, None] = generator
        self._doing = f"{name}()"
        self._path = path
        self._settle = settle

    def advance(self) -> Progress | Finished | None:
        """Run it to its next ``yield``; return how far it is, None where it does not say, or its result.

        Raises:
            Failure: what it raised, or ``plugin.invalid``: it yielded something else. It has ended then.
        """
        try:
            if isinstance(self._generator, AsyncGenerator):
                value = self._settle(anext(self._generator, _END))
                if value is _END:
                    return Finished(None)
            else:
                value = next(self._generator)
        except StopIteration as end:
            return Finished(end.value)
        except Failure:
            raise
        except BaseException as error:
            raise describe_exception(error, self._doing, self._path) from error
        try:
            return progress_of(value)
        except TypeError as error:
            self.close()
            raise Failure(INVALID, f"{self._doing} yielded {error}", path=self._path) from error

    def close(self) -> None:
        """End it where it stands, at a ``yield``.

        Raises:
            Failure: what it raised at that.
        """
        try:
            if isinstance(self._generator, AsyncGenerator):
                self._settle(self._generator.aclose())
            else:
                self._generator.close()
        except BaseException as error:
            raise describe_exception(error, self._doing, self._path) from error


def is_steps(result: Any) -> bool:
    """Whether a method that was called has yet to run: a generator expression is none, but a value gone wrong."""
    if inspect.isasyncgen(result):
        return result.ag_code.co_name != "<genexpr>"
    return inspect.isgenerator(result) and result.gi_code.co_name != "<genexpr>"


def progress_of(value: Any) -> Progress | None:
    """Return what a command says by what it yields.

    Raises:
        TypeError: it is none of what it may; the text says so.
    """
    match value:
        case None:
            return None
        case Progress(done, total, str() as text) if _is_number(done) and _is_number(total):
            return Progress(_finite(done), _finite(total), _shown(text))
        case str():
            return Progress(text=_shown(value))
        case float():
            share = _finite(value)
            return Progress(None if share is None else min(max(share, 0.0), 1.0), 1.0)
        case int() if not isinstance(value, bool):
            return Progress(_finite(value))
    raise TypeError(f"{value!a:.100} where its progress belongs: a Progress, a share from 0 to 1, a count, or text")


def _is_number(value: Any) -> bool:
    return value is None or isinstance(value, int | float)


def _finite(value: float | None) -> float | None:
    try:
        number = math.nan if value is None else float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _shown(text: str) -> str:
    return text[:TEXT_CHARACTERS].encode(errors="backslashreplace").decode()
