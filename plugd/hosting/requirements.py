"""What plugins require of each other, while they start: who waits for whom, and who cannot start at all.

Which plugins one requires, and its own version, are known only when its module has run in its worker. So all are
loaded side by side, and each waits between its module and its ``start`` until those that it requires are running.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple

import anyio

from plugd.catalog.graph import Requirement, cycle_through, parse_requirements
from plugd.errors import PLUGIN_INVALID, CommandError
from plugd.hosting.generation import LOAD_TIMEOUT

REASON_CHARACTERS = 200


class Standing(NamedTuple):
    """How a plugin stands, as those see it that require it.

    Attributes:
        state: "" where it is not loaded.
        version: of the generation in force; None where there is none.
        starting: whether one is about to be in force, or to fail.
        reason: what last went wrong with it.
    """

    state: str
    version: str | None = None
    starting: bool = False
    reason: str | None = None


class Requirements:
    """Holds a plugin back until those that it requires are running, and fails it where they will not be.

    Args:
        standing: says how a plugin stands.
        aside: what a plugin is in while it waits: others may take its turn.
        timeout: seconds that one may wait.
    """

    def __init__(
        self,
        standing: Callable[[str], Standing],
        aside: Callable[[str], AbstractAsyncContextManager[None]],
        timeout: float = LOAD_TIMEOUT,
    ) -> None:
        self._standing = standing
        self._aside = aside
        self._timeout = timeout
        self._declared: dict[str, tuple[Requirement, ...]] = {}
        self._expected: set[str] = set()
        self._failed: set[str] = set()  # for want of what they require
        self._changed = anyio.Event()

    async def __call__(self, name: str, requires: Collection[str]) -> None:
        """Return when what a plugin requires is running.

        Raises:
            CommandError: ``plugin.invalid``: a requirement is missing, of another version, not running, or not
                running in time; or the plugin requires itself by way of others.
        """
        self._failed.discard(name)
        try:
            self._declared[name] = parse_requirements(requires)
        except ValueError as error:
            raise CommandError(PLUGIN_INVALID, str(error)) from error
        self.handle_change()  # This may have closed a circle, in which others wait.
        wanted = self._declared[name]
        awaited, faults = self._judge(name, wanted)
        if awaited and not faults:
            async with self._aside(name):
                with anyio.move_on_after(self._timeout):
                    while awaited and not faults:
                        await self._changed.wait()
                        awaited, faults = self._judge(name, wanted)
        if awaited and not faults:
            faults = [f"requires {each!r}, which is not running after {self._timeout:g} s" for each in awaited]
        if faults:
            self._failed.add(name)
            raise _refusal(wanted, faults)

    async def check(self, name: str, requires: Collection[str]) -> None:
        """Do as a call does for a plugin that is only tried: wait for nothing and remember nothing.

        Raises:
            CommandError: ``plugin.invalid``: as for a call.
        """
        try:
            wanted = parse_requirements(requires)
        except ValueError as error:
            raise CommandError(PLUGIN_INVALID, str(error)) from error
        _, faults = self._judge(name, wanted)
        if faults:
            raise _refusal(wanted, faults)

    def expect(self, names: Iterable[str]) -> None:
        """Take note that these are about to start or to be reloaded: what they will require is not known now."""
        for name in names:
            self._expected.add(name)
            self._declared.pop(name, None)
            self._failed.discard(name)

    def settle(self, name: str, in_force: Collection[str] | None) -> None:
        """Take note that a plugin's start or reload is over, one way or another.

        Args:
            name: the plugin's.
            in_force: what its generation in force requires; None where it has none.
        """
        self._expected.discard(name)
        if in_force is not None:
            self._declared[name] = parse_requirements(in_force)
            self._failed.discard(name)
        self.handle_change()

    def forget(self, name: str) -> None:
        """Take note that a plugin is no longer loaded."""
        self._declared.pop(name, None)
        self._failed.discard(name)
        self.handle_change()

    def handle_change(self) -> None:
        """Have those that wait look again."""
        self._changed.set()
        self._changed = anyio.Event()

    def of(self, name: str) -> list[str]:
        """Return the names of the plugins that one requires, as it last said."""
        return [requirement.name for requirement in self._declared.get(name, ())]

    def satisfied(self) -> list[str]:
        """Return the plugins that have failed for want of what they require, and would not any more."""
        return [name for name in sorted(self._failed) if self._judge(name, self._declared[name]) == ([], [])]

    def _judge(self, name: str, wanted: Sequence[Requirement]) -> tuple[list[str], list[str]]:
        """Return the names that a plugin must wait for, and what keeps it from starting."""
        own = [requirement.name for requirement in wanted]
        cycle = cycle_through(name, lambda each: own if each == name else self.of(each))
        if cycle is not None:
            return [], [f"requires itself: {' -> '.join(cycle)}"]
        awaited, faults = [], []
        for requirement in wanted:
            standing = self._standing(requirement.name)
            if standing.starting or requirement.name in self._expected:
                awaited.append(requirement.name)
            elif fault := fault_of(requirement, standing):
                faults.append(fault)
        return awaited, faults


def fault_of(requirement: Requirement, standing: Standing) -> str | None:
    """Return why a requirement is not met by the plugin that it names, or None."""
    if not standing.state:
        return f"requires {requirement.text!r}, and no plugin {requirement.name!r} is loaded"
    if standing.version is None:
        reason = f": {standing.reason[:REASON_CHARACTERS]}" if standing.reason else ""
        return f"requires {requirement.text!r}, and plugin {requirement.name!r} is {standing.state}{reason}"
    if not requirement.accepts(standing.version):
        return f"requires {requirement.text!r}, and plugin {requirement.name!r} has version {standing.version[:64]}"
    return None


def _refusal(wanted: Sequence[Requirement], faults: Sequence[str]) -> CommandError:
    return CommandError(PLUGIN_INVALID, "; ".join(faults), {"requires": [each.text for each in wanted]})
