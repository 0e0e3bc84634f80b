"""Programs that speak msgpack-RPC on their stdin and stdout: full plugins in any language."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from harness import ROOT, Daemons, RpcError, wait_until
from programs import metrics, table, wait_failure, write_program

EXAMPLES = ROOT / "examples" / "stdio"

# A program of its own: it shares nothing with plugd but the protocol.
PROBE = """
import os, struct, sys
import msgpack

def pack(v):
    if v is None: return b"\\xc0"
    if isinstance(v, bool): return b"\\xc3" if v else b"\\xc2"
    if isinstance(v, int): return b"\\xd3" + struct.pack(">q", v)
    if isinstance(v, float): return b"\\xcb" + struct.pack(">d", v)
    if isinstance(v, str): return b"\\xdb" + struct.pack(">I", len(v.encode())) + v.encode()
    if isinstance(v, bytes): return b"\\xc6" + struct.pack(">I", len(v)) + v
    if isinstance(v, list): return b"\\xdd" + struct.pack(">I", len(v)) + b"".join(map(pack, v))
    return b"\\xdf" + struct.pack(">I", len(v)) + b"".join(pack(x) for item in v.items() for x in item)

METRIC = dict(name="probe.value", unit="By", labels=["which"], help="A value.")
class Probe:
    def load(self, p): return dict(version="2.1", description="A probe.", interval=0.1, metrics=[METRIC])
    def collect(self, p): return [["probe.value", 1.5, dict(which="a")]]
    {methods}

probe = Probe()
unpacker = msgpack.Unpacker(strict_map_key=False)
while data := os.read(0, 65536):
    unpacker.feed(data)
    for _, identifier, name, params in unpacker:
        method = getattr(probe, name, None)
        error = result = None
        if method is None:
            error = dict(code="request.unknown_method", message="no " + name)
        else:
            try:
                result = method(params[0] if params else dict())
            except Exception as reason:
                error = str(reason)
        os.write(1, pack([1, identifier, error, result]))
"""


def probe(directory: Path, methods: str = "pass", name: str = "probe") -> Path:
    """Write a program with further methods, or others in the place of its own."""
    return write_program(directory / name, PROBE.replace("{methods}", methods), sys.executable)


def plugd_table(program: Path, **keys: Any) -> str:
    return table("probe", command=[program], format="plugd", **keys)


def test_it_declares_and_delivers(daemon: Daemons) -> None:
    """What it says in its answer to `load` is what plugd shows; its rows are stored."""
    running = daemon(plugins={}, config=plugd_table(probe(daemon.directory)))
    described = running.call("describe", name="probe")
    assert {key: described[key] for key in ("kind", "version", "description")} == {
        "kind": "command",
        "version": "2.1",
        "description": "A probe.",
    }
    assert described["metrics"] == [
        {"name": "probe.value", "kind": "gauge", "unit": "By", "labels": ["which"], "help": "A value."}
    ]
    assert metrics(running, "probe") == {("probe.value", "which=a"): 1.5}


def test_text_may_come_as_bytes(daemon: Daemons) -> None:
    """Libraries that know only bytes are understood."""
    method = 'collect = lambda self, p: {b"samples": [[b"probe.value", 2, {b"which": b"a"}]]}'
    running = daemon(plugins={}, config=plugd_table(probe(daemon.directory, method)))
    assert metrics(running, "probe") == {("probe.value", "which=a"): 2}


def test_commands_have_typed_arguments(daemon: Daemons) -> None:
    """Text is converted as the program declares; what does not fit is refused before the program hears of it."""
    methods = """
    def load(self, p):
        number = dict(name="a", type="int", minimum=0)
        parameters = [number, dict(name="b", type="int", default=2)]
        return dict(metrics=[METRIC], commands=[dict(name="add", help="Add.", parameters=parameters)])
    def call(self, p):
        return p["arguments"]["a"] + p["arguments"]["b"] if p["command"] == "add" else None
    """
    running = daemon(plugins={}, config=plugd_table(probe(daemon.directory, methods.strip())))
    assert running.plugctl_json("call", "probe", "add", "1") == 3
    assert running.plugctl_json("call", "probe", "add", "1", "b=5") == 6
    for wrong in (["x"], ["-1"], [], ["1", "2", "3"]):
        with pytest.raises(RpcError) as caught:
            running.call("call", name="probe", command="add", args=wrong)
        assert caught.value.code == "request.invalid"
        assert "add(a: int, b: int = 2)" in caught.value.message


def test_options_and_settings_are_checked_and_given(daemon: Daemons) -> None:
    """`start` gets all options and settings with their defaults; `set` is converted and told."""
    methods = """
    def load(self, p):
        setting = dict(name="factor", type="float", default=1.0, maximum=10)
        return dict(metrics=[METRIC], options=[dict(name="base", type="int", default=3)], settings=[setting])
    def start(self, p): self.base, self.factor = p["options"]["base"], p["settings"]["factor"]
    def set(self, p): self.factor = p["value"]
    def collect(self, p): return [["probe.value", self.base * self.factor, dict(which="a")]]
    """
    config = plugd_table(probe(daemon.directory, methods.strip()), options={"base": 4}, settings={"factor": 2})
    running = daemon(plugins={}, config=config)
    assert metrics(running, "probe") == {("probe.value", "which=a"): 8}
    assert running.plugctl_json("set", "probe", "factor", "5") == 5
    wait_until(lambda: metrics(running, "probe") == {("probe.value", "which=a"): 20})
    assert running.call("get", name="probe") == {"factor": 5}
    with pytest.raises(RpcError, match="above 10"):
        running.call("set", name="probe", setting="factor", value=11)
    running.config.write_text(config.replace("base", "bass"))
    failed = running.call("reload")["failed"]
    assert "no option 'bass'" in failed[0]["error"]["message"]


def test_state_goes_to_the_next_generation(daemon: Daemons) -> None:
    """What `save_state` returns, the next program's `load_state` gets."""
    methods = """
    count = 0
    def collect(self, p):
        self.count += 1
        return [["probe.value", self.count, dict(which="a")]]
    def save_state(self, p): return dict(count=self.count)
    def load_state(self, p): self.count = p["state"]["count"] + 1000
    """
    running = daemon(plugins={}, config=plugd_table(probe(daemon.directory, methods.strip())))
    running.call("reload", names=["probe"])
    wait_until(lambda: metrics(running, "probe")[("probe.value", "which=a")] > 1000)


@pytest.mark.parametrize(
    ("methods", "reason"),
    [
        ('collect = lambda self, p: [["other.value", 1]]', "undeclared metric 'other.value'"),
        ('collect = lambda self, p: [["probe.value", 1]]', "label 'which' missing"),
        ('collect = lambda self, p: [["probe.value", "1", dict(which="a")]]', "is not a number"),
        ('collect = lambda self, p: 5', "expected an array of samples"),
        ('collect = lambda self, p: 1 / 0', "division by zero"),
        ('collect = lambda self, p: print("hello") or sys.stdout.flush()', "broke its protocol"),
        ('collect = lambda self, p: os.write(2, b"bye\\n") and os._exit(4)', "the program exited with status 4"),
        ('collect = lambda self, p: os.write(1, pack([1, 99, None, []]))', "answered request 99"),
        ('collect = lambda self, p: os.write(1, pack([2, "define", []]))', "it only answers"),
        ('load = lambda self, p: dict(metrics=[dict(name="a b"), dict(name="c", kind="x")])', "metrics[1].kind"),
        ('load = lambda self, p: 5', "load: expected a map"),
    ],
)  # fmt: skip
def test_a_program_that_does_not_keep_to_it_fails_alone(methods: str, reason: str, daemon: Daemons) -> None:
    """`why` says what it did wrong, and the daemon goes on."""
    running = daemon(plugins={}, config=plugd_table(probe(daemon.directory, methods)))
    wait_failure(running, "probe", reason)
    running.call("unload", names=["probe"])
    wait_until(lambda: set(running.processes().values()) == {"plugd", "plugd:forksrv"})


def test_every_fault_of_a_declaration_is_told_at_once(daemon: Daemons) -> None:
    """`check` names them all."""
    methods = (
        'load = lambda self, p: dict(interval=-1, metrics=[dict(name="a b"), dict(name="c", unit="")], commands=[5])'
    )
    running = daemon(plugins={}, config=plugd_table(probe(daemon.directory, methods), enabled=False))
    faults = [fault["message"] for fault in running.call("check", name="probe")["faults"]]
    assert len(faults) == 4
    assert faults[0].startswith("interval: ")


def test_one_that_hangs_is_killed_at_its_deadline(daemon: Daemons) -> None:
    """As any plugin: worker and program go, and are started again."""
    methods = "collect = lambda self, p: __import__('time').sleep(1000)"
    running = daemon(plugins={}, config=plugd_table(probe(daemon.directory, methods), timeout=0.3))
    wait_failure(running, "probe", "collect took longer than 0.3 s")


def test_ten_thousand_samples_are_no_trouble(daemon: Daemons) -> None:
    """A collection may have as many rows as one of any plugin."""
    methods = 'collect = lambda self, p: [["probe.value", n, dict(which=str(n))] for n in range(10000)]'
    running = daemon(plugins={}, config=plugd_table(probe(daemon.directory, methods), interval=60))
    assert running.call("stats")["plugins"]["probe"]["series"] == 10_000


def has(*command: str) -> bool:
    return (
        shutil.which(command[0]) is not None
        and subprocess.run(command, capture_output=True, check=False).returncode == 0
    )


@pytest.mark.skipif(not has("perl", "-MData::MessagePack", "-e1"), reason="no perl with Data::MessagePack")
def test_the_example_in_perl(daemon: Daemons) -> None:
    """examples/stdio/load.pl collects, takes a setting, and has a command."""
    program = shutil.copy2(EXAMPLES / "load.pl", daemon.directory)
    running = daemon(plugins={}, config=plugd_table(Path(program)))
    assert set(metrics(running, "probe")) == {("perl.load", f"window={window}") for window in ("1m", "5m", "15m")}
    assert running.plugctl_json("call", "probe", "add", "1", "2") == 3
    assert running.plugctl_json("set", "probe", "scale", "5") == 5


@pytest.mark.skipif(not has("node", "--version"), reason="no node")
def test_the_example_in_javascript(daemon: Daemons) -> None:
    """examples/stdio/event_loop.js collects, has a command, and keeps its count over a reload."""
    for name in ("event_loop.js", "msgpack.js"):
        shutil.copy2(EXAMPLES / name, daemon.directory)
    config = plugd_table(daemon.directory / "event_loop.js", limits={"memory": "1GiB"}, timeout=5)
    running = daemon(plugins={}, config=config)
    assert running.plugin("probe")["state"] == "running", running.plugin("probe")
    assert running.plugctl_json("call", "probe", "add", "1", "2") == 3
    before = metrics(running, "probe")[("nodejs.requests",)]
    running.call("reload", names=["probe"])
    wait_until(lambda: metrics(running, "probe")[("nodejs.requests",)] > before)
