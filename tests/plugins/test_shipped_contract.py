"""One contract for every shipped plugin: what it emits is what it declares, in the conventions' words."""

import ast
import csv
import math
import re
import sys
from collections import Counter
from pathlib import Path

import msgpack
import psutil
import pytest
from shipped import DIRECTORY, import_plugin, plugin_class

from plugd.metric import Metric

NAMES = sorted(path.stem for path in DIRECTORY.glob("*.py"))
CONVENTIONS = Path(__file__).parents[3] / "shared" / "otel-system-metrics.tsv"
# Attributes that say whose a metric is: the conventions put them on the resource, plugd has only labels.
RESOURCE = {"process.pid", "process.command"}
# Every option that makes a plugin emit more than it does by default.
MORE = {"processes": {"top_cpu": 3, "top_memory": 3}, "plugd": {"pss": True}}


def declared(name):
    cls = plugin_class(import_plugin(name))
    return declared_of(cls)


def declared_of(cls):
    return [value for value in vars(cls).values() if isinstance(value, Metric)]


@pytest.fixture(scope="module")
def conventions():
    if not CONVENTIONS.exists():
        pytest.skip("the table of the conventions' metrics is not beside the repository")
    lines = [line for line in CONVENTIONS.read_text().splitlines() if not line.startswith("#")]
    return {row[0]: (row[1], row[2], set(row[3].split(",")) - {"-"}) for row in csv.reader(lines, delimiter="\t")}


def test_there_are_ten():
    """The shipped plugins are those that are documented."""
    documented = {"cpu", "disk", "filesystem", "load", "memory", "network", "plugd", "processes", "sensors", "system"}
    assert set(NAMES) == documented


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("more", [False, True], ids=["defaults", "everything"])
def test_emits_what_it_declares(name, more, make):
    """Two collections hold only declared metrics with their labels, finite values, and each series once."""
    plugin = make(name, **(MORE.get(name, {}) if more else {}))
    metrics = {id(metric) for metric in declared_of(type(plugin))}
    for _ in range(2):
        samples = list(plugin.collect())
        for sample in samples:
            assert id(sample.metric) in metrics
            assert len(sample.labels) == len(sample.metric.labels)
            assert all(type(value) in (str, int) for value in sample.labels)
            assert type(sample.value) in (int, float)
            assert math.isfinite(sample.value)
            assert sample.value >= 0
        series = Counter((sample.metric.name, tuple(map(str, sample.labels))) for sample in samples)
        assert [each for each, count in series.items() if count > 1] == []
    plugin.stop()


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"sensors"}))
def test_emits_something(name, make):
    """Every plugin has something to say on a host without sensors."""
    assert list(make(name).collect())


@pytest.mark.parametrize("name", NAMES)
def test_counters_do_not_fall(name, make):
    """No counter is lower in the second collection than in the first."""
    plugin = make(name)
    first, second = (
        {(each.metric.name, each.labels): each.value for each in plugin.collect() if each.metric.kind == "counter"}
        for _ in range(2)
    )
    assert [key for key in first.keys() & second.keys() if second[key] < first[key]] == []


@pytest.mark.parametrize("name", NAMES)
def test_states_survive_a_reload(name, make):
    """What one generation saves, in msgpack's types, the next one takes."""
    old, new = make(name), make(name)
    list(old.collect())
    state = msgpack.unpackb(msgpack.packb(old.save_state()))
    if state is not None:
        new.load_state(state)
    assert len(list(new.collect())) >= len(list(make(name).collect())) * 0.5


@pytest.mark.parametrize("name", NAMES)
def test_a_host_without_proc_has_no_samples_and_no_error(name, make, tmp_path, monkeypatch):
    """An absent /proc is an absence of samples, not a failure."""
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(tmp_path))
    plugin = make(name)
    assert {each.metric.name for each in plugin.collect()} <= {
        "system.cpu.load_average",
        "system.user.count",
        "system.session.count",
        "hw.temperature",
        "hw.temperature.limit",
        "hw.fan.speed",
        "hw.battery.charge",
        "hw.battery.time_left",
    }


@pytest.mark.parametrize("name", NAMES)
def test_is_described(name):
    """The module, the class and every metric say what they are; names and labels have the conventions' form."""
    module = import_plugin(name)
    first = (module.__doc__ or "").splitlines()[0]
    assert first.endswith(".")
    assert plugin_class(module).__doc__
    assert plugin_class(module).version != "0.0.0"
    assert declared(name)
    for metric in declared(name):
        assert metric.help.endswith("."), metric
        assert metric.unit
        assert re.fullmatch(r"[a-z][a-z0-9_]*(\.[a-z0-9_]+)+", metric.name)
        assert all(re.fullmatch(r"[a-z][a-z0-9_.]*", label) for label in metric.labels)


def test_no_metric_is_declared_twice():
    """No two shipped plugins emit a metric of the same name."""
    names = Counter(metric.name for name in NAMES for metric in declared(name))
    assert [name for name, count in names.items() if count > 1] == []


@pytest.mark.parametrize("name", NAMES)
def test_keeps_to_the_conventions(name, conventions):
    """A metric that the conventions have is declared with their kind and unit, and with labels of theirs."""
    for metric in declared(name):
        if metric.name in conventions:
            kind, unit, labels = conventions[metric.name]
            assert metric.kind == ("gauge" if kind == "updowncounter" else kind), metric
            assert metric.unit == unit, metric
            assert set(metric.labels) <= labels | RESOURCE, metric


@pytest.mark.parametrize("name", NAMES)
def test_imports_only_what_an_author_has(name):
    """A shipped plugin needs the author's API, psutil and the standard library, and nothing heavy of that."""
    tree = ast.parse((DIRECTORY / f"{name}.py").read_text())
    imported = {each.module or "" for each in ast.walk(tree) if isinstance(each, ast.ImportFrom)}
    imported |= {alias.name for each in ast.walk(tree) if isinstance(each, ast.Import) for alias in each.names}
    others = imported - {"plugd.plugin", "plugd.metric", "psutil"}
    assert {each.partition(".")[0] for each in others} <= sys.stdlib_module_names
    assert others & {"asyncio", "dataclasses", "logging", "pathlib", "subprocess", "importlib.metadata"} == set()
