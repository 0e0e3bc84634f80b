"""What a source says without being run, and that a strange one kills nobody."""

import marshal
import os
import signal
import textwrap

import pytest

from plugd.worker import analysis
from plugd.worker.analysis import Analysis, Call, SourceError, analyse_apart

SOURCE = textwrap.dedent(
    '''\
    """Doc."""
    LIMIT = 3
    class Other:
        x = 1
    class Probe:
        a = b = 1
        c: int = 2
        d: str
        class Options:
            pass
        async def collect(self):
            self.gauge(1, mode="x")
            self.gauge(*values, **labels)
            other.gauge(1)
            [self.counter(v, w) for v in ()]
    '''
).encode()


def apart(source: bytes) -> Analysis:
    return analyse_apart(source, "/nowhere/probe.py", "Probe")


def test_the_code_is_that_of_the_source() -> None:
    """What comes back from the other process can be executed, and bears the file's name."""
    code = marshal.loads(apart(b"answer = 6 * 7\n").code)
    namespace: dict[str, object] = {}
    exec(code, namespace)
    assert namespace["answer"] == 42
    assert code.co_filename == "/nowhere/probe.py"


def test_the_lines_of_classes_and_attributes_are_known() -> None:
    """Assignments, annotations, methods and nested classes; of the plugin's class only."""
    found = apart(SOURCE)
    assert found.classes == {"Other": 3, "Probe": 5}
    assert found.lines == {"a": 6, "b": 6, "c": 7, "d": 8, "Options": 9, "collect": 11}


def test_the_calls_of_self_are_known() -> None:
    """Each call of an attribute of ``self``, wherever it stands, with what it passes."""
    assert apart(SOURCE).calls == [
        Call(12, "gauge", ["mode"], 1, open_ended=False),
        Call(13, "gauge", [], 1, open_ended=True),
        Call(15, "counter", [], 2, open_ended=False),
    ]


def test_a_missing_class_is_no_fault_of_the_analysis() -> None:
    """Then there are no lines and calls of it; the validation says what is missing."""
    found = apart(b"class Other:\n    x = 1\n")
    assert (found.classes, found.lines, found.calls) == ({"Other": 1}, {}, [])


def test_a_syntax_error_has_its_line() -> None:
    """The compiler's own words, and where."""
    with pytest.raises(SourceError) as caught:
        apart(b"x = 1\ny = = 2\n")
    assert caught.value.fault == ("SyntaxError: invalid syntax", 2)


@pytest.mark.parametrize(
    "source",
    [
        b"x = 1\0\n",
        b"\xff\xfe",
        b"# coding: nonsense\n",
        b"\x80 = 1\n",
        b"return\n",
        b"(" * 10_000,
        b"(" * 150 + b")" * 150,
        b"[" * 10_000 + b"]" * 10_000,
        b"-" * 100_000 + b"1",
        b"x" + b".y" * 200_000,
        b"x = " + b"1 + " * 200_000 + b"1",
        b"\n".join(b" " * level + b"if x:" for level in range(200)),
        b"x = " + b"9" * 5000,
    ],
    ids=range(13),
)
def test_a_source_that_is_no_python_is_refused(source: bytes) -> None:
    """Null bytes, no text, nested beyond reason: a fault, or, where this Python compiles it, its code."""
    try:
        found = apart(source)
    except SourceError as error:
        assert error.fault.message  # noqa: PT017 - either outcome is one
    else:
        marshal.loads(found.code)


@pytest.mark.parametrize("source", [b"x = 1\0\n", b"\xff\xfe", b"return\n", b"(" * 10_000])
def test_plain_nonsense_is_refused_by_every_python(source: bytes) -> None:
    """These no release compiles."""
    with pytest.raises(SourceError):
        apart(source)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_death_of_the_compiler_is_a_fault_of_the_source(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """A source can crash CPython's compiler: it is in a process of its own that dies, and it is reaped."""
    monkeypatch.setattr(analysis, "analyse", lambda *_: os.kill(os.getpid(), number))
    with pytest.raises(SourceError, match="the compiler died of it"):
        apart(b"x = 1\n")
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_an_error_of_the_analysis_itself_is_a_fault_of_the_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that the other process raises goes on in it as if it were this one."""

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(analysis, "analyse", fail)
    with pytest.raises(SourceError, match="the compiler died of it"):
        apart(b"x = 1\n")


def test_an_analysis_leaves_nothing() -> None:
    """No zombie and no descriptor, whether the source is sound or not."""
    before = os.listdir("/proc/self/fd")
    for source in (SOURCE, b"x = = 1\n", b"x = 1\0"):
        try:
            apart(source)
        except SourceError:
            pass  # The second and the third.
    assert os.listdir("/proc/self/fd") == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_a_large_source_comes_through() -> None:
    """The answer is longer than a pipe holds."""
    source = b"".join(b"x_%d = %d\n" % (number, number) for number in range(20_000))
    assert len(apart(source).code) > 128 * 1024
