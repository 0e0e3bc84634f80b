"""Restarts of plugd while clients ask without a pause; bench/restarts.py uses it too."""

import contextlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from machine import Machine

SOCKET = "/run/plugd/control.sock"
PYTHON = "/usr/lib/plugd/bin/python"  # that of the package: it has msgpack
BUSY = "/opt/busy.py"


class Clients:
    """Clients on a machine, and after their end what came of their requests.

    Attributes:
        tallies: the results of busy.py, by way; empty while they ask.
    """

    def __init__(self) -> None:
        self.tallies: dict[str, dict[str, Any]] = {}

    @property
    def failed(self) -> list[str]:
        """Every request that failed."""
        return [f"{way}: {text}" for way, tally in self.tallies.items() for text in tally["failed"]]

    @property
    def worst(self) -> float:
        """The longest that a request has waited for its answer, in seconds."""
        return max(float(tally["worst"]) for tally in self.tallies.values())

    @property
    def answered(self) -> int:
        """How many requests were answered."""
        return sum(int(tally["answered"]) for tally in self.tallies.values())


@contextlib.contextmanager
def busy_clients(machine: Machine, user: str = "alice") -> Iterator[Clients]:
    """Have clients on a machine ask for as long as the block lasts."""
    machine.copy_in(Path(__file__).with_name("busy.py"), BUSY)
    clients = Clients()
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with machine.popen(PYTHON, "-I", BUSY, SOCKET, user=user, **pipes) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "asking\n"
            yield clients
        finally:
            output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    clients.tallies = {tally["way"]: tally for tally in map(json.loads, output.splitlines())}
