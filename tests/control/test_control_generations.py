"""expect_generation: who changes a plugin may say which generation they have seen, and changes no other."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from control_rig import PLAIN, importing, release
from harness import Client, Daemon, Daemons, RpcError, daemons, wait_until, write_plugin

RELOADS = 12  # while others write

# Knows which generation it is: each hands its number over to the next.
SERIAL = '''"""Counts its own generations."""

from plugd.plugin import Gauge, Plugin, command, setting


class {title}(Plugin):
    interval = 3600.0

    value = Gauge("test.value")
    number = 1
    mark: int = setting(0)

    def collect(self):
        yield self.value(1)

    def save_state(self):
        return self.number

    def load_state(self, number):
        self.number = number + 1

    @command
    def generation(self) -> int:
        return self.number

    @command
    def broken(self) -> int:
        raise ValueError(self.number)
'''


def serial(*names: str) -> dict[str, str]:
    return {name: SERIAL.format(title=name.capitalize()) for name in names}


WRITES: dict[str, dict[str, Any]] = {
    "reload": {"names": ["a"]},
    "pause": {"names": ["b"]},
    "resume": {"names": ["b"]},
    "call": {"name": "c", "command": "generation"},
    "set": {"name": "c", "setting": "mark", "value": 1},
    "unset": {"name": "c", "setting": "mark"},
    "unload": {"names": ["d"]},
}


@pytest.fixture(scope="module")
def running() -> Iterator[Daemon]:
    with daemons() as start:
        running = start(plugins=serial("a", "b", "c", "d", "e", "f"))
        running.call("reload", names=["a", "b", "c", "d"])
        yield running


def refusal(running: Daemon, method: str, **params: Any) -> RpcError:
    with pytest.raises(RpcError) as caught:
        running.call(method, **params)
    return caught.value


def generations(running: Daemon) -> dict[str, int]:
    return {row["name"]: row["generation"] for row in running.call("list")}


@pytest.mark.parametrize("method", WRITES)
@pytest.mark.parametrize("as_map", [False, True], ids=["number", "map"])
def test_another_generation_is_refused(running: Daemon, method: str, as_map: bool) -> None:
    """An older one, and one that is yet to come; the error tells both, and nothing is done."""
    params = WRITES[method]
    name = params.get("name") or params["names"][0]
    before = running.call("list"), running.call("get", name=name)
    current = running.plugin(name)["generation"]
    for expected in (0, current - 1, current + 1, 2**32):
        error = refusal(running, method, **params, expect_generation={name: expected} if as_map else expected)
        assert error.code == "plugin.changed"
        assert error.data == {"name": name, "generation": current, "expected": expected}
        assert error.message.startswith(f"cannot {method} plugin {name!r}: ")
    assert (running.call("list"), running.call("get", name=name)) == before


@pytest.mark.parametrize("method", WRITES)
def test_the_current_generation_is_accepted(running: Daemon, method: str) -> None:
    """As a number, and as a map."""
    params = WRITES[method]
    name = params.get("name") or params["names"][0]
    assert running.call(method, **params, expect_generation=running.plugin(name)["generation"]) is not None
    if method == "unload":
        running.call("load", names=[name])
    assert running.call(method, **params, expect_generation={name: running.plugin(name)["generation"]}) is not None
    if method == "unload":
        running.call("load", names=[name])


@pytest.mark.parametrize("method", ["reload", "pause", "resume", "unload"])
def test_a_number_is_of_one_plugin(running: Daemon, method: str) -> None:
    """With several names, or with none, which of them it is meant for nobody knows."""
    before = running.call("list")
    requests: list[dict[str, Any]] = [{"names": ["e", "f"]}]
    if method != "unload":  # It requires names.
        requests += [{}, {"names": []}, {"names": None}]
    for params in requests:
        error = refusal(running, method, **params, expect_generation=1)
        assert error.code == "request.invalid"
        assert "expect_generation" in error.message
    assert running.call("list") == before
    # One that is named twice is one.
    assert refusal(running, method, names=["e", "e"], expect_generation=9).code == "plugin.changed"


@pytest.mark.parametrize("method", WRITES)
def test_a_map_has_only_what_is_named(running: Daemon, method: str) -> None:
    """A plugin that the request does not name is a typing error, also where the request names none."""
    params = WRITES[method]
    name = params.get("name") or params["names"][0]
    before = running.call("list")
    wrong = {name: running.plugin(name)["generation"], "e": 1, "nosuch": 1}
    error = refusal(running, method, **params, expect_generation=wrong)
    assert error.code == "request.invalid"
    assert "'e', 'nosuch'" in error.message
    if method in ("reload", "pause", "resume"):
        assert refusal(running, method, expect_generation={"e": 1}).code == "request.invalid"
    assert running.call("list") == before


def test_a_map_may_leave_plugins_out(running: Daemon) -> None:
    """Of those anything will do."""
    before = generations(running)
    expected = {"e": before["e"]}
    assert running.call("reload", names=["e", "f"], expect_generation=expected)["reloaded"] == ["e", "f"]
    assert running.call("pause", names=["e", "f"], expect_generation={}) == {"paused": ["e", "f"]}
    both = {"e": before["e"] + 1, "f": before["f"] + 1}
    assert running.call("resume", names=["e", "f"], expect_generation=both)["resumed"] == ["e", "f"]


@pytest.mark.parametrize("method", ["reload", "pause", "resume"])
def test_one_that_is_stale_refuses_all(running: Daemon, method: str) -> None:
    """Nothing is done to the others either."""
    before = running.call("list")
    now = generations(running)
    error = refusal(running, method, names=["e", "f"], expect_generation={"e": now["e"], "f": now["f"] + 1})
    assert (error.code, error.data["name"]) == ("plugin.changed", "f")
    assert running.call("list") == before


def test_unload_of_several_tells_those_that_are_stale(daemon: Daemons) -> None:
    """As it tells those that are not there: the others are unloaded."""
    running = daemon(plugins=serial("a", "b"))
    answer = running.call("unload", names=["a", "b", "nosuch"], expect_generation={"a": 2, "b": 1})
    assert answer["unloaded"] == ["b"]
    assert [(row["name"], row["error"]["code"]) for row in answer["failed"]] == [
        ("a", "plugin.changed"),
        ("nosuch", "plugin.not_found"),
    ]
    assert list(generations(running)) == ["a"]


def test_a_dry_run_expects_as_well(running: Daemon) -> None:
    """It says what would be done, be that a refusal; and does nothing."""
    before = running.call("list")
    now = running.plugin("e")["generation"]
    plan = running.call("reload", names=["e"], dry_run=True, expect_generation=now)
    assert (plan["reloaded"], plan["failed"]) == (["e"], [])
    assert refusal(running, "reload", names=["e"], dry_run=True, expect_generation=now + 1).code == "plugin.changed"
    assert running.call("list") == before


def test_it_is_looked_at_when_the_plugin_is_free(daemon: Daemons) -> None:
    """What waits for somebody else's reload sees the generation that comes of it."""
    running = daemon(plugins=serial("slow"))
    assert running.plugin_dir is not None
    source = SERIAL.format(title="Slow")
    waits = importing("Slow").partition("import signal")
    write_plugin(running.plugin_dir, "slow", waits[0] + waits[1] + waits[2].partition("from plugd")[0] + source)
    with ThreadPoolExecutor(4) as pool, running.client() as watching:
        watching.call("subscribe", patterns=[], events=True)
        reload = pool.submit(running.call, "reload", names=["slow"])
        wait_until(lambda: sum(name == "plugd:slow" for name in running.processes().values()) > 1, "the new worker")
        # They are under way before the reload is done: each is asked for with the generation that is in force.
        stale = [
            pool.submit(running.call, method, names=["slow"], expect_generation=1)
            for method in ("pause", "resume", "unload")
        ]
        assert running.call("call", name="slow", command="generation", expect_generation=1) == 1
        wait_until(lambda: running.call("status")["connections"] == 6, "the requests")
        release(running, "slow")
        assert reload.result()["reloaded"] == ["slow"]
        for each in stale:
            error = each.exception()
            assert isinstance(error, RpcError)
            assert error.code == "plugin.changed"
    assert generations(running) == {"slow": 2}


# Races


def at_once(running: Daemon, *jobs: Callable[[Client], None]) -> None:
    """Run functions in threads, each with a connection of its own; their failures are the test's."""
    with ThreadPoolExecutor(len(jobs)) as pool:

        def run(job: Callable[[Client], None]) -> None:
            with running.client() as client:
                job(client)

        for done in [pool.submit(run, job) for job in jobs]:
            done.result()


def test_no_stale_write_gets_through(daemon: Daemons) -> None:
    """While somebody reloads, a call or a set with a generation reaches that generation's worker and no other."""
    running = daemon(plugins=serial("a"))
    outcomes: Counter[tuple[str, str]] = Counter()
    over = threading.Event()

    def reload(client: Client) -> None:
        try:
            for _ in range(RELOADS):
                seen = outcomes.total()
                assert client.call("reload", names=["a"])["reloaded"] == ["a"]
                wait_until(lambda seen=seen: outcomes.total() > seen, "a write")  # type: ignore[misc]
        finally:
            over.set()

    def call(client: Client) -> None:
        while not over.is_set():
            expected = client.call("list")[0]["generation"]
            for _ in range(3):
                try:
                    assert client.call("call", name="a", command="generation", expect_generation=expected) == expected
                    outcomes["call", "ok"] += 1
                except RpcError as error:
                    outcomes["call", error.code] += 1

    def set_mark(client: Client) -> None:
        while not over.is_set():
            expected = client.call("list")[0]["generation"]
            for _ in range(3):
                try:
                    client.call("set", name="a", setting="mark", value=expected, expect_generation=expected)
                    outcomes["set", "ok"] += 1
                except RpcError as error:
                    outcomes["set", error.code] += 1

    at_once(running, reload, call, call, call, set_mark)
    assert generations(running) == {"a": RELOADS + 1}
    assert {code for _, code in outcomes} <= {"ok", "plugin.changed"}, outcomes
    for method in ("call", "set"):
        assert outcomes[method, "ok"]


def test_of_many_with_the_same_generation_one_wins(daemon: Daemons) -> None:
    """Each has looked and then reloads: the first to come does, and all others hear that it has changed."""
    running = daemon(plugins=serial("a"))
    clients, rounds = 4, 4
    start = threading.Barrier(clients, timeout=20)
    outcomes: Counter[tuple[int, str]] = Counter()

    def reload(client: Client) -> None:
        for number in range(1, rounds + 1):
            assert client.call("list")[0]["generation"] == number
            start.wait()
            try:
                client.call("reload", names=["a"], expect_generation=number)
                outcomes[number, "ok"] += 1
            except RpcError as error:
                outcomes[number, error.code] += 1
            start.wait()

    at_once(running, *[reload] * clients)
    assert generations(running) == {"a": rounds + 1}
    expected: Counter[tuple[int, str]] = Counter()
    for number in range(1, rounds + 1):
        expected |= Counter({(number, "ok"): 1, (number, "plugin.changed"): clients - 1})
    assert outcomes == expected


def test_a_generation_is_expected_of_what_has_failed_too(daemon: Daemons) -> None:
    """A plugin without a worker has a generation: a resume or a reload may expect it."""
    broken = PLAIN.format(title="Bad").replace("yield self.value(1)", "raise RuntimeError('no luck')")
    running = daemon(plugins={"bad": broken})
    assert refusal(running, "resume", names=["bad"], expect_generation=2).code == "plugin.changed"
    assert refusal(running, "resume", names=["bad"], expect_generation=1).code == "plugin.crashed"
    assert refusal(running, "reload", names=["bad"], expect_generation=2).code == "plugin.changed"
    assert running.call("reload", names=["bad"], expect_generation=1)["failed"][0]["error"]["code"] == "plugin.crashed"
    assert refusal(running, "unload", names=["bad"], expect_generation=1).data["generation"] == 2
