"""What plugins require of each other: with fakes first, then in a real daemon."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest
from harness import Daemons, RpcError, wait_until, write_plugin

from plugd.errors import CommandError
from plugd.hosting.requirements import Requirements, Standing
from plugd.hosting.turns import Turns

LONG = 20.0  # seconds, that no test waits unless it fails


class Fakes:
    """Plugins that stand as they are told to, and what was waited for."""

    def __init__(self, timeout: float = LONG, **standings: Standing) -> None:
        self.standings = standings
        self.requirements = Requirements(self.standing, self.aside, timeout)
        self.waited: list[str] = []
        self.outcomes: dict[str, str | None] = {}
        self.errors: list[CommandError] = []

    def standing(self, name: str) -> Standing:
        return self.standings.get(name, Standing(""))

    @asynccontextmanager
    async def aside(self, name: str) -> AsyncIterator[None]:
        self.waited.append(name)
        yield

    def become(self, name: str, standing: Standing) -> None:
        self.standings[name] = standing
        self.requirements.settle(name, None)

    async def start(self, name: str, *requires: str) -> None:
        """Start a plugin as the registry does; its outcome is None, or why not."""
        try:
            await self.requirements(name, requires)
        except CommandError as error:
            self.errors.append(error)
            self.outcomes[name] = error.message
            self.become(name, Standing("failed", reason=error.message))
        else:
            self.outcomes[name] = None
            self.become(name, RUNNING)


RUNNING = Standing("running", "1.2")
STARTING = Standing("starting", starting=True)

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("requires", "fault"),
    [
        ((), None),
        (("b",), None),
        (("b>=1,<2", "p"), None),
        (("b>=2",), "requires 'b>=2', and plugin 'b' has version 1.2"),
        (("x", "f"), "requires 'x', and no plugin 'x' is loaded; requires 'f', and plugin 'f' is failed: it is broken"),
        (("w",), "requires 'w', and plugin 'w' is backoff"),
        (("b@data",), "requires 'b@data', and no plugin 'b@data' is loaded"),
        (("a",), "requires itself: a -> a"),
    ],
)
async def test_what_is_required_is_running_in_that_version_or_is_named(
    requires: tuple[str, ...], fault: str | None
) -> None:
    """All faults at once, each with the requirement as its author wrote it; a paused plugin is there."""
    fakes = Fakes(
        b=RUNNING, p=Standing("paused", "3"), f=Standing("failed", reason="it is broken"), w=Standing("backoff")
    )
    await fakes.start("a", *requires)
    assert fakes.outcomes == {"a": fault}
    assert fakes.waited == []
    assert all(error.code == "plugin.invalid" and error.data["requires"] == list(requires) for error in fakes.errors)


@pytest.mark.parametrize("requires", [("B",), ("b~=1",), ("b",) * 100])
async def test_what_is_no_requirement_is_invalid(requires: tuple[str, ...]) -> None:
    """A worker may say anything; the daemon takes it as the plugin's fault."""
    with pytest.raises(CommandError, match="requirement") as caught:
        await Fakes(b=RUNNING).requirements("a", requires)
    assert caught.value.code == "plugin.invalid"


async def test_a_plugin_waits_for_those_that_are_starting() -> None:
    """Its turn is given away meanwhile; it goes on as soon as they run."""
    fakes = Fakes(b=STARTING)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(fakes.start, "a", "b")
        await anyio.wait_all_tasks_blocked()
        assert (fakes.outcomes, fakes.waited) == ({}, ["a"])
        fakes.become("b", RUNNING)
    assert fakes.outcomes == {"a": None}


async def test_a_plugin_waits_for_those_that_are_expected() -> None:
    """One that is about to be reloaded counts as its new version, not as the one that runs still."""
    fakes = Fakes(b=RUNNING)
    fakes.requirements.expect(["b"])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(fakes.start, "a", "b>=2")
        await anyio.wait_all_tasks_blocked()
        assert fakes.outcomes == {}
        fakes.become("b", Standing("running", "2.0"))
    assert fakes.outcomes == {"a": None}


async def test_who_waits_for_one_that_fails_fails() -> None:
    """With the reason of that one."""
    fakes = Fakes(b=STARTING)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(fakes.start, "a", "b")
        await anyio.wait_all_tasks_blocked()
        fakes.become("b", Standing("failed", reason="no module"))
    assert fakes.outcomes == {"a": "requires 'b', and plugin 'b' is failed: no module"}


async def test_nobody_waits_for_ever() -> None:
    """Where what is required neither runs nor fails in time, that is the fault."""
    fakes = Fakes(timeout=0.01, b=STARTING)
    await fakes.start("a", "b")
    assert fakes.outcomes == {"a": "requires 'b', which is not running after 0.01 s"}


@pytest.mark.parametrize("order", ["abcd", "dcba", "cabd"])
async def test_all_in_a_cycle_are_told_the_cycle(order: str) -> None:
    """Each from its own place in it; who merely requires one of them is told that it failed."""
    requires = {"a": "b", "b": "c", "c": "a", "d": "a"}
    fakes = Fakes(**dict.fromkeys(order, STARTING))
    fakes.requirements.expect(order)
    with anyio.fail_after(LONG / 2):
        async with anyio.create_task_group() as tasks:
            for name in order:
                tasks.start_soon(fakes.start, name, requires[name])
                await anyio.wait_all_tasks_blocked()
    assert fakes.outcomes == {
        "a": "requires itself: a -> b -> c -> a",
        "b": "requires itself: b -> c -> a -> b",
        "c": "requires itself: c -> a -> b -> c",
        "d": "requires 'a', and plugin 'a' is failed: requires itself: a -> b -> c -> a",
    }


async def test_two_that_swap_their_requirement_are_no_cycle() -> None:
    """a required b; now b requires a: what a required before its reload does not count."""
    fakes = Fakes(a=RUNNING, b=RUNNING)
    fakes.requirements.settle("a", ["b"])
    fakes.requirements.expect(["a", "b"])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(fakes.start, "b", "a")
        await anyio.wait_all_tasks_blocked()
        assert fakes.outcomes == {}
        await fakes.start("a")
    assert fakes.outcomes == {"a": None, "b": None}


async def test_a_new_requirement_of_a_running_plugin_may_close_a_cycle() -> None:
    """b requires a, which runs; a new version of a that requires b is refused, and its old one counts again."""
    fakes = Fakes(a=RUNNING, b=RUNNING)
    fakes.requirements.settle("b", ["a"])
    fakes.requirements.expect(["a"])
    with pytest.raises(CommandError, match="requires itself: a -> b -> a"):
        await fakes.requirements("a", ("b",))
    fakes.requirements.settle("a", [])
    assert fakes.requirements.of("a") == []
    assert fakes.requirements.satisfied() == []


async def test_who_failed_for_want_of_others_is_satisfied_when_they_run() -> None:
    """And only then, and only who failed for that."""
    fakes = Fakes(b=Standing("running", "1"))
    await fakes.start("a", "b>=2", "c")
    await fakes.start("other", "b")
    assert fakes.requirements.satisfied() == []
    fakes.become("c", RUNNING)
    assert fakes.requirements.satisfied() == []
    fakes.become("b", Standing("running", "2.1"))
    assert fakes.requirements.satisfied() == ["a"]
    fakes.requirements.forget("a")
    assert fakes.requirements.satisfied() == []


async def test_a_check_waits_for_nothing_and_leaves_nothing() -> None:
    """A plugin that is only tried is told its faults; nobody's requirements change for it."""
    fakes = Fakes(a=RUNNING, b=STARTING, c=RUNNING)
    fakes.requirements.settle("c", ["a"])
    await fakes.requirements.check("a", ("b",))
    with pytest.raises(CommandError, match="no plugin 'x' is loaded"):
        await fakes.requirements.check("a", ("x",))
    with pytest.raises(CommandError, match="requires itself: a -> c -> a"):
        await fakes.requirements.check("a", ("c",))
    assert fakes.requirements.of("a") == []
    assert fakes.waited == []


async def test_turns_are_limited_and_the_waiting_do_not_count() -> None:
    """Two turns: while both wait for a third, that has one; without this, none would ever end."""
    turns, third = Turns(1), anyio.Event()
    had: list[str] = []

    async def first(name: str) -> None:
        async with turns.taken(name):
            async with turns.given_away(name):
                await third.wait()
            had.append(name)

    with anyio.fail_after(LONG / 2):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(first, "a")
            tasks.start_soon(first, "b")
            await anyio.wait_all_tasks_blocked()
            async with turns.taken("c"):
                third.set()
                await anyio.wait_all_tasks_blocked()
                assert had == []  # They wait for their turn again.
    assert sorted(had) == ["a", "b"]


async def test_a_turn_is_given_back_by_who_fails_while_waiting() -> None:
    """Also when that one has not got it back."""
    turns = Turns(1)
    with pytest.raises(KeyError):
        async with turns.taken("a"), turns.given_away("a"):
            raise KeyError
    with anyio.fail_after(LONG / 2):
        async with turns.taken("b"):
            pass


# In a real daemon

PLUGIN = '''"""A plugin."""

from plugd.plugin import Gauge, Plugin


class {title}(Plugin):
    version = "{version}"
    requires = {requires!r}
    interval = 3600.0
    value = Gauge("test.value")

    def start(self):
        {start}

    def collect(self):
        yield self.value(1)
'''


def plugin(name: str, *requires: str, version: str = "1.0", start: str = "pass") -> str:
    return PLUGIN.format(title=name.title(), requires=requires, version=version, start=start)


CHAIN = {"a": plugin("a", "b"), "b": plugin("b", "c>=1,<2"), "c": plugin("c")}


def test_plugins_start_after_what_they_require(daemon: Daemons) -> None:
    """By name a comes first; it runs last. More wait than may start at one time, and none of them in vain."""
    many = {f"a{number}": plugin(f"a{number}", "c") for number in range(12)}
    running = daemon(plugins=many | CHAIN)
    started = [row["plugin"] for row in running.records("plugin_running")]
    assert len(started) == 15
    assert started[0] == "c"
    assert started.index("b") < started.index("a")


def test_plugins_stop_before_what_they_require(daemon: Daemons) -> None:
    """At the end of the daemon, the other way round."""
    running = daemon(plugins=CHAIN)
    assert running.stop() == 0
    assert [row["plugin"] for row in running.records("plugin_stopped")] == ["a", "b", "c"]


def test_the_others_run_while_some_cannot(daemon: Daemons) -> None:
    """A cycle, a missing plugin and a wrong version: each of them fails and says why; `why` and `check` as well."""
    running = daemon(
        plugins=CHAIN
        | {
            "x": plugin("x", "y"),
            "y": plugin("y", "x"),
            "m": plugin("m", "nothing"),
            "v": plugin("v", "c>=2"),
        }
    )
    states = {row["name"]: row["state"] for row in running.call("list")}
    assert states == dict.fromkeys("abc", "running") | dict.fromkeys("mvxy", "failed")
    assert running.plugin("x")["last_error"] == "requires itself: x -> y -> x"
    assert running.plugin("m")["last_error"] == "requires 'nothing', and no plugin 'nothing' is loaded"
    assert "requires 'c>=2', and plugin 'c' has version 1.0" in running.call("why", name="v")["summary"]
    report = running.call("check", name="m")
    assert (report["ok"], report["faults"][0]["message"]) == (False, running.plugin("m")["last_error"])


def test_a_plugin_in_use_is_not_unloaded(daemon: Daemons) -> None:
    """The error names those that require it, and nothing has changed; together they go."""
    running = daemon(plugins=CHAIN)
    with pytest.raises(RpcError) as caught:
        running.call("unload", names=["c"])
    assert caught.value.code == "plugin.in_use"
    assert caught.value.message == "cannot unload plugin 'c': it is required by a, b"
    assert caught.value.data["dependents"] == ["a", "b"]
    assert len(running.call("list")) == 3
    assert sorted(running.call("unload", names=["c", "a", "b"])["unloaded"]) == ["a", "b", "c"]
    assert [row["plugin"] for row in running.records("plugin_stopped")] == ["a", "b", "c"]


def test_cascade_unloads_the_dependents_first(daemon: Daemons) -> None:
    """All of them are in the answer, and stay away at the next reload."""
    running = daemon(plugins=CHAIN | {"d": plugin("d")})
    assert running.call("unload", names=["c"], cascade=True) == {"unloaded": ["a", "b", "c"], "failed": []}
    assert [row["plugin"] for row in running.records("plugin_stopped")] == ["a", "b", "c"]
    answer = running.call("reload")
    assert (answer["loaded"], answer["unchanged"]) == ([], ["d"])


def test_what_failed_for_want_of_a_plugin_runs_when_that_is_loaded(daemon: Daemons) -> None:
    """The whole chain, by the time that the request is answered."""
    running = daemon(plugins={"a": CHAIN["a"], "b": CHAIN["b"]})
    assert {row["state"] for row in running.call("list")} == {"failed"}
    assert running.plugin_dir is not None
    write_plugin(running.plugin_dir, "c", CHAIN["c"])
    assert running.call("load", names=["c"]) == {"loaded": ["c"], "failed": []}
    assert {row["name"]: row["state"] for row in running.call("list")} == dict.fromkeys("abc", "running")


def test_a_cycle_that_is_mended_runs(daemon: Daemons) -> None:
    """It is enough to reload the plugin that was changed."""
    running = daemon(plugins={"x": plugin("x", "y"), "y": plugin("y", "x")})
    assert running.plugin_dir is not None
    write_plugin(running.plugin_dir, "y", plugin("y"))
    assert running.call("reload", names=["y"])["reloaded"] == ["y"]
    assert {row["state"] for row in running.call("list")} == {"running"}


def test_what_requires_a_crashed_plugin_runs_when_that_comes_back(daemon: Daemons) -> None:
    """b dies as it starts, and is tried again by itself; a, which failed meanwhile, follows."""
    healthy = daemon.directory / "healthy"
    daemon.directory.chmod(0o755)  # A worker may be of another user.
    start = f"import os; os.path.exists({str(healthy)!r}) or os._exit(1)"
    running = daemon(plugins={"a": plugin("a", "b"), "b": plugin("b", start=start)})
    assert running.plugin("a")["state"] == "failed"
    assert running.plugin("b")["state"] in ("backoff", "starting")
    healthy.touch()
    wait_until(lambda: running.plugin("a")["state"] == "running", "the end of the wait")
    assert running.plugin("b")["state"] == "running"


def test_a_reload_keeps_what_is_gone_and_in_use(daemon: Daemons) -> None:
    """It says so, each time; with the last dependent it goes."""
    running = daemon(plugins=CHAIN)
    assert running.plugin_dir is not None
    (running.plugin_dir / "c.py").unlink()
    for _ in range(2):
        answer = running.call("reload")
        assert answer["unloaded"] == []
        (failed,) = answer["failed"]
        assert (failed["name"], failed["error"]["code"]) == ("c", "plugin.in_use")
        assert failed["error"]["data"]["dependents"] == ["a", "b"]
    assert running.plugin("c")["state"] == "running"
    (running.plugin_dir / "b.py").unlink()
    (running.plugin_dir / "a.py").unlink()
    assert running.call("reload")["unloaded"] == ["a", "b", "c"]


def test_a_reload_lets_go_what_its_new_dependents_do_not_require(daemon: Daemons) -> None:
    """In one reload: a's new version does without b, whose file is gone."""
    running = daemon(plugins={"a": plugin("a", "b"), "b": plugin("b")})
    assert running.plugin_dir is not None
    (running.plugin_dir / "b.py").unlink()
    write_plugin(running.plugin_dir, "a", plugin("a"))
    answer = running.call("reload")
    assert (answer["reloaded"], answer["unloaded"], answer["failed"]) == (["a"], ["b"], [])


def test_a_new_version_with_an_unmet_requirement_leaves_the_old_one(daemon: Daemons) -> None:
    """A reload that fails for it changes nothing; nor is it tried again later by itself."""
    running = daemon(plugins={"a": plugin("a"), "c": plugin("c")})
    assert running.plugin_dir is not None
    write_plugin(running.plugin_dir, "a", plugin("a", "c>=2", version="2.0"))
    (failed,) = running.call("reload")["failed"]
    assert failed["error"]["message"].endswith("requires 'c>=2', and plugin 'c' has version 1.0")
    assert (running.plugin("a")["version"], running.plugin("a")["state"]) == ("1.0", "running")
    running.call("unload", names=["c"])
