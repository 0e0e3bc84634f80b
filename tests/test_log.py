"""The log: rendered safely, kept in memory, and never in the daemon's way."""

import json
import logging
import os
import pty
from collections.abc import Iterator
from contextlib import contextmanager

import msgpack
import pytest
import structlog
from harness import Daemons, wait_until
from hypothesis import given
from hypothesis import strategies as st

from plugd.journal import Journal
from plugd.log import LogRing, LogWriter, configure, escape, plain, render_journal, render_json, render_text

NO_JOURNAL = Journal("/nonexistent/journal")  # That of the machine is not to have what tests log.


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    handlers = logging.root.handlers[:]
    yield
    structlog.contextvars.clear_contextvars()
    structlog.reset_defaults()
    logging.root.handlers[:] = handlers


@contextmanager
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    try:
        yield reader, writer
    finally:
        for fd in (reader, writer):
            try:
                os.close(fd)
            except OSError:
                pass  # Closed by the test


def drain(reader: int) -> None:
    try:
        while os.read(reader, 65536):
            pass
    except BlockingIOError:
        pass  # Empty


def logged(log_format: str, level: str = "info", ring: LogRing | None = None) -> list[str]:
    """Return the lines that two events, one with an exception, leave in a log of this format."""
    with pipe() as (reader, writer):
        configure(level, log_format, ring or LogRing(), fd=writer, journal=NO_JOURNAL)
        log = structlog.get_logger()
        log.debug("too_little", n=1)
        log.info("plugin_started", plugin="load", pid=12, text="a b\x1b[31m")
        try:
            raise ValueError("bad\x07")
        except ValueError:
            log.exception("plugin_failed")
        return os.read(reader, 65536).decode().splitlines()


def test_json_is_one_object_a_line() -> None:
    """Time is a number, facts are keys, and below the level nothing is logged."""
    first, second = map(json.loads, logged("json"))
    assert isinstance(first.pop("time"), float)
    assert first == {"level": "info", "event": "plugin_started", "plugin": "load", "pid": 12, "text": "a b\x1b[31m"}
    assert second["level"] == "error"
    assert second["exception"].endswith("ValueError: bad\x07")


def test_text_has_the_event_and_its_facts() -> None:
    """Text is time, level, event, facts; the traceback follows, indented; nothing raw, no colours in a pipe."""
    first, *traceback = logged("text")
    assert first[8:] == ' info     plugin_started plugin=load pid=12 text="a b\\u001b[31m"'
    assert traceback[0].endswith("error    plugin_failed")
    assert all(line.startswith("    ") for line in traceback[1:])
    assert traceback[-1] == "    ValueError: bad\\x07"


def test_without_a_journal_lines_have_priorities_and_no_time() -> None:
    """Every line, of a traceback too, has the priority that the journal takes from stderr."""
    first, *traceback = logged("journal")
    assert first == '<6>plugin_started plugin=load pid=12 text="a b\\u001b[31m"'
    assert traceback[0] == "<3>plugin_failed"
    assert all(line.startswith("<3>") for line in traceback)


def test_auto_is_json_in_a_pipe() -> None:
    """What is not a terminal gets JSON."""
    assert json.loads(logged("auto")[0])["event"] == "plugin_started"


@pytest.mark.parametrize(("variable", "coloured"), [("", True), ("1", False)])
def test_auto_is_text_on_a_terminal(variable: str, coloured: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal gets text, in colour unless NO_COLOR is set."""
    monkeypatch.setenv("NO_COLOR", variable)
    monkeypatch.setenv("TERM", "xterm")
    main, terminal = pty.openpty()
    try:
        configure("info", "auto", LogRing(), fd=terminal)
        structlog.get_logger().info("plugin_started")
        line = os.read(main, 4096)
    finally:
        os.close(main)
        os.close(terminal)
    assert b"plugin_started" in line
    assert (b"\x1b[" in line) is coloured


def test_context_is_in_every_record() -> None:
    """What is bound once with contextvars is a fact of each event."""
    ring = LogRing()
    structlog.contextvars.bind_contextvars(plugin="cpu")
    logged("json", ring=ring)
    assert [record["plugin"] for record in ring.records()] == ["load", "cpu"]


def test_configuring_again_takes_effect_on_loggers_in_use() -> None:
    """A reload's new level is that of every module's logger, and of those that have facts of their own."""
    ring = LogRing()
    with pipe() as (_, writer):
        log, of_plugin = structlog.get_logger(), structlog.get_logger(plugin="cpu")
        configure("error", "json", ring, fd=writer)
        log.info("before")
        of_plugin.info("before")
        configure("debug", "json", ring, fd=writer)
        log.debug("after")
        of_plugin.debug("after")
    assert [(record["event"], record["plugin"]) for record in ring.records()] == [("after", None), ("after", "cpu")]


PROBE = '''
"""A plugin for tests."""

from plugd.plugin import Gauge, Plugin


class Probe(Plugin):
    interval = 0.1
    value = Gauge("test.value")

    def collect(self):
        print("collected")
        yield self.value(1)
'''


def test_a_reloaded_level_is_that_of_plugins_that_run(daemon: Daemons) -> None:
    """Of what they print, and of what becomes of them; they were there before the reload."""
    running = daemon(plugins={"probe": PROBE}, config="")
    wait_until(lambda: running.records("plugin_output"), "what it prints")
    running.config.write_text('[log]\nlevel = "error"\n')
    running.call("reload")
    printed = len(running.records("plugin_output"))
    collects = running.plugin("probe")["collects"]
    wait_until(lambda: running.plugin("probe")["collects"] > collects + 1, "collections")
    running.call("pause", names=["probe"])
    assert len(running.records("plugin_output")) == printed
    assert not running.records("plugin_paused")


def test_the_standard_library_logs_here_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """What asyncio complains of through logging is a record like any other, once."""
    monkeypatch.setattr(logging.root, "handlers", [])  # pytest's own raise what a handler must not
    ring = LogRing()
    with pipe() as (_, writer):
        configure("info", "json", ring, fd=writer)
        configure("info", "json", ring, fd=writer)
        logging.getLogger("asyncio").error("slow %s", "task")
        logging.getLogger("asyncio").error("wrong %d", "format")
    records = [(record["level"], record["event"], record["fields"]["message"]) for record in ring.records()]
    assert records == [("error", "library_logged", "slow task"), ("error", "library_logged", "wrong %d")]


def test_the_ring_answers_as_the_logs_method_does() -> None:
    """time, level, event, plugin and the other facts apart; the latest lines, oldest first."""
    ring = LogRing(size=3)
    for number in range(5):
        ring.append({"time": 1.0, "level": "info", "event": f"e{number}", "plugin": "ab"[number % 2], "n": number})
    ring_all = ring.records(lines=2)
    assert ring_all == [
        {"time": 1.0, "level": "info", "event": "e3", "plugin": "b", "fields": {"n": 3}},
        {"time": 1.0, "level": "info", "event": "e4", "plugin": "a", "fields": {"n": 4}},
    ]
    assert [record["event"] for record in ring.records("a", 50)] == ["e0", "e2", "e4"]
    assert ring.records(lines=0) == []


def test_a_plugin_that_says_much_displaces_no_other() -> None:
    """Each plugin has a ring of its own; that of all has only the latest."""
    ring = LogRing(size=5, plugin_size=3)
    for name, count in (("quiet", 2), ("chatty", 20)):
        for number in range(count):
            ring.append({"time": 1.0, "level": "info", "event": f"{name}{number}", "plugin": name})
    assert [record["event"] for record in ring.records("quiet")] == ["quiet0", "quiet1"]
    assert [record["event"] for record in ring.records("quiet", 1)] == ["quiet1"]
    assert [record["event"] for record in ring.records("chatty")] == ["chatty17", "chatty18", "chatty19"]
    assert {record["plugin"] for record in ring.records()} == {"chatty"}
    assert ring.records("unheard") == []


def test_the_rings_keep_500_of_all_and_100_of_each_plugin() -> None:
    """So much at most, however much is asked for."""
    ring = LogRing()
    for number in range(600):
        ring.append({"time": 1.0, "level": "info", "event": "e", "plugin": "ab"[number % 2]})
    assert [len(ring.records(name, 1000)) for name in (None, "a", "b")] == [500, 100, 100]


def test_a_plugin_that_is_no_name_is_kept_with_all() -> None:
    """A fact that happens to be called plugin costs nothing."""
    ring = LogRing()
    ring.append({"time": 1.0, "level": "info", "event": "e", "plugin": ["a"]})
    assert [record["plugin"] for record in ring.records()] == [["a"]]


def test_a_record_without_plugin_says_so() -> None:
    """plugin is always there, None for the daemon itself."""
    ring = LogRing()
    ring.append({"time": 1.0, "level": "info", "event": "e"})
    assert ring.records() == [{"time": 1.0, "level": "info", "event": "e", "plugin": None, "fields": {}}]


def test_a_full_pipe_does_not_block() -> None:
    """A reader that stands still costs lines, not the daemon; once it reads again, lines are whole again."""
    with pipe() as (reader, writer):
        log = LogWriter(writer)
        while not log.lost:
            log.write("x" * 9000)
        log.write("lost")
        os.set_blocking(reader, False)
        drain(reader)
        log.write("found")
        assert os.read(reader, 65536).decode().splitlines()[-1] == "found"
        assert log.lost >= 2
        assert os.get_blocking(writer)


def test_a_stopped_terminal_does_not_block() -> None:
    """A terminal that takes no more, as after Ctrl-S, costs lines; it stays blocking for everybody else."""
    main, terminal = pty.openpty()
    try:
        log = LogWriter(terminal)
        for _ in range(10_000):
            log.write("x" * 201)
        assert log.lost
        assert os.get_blocking(terminal)
    finally:
        os.close(main)
        os.close(terminal)


def test_a_reader_that_is_gone_is_no_failure() -> None:
    """EPIPE is swallowed."""
    with pipe() as (reader, writer):
        os.close(reader)
        log = LogWriter(writer)
        log.write("nobody")
        assert log.lost == 1


def test_a_closed_descriptor_is_no_failure() -> None:
    """A closed stderr is swallowed."""
    with pipe() as (_, writer):
        log = LogWriter(writer)
        os.close(writer)
        log.write("nowhere")
        assert log.lost == 1


class Hostile:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


def test_a_value_whose_repr_raises_is_still_logged() -> None:
    """A fact that cannot be shown does not cost the event."""
    ring = LogRing()
    with pipe() as (_, writer):
        configure("info", "json", ring, fd=writer)
        structlog.get_logger().info("odd", value=Hostile(), key={Hostile(): 1}, n=float("nan"), big=2**70)
    assert ring.records()[0]["fields"] == {"value": "<Hostile>", "key": "<dict>", "n": "nan", "big": str(2**70)}


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.binary() | st.text(st.characters(codec=None)),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec=None)), inner),
    )
)
def test_any_value_goes_over_the_wire_and_to_the_terminal(value: object) -> None:
    """A record's value can be packed, and no rendering has a control character or more lines than it should."""
    record = {"time": 1.0, "level": "info", "event": "e", "value": plain(value)}
    msgpack.packb(record)
    assert json.loads(render_json(record)) == record
    for line in (render_text(record), render_journal(record), render_json(record)):
        assert line.isprintable()


def test_a_record_is_bounded() -> None:
    """A huge fact does not fill the ring."""
    assert len(plain("x" * 10**6)) < 2100
    assert len(plain(list(range(1000)))) == 64


@pytest.mark.parametrize("text", ["\x1b[2J", "a\nb", "\u202ereversed", "\udc80", "\x9b", "\u2028"])
def test_escape_leaves_nothing_a_terminal_obeys(text: str) -> None:
    """Escape sequences, line ends, direction marks and broken text become visible."""
    assert escape(text).isprintable()
