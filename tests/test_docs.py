"""The documentation is held to the code: every method, key, flag, verb and code, and the examples run."""

import argparse
import re
import signal
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from harness import ROOT, SHIPPED, Daemons

from plugctl.errors import DENIED, FAILED, NO_DAEMON, NOT_FOUND, OK, TIMED_OUT, USAGE
from plugctl.verbs import VERBS
from plugd import cli, errors
from plugd.config import Config, PluginConfig, merge, parse, validate
from plugd.control.commands import COMMANDS

DOCS = ROOT / "docs"
EXAMPLE = re.compile(r"<!-- (\w+)\.py -->\n+```python\n(.*?)```", re.DOTALL)


def text(name: str) -> str:
    return (ROOT / name).read_text()


def section(name: str, heading: str) -> str:
    """Return what stands under a heading of the second level."""
    return text(name).partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def rows(markdown: str) -> list[list[str]]:
    """Return the cells of every row that begins with something in code quotes."""
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for line in markdown.splitlines() if line[:3] == "| `"
    ]


def words(cell: str) -> set[str]:
    return set(re.findall(r"\w+", cell))


def test_every_method_is_documented_as_it_is() -> None:
    """docs/protocol.md has exactly the methods of COMMANDS, each with its role and its parameters."""
    documented = {cells[0].strip("`"): (cells[1], cells[2]) for cells in rows(section("docs/protocol.md", "Methods"))}
    assert list(documented) == list(COMMANDS)
    for name, (role, parameters) in documented.items():
        fields = msgspec.structs.fields(COMMANDS[name].parameters)
        assert role == str(COMMANDS[name].role), name
        assert words(parameters) == {field.name for field in fields}, name
        optional = words("".join(re.findall(r"\[(.*?)\]", parameters)))
        assert optional == {field.name for field in fields if not field.required}, name


def test_every_error_code_is_documented() -> None:
    """docs/protocol.md has exactly the codes of plugd.errors."""
    codes = {value for name, value in vars(errors).items() if name.isupper() and isinstance(value, str)}
    assert {cells[0].strip("`") for cells in rows(section("docs/protocol.md", "Errors"))} == codes


def test_every_result_has_the_documented_shape(daemon: Daemons) -> None:
    """What a running daemon answers has exactly the documented keys."""
    documented = {cells[0].strip("`"): words(cells[1]) for cells in rows(section("docs/protocol.md", "Results"))}
    running = daemon(plugins={"cpu": SHIPPED / "cpu.py"})
    with running.client() as client:
        one: dict[str, dict[str, Any]] = {"describe": {"name": "cpu"}, "why": {"name": "cpu"}, "check": {"name": "cpu"}}
        one |= {"unsubscribe": {"subscription": 1}, "cancel": {"request": 1}, "unload": {"names": ["cpu"]}}
        one |= {"load": {"names": ["cpu"]}}
        stats = client.call("stats")
        answers = {"stats.plugins.*": stats["plugins"]["cpu"], "stats.metrics": stats["metrics"]}
        client.call("subscribe", patterns=[])
        for method in [*(name for name in documented if "." not in name and name != "load"), "load"]:
            answers[method] = client.call(method, **one.get(method, {}))
    assert set(answers) == set(documented)
    for name, answer in answers.items():
        keys = set(answer) if isinstance(answer, dict) else {key for row in answer for key in row}
        assert keys == documented[name], name


def test_notifications_have_the_documented_shape(daemon: Daemons) -> None:
    """So has what a subscriber is sent."""
    documented = {
        cells[0].strip("`"): words(cells[1].partition("}")[0])
        for cells in rows(section("docs/protocol.md", "Notifications"))
    }
    running = daemon(
        plugins={"cpu": SHIPPED / "cpu.py", "tally": dict(EXAMPLE.findall(text("docs/plugins.md")))["tally"]},
        config="[plugins.cpu]\ninterval = 0.1\n[control.limits]\nping = 0.1\n",
    )
    with running.client() as client:
        client.call("call", name="tally", command="count")
        client.call("subscribe", patterns=["cpu"], events=True)
        seen: dict[str, set[str]] = {}
        while "stopping" not in seen:
            if set(seen) == {"sample", "event", "ping", "progress"}:
                running.process.send_signal(signal.SIGTERM)
            method, params = client.next_notification()
            if method == "sample" and "event" not in seen:
                client.call("pause", names=["cpu"])  # From then on there is nothing to be sent.
            seen[method] = set(params)
    assert seen == documented


def test_every_key_of_the_configuration_is_documented() -> None:
    """docs/configuration.md has exactly the keys that the configuration has."""

    def keys(kind: Any, prefix: str) -> set[str]:
        found = set()
        for field in msgspec.structs.fields(kind):
            if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
                found |= keys(field.type, f"{prefix}{field.encode_name}.")
            elif PluginConfig in get_args(field.type):
                found |= keys(PluginConfig, f"{prefix}{field.name}.NAME.")
            else:
                found.add(prefix + field.encode_name)
        return found

    documented = [cells[0].strip("`") for cells in rows(section("docs/configuration.md", "Keys"))]
    assert len(documented) == len(set(documented))
    assert set(documented) == keys(Config, "")


def test_documented_defaults_are_the_defaults() -> None:
    """Set to what docs/configuration.md gives as its default, no key changes anything."""
    lines = []
    for key, default, _ in rows(section("docs/configuration.md", "Keys")):
        if re.fullmatch(r"`[^`]+`", default):
            lines.append(f"{key.strip('`').replace('NAME', 'cpu')} = {default.strip('`')}")
    assert len(lines) > 20
    config = validate(merge([parse("\n".join(lines).encode(), "docs/configuration.md")]))
    assert config == Config(plugins={"cpu": PluginConfig()})


def test_every_flag_of_plugd_is_documented() -> None:
    """docs/configuration.md has exactly the flags that plugd takes."""
    actions = cli._parser()._actions
    flags = {action.option_strings[-1] for action in actions if not isinstance(action, argparse._HelpAction)}
    documented = {cells[0].strip("`").split()[0] for cells in rows(section("docs/configuration.md", "Flags"))}
    assert documented == flags


def test_every_verb_of_plugctl_is_documented() -> None:
    """docs/behaviour.md has exactly the verbs that plugctl has, each with its options."""
    documented: dict[str, str] = {}
    for cells in rows(section("docs/behaviour.md", "plugctl")):
        verb = cells[0].strip("`").split()[0]
        documented[verb] = documented.get(verb, "") + cells[0]
    assert set(documented) == set(VERBS)
    for name, each in VERBS.items():
        for option in each.options:
            assert any(flag in documented[name] for flag in option.flags), name


def test_every_exit_status_is_documented() -> None:
    """docs/behaviour.md has plugd's and plugctl's."""
    behaviour = text("docs/behaviour.md")
    plugd, plugctl = [
        {int(number) for number in re.findall(r"^\| (\d+) \|", part, re.MULTILINE)}
        for part in (
            behaviour.partition("| status of plugd |")[2].partition("\n\n")[0],
            behaviour.partition("| status of plugctl |")[2],
        )
    ]
    assert plugd >= {cli.EXIT_OK, cli.EXIT_USAGE, cli.EXIT_IN_USE, cli.EXIT_CONFIG}
    assert plugctl == {OK, FAILED, USAGE, NO_DAEMON, DENIED, NOT_FOUND, TIMED_OUT}


@pytest.mark.parametrize("document", ["README.md", "docs/plugins.md"])
def test_the_examples_run(document: str, daemon: Daemons) -> None:
    """Every plugin in the documentation runs as it stands there, and delivers samples."""
    examples = dict(EXAMPLE.findall(text(document)))
    assert examples
    running = daemon(plugins=examples)
    states = {row["name"]: (row["state"], row["last_error"]) for row in running.call("list")}
    assert states == dict.fromkeys(examples, ("running", None))
    assert {row["plugin"] for row in running.call("stats")["metrics"]} == set(examples)


def test_the_complete_example_does_what_its_page_says(daemon: Daemons) -> None:
    """Its command, its setting, its options and its state work as docs/plugins.md tells."""
    spool = daemon.directory / "spool"
    spool.mkdir()
    for name in ("a.job", "b.job", ".hidden"):
        (spool / name).touch()
    running = daemon(
        plugins=dict(EXAMPLE.findall(text("docs/plugins.md"))),
        config=f'[plugins.spool]\ninterval = 0.1\noptions = {{ directory = "{spool}", suffixes = [".job"] }}\n',
    )
    assert running.plugctl_json("call", "spool", "names", "limit=1") == [".hidden"]
    assert running.plugctl_json("set", "spool", "hidden", "true") is True
    looks = running.call("stats", patterns=["spool.looks"])["metrics"][0]["value"]
    files = {row["labels"]["kind"]: row["value"] for row in running.call("stats", patterns=["spool.files"])["metrics"]}
    assert files[".job"] == 2
    running.call("reload", names=["spool"])
    with running.client() as client:
        client.call("subscribe", patterns=["spool.looks"])
        _, params = client.next_notification()
    assert params["samples"][0]["value"] > looks


def test_the_long_command_does_what_its_page_says(daemon: Daemons) -> None:
    """It tells how far it is, and returns its result."""
    counted = daemon.directory / "counted"
    counted.mkdir()
    (counted / "a").write_text("x" * 5)
    (counted / "b").write_text("x" * 7)
    running = daemon(plugins={"tally": dict(EXAMPLE.findall(text("docs/plugins.md")))["tally"]})
    with running.client() as client:
        assert client.call("call", name="tally", command="count", args=[str(counted)]) == 12
        assert client.notifications[0][0] == "progress"
        assert client.notifications[0][1]["total"] == 2.0
    assert running.plugctl("call", "tally", "count", f"directory={counted}").stdout == "12\n"


def test_no_page_links_to_what_is_not_there() -> None:
    """Every relative link leads to a file."""
    for page in [*DOCS.glob("*.md"), *ROOT.glob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_readme_has_the_two_commands() -> None:
    """`make run` and `make test` are in the README, and in the Makefile."""
    for target in ("run", "test"):
        assert f"make {target}" in text("README.md")
        assert re.search(rf"^{target}:", text("Makefile"), re.MULTILINE)


def test_documents_name_no_machine() -> None:
    """No path of somebody's own machine is in what is published."""
    for page in [*DOCS.glob("*.md"), *ROOT.glob("*.md"), ROOT / "Makefile", Path(ROOT / ".ci/run")]:
        assert not re.search(r"/(home|root|work)/", page.read_text()), page.name
