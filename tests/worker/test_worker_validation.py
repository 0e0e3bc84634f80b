"""Every fault of a plugin's file, at once, with its line."""

import pytest
from worker_harness import Loader, line_of

from plugd.worker.validation import REQUIREMENT, class_name


@pytest.mark.parametrize(
    ("plugin", "wanted"),
    [
        ("load", "Load"),
        ("disk_io", "DiskIo"),
        ("disk-io", "DiskIo"),
        ("disk.io", "DiskIo"),
        ("disk@data", "Disk"),
        ("disk_io@data_2", "DiskIo"),
        ("cpu2", "Cpu2"),
        ("net_2", "Net2"),
        ("aBC", "ABC"),
        ("a__b", "AB"),
        ("trailing_", "Trailing"),
    ],
)
def test_the_class_is_named_after_the_file(plugin: str, wanted: str) -> None:
    """Each part of the stem begins with a capital; an instance's name does not count."""
    assert class_name(plugin) == wanted


def test_a_sound_plugin_has_no_faults(load: Loader) -> None:
    """What is declared comes back as it was declared."""
    loaded = load(
        """
        class Probe(Plugin):
            version = "1.2"
            interval = 5
            timeout = 2
            requires = ("cpu>=1.2", "disk@data")
            time = Counter("probe.time", unit="s", labels={"mode": "probe.mode"}, help="Time.")
            def collect(self):
                yield self.time(1, mode="user")
        """
    )
    expected = {
        "version": "1.2",
        "api": 1,
        "description": "A probe.",
        "interval": 5.0,
        "timeout": 2.0,
        "requires": ["cpu>=1.2", "disk@data"],
        "metrics": [{"name": "probe.time", "kind": "counter", "unit": "s", "labels": ["probe.mode"], "help": "Time."}],
    }
    assert {key: loaded.summary[key] for key in expected} == expected


def test_all_faults_come_at_once_in_the_order_of_their_lines(load: Loader) -> None:
    """One refusal names them all, each with its own line."""
    source = """
        class Probe(Plugin):
            api = 2  # api
            interval = 0  # interval
            version = 3  # version
            requires = "cpu"  # requires
            one = Gauge("1bad")  # name
            two = Gauge("two", unit="bad unit")  # unit
            level = setting(11, maximum=10)  # setting
            def stop(self, reason):  # stop
                pass
            def collect(self):
                yield self.two(1, x=1)  # label
        """
    faults = load.faults(source)
    marks = ["# api", "# interval", "# version", "# requires", "# name", "# unit", "# setting", "# stop", "# label"]
    assert [line for _, line in faults] == [line_of(source, mark) for mark in marks]


@pytest.mark.parametrize(
    ("declaration", "message"),
    [
        ("api = 2", "written for api 2; this plugd speaks api 1"),
        ("api = '1'", "api must be an integer, not '1'"),
        ("api = True", "api must be an integer, not True"),
        ("version = 1.2", 'version must be text such as "1.2", not 1.2'),
        ("version = 'new'", "version must be text such as \"1.2\", not 'new'"),
        ("interval = 0", "interval must be 0.01 to 86400 seconds, not 0"),
        ("interval = 0.001", "interval must be 0.01 to 86400 seconds, not 0.001"),
        ("interval = 86401", "interval must be 0.01 to 86400 seconds, not 86401"),
        ("interval = float('nan')", "interval must be 0.01 to 86400 seconds, not nan"),
        ("interval = float('inf')", "interval must be 0.01 to 86400 seconds, not inf"),
        ("interval = '10s'", "interval must be 0.01 to 86400 seconds, not '10s'"),
        ("interval = True", "interval must be 0.01 to 86400 seconds, not True"),
        ("interval = None", "interval must be 0.01 to 86400 seconds, not None"),
        ("interval = 10 ** 400", f"interval must be 0.01 to 86400 seconds, not {10**400}"),
        ("timeout = 0", "timeout must be None, or 0.01 to 86400 seconds, not 0"),
        ("timeout = 'no'", "timeout must be None, or 0.01 to 86400 seconds, not 'no'"),
        ("requires = 'cpu'", 'requires must be a sequence of names: requires = ("cpu",)'),
        ("requires = (1,)", 'requires must be a sequence of names: requires = ("cpu",)'),
        ("requires = None", 'requires must be a sequence of names: requires = ("cpu",)'),
        ("requires = 5", 'requires must be a sequence of names: requires = ("cpu",)'),
        ("requires = ('CPU',)", "requires 'CPU': neither a name nor a name with versions: \"cpu>=1.2\""),
        ("requires = ('cpu>=x',)", "requires 'cpu>=x': neither a name nor a name with versions: \"cpu>=1.2\""),
        ("m = Metric('m')", "metric 'm': must be a Gauge or a Counter"),
        ("m = Gauge('')", "metric '': not a metric name: a letter, then letters, digits and _ . - /"),
        ("m = Gauge('a b')", "metric 'a b': not a metric name: a letter, then letters, digits and _ . - /"),
        ("m = Gauge('a\\n')", "metric 'a\\n': not a metric name: a letter, then letters, digits and _ . - /"),
        ("m = Gauge(5)", "metric 5: not a metric name: a letter, then letters, digits and _ . - /"),
        ("m = Gauge('m', unit='')", "metric 'm': not a UCUM unit: ''"),
        ("m = Gauge('m', unit=1)", "metric 'm': not a UCUM unit: 1"),
        ("m = Gauge('m', unit='k m')", "metric 'm': not a UCUM unit: 'k m'"),
        ("m = Gauge('m', help=1)", "metric 'm': help must be text, not 1"),
        ("m = Gauge('m', labels=(1,))", "metric 'm': not a label name: 1"),
        ("m = Gauge('m', labels=(['a'],))", "metric 'm': not a label name: ['a']"),
        ("m = Gauge('m', labels=('a b',))", "metric 'm': not a label name: 'a b'"),
        ("m = Gauge('m', labels=('a', 'a'))", "metric 'm': a label is declared twice"),
        ("m = Gauge('m', labels=('a.b',))", "metric 'm': label 'a.b' is no Python word: labels={\"word\": \"a.b\"}"),
        ("s = setting(3, choices=(1, 2))", "setting 's': the default 3 is not among its choices"),
        ("s = setting(3, minimum=4)", "setting 's': the default 3 is out of its bounds"),
        ("s = setting(3.5, maximum=3)", "setting 's': the default 3.5 is out of its bounds"),
        ("start = 5", "start must be a method"),
        ("def start(self, now): pass", "start() must take no arguments besides self"),
        ("def stop(): pass", "stop() must take no arguments besides self"),
        ("def save_state(self, x): pass", "save_state() must take no arguments besides self"),
        ("def load_state(self): pass", "load_state() must take 1 argument besides self"),
        ("@command\n    def info(): pass", "command info() must take self"),
    ],
)
def test_a_fault_is_named_with_its_line(load: Loader, declaration: str, message: str) -> None:
    """Each rule, broken alone, is the only fault, and points to its line."""
    source = f"""
class Probe(Plugin):
    {declaration}
    def collect(self):
        return []
"""
    if "Metric(" in declaration:
        source = "from plugd.plugin import Metric\n" + source
    line = line_of(source, declaration.rpartition("\n")[2].strip())
    assert load.faults(source) == [(message, line)]


@pytest.mark.parametrize(
    "declaration",
    [
        "interval = 0.01",
        "interval = 86400",
        "requires = ['cpu >= 1.2, <2', 'disk@data']",
        "requires = frozenset({'cpu'})",
        "def load_state(self, state, more=None): pass",
        "def start(self, *args): pass",
        "@staticmethod\n    def stop(): pass",
        "s = setting('x', choices=('x', 'y'))",
        "m = Gauge('system.disk/io-time_2', unit='{thread}/s')",
        "version = '2024.1.0-rc1+build'",
    ],
)
def test_what_is_allowed_passes(load: Loader, declaration: str) -> None:
    """The rules refuse no more than they say."""
    load(f"class Probe(Plugin):\n    {declaration}\n    def collect(self):\n        return []\n")


def test_a_plugin_must_collect(load: Loader) -> None:
    """Without a collect() there is nothing to run; no line is to blame."""
    assert load.faults("class Probe(Plugin):\n    pass\n") == [("no collect() method", None)]


def test_one_name_may_be_declared_once(load: Loader) -> None:
    """Of two metrics with one name the second is the fault, and both attributes are named."""
    source = """
        class Probe(Plugin):
            one = Gauge("same")
            two = Counter("same")  # here
            def collect(self):
                return []
        """
    assert load.faults(source) == [("metric 'same': declared twice, as 'one' and 'two'", line_of(source, "# here"))]


def test_a_class_of_another_name_is_named(load: Loader) -> None:
    """The most frequent mistake has its own message."""
    source = "class Prob(Plugin):\n    pass\n"
    assert load.faults(source) == [("the class must be named 'Probe', not 'Prob'", line_of(source, "class Prob"))]


def test_a_file_without_a_class_says_which_it_wants(load: Loader) -> None:
    """An imported plugin class is not the file's own."""
    assert load.faults("from plugd.plugin import Plugin as Other\n") == [("no class 'Probe'", None)]


@pytest.mark.parametrize("definition", ["class Probe: pass", "Probe = 5", "def Probe(): pass"])
def test_the_class_must_be_a_plugin(load: Loader, definition: str) -> None:
    """Whatever else has the name is refused."""
    [(message, _)] = load.faults(definition)
    assert message == "'Probe' is not a subclass of plugd.plugin.Plugin"


@pytest.mark.parametrize(
    ("call", "messages"),
    [
        ("self.time(1, mode='x', disk='y')", ["metric 'time': no label 'disk' (declared: mode)"]),
        ("self.time(1)", ["metric 'time': label 'mode' missing"]),
        ("self.time(1, 2, mode='x')", ["metric 'time': takes one value, then labels by name"]),
        ("self.time(mode='x')", ["metric 'time': takes one value, then labels by name"]),
        (
            "self.time(1, disk='x')",
            ["metric 'time': no label 'disk' (declared: mode)", "metric 'time': label 'mode' missing"],
        ),
        ("self.time(1, disk='x', **more)", ["metric 'time': no label 'disk' (declared: mode)"]),
    ],
)
def test_a_call_with_wrong_labels_is_found_before_it_runs(load: Loader, call: str, messages: list[str]) -> None:
    """The source alone tells which labels a call gives, in any method of the class."""
    source = f"""
class Probe(Plugin):
    time = Gauge("time", labels=("mode",))
    def collect(self):
        return []
    def _never_called(self, more=None):
        for _ in range(3):
            yield {call}  # here
"""
    assert load.faults(source) == [(message, line_of(source, "# here")) for message in messages]


@pytest.mark.parametrize("call", ["self.time(1, **more)", "self.time(*more, mode=1)", "self.other(1, x=1)"])
def test_a_call_that_only_running_can_judge_is_let_through(load: Loader, call: str) -> None:
    """Open-ended calls, and calls of other methods, are no faults."""
    load(
        f"""
class Probe(Plugin):
    time = Gauge("time", labels=("mode",))
    def collect(self):
        return []
    def other(self, more):
        return {call}
"""
    )


def test_inherited_metrics_and_commands_count(load: Loader) -> None:
    """What a base class in the file declares is the plugin's as well; its faults have no line in the class."""
    source = """
        class Base(Plugin):
            time = Gauge("bad name")
            @command
            def hello(self):
                return "hello"
        class Probe(Base):
            def collect(self):
                return []
        """
    [(message, line)] = load.faults(source)
    assert message.startswith("metric 'bad name': not a metric name")
    assert line is None
    assert load(source.replace("bad name", "good")).call("hello") == "hello"


def test_a_metric_may_be_taken_back_by_a_subclass(load: Loader) -> None:
    """An attribute that a subclass sets to something else is no metric of it."""
    loaded = load(
        """
        class Base(Plugin):
            time = Gauge("time")
        class Probe(Base):
            time = None
            def collect(self):
                return []
        """
    )
    assert loaded.summary["metrics"] == []


def test_faults_of_the_file_and_of_its_options_come_together(load: Loader) -> None:
    """The author and the administrator see one list."""
    source = "class Probe(Plugin):\n    interval = 0\n    def collect(self): return []\n"
    messages = [message for message, _ in load.faults(source, options={"path": "/"})]
    assert messages == [
        "interval must be 0.01 to 86400 seconds, not 0",
        "option 'path': this plugin has no options",
    ]


@pytest.mark.parametrize("requirement", ["cpu", "cpu>=1.2", "cpu >= 1.2, < 2", "disk@data==1.0", "a.b-c_d!=3"])
def test_a_requirement_is_a_name_with_versions(requirement: str) -> None:
    """Names and version ranges as they are usually written."""
    assert REQUIREMENT.match(requirement)


@pytest.mark.parametrize("requirement", ["", "CPU", "cpu>=", "cpu 1.2", "cpu>=1.2 or", "1cpu", "cpu~=1", " cpu"])
def test_what_is_no_requirement_is_refused(requirement: str) -> None:
    """Nothing is guessed at."""
    assert not REQUIREMENT.match(requirement)
