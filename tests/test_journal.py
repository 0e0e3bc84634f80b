"""systemd's journal: what is sent to it by its own protocol, and what becomes of it where there is none."""

import array
import contextlib
import fcntl
import logging
import os
import re
import shutil
import socket
import struct
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import structlog
from harness import BIN, ROOT, Client, Daemons, clean_environ, wait_until, write_plugin
from hypothesis import given
from hypothesis import strategies as st

from plugd.journal import MESSAGE_IDS, Journal, encode, leads_to_journal
from plugd.log import LogRing, configure, plain
from plugd.log_text import journal_entry

DEADLINE = 20.0  # seconds
FIELD = re.compile("[A-Z][A-Z0-9_]{0,63}")
SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE

PLUGIN = '''
"""A plugin for tests."""

from plugd.plugin import Gauge, Plugin


class Probe(Plugin):
    interval = 0.1
    value = Gauge("test.value")

    def collect(self):
        print("collected")
        yield self.value(1)
'''


class Entry(dict[str, list[str]]):
    """Values by field."""

    def one(self, name: str) -> str:
        (value,) = self[name]
        return value


def parse(data: bytes) -> Entry:
    """Return the fields of an entry, by https://systemd.io/JOURNAL_NATIVE_PROTOCOL/."""
    entry = Entry()
    while data:
        line, _, rest = data.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if equals:
            data = rest
        else:
            (length,) = struct.unpack_from("<Q", rest)
            value, data = rest[8 : 8 + length], rest[8 + length :]
            assert len(value) == length
            assert data[:1] == b"\n"
            data = data[1:]
        assert FIELD.fullmatch(name.decode()), name
        entry.setdefault(name.decode(), []).append(value.decode())
    return entry


class FakeJournal:
    """A socket where the journal's would be."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.files = 0  # that were passed instead of a datagram
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(path)
        self.socket.settimeout(DEADLINE)

    def receive(self) -> Entry:
        data, rights, _, _ = self.socket.recvmsg(1 << 20, socket.CMSG_SPACE(4))
        if not rights:
            return parse(data)
        assert data == b""
        (fd,) = array.array("i", rights[0][2])
        self.files += 1
        with os.fdopen(fd, "rb"):
            assert fcntl.fcntl(fd, fcntl.F_GET_SEALS) & SEALS == SEALS  # The journal refuses what can be changed yet.
            return parse(os.pread(fd, os.fstat(fd).st_size, 0))

    def waiting(self) -> list[Entry]:
        """Return what can be received now."""
        entries = []
        self.socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                entries.append(self.receive())
        self.socket.settimeout(DEADLINE)
        return entries

    def wait_for(self, event: str, plugin: str | None = None) -> Entry:
        """Return the next entry of an event; what comes before it is dropped."""
        end = time.monotonic() + DEADLINE
        while True:
            assert time.monotonic() < end, f"there was no {event}"
            entry = self.receive()
            if entry.one("PLUGD_EVENT") == event and plugin in (None, *entry.get("PLUGIN", ())):
                return entry


@pytest.fixture
def directory() -> Iterator[Path]:
    # Not below pytest's own directories: a socket's path has at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="pj-") as name:
        yield Path(name)


@pytest.fixture
def journald(directory: Path) -> Iterator[FakeJournal]:
    fake = FakeJournal(str(directory / "journal"))
    with fake.socket:
        yield fake


@pytest.fixture
def journal(journald: FakeJournal) -> Iterator[Journal]:
    with contextlib.closing(Journal(journald.path)) as sender:
        yield sender


class Stderr(NamedTuple):
    """A stream as systemd gives one to a service: reader is the journal's end, fd the service's."""

    reader: socket.socket
    fd: int
    stream: str  # $JOURNAL_STREAM

    def lines(self) -> list[str]:
        """Return what is there now."""
        data = b""
        with contextlib.suppress(BlockingIOError):
            while chunk := self.reader.recv(1 << 16):
                data += chunk
        return data.decode().splitlines()


@pytest.fixture
def stderr() -> Iterator[Stderr]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        status = os.fstat(theirs.fileno())
        yield Stderr(ours, theirs.fileno(), f"{status.st_dev}:{status.st_ino}")


@pytest.fixture
def logging_restored() -> Iterator[None]:
    handlers = logging.root.handlers[:]
    yield
    with open(os.devnull, "wb") as nowhere:  # closes the journal that was configured last
        configure("critical", "json", LogRing(), fd=nowhere.fileno())
    structlog.reset_defaults()
    logging.root.handlers[:] = handlers


def record(**facts: Any) -> dict[str, Any]:
    return {"time": 1.0, "level": "info", "event": "happened", **{key: plain(value) for key, value in facts.items()}}


# The protocol


def test_values_with_line_ends_are_no_other_fields(journal: Journal, journald: FakeJournal) -> None:
    """Whatever a value holds, it begins no field of its own."""
    value = "first\nPRIORITY=0\n\nMESSAGE_ID\n=\x00"
    assert journal.send([("PLUGD_A", value), ("PLUGD_B", ""), ("PLUGD_B", "=x=")])
    assert journald.receive() == {"SYSLOG_IDENTIFIER": ["plugd"], "PLUGD_A": [value], "PLUGD_B": ["", "=x="]}


@given(st.lists(st.tuples(st.sampled_from(["A", "PLUGD_B", "C9"]), st.text(st.characters(codec="utf-8")))))
def test_any_value_arrives_as_it_is(entry: list[tuple[str, str]]) -> None:
    """What is encoded is parsed to the same values, in their order."""
    parsed = parse(encode(entry))
    assert parsed == {name: [value for key, value in entry if key == name] for name, _ in entry}


@pytest.mark.parametrize("size", [10, 100_000, 300_000, 3_000_000])
def test_what_is_too_large_for_a_datagram_is_a_sealed_file(size: int, journal: Journal, journald: FakeJournal) -> None:
    """Its descriptor is passed; nothing of it stays open."""
    value = "x\ny" * (size // 3)
    assert journal.send([("MESSAGE", "large"), ("PLUGD_VALUE", value)])
    assert journald.receive() == {"SYSLOG_IDENTIFIER": ["plugd"], "MESSAGE": ["large"], "PLUGD_VALUE": [value]}
    assert journald.files == (size > 200_000)


@pytest.mark.parametrize("size", [10, 300_000])
def test_nobody_who_listens_is_no_failure(size: int, directory: Path) -> None:
    """Neither a socket that is not there, nor one that nobody reads any more."""
    with contextlib.closing(Journal(str(directory / "none"))) as journal:
        assert not journal.there()
        assert not journal.send([("MESSAGE", "x" * size)])
    FakeJournal(str(directory / "dead")).socket.close()
    with contextlib.closing(Journal(str(directory / "dead"))) as journal:
        assert journal.there()
        assert not journal.send([("MESSAGE", "x" * size)])


@pytest.mark.parametrize("size", [10, 300_000])
def test_a_journal_that_stands_still_does_not_block(size: int, journal: Journal, journald: FakeJournal) -> None:
    """What it has no room for is refused at once; when it reads again, it is sent again."""
    sent = 0
    while journal.send([("MESSAGE", "x" * size)]):
        sent += 1
        assert sent < 100_000
    assert len(journald.waiting()) == sent > 0
    assert journal.send([("MESSAGE", "x" * size)])


def test_a_journal_that_is_restarted_is_found_again(journal: Journal, directory: Path) -> None:
    """The socket is another one then, at the same path."""
    path = directory / "journal"
    assert journal.send([("MESSAGE", "to the first")])
    path.unlink()
    assert not journal.send([("MESSAGE", "to nobody")])
    second = FakeJournal(str(path))
    with second.socket:
        assert journal.send([("MESSAGE", "to the second")])
        assert second.receive().one("MESSAGE") == "to the second"


def test_flush_waits_until_all_is_read(journal: Journal, journald: FakeJournal) -> None:
    """Who sent an entry is looked up when it is read, by then it must be there."""
    assert journal.flush(0)
    assert journal.send([("MESSAGE", "a")])
    assert journal.send([("MESSAGE", "b")])
    assert not journal.flush(0.01)
    journald.receive()
    assert not journal.flush(0.01)
    journald.receive()
    assert journal.flush(0)
    journal.close()
    assert journal.flush(0)
    assert not journal.send([("MESSAGE", "closed")])


# Records as entries


def test_a_record_has_its_facts_as_fields() -> None:
    """The plugin and its generation by their own names, all others with a prefix; the message has them as well."""
    entry = parse(encode(journal_entry(record(plugin="cpu", generation=3, cause="a b", ok=True, share=0.5))))
    assert entry == {
        "MESSAGE": ['happened plugin=cpu generation=3 cause="a b" ok=true share=0.5'],
        "PRIORITY": ["6"],
        "PLUGD_EVENT": ["happened"],
        "PLUGIN": ["cpu"],
        "GENERATION": ["3"],
        "PLUGD_CAUSE": ["a b"],
        "PLUGD_OK": ["true"],
        "PLUGD_SHARE": ["0.5"],
    }


@pytest.mark.parametrize(
    ("value", "values"),
    [
        (["a", "b c"], ["a", "b c"]),
        ([], None),
        (None, None),
        ([1, None, [2, 3]], ["1", "[2, 3]"]),
        ({"a": ["b"]}, ['{"a": ["b"]}']),
        ("", [""]),
    ],
)
def test_each_element_of_a_list_can_be_searched_for(value: object, values: list[str] | None) -> None:
    """It is a field of its own; what is nothing has none."""
    assert parse(encode(journal_entry(record(value=value)))).get("PLUGD_VALUE") == values


def test_an_exception_is_a_field_and_in_the_message() -> None:
    """Whoever reads the journal sees it without asking for it; its lines stay lines."""
    entry = parse(encode(journal_entry(record(exception="Traceback:\n  \x1b[31m\nValueError: bad"))))
    assert entry.one("PLUGD_EXCEPTION") == "Traceback:\n  \\x1b[31m\nValueError: bad"
    assert entry.one("MESSAGE") == "happened\n    Traceback:\n      \\x1b[31m\n    ValueError: bad"


@pytest.mark.parametrize(
    ("level", "priority"), [("debug", "7"), ("info", "6"), ("warning", "4"), ("error", "3"), ("critical", "2")]
)
def test_levels_are_priorities(level: str, priority: str) -> None:
    """As syslog(3) numbers them."""
    assert parse(encode(journal_entry(record() | {"level": level}))).one("PRIORITY") == priority


@given(
    st.dictionaries(st.text(st.characters(codec=None)), st.text(st.characters(codec=None)) | st.lists(st.integers()))
)
def test_any_fact_makes_a_valid_field(facts: dict[str, Any]) -> None:
    """Names are those that the journal takes, and no value has anything that a terminal obeys."""
    entry = parse(encode(journal_entry({**facts, "level": "info", "event": "e", "time": 1.0})))
    assert {"MESSAGE", "PRIORITY", "PLUGD_EVENT"} <= set(entry)
    for values in entry.values():
        assert all(line.isprintable() for value in values for line in value.split("\n"))


def test_long_names_of_facts_are_cut() -> None:
    """The journal drops a field whose name has more than 64 characters."""
    (name,) = set(parse(encode(journal_entry(record(**{"ä" * 100: 1}))))) - {"MESSAGE", "PRIORITY", "PLUGD_EVENT"}
    assert name == "PLUGD_" + "_" * 58


# Where the log goes


def test_the_stream_of_the_journal_is_recognised(stderr: Stderr, directory: Path) -> None:
    """By device and inode: the variable alone says nothing, since whoever inherits it may have redirected stderr."""
    environ = {"JOURNAL_STREAM": stderr.stream}
    assert leads_to_journal(stderr.fd, environ)
    assert not leads_to_journal(stderr.fd, {})
    assert not leads_to_journal(stderr.fd, {"JOURNAL_STREAM": "1:2"})
    with (directory / "file").open("w") as file:
        assert not leads_to_journal(file.fileno(), environ)
        closed = file.fileno()
    assert not leads_to_journal(closed, environ)


@pytest.mark.usefixtures("logging_restored")
@pytest.mark.parametrize("log_format", ["auto", "journal"])
def test_the_journal_gets_entries(
    log_format: str, journald: FakeJournal, stderr: Stderr, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With auto if stderr is the journal, and with journal in any case; then there is nothing on stderr."""
    monkeypatch.setenv("JOURNAL_STREAM", stderr.stream if log_format == "auto" else "1:2")
    ring = LogRing()
    configure("info", log_format, ring, stderr.fd, Journal(journald.path))
    structlog.get_logger().debug("too_little")
    structlog.get_logger(plugin="cpu").warning("plugin_quarantined", generation=2, cause="why")
    (entry,) = journald.waiting()
    assert entry == {
        "SYSLOG_IDENTIFIER": ["plugd"],
        "MESSAGE": ["plugin_quarantined plugin=cpu generation=2 cause=why"],
        "MESSAGE_ID": ["963ced25306949449c08a185fc342771"],
        "PRIORITY": ["4"],
        "PLUGD_EVENT": ["plugin_quarantined"],
        "PLUGIN": ["cpu"],
        "GENERATION": ["2"],
        "PLUGD_CAUSE": ["why"],
    }
    assert stderr.lines() == []
    assert [row["event"] for row in ring.records()] == ["plugin_quarantined"]


@pytest.mark.usefixtures("logging_restored")
@pytest.mark.parametrize("log_format", ["auto", "journal", "json", "text"])
def test_no_socket_is_opened_without_a_journal(
    log_format: str, journald: FakeJournal, stderr: Stderr, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing says that stderr is the journal, or where there is none, it is a matter of stderr alone."""
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    before = os.listdir("/proc/self/fd")
    path = str(directory / "none") if log_format == "journal" else journald.path
    configure("info", log_format, LogRing(), stderr.fd, Journal(path))
    structlog.get_logger().info("happened")
    assert os.listdir("/proc/self/fd") == before
    assert journald.waiting() == []
    (line,) = stderr.lines()
    assert "happened" in line
    assert line.startswith("<6>") == (log_format == "journal")


@pytest.mark.usefixtures("logging_restored")
def test_another_configuration_closes_the_socket(journald: FakeJournal, stderr: Stderr) -> None:
    """However often the daemon is reloaded, it has one at most; loggers that have facts do not keep the old one."""
    log = structlog.get_logger(plugin="cpu")
    configure("info", "journal", LogRing(), stderr.fd, Journal(journald.path))
    log.info("happened")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        configure("info", "journal", LogRing(), stderr.fd, Journal(journald.path))
        log.info("happened")
    assert len(os.listdir("/proc/self/fd")) == before
    configure("info", "json", LogRing(), stderr.fd)
    assert len(os.listdir("/proc/self/fd")) == before - 1
    assert len(journald.waiting()) == 6


@pytest.mark.usefixtures("logging_restored")
def test_what_the_journal_does_not_take_goes_to_stderr_or_is_counted(journald: FakeJournal, stderr: Stderr) -> None:
    """Nothing waits; every record is in one of three places, and the journal is told of those that are lost."""
    configure("info", "journal", LogRing(), stderr.fd, Journal(journald.path))
    log = structlog.get_logger()
    (factory,) = [structlog.get_config()["logger_factory"]]
    logged = 0
    while factory.writer.lost < 3:
        log.info("happened", number=logged, text="x" * 1000)
        logged += 1
        assert logged < 100_000
    entries, lines = journald.waiting(), stderr.lines()
    whole = [line for line in lines if line.startswith("<6>happened number=") and line.endswith("x" * 1000)]
    assert entries
    assert whole
    assert len(entries) + len(whole) + 3 == logged
    log.info("again")
    again, lost = journald.waiting()
    assert again.one("PLUGD_EVENT") == "again"
    assert (lost.one("PLUGD_EVENT"), lost.one("PLUGD_RECORDS")) == ("log_records_lost", "3")
    log.info("told_once")
    assert len(journald.waiting()) == 1


# plugd itself

RUN = "import sys, plugd.journal; plugd.journal.SOCKET = sys.argv.pop(1); from plugd.cli import main; sys.exit(main())"


@contextlib.contextmanager
def plugd(directory: Path, socket_path: str, stderr: Stderr, *arguments: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Run plugd as a service of systemd has it: its stderr is a stream to the journal."""
    program = [str(BIN / "python"), "-c", RUN, socket_path]
    paths = ["--socket", str(directory / "control.sock"), "--state-dir", str(directory / "state")]
    environ = clean_environ(directory) | {"JOURNAL_STREAM": stderr.stream}
    process = subprocess.Popen(
        [*program, *paths, *arguments], cwd=directory, env=environ, stdin=subprocess.DEVNULL, stderr=stderr.fd
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(DEADLINE)


@pytest.fixture
def configuration(directory: Path) -> Path:
    (directory / "etc").mkdir()
    return directory / "etc" / "plugd.toml"


def test_faults_of_the_configuration_are_entries(
    directory: Path, configuration: Path, journald: FakeJournal, stderr: Stderr
) -> None:
    """Each with its file, its key and its reason, as an error; the last of them is the last that is told."""
    configuration.write_text('[plugins.cpu]\ninterval = "so\\u001bon"\n[log]\nlevle = "info"\n')
    with plugd(directory, journald.path, stderr, "--config", str(configuration)) as process:
        entries = [journald.receive(), journald.receive()]
        assert process.wait(DEADLINE) == 78
    assert journald.waiting() == []
    assert stderr.lines() == []
    assert [entry.one("MESSAGE") for entry in entries] == [
        f"{configuration}: $.plugins.cpu.interval: expected a duration such as '10s' or '1h30m', got 'so\\x1bon'",
        f"{configuration}: $.log.levle: unknown key; did you mean 'level'?",
    ]
    last = entries[-1]
    assert (last.one("PRIORITY"), last.one("SYSLOG_IDENTIFIER")) == ("3", "plugd")
    assert last.one("MESSAGE_ID") == MESSAGE_IDS["configuration_invalid"]
    assert last.one("PLUGD_FILE") == str(configuration)
    assert last.one("PLUGD_KEY") == "$.log.levle"
    assert last.one("PLUGD_REASON") == "unknown key; did you mean 'level'?"


def test_faults_are_lines_where_the_journal_takes_no_entries(
    directory: Path, configuration: Path, stderr: Stderr
) -> None:
    """Errors for the journal, by their first characters; the last line has the last reason."""
    configuration.write_text("interval = 1\n[log]\nlevle = 1\n")
    with plugd(directory, str(directory / "none"), stderr, "--config", str(configuration)) as process:
        assert process.wait(DEADLINE) == 78
    assert stderr.lines() == [
        f"<3>{configuration}: $.interval: unknown key",
        f"<3>{configuration}: $.log.levle: unknown key; did you mean 'level'?",
    ]


def test_wrong_usage_is_an_error_in_the_journal(directory: Path, stderr: Stderr) -> None:
    """Its last line."""
    with plugd(directory, str(directory / "none"), stderr, "--no-such-flag") as process:
        assert process.wait(DEADLINE) == 64
    assert stderr.lines()[-1].startswith("<3>")


def test_a_daemon_logs_to_the_journal(
    directory: Path, configuration: Path, journald: FakeJournal, stderr: Stderr
) -> None:
    """From its start to its end; what is wrong at a reload too, and what plugins print. It has one socket for it."""
    plugins = directory / "plugins"
    plugins.mkdir()
    write_plugin(plugins, "probe", PLUGIN)
    configuration.write_text("")
    arguments = ("--config", str(configuration), "--plugin-dir", str(plugins))
    with plugd(directory, journald.path, stderr, *arguments) as process:
        assert journald.wait_for("plugd_started").one("MESSAGE_ID") == MESSAGE_IDS["plugd_started"]
        running = journald.wait_for("plugin_running", "probe")
        assert running.one("MESSAGE") == 'plugin_running plugin=probe generation=1 cause="plugd started"'
        assert (running.one("PLUGIN"), running.one("GENERATION")) == ("probe", "1")
        assert journald.wait_for("plugd_ready").one("PLUGD_RUNNING") == "1"
        output = journald.wait_for("plugin_output", "probe")
        assert (output.one("PLUGD_STREAM"), output.one("PLUGD_LINE")) == ("stdout", "collected")
        with Client(directory / "control.sock") as client:
            client.call("reload", names=["probe"])
            assert journald.wait_for("plugin_reloaded", "probe").one("GENERATION") == "2"
            client.call("reload")  # The log is configured anew.
            before = len(os.listdir(f"/proc/{process.pid}/fd"))
            client.call("reload")
            client.call("reload")
            assert len(os.listdir(f"/proc/{process.pid}/fd")) == before
            configuration.write_text("nothing = 1\n")
            with pytest.raises(Exception, match="nothing: unknown key"):
                client.call("reload")
            failed = journald.wait_for("reload_failed")
            assert "$.nothing: unknown key" in failed.one("PLUGD_REASON")
            assert failed.one("PRIORITY") == "3"
            assert stderr.lines() == []
            Path(journald.path).unlink()
            client.call("pause", names=["probe"])
            lines = wait_until(stderr.lines, "a line on stderr")
        assert any(line.startswith("<6>plugin_paused plugin=probe generation=2") for line in lines)
        second = FakeJournal(journald.path)
        with second.socket:
            process.terminate()
            assert second.wait_for("signal_received").one("PLUGD_SIGNAL") == "SIGTERM"
            assert second.wait_for("plugin_stopped", "probe").one("GENERATION") == "2"
            second.wait_for("plugd_stopped")
            assert process.wait(DEADLINE) == 0


# Changes of state

CHANGED = PLUGIN + "\n# Changed.\n"
BAD = PLUGIN.replace("yield self.value(1)", "raise ValueError('bad')")
SOON_BAD = PLUGIN.replace(
    "        print", "        self.n = getattr(self, 'n', 0) + 1\n        assert self.n < 2\n        print"
)


def test_every_change_that_why_tells_is_one_record(daemon: Daemons) -> None:
    """With the plugin, its generation, and the cause; what happened is its name."""
    running = daemon(plugins={"probe": PLUGIN})
    assert running.plugin_dir is not None

    def reload(source: str) -> None:
        write_plugin(running.plugin_dir, "probe", source)
        running.call("reload")

    running.call("pause", names=["probe"], reason="because")
    running.call("reload", names=["probe"])
    running.call("resume", names=["probe"])
    reload(CHANGED)
    reload(BAD)
    reload(SOON_BAD)
    wait_until(lambda: running.records("plugin_rolled_back"), "the end of the new generation")
    wait_until(lambda: running.plugin("probe")["state"] == "running", "the generation before")
    running.config.parent.mkdir()
    running.config.write_text("[plugins.probe]\ninterval = 0.2\n")
    reload(CHANGED)
    told = running.call("why", name="probe")["events"]
    running.call("unload", names=["probe"])
    wait_until(lambda: running.records("plugin_stopped"), "the log line")
    rows = [row for name in MESSAGE_IDS for row in running.records(name) if row.get("plugin") == "probe"]
    rows.sort(key=lambda row: row["time"])
    assert [row["event"] for row in rows] == [
        "plugin_starting",
        "plugin_running",
        "plugin_paused",
        "plugin_reloaded",  # while paused
        "plugin_resumed",
        "plugin_reloaded",
        "plugin_reload_failed",
        "plugin_reloaded",
        "plugin_rolled_back",
        "plugin_running",
        "plugin_reloaded",  # another schedule
        "plugin_stopping",
        "plugin_stopped",
    ]
    assert [(row["generation"], row["cause"]) for row in rows[:-2]] == [
        (row["generation"], row["cause"]) for row in told
    ]
    assert {row["event"] for row in rows if row["level"] == "warning"} == {"plugin_reload_failed", "plugin_rolled_back"}


def test_message_ids_are_random_and_their_own() -> None:
    """Of 128 bits; no two events have the same."""
    assert len(set(MESSAGE_IDS.values())) == len(MESSAGE_IDS)
    assert {uuid.UUID(number).version for number in MESSAGE_IDS.values()} == {4}
    assert all(number == uuid.UUID(number).hex for number in MESSAGE_IDS.values())


def test_every_event_with_a_message_id_is_logged_somewhere() -> None:
    """A table that outlives its events would be searched for in vain."""
    sources = "".join(path.read_text() for path in (ROOT / "plugd").rglob("*.py") if path.name != "journal.py")
    states = re.findall(r'"(\w+)"', " ".join(re.findall(r"^[A-Z, ]+ = .*", sources, re.MULTILINE)))
    known = {*re.findall(r'"(\w+)"', sources), *(f"plugin_{state}" for state in [*states, "stopped"])}
    assert set(MESSAGE_IDS) <= known


def test_message_ids_are_documented() -> None:
    """docs/logs.md has exactly those."""
    rows = re.findall(r"^\| `(\w+)` \| `([0-9a-f]{32})` \|", (ROOT / "docs" / "logs.md").read_text(), re.MULTILINE)
    assert dict(rows) == MESSAGE_IDS
    assert len(rows) == len(MESSAGE_IDS)


def test_message_ids_are_explained() -> None:
    """The catalog has exactly those, each with a subject and an explanation."""
    blocks = re.split(r"^-- ", (ROOT / "systemd" / "plugd.catalog").read_text(), flags=re.MULTILINE)[1:]
    assert sorted(block[:32] for block in blocks) == sorted(MESSAGE_IDS.values())
    for block in blocks:
        assert re.fullmatch(
            r"[0-9a-f]{32}\nSubject: [^\n]+\nDefined-By: plugd\nDocumentation: [^\n]+\n\n[^\n].*\n+", block, re.DOTALL
        ), block


def test_journalctl_takes_the_catalog(directory: Path) -> None:
    """As it is installed; skipped where there is no journalctl."""
    journalctl = shutil.which("journalctl")
    if journalctl is None:
        pytest.skip("there is no journalctl here: it comes with systemd")
    place = directory / "usr" / "lib" / "systemd" / "catalog"
    place.mkdir(parents=True)
    (directory / "var" / "lib" / "systemd" / "catalog").mkdir(parents=True)
    shutil.copy(ROOT / "systemd" / "plugd.catalog", place)
    command = [journalctl, f"--root={directory}"]
    updated = subprocess.run([*command, "--update-catalog"], capture_output=True, text=True, timeout=60, check=False)
    assert (updated.returncode, updated.stderr) == (0, "")
    listed = subprocess.run([*command, "--list-catalog"], capture_output=True, text=True, timeout=60, check=True)
    assert sorted(line[:32] for line in listed.stdout.splitlines()) == sorted(MESSAGE_IDS.values())
