"""What the daemon hears when a plugin's code is wrong or raises."""

import traceback
from types import TracebackType

import pytest

from plugd.rpc.codec import encode_response
from plugd.worker.failure import (
    MESSAGE_CHARACTERS,
    TRACEBACK_CHARACTERS,
    Failure,
    Fault,
    describe_exception,
    invalid,
    line_in,
    remember_source,
)

PATH = "/nowhere/failing.py"
SOURCE = b"def outer():\n    inner()\n\ndef inner():\n    raise ValueError('so it is')  # the culprit\n"


def caught(source: bytes = SOURCE) -> ValueError:
    namespace: dict[str, object] = {}
    exec(compile(source, PATH, "exec"), namespace)
    try:
        namespace["outer"]()  # type: ignore[operator]
    except ValueError as error:
        return error
    raise AssertionError


def test_an_exception_is_its_type_its_text_and_its_line() -> None:
    """The line is the innermost in the plugin's own file."""
    failure = describe_exception(caught(), "collect()", PATH)
    assert failure.code == "plugin.crashed"
    assert failure.message == f"collect() raised ValueError: so it is ({PATH}:5)"
    assert (failure.data["path"], failure.data["line"]) == (PATH, 5)


def test_an_exception_without_text_is_its_type() -> None:
    """No colon leads to nothing."""
    assert describe_exception(KeyError(), "start()").message == "start() raised KeyError"


def test_the_traceback_quotes_the_source_that_ran() -> None:
    """Not what is at its path by then: there is nothing."""
    remember_source(PATH, SOURCE)
    text = describe_exception(caught(), "collect()", PATH).data["traceback"]
    assert "raise ValueError('so it is')  # the culprit" in text
    assert f'File "{PATH}", line 2, in outer' in text


def test_a_newer_source_takes_the_place_of_the_old() -> None:
    """After a reload tracebacks quote the new one."""
    remember_source(PATH, SOURCE)
    traceback.format_exception(caught())
    newer = SOURCE.replace(b"culprit", b"new culprit")
    remember_source(PATH, newer)
    assert "# the new culprit" in describe_exception(caught(newer), "collect()", PATH).data["traceback"]


def test_what_an_exception_says_is_bounded() -> None:
    """A message of a megabyte, and a traceback of a thousand levels, are cut: its end is what counts."""

    def deep(levels: int) -> None:
        if levels:
            deep(levels - 1)
        raise ValueError("x" * 1_000_000)

    with pytest.raises(ValueError, match="xxx") as raised:
        deep(300)
    failure = describe_exception(raised.value, "collect()", PATH)
    assert len(failure.message) == MESSAGE_CHARACTERS
    assert len(failure.data["traceback"]) == TRACEBACK_CHARACTERS
    assert failure.data["traceback"].endswith("x\n")


def test_every_fault_of_a_file_is_in_the_message_and_the_data() -> None:
    """With its line where it has one."""
    failure = invalid(PATH, [Fault("first", 3), Fault("second")])
    assert failure.message == f"{PATH}:3: first; second"
    assert failure.data["faults"] == [
        {"message": "first", "path": PATH, "line": 3},
        {"message": "second", "path": PATH, "line": None},
    ]


def test_a_failure_can_always_be_sent() -> None:
    """Text with stand-ins for bytes that are no UTF-8, as file names have, is escaped."""
    bad = b"caf\xc3\xa9\xff".decode(errors="surrogateescape")
    try:
        raise ValueError(bad)
    except ValueError as error:
        failures = [describe_exception(error, "collect()", PATH), invalid(bad, [Fault(bad, 1)])]
    for failure in failures:
        encode_response(1, failure.as_dict(), None)
        assert "caf\u00e9\\udcff" in failure.as_dict()["message"]


def test_a_failure_is_what_the_wire_has() -> None:
    """Code, message and data; nothing else."""
    assert Failure("request.invalid", "no", hint=1).as_dict() == {
        "code": "request.invalid",
        "message": "no",
        "data": {"hint": 1},
    }


def test_a_line_is_found_only_in_the_file_itself() -> None:
    """Frames of other files do not count, and no traceback is no line."""
    trace: TracebackType | None = caught().__traceback__
    assert line_in(trace, PATH) == 5
    assert line_in(trace, "/another.py") is None
    assert line_in(None, PATH) is None
