"""A Python plugin in its host: loaded, started, collected, called, stopped."""

import os
import sys
import textwrap
from pathlib import Path

import pytest
from worker_harness import PATH, Loader, line_of

from plugd.worker.failure import Failure

SIMPLE = """
    class Probe(Plugin):
        g = Gauge("g", labels=("n",))
        def collect(self):
            {body}
    """


def probe(body: str) -> str:
    """Return a plugin with one gauge and this body of collect()."""
    return SIMPLE.format(body=body)


FORMS = {
    "list": """
        def collect(self):
            return [self.g(1, n=0), self.g(2, n=1)]
        """,
    "expression": """
        def collect(self):
            return (self.g(n + 1, n=n) for n in range(2))
        """,
    "generator": """
        def collect(self):
            yield self.g(1, n=0)
            yield self.g(2, n=1)
        """,
    "iterator": """
        def collect(self):
            return iter({self.g(1, n=0): 1, self.g(2, n=1): 2})
        """,
    "async list": """
        async def collect(self):
            await asyncio.sleep(0)
            return [self.g(1, n=0), self.g(2, n=1)]
        """,
    "async expression": """
        async def collect(self):
            return (self.g(n + 1, n=n) for n in range(2))
        """,
    "async generator": """
        async def collect(self):
            yield self.g(1, n=0)
            await asyncio.sleep(0)
            yield self.g(2, n=1)
        """,
    "async both": """
        async def collect(self):
            return self._later()
        async def _later(self):
            yield self.g(1, n=0)
            yield self.g(2, n=1)
        """,
}


@pytest.mark.parametrize("form", FORMS)
def test_samples_may_be_returned_or_yielded_by_a_function_or_a_coroutine(load: Loader, form: str) -> None:
    """Every form of collect() gives the same, time after time."""
    body = textwrap.indent(textwrap.dedent(FORMS[form]), "    ")
    loaded = load(f"import asyncio\nclass Probe(Plugin):\n    g = Gauge('g', labels=('n',))\n{body}")
    loaded.host.start({})
    for _ in range(3):
        assert loaded.collect() == {("g", "0"): 1.0, ("g", "1"): 2.0}
    loaded.host.stop({})


def test_the_methods_are_called_in_order(load: Loader) -> None:
    """__init__ with name and options in place, start, load_state, collect, save_state, stop."""
    loaded = load(
        """
        trace = []
        class Probe(Plugin):
            class Options:
                top: int = 3
            def __init__(self):
                trace.append(("init", self.name, self.options.top))
            def start(self):
                trace.append("start")
            def load_state(self, state):
                trace.append(state)
            def collect(self):
                trace.append("collect")
                return []
            def save_state(self):
                return {"seen": [1, 2]}
            def stop(self):
                trace.append("stop")
            @command
            def trace(self):
                return trace
        """,
        name="probe@data",
        options={"top": 5},
    )
    host = loaded.host
    host.start({})
    host.load_state({"state": {"seen": [1]}})
    loaded.collect()
    assert host.save_state({}) == {"seen": [1, 2]}
    host.stop({})
    assert loaded.call("trace") == [("init", "probe@data", 5), "start", {"seen": [1]}, "collect", "stop"]


def test_asynchronous_methods_share_one_event_loop(load: Loader) -> None:
    """What start() opens in the loop is there in collect(), in a command, and in stop()."""
    loaded = load(
        """
        import asyncio
        class Probe(Plugin):
            g = Gauge("g")
            async def start(self):
                self.loop = asyncio.get_running_loop()
                self.ticks = 0
                self.task = asyncio.create_task(self._count())
            async def _count(self):
                while True:
                    self.ticks += 1
                    await asyncio.sleep(0)
            async def collect(self):
                assert asyncio.get_running_loop() is self.loop
                await asyncio.sleep(0)
                yield self.g(self.ticks)
            @command
            async def same(self):
                return asyncio.get_running_loop() is self.loop
            async def save_state(self):
                return self.ticks
            async def load_state(self, state):
                self.ticks = state
            async def stop(self):
                self.task.cancel()
        """
    )
    host = loaded.host
    host.start({})
    first = loaded.collect()[("g",)]
    assert loaded.collect()[("g",)] > first
    assert loaded.call("same") is True
    host.load_state({"state": 1000})
    assert host.save_state({}) >= 1000
    host.stop({})


def test_a_plugin_without_a_coroutine_needs_no_event_loop(load: Loader) -> None:
    """asyncio's megabytes are for those that use it."""
    assert load(probe("return []")).host._loop is None


def test_an_awaitable_from_a_method_that_is_not_async_is_refused(load: Loader) -> None:
    """There is no loop for it, and the message says why."""
    loaded = load(
        """
        class Later:
            def __await__(self):
                yield
        class Probe(Plugin):
            def collect(self):
                return Later()
        """
    )
    with pytest.raises(Failure, match="an awaitable came from a method that is not async") as caught:
        loaded.collect()
    assert caught.value.code == "plugin.invalid"


@pytest.mark.parametrize("value", ["None", "5", "self.g(1, n=0).value"])
def test_collect_must_give_samples(load: Loader, value: str) -> None:
    """A plugin that forgets to return them is told so."""
    with pytest.raises(Failure, match=r"where samples belong: return or yield them") as caught:
        load(probe(f"return {value}")).collect()
    assert caught.value.code == "plugin.invalid"


@pytest.mark.parametrize("kind", ["def", "async def"])
@pytest.mark.parametrize(
    ("exception", "text"),
    [
        ("ValueError('no')", "ValueError: no"),
        ("SystemExit(3)", "SystemExit: 3"),
        ("KeyboardInterrupt()", "KeyboardInterrupt"),
        ("GeneratorExit()", "GeneratorExit"),
        ("MemoryError()", "MemoryError"),
        ("RecursionError('deep')", "RecursionError: deep"),
        ("asyncio.CancelledError()", "CancelledError"),
        ("ExceptionGroup('some', [OSError('x')])", "ExceptionGroup: some (1 sub-exception)"),
    ],
)
def test_whatever_collect_raises_is_a_failure_of_the_plugin(load: Loader, kind: str, exception: str, text: str) -> None:
    """Not even what ends a process ends the worker; and the next collection works."""
    source = f"""
import asyncio
class Probe(Plugin):
    g = Gauge("g")
    failing = setting(True)
    {kind} collect(self):
        if self.failing:
            raise {exception}  # here
        return [self.g(1)]
"""
    loaded = load(source)
    loaded.host.start({})
    with pytest.raises(Failure) as caught:
        loaded.collect()
    assert caught.value.code == "plugin.crashed"
    assert caught.value.message == f"collect() raised {text} ({PATH}:{line_of(source, '# here')})"
    assert "# here" in caught.value.data["traceback"]
    loaded.host.set({"setting": "failing", "value": False})
    assert loaded.collect() == {("g",): 1.0}


def test_an_exception_amid_the_samples_keeps_none_of_them(load: Loader) -> None:
    """And the series that were new in the failed collection are whole in the next."""
    loaded = load(
        """
        class Probe(Plugin):
            g = Gauge("g", labels=("n",))
            failing = setting(True)
            def collect(self):
                yield self.g(1, n=0)
                if self.failing:
                    raise OSError("gone")
                yield self.g(2, n=1)
        """
    )
    with pytest.raises(Failure, match="collect\\(\\) raised OSError: gone"):
        loaded.collect()
    assert loaded.defined == {}
    loaded.host.set({"setting": "failing", "value": False})
    assert loaded.collect() == {("g", "0"): 1.0, ("g", "1"): 2.0}


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("yield self.g(None, n=0)", "metric 'g': value None is not a number"),
        ("yield self.g(float('nan'), n=0)", "metric 'g': value nan is not a finite number"),
        ("yield self.g(1, n=None)", "metric 'g': label 'n' is None, neither text nor an integer"),
        ("yield 5", "collect() gave a int where a Sample belongs"),
        ("yield Gauge('x')(1)", "undeclared metric 'x': declare it as an attribute of the class"),
        ("yield self.g(1, **{'m': 1})", "metric 'g': no label 'm'; label 'n' missing (declared: n)"),
    ],
)
def test_a_refused_sample_names_the_line_of_its_yield(load: Loader, statement: str, message: str) -> None:
    """The fault is where the sample was yielded, or made."""
    source = probe(f"yield self.g(1, n='a')\n            {statement}  # here\n            yield self.g(1, n='b')")
    with pytest.raises(Failure) as caught:
        load(source).collect()
    line = line_of(source, "# here")
    assert caught.value.code == "plugin.invalid"
    assert caught.value.data["faults"] == [{"message": message, "path": PATH, "line": line}]


def test_a_collection_has_its_times(load: Loader) -> None:
    """Both clocks at the start, and how long it took by the one that cannot be set."""
    import time

    before = time.time(), time.monotonic()
    answer = load(probe("return []")).host.collect({})
    assert before[0] <= answer["time"] <= time.time()
    assert before[1] <= answer["monotonic"] <= time.monotonic()
    assert 0 <= answer["duration"] <= time.monotonic() - answer["monotonic"]
    assert (answer["ids"], answer["values"], answer["forget"], answer["dropped"]) == (None, b"", [], {})


def test_the_inputs_are_those_of_the_collection(load: Loader) -> None:
    """Before the first there are none; afterwards the last ones stay until others come."""
    loaded = load(
        """
        class Probe(Plugin):
            g = Gauge("g")
            def collect(self):
                yield self.g(len(self.inputs))
        """
    )
    assert loaded.collect()[("g",)] == 0.0
    assert loaded.collect(inputs={"cpu": [], "disk": []})[("g",)] == 2.0
    assert loaded.collect()[("g",)] == 2.0


def test_the_budget_holds_in_the_worker(load: Loader) -> None:
    """Further series are dropped and counted by metric."""
    loaded = load(probe("return [self.g(1, n=n) for n in range(5)]"), budget=3)
    assert loaded.host.collect({})["dropped"] == {"g": 2}


def test_many_new_series_are_defined_in_several_frames(load: Loader) -> None:
    """The daemon takes no frame of tens of thousands of elements."""
    loaded = load(probe("return [self.g(n, n=n) for n in range(1000)]"))
    frames: list[int] = []
    notify = loaded.host._notify
    loaded.host._notify = lambda method, params: (frames.append(len(params["series"])), notify(method, params))[1]
    assert len(loaded.collect()) == 1000
    assert sum(frames) == 1000
    assert max(frames) <= 256


COMMANDS = """
    class Probe(Plugin):
        def collect(self):
            return []
        @command
        def add(self, a: int, b: int = 1):
            '''Add two numbers.

            And more.
            '''
            return a + b
        @command
        async def later(self, text: str):
            return text
        @command
        def broken(self):
            raise SystemExit("out")  # here
        @command
        def _hidden(self):
            return 1
        def plain(self):
            return 1
    """


def test_commands_are_called_with_converted_arguments(load: Loader) -> None:
    """By position or by name, function or coroutine."""
    loaded = load(COMMANDS)
    assert loaded.call("add", "2", b="3") == 5
    assert loaded.call("add", 2) == 3
    assert loaded.call("later", "x") == "x"


@pytest.mark.parametrize("name", ["nothing", "plain", "_hidden", "collect", "__init__", ""])
def test_only_commands_can_be_called(load: Loader, name: str) -> None:
    """No other method of the class is within reach; those that are, are named."""
    with pytest.raises(Failure) as caught:
        load(COMMANDS).call(name)
    assert caught.value.code == "request.invalid"
    assert caught.value.message == f"no command {name!r} (there are: add, broken, later)"


def test_what_a_command_raises_is_a_failure(load: Loader) -> None:
    """Of the plugin, with the line; SystemExit is no exit."""
    with pytest.raises(Failure) as caught:
        load(COMMANDS).call("broken")
    assert caught.value.code == "plugin.crashed"
    assert caught.value.message == f"broken() raised SystemExit: out ({PATH}:{line_of(COMMANDS, '# here')})"


def test_a_command_is_given_what_its_signature_allows(load: Loader) -> None:
    """A wrong argument never reaches the plugin's code."""
    with pytest.raises(Failure, match=r"add\(a: int, b: int = 1\): argument 'a': Expected `int`, got `str`") as caught:
        load(COMMANDS).call("add", "x")
    assert caught.value.code == "request.invalid"


SETTINGS = """
    class Probe(Plugin):
        g = Gauge("g")
        level: int = setting(5, help="How much.", minimum=0, maximum=10)
        mode = setting("fast", choices=("fast", "slow"))
        def __init__(self):
            self.first = self.level
        def collect(self):
            yield self.g(self.first * 100 + self.level)
    """


def test_settings_are_read_and_changed(load: Loader) -> None:
    """Converted to their type; the plugin sees the new value at once."""
    loaded = load(SETTINGS)
    assert loaded.host.get({}) == {"level": 5, "mode": "fast"}
    assert loaded.host.set({"setting": "level", "value": "7"}) == 7
    assert loaded.host.get({"setting": "level"}) == 7
    assert loaded.collect() == {("g",): 507.0}


def test_settings_from_the_configuration_are_there_before_init(load: Loader) -> None:
    """As ``plugctl set`` would set them."""
    assert load(SETTINGS, settings={"level": 3}).collect() == {("g",): 303.0}


@pytest.mark.parametrize(("name", "value"), [("level", 11), ("level", "x"), ("mode", "other")])
def test_a_refused_value_leaves_the_setting_as_it_was(load: Loader, name: str, value: object) -> None:
    """Out of bounds, of the wrong type, or no choice."""
    loaded = load(SETTINGS)
    with pytest.raises(Failure) as caught:
        loaded.host.set({"setting": name, "value": value})
    assert caught.value.code == "request.invalid"
    assert loaded.host.get({}) == {"level": 5, "mode": "fast"}


def test_a_setting_that_there_is_not_is_refused(load: Loader) -> None:
    """In get, in set, and in the configuration."""
    loaded = load(SETTINGS)
    for attempt in (
        lambda: loaded.host.get({"setting": "g"}),
        lambda: loaded.host.set({"setting": "name", "value": "x"}),
        lambda: load(SETTINGS, settings={"lvl": 1}),
    ):
        with pytest.raises(Failure, match=r"no setting '\w+' \(there are: level, mode\)"):
            attempt()


def test_the_description_has_commands_settings_and_options(load: Loader) -> None:
    """All that ``plugctl describe`` shows of a plugin."""
    source = f"""{textwrap.dedent(COMMANDS)}
    level: int = setting(5, help="How much.", minimum=0, maximum=10)
    class Options:
        top: int = 3
        kind = complex(1, 2)
"""
    described = load(source, options={"top": 4}).host.describe({})
    assert [each["name"] for each in described["commands"]] == ["add", "later", "broken"]
    assert described["commands"][0]["help"] == "Add two numbers."
    assert described["commands"][0]["parameters"] == [
        {"name": "a", "type": "int", "required": True, "default": None},
        {"name": "b", "type": "int", "required": False, "default": 1},
    ]
    assert described["settings"] == [
        {
            "name": "level",
            "type": "int",
            "default": 5,
            "help": "How much.",
            "minimum": 0,
            "maximum": 10,
            "choices": [],
        }
    ]
    assert described["options"] == {"top": 4, "kind": "(1+2j)"}
    assert described["options_schema"]["properties"]["top"] == {"type": "integer", "default": 3}


def test_a_module_that_raises_is_invalid_with_its_line(load: Loader) -> None:
    """A failed import, or sys.exit() at its top: nothing is loaded, and the line is known."""
    for statement, text in (("import no_such_module", "ModuleNotFoundError"), ("raise SystemExit(1)", "SystemExit")):
        with pytest.raises(Failure) as caught:
            load(f"{statement}  # here\n")
        assert caught.value.code == "plugin.invalid"
        assert caught.value.message.startswith(f"the module raised {text}")
        assert caught.value.message.endswith(f"({PATH}:{line_of(f'{statement}  # here', '# here')})")
        assert caught.value.data["line"] == line_of(f"{statement}  # here", "# here")


def test_a_metric_that_cannot_be_made_is_a_fault_of_its_line(load: Loader) -> None:
    """Even a declaration that raises says where."""
    source = "class Probe(Plugin):\n    g = Gauge('g', labels=5)  # here\n"
    with pytest.raises(Failure, match="the module raised TypeError") as caught:
        load(source)
    assert caught.value.data["line"] == line_of(source, "# here")


def test_a_syntax_error_is_a_fault_with_its_line(load: Loader) -> None:
    """As every other fault of the file."""
    source = "x = = 1  # here\n"
    assert load.faults(source) == [("SyntaxError: invalid syntax", line_of(source, "# here"))]


def test_an_init_that_raises_is_a_failure(load: Loader) -> None:
    """With its line."""
    source = "class Probe(Plugin):\n    def __init__(self):\n        1 / 0  # here\n    def collect(self): return []\n"
    with pytest.raises(Failure) as caught:
        load(source)
    assert caught.value.code == "plugin.crashed"
    assert caught.value.data["line"] == line_of(source, "# here")


@pytest.mark.parametrize("method", ["start", "stop", "save_state"])
def test_what_a_method_raises_names_the_method(load: Loader, method: str) -> None:
    """start(), stop() and save_state() fail as collect() does."""
    source = f"""
class Probe(Plugin):
    def collect(self): return []
    def {method}(self): raise KeyboardInterrupt  # here
"""
    with pytest.raises(Failure) as caught:
        getattr(load(source).host, method)({})
    assert caught.value.message == f"{method}() raised KeyboardInterrupt ({PATH}:{line_of(source, '# here')})"


def test_stop_closes_the_event_loop_even_if_it_fails(load: Loader) -> None:
    """No descriptor of the loop is left."""
    before = os.listdir("/proc/self/fd")
    loaded = load(
        "class Probe(Plugin):\n    async def collect(self): return []\n    async def stop(self): raise OSError('x')\n"
    )
    loaded.host.start({})
    with pytest.raises(Failure, match="stop\\(\\) raised OSError: x"):
        loaded.host.stop({})
    assert os.listdir("/proc/self/fd") == before


def test_nothing_is_read_from_the_path_or_written_beside_it(
    load: Loader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What runs is the bytes that were given: the file's own contents do not count, and no .pyc is made."""
    path = tmp_path / "probe.py"
    path.write_text("raise SystemExit('the file itself ran')")
    loaded = load("class Probe(Plugin):\n    def collect(self): return []\n")
    params = {"name": "probe", "path": str(path), "options": {}, "settings": {}, "budget": 1, "samples": 1}
    source = b"from plugd.plugin import Plugin\nclass Probe(Plugin):\n    def collect(self): return []\n"
    loaded.host.load({**params, "source": source})
    assert os.listdir(tmp_path) == ["probe.py"]


def test_names_of_the_module_can_be_looked_up(load: Loader) -> None:
    """typing and pickle find the module where they look for it: annotations as text are resolved."""
    loaded = load(
        """
        from typing import NewType
        class Probe(Plugin):
            class Options:
                top: "Number" = 3
            def collect(self):
                return []
            @command
            def twice(self, number: "Number"):
                return number * 2
        Number = int
        """,
        options={"top": 4},
    )
    assert loaded.call("twice", "21") == 42
    assert load.faults(
        "class Probe(Plugin):\n    class Options:\n        top: 'int' = 3\n    def collect(self): return []\n",
        options={"top": "x"},
    ) == [("option 'top': Expected `int`, got `str`", None)]


def test_the_description_is_the_first_line_of_the_docstring(load: Loader) -> None:
    """The module's, without the rest."""
    assert load(probe("return []")).summary["description"] == "A probe."


def test_the_plugins_module_is_apart_from_what_is_imported(load: Loader) -> None:
    """A plugin called ``os`` does not take the place of the module."""
    loaded = load("class Os(Plugin):\n    def collect(self): return []\n", name="os")
    assert loaded.summary["api"] == 1
    assert sys.modules["os"] is os


RECONFIGURABLE = """
    class Probe(Plugin):
        g = Gauge("g")
        class Options:
            top: int = 3
        def reconfigure(self):
            if self.options.top > 9:
                raise ValueError("too much")
        def collect(self):
            yield self.g(self.options.top)
    """


def test_a_plugin_can_be_given_other_options_as_it_runs(load: Loader) -> None:
    """Its reconfigure() sees them, and so does the description."""
    loaded = load(RECONFIGURABLE)
    assert loaded.summary["reconfigurable"] is True
    loaded.host.reconfigure({"options": {"top": 5}})
    assert loaded.collect() == {("g",): 5.0}
    assert loaded.host.describe({})["options"] == {"top": 5}


@pytest.mark.parametrize("options", [{"top": 10}, {"top": "x"}, {"tpo": 1}])
def test_refused_options_leave_the_old_ones_in_force(load: Loader, options: dict[str, object]) -> None:
    """Whether the plugin refuses them or their types do."""
    loaded = load(RECONFIGURABLE, options={"top": 4})
    with pytest.raises(Failure):
        loaded.host.reconfigure({"options": options})
    assert loaded.collect() == {("g",): 4.0}
    assert loaded.host.describe({})["options"] == {"top": 4}


def test_a_plugin_without_reconfigure_is_not_reconfigurable(load: Loader) -> None:
    """Then other options are a reload."""
    assert load(probe("return []")).summary["reconfigurable"] is False
