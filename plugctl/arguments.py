"""The command line, parsed by the table of verbs.

By hand, and not by argparse, which takes as long to import as a whole call does; argparse only draws the
help. Global options may stand before the verb and after it; ``--`` ends the options.
"""

from __future__ import annotations

from plugctl.errors import CallError
from plugctl.verbs import ANY, BARE, GLOBALS, ONE, SOME, VERBS, Option, Verb

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

DEFAULT_TIMEOUT = 30.0  # seconds


class UsageError(CallError):
    """The command line is none of plugctl's.

    Attributes:
        verb: the verb whose usage was missed, or None.
    """

    def __init__(self, message: str, verb: Verb | None = None) -> None:
        super().__init__("client.usage", message)
        self.verb = verb


class Call:
    """One call of plugctl.

    Attributes:
        verb: what to do.
        params: the verb's arguments, by parameter; only those that were given.
        options: the global options that were given: socket, daemon_user, json, timeout, help, show_version.
        bare: whether no verb was given.
    """

    __slots__ = ("bare", "options", "params", "verb")

    def __init__(self, verb: Verb, params: dict[str, Any], options: dict[str, Any], *, bare: bool = False) -> None:
        self.verb = verb
        self.params = params
        self.options = options
        self.bare = bare

    @property
    def timeout(self) -> float:
        """Seconds that a request may take."""
        timeout: float = self.options.get("timeout", DEFAULT_TIMEOUT)
        return timeout


def parse(arguments: Sequence[str]) -> Call:
    """Return the call that a command line asks for.

    Raises:
        UsageError: it is not understood.
    """
    verb: Verb | None = None
    given: dict[str, Any] = {}
    positionals: list[str] = []
    options = {flag: option for option in GLOBALS for flag in option.flags}
    items = iter(arguments)
    literal = False
    for item in items:
        if not literal and item == "--":
            literal = True
        elif not literal and item.startswith("-") and len(item) > 1 and not _is_number(item):
            _take_option(item, items, options, given, verb)
        elif verb is None:
            verb = verb_named(item)
            options.update({flag: option for option in verb.options for flag in option.flags})
        else:
            positionals.append(item)
    found = {option.parameter: given.pop(option.parameter) for option in GLOBALS if option.parameter in given}
    if verb is None:
        return Call(BARE, {}, found, bare=True)
    if not found.get("help"):
        _assign(verb, positionals, given)
    return Call(verb, given, found)


def _take_option(
    item: str, items: Iterator[str], options: dict[str, Option], given: dict[str, Any], verb: Verb | None
) -> None:
    flag, equals, value = item.partition("=") if item.startswith("--") else (item[:2], item[2:], item[2:])
    option = options.get(flag)
    if option is None:
        raise UsageError(f"unknown option {flag!r}" + (f" of {verb.name!r}" if verb else ""), verb)
    if not option.metavar:
        if equals:
            raise UsageError(f"option {flag} takes no value", verb)
        given[option.parameter] = True
        return
    if not equals:
        value = next(items, "--")
        if value.startswith("--"):
            raise UsageError(f"option {flag} takes a value: {option.metavar}", verb)
    try:
        given[option.parameter] = option.convert(value)
    except ValueError as error:
        raise UsageError(f"option {flag}: {error}", verb) from None


def _assign(verb: Verb, values: list[str], given: dict[str, Any]) -> None:
    position = 0
    for positional in verb.positionals:
        if positional.count in (ANY, SOME):
            if position < len(values):
                given[positional.parameter] = values[position:]
                position = len(values)
            elif positional.count == SOME:
                raise UsageError(f"{verb.name}: {positional.metavar} is missing", verb)
        elif position < len(values):
            given[positional.parameter] = values[position]
            position += 1
        elif positional.count == ONE:
            raise UsageError(f"{verb.name}: {positional.metavar} is missing", verb)
    if position < len(values):
        raise UsageError(f"{verb.name}: unexpected argument {values[position]!r}", verb)


def verb_named(name: str) -> Verb:
    """Return the verb of this name.

    Raises:
        UsageError: there is none.
    """
    verb = VERBS.get(name)
    if verb is None:
        from difflib import get_close_matches

        near = get_close_matches(name, VERBS, n=1)
        raise UsageError(f"no such verb {name!r}" + (f", did you mean {near[0]!r}?" if near else ""))
    return verb


def _is_number(item: str) -> bool:
    """Whether an item is a negative number, and so no option."""
    try:
        float(item)
    except ValueError:
        return False
    return True
