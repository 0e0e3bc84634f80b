"""What `stats` answers, made in slices: the same as if it were made at once."""

import asyncio
import subprocess
import sys
from array import array
from types import SimpleNamespace
from typing import Any, cast

import anyio
import msgpack
import pytest

from plugd.control import reports
from plugd.hosting.collection import Collection, MetricDeclaration, SeriesKey
from plugd.hosting.record import Counters
from plugd.hosting.supervisor import Supervisor
from plugd.hosting.tree import cost_of_tree
from plugd.sampling import slices
from plugd.sampling.store import MetricStore

pytestmark = pytest.mark.anyio

VALUE = MetricDeclaration("test.value", "gauge", "1", ("number",), "")
KEYS = [SeriesKey(VALUE, (str(number),)) for number in range(2500)]


async def collect(store: MetricStore, plugin: str, value: float) -> None:
    """Have the store take a collection whose values are all the same, in more than one slice."""
    await store.record(plugin, Collection(KEYS, array("d", [value] * len(KEYS)), 1000.0 + value, value, 0.001, {}))


def supervisor(name: str, pid: int | None = None) -> Supervisor:
    worker = None if pid is None else SimpleNamespace(pid=pid)
    return cast("Supervisor", SimpleNamespace(name=name, state="running", counters=Counters(), worker=worker))


async def stats(supervisors: list[Supervisor], store: MetricStore, patterns: list[str] | None = None) -> Any:
    encoded = await reports.encoded_stats({"time": 1.0}, supervisors, store, patterns)
    return msgpack.unpackb(b"".join(encoded.chunks))


@pytest.mark.parametrize(
    ("patterns", "plugins", "rows"),
    [
        (None, ["a", "b", "idle"], ["a", "b"]),
        (["a"], ["a"], ["a"]),
        (["test.value"], ["a", "b"], ["a", "b"]),
        (["i*e"], ["idle"], []),
        (["nothing"], [], []),
    ],
)
async def test_patterns_choose_plugins_and_rows(
    patterns: list[str] | None, plugins: list[str], rows: list[str]
) -> None:
    """A plugin is there for its name, or for a metric of its; the rows are in the order of the plugins."""
    store = MetricStore()
    for plugin in ("b", "a"):
        await collect(store, plugin, 1.0)
    answer = await stats([supervisor(name) for name in ("a", "b", "idle")], store, patterns)
    assert list(answer) == ["time", "plugins", "metrics"]
    assert list(answer["plugins"]) == plugins
    assert [row["plugin"] for row in answer["metrics"]] == [plugin for plugin in rows for _ in KEYS]


async def test_the_rows_of_a_plugin_are_of_one_collection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though others are taken between any two steps of the answer, and it is asked for amid one."""
    monkeypatch.setattr(slices, "SLICE", -1.0)
    store = MetricStore()
    await collect(store, "p", 0.0)

    async def collect_on() -> None:
        for number in range(1, 10_000):
            await collect(store, "p", float(number))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(collect_on)
        for _ in range(5):
            await asyncio.sleep(0)
        answer = await stats([], store)
        newest = store.collections()[0][1].values[0]
        tasks.cancel_scope.cancel()
    (value,) = {row["value"] for row in answer["metrics"]}
    assert {row["time"] for row in answer["metrics"]} == {1000.0 + value}
    assert newest > value


def test_the_cost_of_a_plugin_is_that_of_its_tree() -> None:
    """Of its worker with all that it has started, however deep."""
    inner = "import sys; print(flush=True); sys.stdin.read()"
    outer = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}])"
    with subprocess.Popen([sys.executable, "-c", outer], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        answer = asyncio.run(stats([supervisor("p", process.pid)], MetricStore()))
        expected = cost_of_tree(process.pid)
        process.communicate()
    row = answer["plugins"]["p"]
    assert row["memory_bytes"] == expected.memory_bytes
    assert row["cpu_seconds"] == expected.cpu_seconds
