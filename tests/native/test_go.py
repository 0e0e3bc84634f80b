"""Plugins in Go: its runtime in a worker, and the package that they are written with."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from go_rig import EXAMPLES, PACKAGE, GoCompiler, go, go_environ, run_go
from harness import ROOT, Daemon, Daemons, RpcError, plugctl, wait_until
from native_rig import PLUGINS, install

FULL = (PLUGINS / "full.go").read_text()
MODULES = (PACKAGE, EXAMPLES / "demos" / "golang-plugins-demo", EXAMPLES / "demos" / "go-plugin-demo")
LITTLE = """package main

import "plugd"

type Little struct{}

func (Little) Name() string { return "little" }
func (Little) Desc() string { return "Has little." }

BODY

func main() {}
"""


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> GoCompiler:
    """Call it with a source to have it compiled."""
    go()
    return GoCompiler(tmp_path_factory.mktemp("go"))


class Full:
    """A daemon with the plugin ``full``."""

    def __init__(self, daemon: Daemons, build: GoCompiler) -> None:
        self._daemon = daemon
        self.build = build
        self.running: Daemon

    def start(self, config: str = "", source: str = FULL) -> Daemon:
        """Start the daemon with the plugin, which is to run."""
        self.install(source)
        self.running = self._daemon(plugins={}, config=config)
        return self.running

    def install(self, source: str) -> None:
        """Put another version in its place."""
        install(self.build(source), self._daemon.directory / "plugins", "full")

    def call(self, command: str, *args: Any) -> Any:
        """Call one of its commands."""
        return self.running.call("call", name="full", command=command, args=list(args))

    def refusal(self, method: str, **params: Any) -> str:
        """Return why a request failed."""
        with pytest.raises(RpcError) as caught:
            self.running.call(method, name="full", **params)
        return caught.value.message

    def values(self) -> dict[tuple[str, ...], float]:
        """Return its latest values, by metric and labels."""
        rows = self.running.call("stats", patterns=["full"])["metrics"]
        return {(row["name"], *row["labels"].values()): row["value"] for row in rows}

    def wait_collected(self) -> None:
        """Wait for two more complete collections."""
        start = self.running.plugin("full")["collects"]
        wait_until(lambda: self.running.plugin("full")["collects"] >= start + 2, "two collections")

    def failure(self, mode: str) -> str:
        """Have its collections fail, and then not any more; return how they did. It is one process all the time."""
        pid = self.running.plugin("full")["pid"]
        self.running.call("set", name="full", setting="mode", value=mode)
        start = self.running.plugin("full")["failures"]
        wait_until(lambda: self.running.plugin("full")["failures"] >= start + 2, "a failure")
        error: str = self.running.plugin("full")["last_error"]
        self.running.call("set", name="full", setting="mode", value="calm")
        self.wait_collected()
        assert self.running.plugin("full")["pid"] == pid
        return error


@pytest.fixture
def full(daemon: Daemons, build: GoCompiler) -> Full:
    return Full(daemon, build)


def test_the_example_on_the_page_builds_as_it_says(tmp_path: Path) -> None:
    """Its own lines of shell, with the package beside it."""
    go()
    page = (ROOT / "docs" / "go.md").read_text()
    source = page.partition("<!-- dice.go -->")[2].partition("```go\n")[2].partition("```")[0]
    commands = page.partition("```sh\n")[2].partition("```")[0]
    (tmp_path / "dice.go").write_text(source)
    shutil.copytree(PACKAGE, tmp_path / "plugd")
    environ = go_environ()
    del environ["CGO_CFLAGS"]
    done = subprocess.run(
        ["sh", "-e"],
        input=commands,
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("dice ok: 2 samples")


def test_every_method_and_function_is_on_the_page() -> None:
    """Whatever is added has to be told."""
    page = (ROOT / "docs" / "go.md").read_text()
    source = "".join(path.read_text() for path in PACKAGE.glob("*.go") if not path.name.endswith("_test.go"))
    exported = set(re.findall(r"^func (?:\(\w+ \*?\w+\) )?([A-Z]\w*)", source, re.MULTILINE))
    optional = set(re.findall(r"^\t([A-Z]\w*)\(.*\)", source, re.MULTILINE))
    assert len(exported) > 10
    assert len(optional) > 10
    known = exported | optional
    assert {name for name in known if not re.search(rf"\b{name}\b", page)} - {"Error"} == set()


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)
def test_the_go_code_is_as_go_wants_it(module: Path, tmp_path: Path) -> None:
    """Formatted, without a complaint of vet, and what has tests passes them."""
    copy = tmp_path / "demos" / module.name if module != PACKAGE else tmp_path / "go" / "plugd"
    shutil.copytree(PACKAGE, tmp_path / "go" / "plugd")
    if module != PACKAGE:
        shutil.copytree(module, copy)
    assert run_go("run", "cmd/gofmt", "-l", copy, cwd=copy) == ""
    sources = [path.relative_to(copy) for path in copy.rglob("*.go")]
    if module == PACKAGE:
        run_go("vet", ".", cwd=copy)
        assert "ok" in run_go("test", ".", cwd=copy)
    else:
        for path in sources:  # Each is a program of its own.
            run_go("vet", path, cwd=copy)


def test_a_plugin_in_go_is_a_plugin_like_any_other(full: Full) -> None:
    """Its kind is native; its values are there, with labels of any bytes, and counters have rates."""
    running = full.start(config="[plugins.full.options]\nratio = 2.5\nhosts = { one = 1 }\n")
    row = running.plugin("full")
    assert (row["kind"], row["state"], row["version"], row["last_error"]) == ("native", "running", "1.0", None)
    full.wait_collected()
    values = full.values()
    assert values[("full.plain",)] == 2.5
    assert values[("full.labelled", "x", "y")] == 7.0
    assert values[("full.labelled", "naïve \\xff", "zero")] == 1.0
    rates = [each["rate"] for each in running.call("stats")["metrics"] if each["name"] == "full.turns"]
    assert rates[0] > 0
    assert "opened with 2.5 1" in [each["line"] for each in running.records("plugin_output")]
    running.call("unload", names=["full"])
    wait_until(lambda: "Close: not quite" in [each["line"] for each in running.records("plugin_output")], "its end")


def test_commands_take_and_give_what_their_functions_do(full: Full) -> None:
    """By reflection: numbers, structure, nothing at all; what does not fit is told."""
    full.start()
    assert full.call("add", 1) == 3
    assert full.call("add", "4", "5") == 9
    assert full.call("pair", {"a": 1, "b": "x"}, 1) == [{"a": 1, "b": "x"}, {"a": 2, "b": "1"}]
    assert full.call("nothing", "true") is None
    assert full.call("info") == [1, 2]
    assert full.call("info", "more") == {"k": "v"}
    assert full.refusal("call", command="info", args=["x"]) == 'info() refused: Exec has no "x"; there are: info, more'
    assert full.refusal("call", command="fail") == "fail() failed: no luck"
    assert full.refusal("call", command="small", args=[128]) == "small() refused: n: 128 does not fit into int8"
    assert "cannot unmarshal string into Go struct field pair.a of type int" in full.refusal(
        "call", command="pair", args=[{"a": "x"}, 1]
    )
    described = full.running.call("describe", name="full")
    parameters = {each["name"]: each["parameters"] for each in described["commands"]}["add"]
    assert [(each["name"], each["type"], each["required"], each["default"]) for each in parameters] == [
        ("a", "int", True, None),
        ("b", "int", False, 2),
    ]


def test_settings_are_variables(full: Full) -> None:
    """Read, written and checked; what is refused leaves the old value; they survive a reload."""
    running = full.start()
    assert running.plugctl_json("get", "full", "I") == 7
    assert running.plugctl_json("set", "full", "I=8") == 8
    assert running.plugctl_json("set", "full", 'words=["b", "c"]') == ["b", "c"]
    assert full.refusal("set", setting="I", value=-1) == "setting 'I': -1 is below 0"
    assert full.refusal("set", setting="mode", value="never") == "setting 'mode': set refused: not that"
    assert "cannot unmarshal number into Go value of type string" in full.refusal("set", setting="words", value=[1])
    running.call("reload", names=["full"])
    full.wait_collected()
    assert running.call("get", name="full") == {"I": 8, "words": ["b", "c"], "mode": "calm"}
    assert full.values()[("full.labelled", "x", "y")] == 8.0


def test_options_are_variables_and_can_change(full: Full) -> None:
    """In place, for a type that has Reconfigure; what that refuses leaves the old ones."""
    running = full.start(config="[plugins.full.options]\nratio = 2.0\n")
    pid = running.plugin("full")["pid"]
    running.config.write_text("[plugins.full.options]\nratio = 3.0\n")
    assert running.call("reload")["reloaded"] == ["full"]
    full.wait_collected()
    assert (running.plugin("full")["pid"], full.values()[("full.plain",)]) == (pid, 3.0)
    assert full.call("opened") == 2.0
    running.config.write_text("[plugins.full.options]\nratio = 13.0\n")
    failed = running.call("reload")["failed"]
    assert failed[0]["error"]["message"].endswith("reconfigure() failed: 13 is bad luck")
    full.wait_collected()
    assert (running.plugin("full")["pid"], full.values()[("full.plain",)]) == (pid, 3.0)


def test_what_open_refuses_waits_for_other_options(full: Full) -> None:
    """Its reason is told, and it is not tried again."""
    row = full.start(config="[plugins.full.options]\nratio = -1.0\n").plugin("full")
    assert (row["state"], row["last_error"]) == ("failed", "open() refused: the ratio is -1")


def test_a_reload_runs_the_new_code_and_hands_over_its_state(full: Full) -> None:
    """What Go itself cannot: other code under the same name, which goes on counting."""
    running = full.start()
    full.wait_collected()
    for turn in range(1, 4):
        counted = full.values()[("full.turns",)]
        full.install(FULL.replace('version = "1.0"', f'version = "1.{turn}"'))
        assert running.call("reload")["reloaded"] == ["full"]
        assert running.plugin("full")["version"] == f"1.{turn}"
        full.wait_collected()
        assert full.values()[("full.turns",)] > counted


def test_a_panic_fails_the_collection_and_nothing_else(full: Full) -> None:
    """With its message and its line; a nil pointer is one as well."""
    full.start()
    line = {mode: FULL[: FULL.index(text)].count("\n") + 1 for mode, text in
            (("panic", 'panic("out of'), ("null", "nobody.turns++"), ("goroutine", 'panic("in there'))}  # fmt: skip
    assert full.failure("panic") == f"collect() failed: panic: out of cheese (main.go:{line['panic']})"
    null = "panic: runtime error: invalid memory address or nil pointer dereference"
    assert full.failure("null") == f"collect() failed: {null} (main.go:{line['null']})"
    goroutine = f"collect() failed: in a goroutine: panic: in there (main.go:{line['goroutine']})"
    assert full.failure("goroutine") == goroutine
    assert full.failure("error") == "collect() failed: no luck"
    assert full.failure("labels").startswith("collect() failed: a sample of full.labelled has 1 labels; declared are 2")
    assert "full.plain" in full.failure("twice")
    assert any("goroutine" in each["line"] for each in full.running.records("plugin_output"))


def test_a_panic_in_a_goroutine_is_one_workers_end(full: Full) -> None:
    """As Go has it: it says what it is, and aborts."""
    running = full.start(config="[restart]\ndelay = 60\n")
    assert full.refusal("call", command="stray") == "the worker is gone: killed by SIGABRT"
    assert "panic: stray" in running.call("why", name="full")["output"]


def test_a_crash_of_c_is_told_by_its_signal(full: Full) -> None:
    """And not as a failure of Go's runtime, which would be SIGABRT."""
    running = full.start(config="[restart]\ndelay = 60\n")
    assert full.refusal("call", command="crash") == "the worker is gone: killed by SIGSEGV"
    assert running.call("why", name="full")["exit"] == "killed by SIGSEGV"


def test_the_runtime_lives_within_the_default_limits(full: Full) -> None:
    """Three times as much garbage as a plugin may have memory, and threads enough, in one process."""
    running = full.start()
    pid = running.plugin("full")["pid"]
    assert full.call("garbage", 768) == 768
    assert full.call("threads", 40) == 40
    assert full.call("program") == "hello\n"
    assert full.call("spin", 300) == 300
    full.wait_collected()
    assert (running.plugin("full")["pid"], running.plugin("full")["failures"]) == (pid, 0)


def test_the_environment_is_that_of_the_configuration(full: Full) -> None:
    """And not that of the process which workers are forked from, where Go's runtime has looked."""
    full.start(config='[plugins.full]\nenvironment = { GOMAXPROCS = "7", GOMEMLIMIT = "100MiB", WORD = "a=b" }\n')
    assert full.call("processors") == 7
    assert [full.call("variable", name) for name in ("WORD", "PLUGD_PLUGIN", "HOME")] == ["a=b", "full", "/"]
    assert full.call("variable", "PYTHONPATH") == ""


def test_it_takes_little_of_its_memory_to_start(full: Full) -> None:
    """By the count that the limit is by: /proc/PID/status, VmData."""
    running = full.start()
    status = Path(f"/proc/{running.plugin('full')['pid']}/status").read_text()
    assert int(re.findall(r"VmData:\s+(\d+) kB", status)[0]) < 100 * 1024


def test_more_samples_than_allowed_are_dropped_and_counted(full: Full) -> None:
    """As of any native plugin."""
    running = full.start(config="[plugins.full.limits]\nsamples = 3\n")
    full.wait_collected()
    assert len(full.values()) == 3
    assert running.call("stats")["plugins"]["full"]["dropped"] >= 2


def check(built: Path, directory: Path, name: str) -> list[str]:
    """Return the faults that `plugctl check` finds."""
    done = plugctl("--json", "check", str(install(built, directory, name)), directory=directory)
    assert done.returncode == 1
    return [fault["message"] for fault in json.loads(done.stdout)["faults"]]


def test_a_file_of_gos_own_plugin_mode_is_recognised(build: GoCompiler, tmp_path: Path) -> None:
    """A real one: it has the symbol, and would hang when that is called."""
    source = LITTLE.replace("BODY", "func init() { plugd.Register(Little{}) }")
    (fault,) = check(build(source, "plugin"), tmp_path, "little")
    assert fault.startswith("a Go plugin (-buildmode=plugin), which only a Go program of the very same build can open")
    assert fault.endswith(": build it with -buildmode=c-shared")


def test_what_is_declared_wrongly_is_told_all_at_once(build: GoCompiler, tmp_path: Path) -> None:
    """By `plugctl check`, and nothing of it runs."""
    body = """var number int
func (Little) Collect() {}
func (*Little) Open() error { return nil }
func init() {
	plugd.Register(Little{})
	plugd.Setting("direct", "", number)
	plugd.Command("many", "", func(...int) {}, "all")
}"""
    (fault,) = check(build(LITTLE.replace("BODY", body)), tmp_path, "little")
    assert fault.removeprefix("open() refused: ").split("; ") == [
        "Collect is func()",
        "it has to be func(*plugd.Samples) error",
        "Open is a method of *main.Little: register a pointer",
        'setting "direct": a pointer to its variable is needed, not int',
        'command "many": a function with any number of parameters cannot be declared',
    ]


def test_an_object_without_a_plugin_says_so(build: GoCompiler, tmp_path: Path) -> None:
    """Its init was forgotten."""
    faults = check(build(LITTLE.replace("BODY", "var _ plugd.Plugin = Little{}")), tmp_path, "little")
    assert faults == ["open() refused: nothing is registered: func init() { plugd.Register(...) } is missing"]
