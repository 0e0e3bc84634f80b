"""The command line: every verb, and what is none."""

from typing import Any

import pytest

from plugctl.arguments import UsageError, parse
from plugctl.usage import help_text, usage
from plugctl.verbs import VERBS


@pytest.mark.parametrize(
    ("line", "verb", "params"),
    [
        ("list", "list", {}),
        ("status", "status", {}),
        ("ping", "ping", {}),
        ("version", "version", {}),
        ("load cpu disk", "load", {"names": ["cpu", "disk"]}),
        ("unload cpu --cascade", "unload", {"names": ["cpu"], "cascade": True}),
        ("unload --cascade cpu", "unload", {"names": ["cpu"], "cascade": True}),
        ("reload", "reload", {}),
        ("reload --dry-run cpu", "reload", {"names": ["cpu"], "dry_run": True}),
        ("stats", "stats", {}),
        ("stats cpu system.*", "stats", {"patterns": ["cpu", "system.*"]}),
        ("describe cpu", "describe", {"name": "cpu"}),
        ("why cpu", "why", {"name": "cpu"}),
        ("check cpu", "check", {"name": "cpu"}),
        ("logs", "logs", {}),
        ("logs cpu -n 5", "logs", {"name": "cpu", "lines": 5}),
        ("logs -n5", "logs", {"lines": 5}),
        ("logs --lines=7", "logs", {"lines": 7}),
        ("get cpu", "get", {"name": "cpu"}),
        ("get cpu period", "get", {"name": "cpu", "setting": "period"}),
        ("get cpu --origin", "get", {"name": "cpu", "origin": True}),
        ("set cpu period 5", "set", {"name": "cpu", "setting": "period", "value": "5"}),
        ("set cpu period -5", "set", {"name": "cpu", "setting": "period", "value": "-5"}),
        ("set cpu period=-5", "set", {"name": "cpu", "setting": "period=-5"}),
        ("set --persist cpu period 5", "set", {"name": "cpu", "setting": "period", "value": "5", "persist": True}),
        ("set --unset cpu period", "set", {"name": "cpu", "setting": "period", "unset": True}),
        ("set cpu mode -- --fast", "set", {"name": "cpu", "setting": "mode", "value": "--fast"}),
        ("call cpu reset", "call", {"name": "cpu", "command": "reset"}),
        ("call cpu reset 1 a=b", "call", {"name": "cpu", "command": "reset", "arguments": ["1", "a=b"]}),
        ("call --deadline 2m cpu reset", "call", {"name": "cpu", "command": "reset", "deadline": 120.0}),
        ("lock", "lock", {}),
        ("verify plugins.lock", "verify", {"file": "plugins.lock"}),
        ("pause", "pause", {}),
        ("pause cpu --for 20m --reason test", "pause", {"names": ["cpu"], "duration": 1200.0, "reason": "test"}),
        ("resume cpu", "resume", {"names": ["cpu"]}),
        ("watch cpu --events --interval 2s", "watch", {"patterns": ["cpu"], "events": True, "interval": 2.0}),
        ("completion bash", "completion", {"shell": "bash"}),
        ("help list", "help", {"topic": "list"}),
    ],
)
def test_a_line_becomes_a_verb_and_its_parameters(line: str, verb: str, params: dict[str, Any]) -> None:
    """Only what was given is a parameter: the daemon has the defaults."""
    call = parse(line.split())
    assert (call.verb.name, call.params, call.options) == (verb, params, {})


def test_every_verb_is_in_the_test_above() -> None:
    """A new verb needs its line there."""
    marks = test_a_line_becomes_a_verb_and_its_parameters.pytestmark  # type: ignore[attr-defined]
    assert {verb for _, verb, _ in marks[0].args[1]} == set(VERBS)


@pytest.mark.parametrize(
    "line",
    [
        "--socket /s --json --timeout 5 reload cpu",
        "reload --socket /s cpu --json --timeout 5",
        "reload cpu --socket=/s --timeout=5s --json",
        "--json reload --timeout 5 --socket /s -- cpu",
    ],
)
def test_global_options_stand_anywhere(line: str) -> None:
    """Before the verb, behind it, and among its arguments."""
    call = parse(line.split())
    assert call.options == {"socket": "/s", "json": True, "timeout": 5.0}
    assert call.params == {"names": ["cpu"]}
    assert call.timeout == 5.0


def test_without_a_verb_the_status_is_asked_for() -> None:
    """And drawn in a few lines."""
    call = parse(["--json"])
    assert call.bare
    assert call.verb.name == "status"
    assert call.timeout == 30.0


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("lisst", "no such verb 'lisst', did you mean 'list'?"),
        ("list extra", "unexpected argument 'extra'"),
        ("load", "NAME is missing"),
        ("why", "NAME is missing"),
        ("set cpu", "SETTING is missing"),
        ("verify", "FILE is missing"),
        ("call cpu reset --deadline soon", "option --deadline: 'soon' is no duration"),
        ("list --cascade", "unknown option '--cascade' of 'list'"),
        ("--events watch", "unknown option '--events'"),
        ("list -x", "unknown option '-x'"),
        ("list --json=yes", "option --json takes no value"),
        ("list --timeout", "option --timeout takes a value: S"),
        ("list --socket --json", "option --socket takes a value"),
        ("list --timeout 0", "option --timeout: '0' is no duration above zero"),
        ("logs -n x", "option -n: 'x' is no whole number"),
        ("pause --for soon", "option --for: 'soon' is no duration"),
    ],
)
def test_what_is_not_understood_is_told(line: str, reason: str) -> None:
    """Each with what is wrong."""
    with pytest.raises(UsageError) as caught:
        parse(line.split())
    assert reason in caught.value.message
    assert caught.value.status == 2


@pytest.mark.parametrize("name", sorted(VERBS))
def test_every_verb_has_help_made_of_its_arguments(name: str) -> None:
    """All of its positionals and flags are there."""
    verb = VERBS[name]
    text = help_text(verb)
    assert usage(verb).startswith(f"usage: plugctl {name}")
    assert all(positional.metavar in text for positional in verb.positionals)
    assert all(flag in text for option in verb.options for flag in option.flags)
    assert f"    {name} " in help_text(None)


@pytest.mark.parametrize("name", sorted(VERBS))
def test_every_verb_has_something_that_carries_it_out(name: str) -> None:
    """What the table names exists."""
    verb = VERBS[name]
    place = f"plugctl.{verb.run}" if verb.run else f"plugctl.render.{verb.render}"
    module, _, function = place.partition(":")
    assert callable(getattr(__import__(module, fromlist=[function]), function))
