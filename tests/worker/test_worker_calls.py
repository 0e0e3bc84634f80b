"""Commands in steps, in their worker: begun, run on, ended."""

import math
from typing import Any

import pytest
from worker_harness import Loaded, Loader, line_of

from plugd.plugin import Progress
from plugd.worker.calls import Calls
from plugd.worker.failure import Failure
from plugd.worker.steps import progress_of

SOURCE = """
    import asyncio
    class Probe(Plugin):
        trace = []
        def collect(self): return []
        @command
        def plain(self, value: int): return value
        @command
        def steps(self, count: int):
            try:
                for number in range(count):
                    yield number
                return [count]
            finally:
                self.trace.append(number)
        @command
        async def later(self, count: int):
            try:
                for number in range(count):
                    await asyncio.sleep(0)
                    yield number
            finally:
                await asyncio.sleep(0)
                self.trace.append("later")
        @command
        def fails(self):
            yield
            raise SystemExit(3)  # here
        @command
        def wrong(self):
            try:
                yield object()
            finally:
                self.trace.append("closed")
        @command
        def stubborn(self):
            try:
                yield
            except GeneratorExit:
                yield
    """


@pytest.fixture
def loaded(load: Loader) -> Loaded:
    return load(SOURCE)


@pytest.fixture
def calls(loaded: Loaded) -> Calls:
    return Calls({"call": loaded.host.call})


def trace(loaded: Loaded) -> list[Any]:
    return loaded.host._plugin.trace  # type: ignore[attr-defined, no-any-return]


def begin(calls: Calls, number: int, command: str, *args: Any) -> Any:
    return calls.begin({"call": number, "command": command, "args": list(args), "kwargs": {}})


def test_a_plain_command_has_its_result_at_once(calls: Calls) -> None:
    """There is nothing to be asked for after that."""
    assert begin(calls, 1, "plain", 5) == {"result": 5}
    assert calls._running == {}


def test_steps_are_run_when_they_are_asked_for(calls: Calls, loaded: Loaded) -> None:
    """None at the beginning, then one by one, several commands side by side; the last answer is the result."""
    assert begin(calls, 1, "steps", 2) == begin(calls, 2, "steps", 1) == {"running": True}
    assert calls.step({"call": 1}) == {"running": True, "progress": (0.0, None, "")}
    assert calls.step({"call": 2}) == {"running": True, "progress": (0.0, None, "")}
    assert calls.step({"call": 1}) == {"running": True, "progress": (1.0, None, "")}
    assert calls.step({"call": 1}) == {"result": [2]}
    assert calls.step({"call": 2}) == {"result": [1]}
    assert trace(loaded) == [1, 0]
    assert calls._running == {}


def test_wrong_arguments_are_told_at_the_beginning(calls: Calls) -> None:
    """Before anything of the command runs."""
    with pytest.raises(Failure, match=r"steps\(count: int\): argument 'count': Expected `int`, got `str`: 'x'"):
        begin(calls, 1, "steps", "x")
    assert calls._running == {}


def test_an_asynchronous_command_runs_in_the_plugins_loop(calls: Calls, loaded: Loaded) -> None:
    """Its result is None: an asynchronous generator returns nothing."""
    begin(calls, 1, "later", 1)
    assert calls.step({"call": 1}) == {"running": True, "progress": (0.0, None, "")}
    assert calls.step({"call": 1}) == {"result": None}
    assert trace(loaded) == ["later"]


@pytest.mark.parametrize(("command", "left"), [("steps", 0), ("later", "later")])
def test_end_ends_it_where_it_stands(calls: Calls, loaded: Loaded, command: str, left: Any) -> None:
    """Its finally clauses run; to end it twice is nothing."""
    begin(calls, 1, command, 5)
    calls.step({"call": 1})
    calls.end({"call": 1})
    calls.end({"call": 1})
    assert trace(loaded) == [left]
    assert calls._running == {}


def test_end_all_ends_all(calls: Calls, loaded: Loaded) -> None:
    """As before stop(); one that has not run yet has nothing to clean up."""
    for number in (1, 2, 3):
        begin(calls, number, "steps", 5)
    calls.step({"call": 2})
    calls.end_all()
    assert trace(loaded) == [0]
    assert calls._running == {}


def test_what_it_raises_is_told_with_its_line_and_is_its_end(calls: Calls) -> None:
    """SystemExit included."""
    begin(calls, 1, "fails")
    assert calls.step({"call": 1}) == {"running": True, "progress": None}
    with pytest.raises(Failure, match=r"fails\(\) raised SystemExit: 3") as caught:
        calls.step({"call": 1})
    assert (caught.value.code, caught.value.data["line"]) == ("plugin.crashed", line_of(SOURCE, "# here"))
    assert calls._running == {}


def test_what_is_no_progress_ends_it(calls: Calls, loaded: Loaded) -> None:
    """And it is told what belongs there."""
    begin(calls, 1, "wrong")
    with pytest.raises(Failure, match=r"wrong\(\) yielded <object .* where its progress belongs") as caught:
        calls.step({"call": 1})
    assert caught.value.code == "plugin.invalid"
    assert trace(loaded) == ["closed"]


def test_one_that_does_not_end_is_told_of_in_the_output(calls: Calls, capsys: pytest.CaptureFixture[str]) -> None:
    """It is not asked to go on, whatever it does."""
    begin(calls, 1, "stubborn")
    calls.step({"call": 1})
    calls.end({"call": 1})
    assert "generator ignored GeneratorExit" in capsys.readouterr().err
    assert calls._running == {}


@pytest.mark.parametrize(
    ("value", "progress"),
    [
        (None, None),
        (Progress(1, 2, "x"), Progress(1.0, 2.0, "x")),
        (Progress(math.nan, math.inf), Progress()),
        (Progress(), Progress()),
        (0.5, Progress(0.5, 1.0)),
        (-0.5, Progress(0.0, 1.0)),
        (1.0000001, Progress(1.0, 1.0)),
        (0, Progress(0.0)),
        (10**400, Progress()),
        ("x" * 500, Progress(text="x" * 200)),
    ],
)
def test_progress_is_brought_into_one_shape(value: Any, progress: Progress | None) -> None:
    """Finite numbers, a share within its bounds, text that is not too long."""
    assert progress_of(value) == progress


@pytest.mark.parametrize("value", [True, b"x", [1, 2], (1, 2, "x"), {}, Progress("x"), Progress(text=1), 1j])  # type: ignore[arg-type]
def test_everything_else_is_refused(value: Any) -> None:
    """What a tuple means, only a Progress says."""
    with pytest.raises(TypeError, match="where its progress belongs"):
        progress_of(value)
