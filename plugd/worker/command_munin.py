"""Munin's plugins: asked for their configuration now and then, and for their values each time."""

import os
import time

from plugd.formats.munin import (
    Autoconf,
    MuninConfig,
    parse_autoconf,
    parse_munin,
    parse_munin_config,
    parse_munin_fetch,
)
from plugd.formats.reading import Parsed
from plugd.worker.command_program import Program
from plugd.worker.command_run import Output, run
from plugd.worker.failure import CRASHED, INVALID, Failure

INTERVAL = 60.0  # seconds; Munin's own is five minutes
CONFIG_AGE = 300.0  # seconds, after which it is asked for again: disks and interfaces come and go


class MuninSource:
    """One of Munin's plugins.

    Args:
        program: the plugin.
        autoconf: whether it is asked first if it can work here.
    """

    def __init__(self, program: Program, *, autoconf: bool) -> None:
        self._program = program
        self._graph = os.path.basename(program.argv[0])
        self._asks_first = autoconf
        self._config: MuninConfig | None = None
        self._config_time = 0.0

    def read(self, deadline: float) -> Parsed:
        """Return what it measures now.

        Raises:
            Failure: it failed, took too long, or cannot work here.
        """
        if self._asks_first:
            answer = self.autoconf(deadline)
            if not answer.usable:
                raise Failure(INVALID, f"it cannot work here, as it says itself (autoconf): {answer.reason or 'no'}")
            self._asks_first = False
        if self._config is None or time.monotonic() - self._config_time > CONFIG_AGE:
            return self._read_all(deadline)
        fetched = self._run(deadline)
        return parse_munin_fetch(fetched.stdout, self._config, self._graph)

    def autoconf(self, deadline: float) -> Autoconf:
        """Ask it if it can work here; a plugin that says no by its exit status alone does so too."""
        output = run(self._program, "autoconf", deadline=deadline)
        return parse_autoconf(output.stdout)

    def _read_all(self, deadline: float) -> Parsed:
        config = self._run(deadline, "config")
        self._config = parse_munin_config(config.stdout, self._graph)
        self._config_time = time.monotonic()
        # A "dirty" configuration has the values in it, and needs no second run.
        fetched = b"" if self._config.values else self._run(deadline).stdout
        return parse_munin(config.stdout, fetched, self._graph)

    def _run(self, deadline: float, *arguments: str) -> Output:
        output = run(self._program, *arguments, deadline=deadline)
        doing = f"{arguments[0]}: " if arguments else ""
        if output.status != 0:
            raise Failure(CRASHED, f"{doing}{output.ending}")
        if not output.stdout.strip():
            raise Failure(CRASHED, f"{doing}printed nothing" + (f": {output.error}" if output.error else ""))
        return output
