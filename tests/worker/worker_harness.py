"""A Python plugin hosted in the test's own process, and its answers in words."""

import contextlib
import linecache
import sys
import textwrap
from array import array
from collections.abc import Iterator
from typing import Any

import pytest

from plugd.worker.failure import Failure
from plugd.worker.python import PythonHost

PATH = "/nowhere/probe.py"  # never read
HEADER = '"""A probe."""\nfrom plugd.plugin import Counter, Gauge, Plugin, Sample, command, setting\n'


class Loaded:
    """A host, and what it has told the daemon."""

    def __init__(self) -> None:
        self.defined: dict[int, tuple[int, list[str]]] = {}
        self.ids: list[int] = []
        self.summary: dict[str, Any] = {}
        self.host = PythonHost(self._notify)

    def _notify(self, method: str, params: dict[str, Any]) -> None:
        assert method == "define"
        for identifier, metric, labels in params["series"]:
            self.defined[identifier] = (metric, list(labels))

    def collect(self, **params: Any) -> dict[tuple[str, ...], float]:
        """Collect once, and return the values by metric and labels, as the daemon would understand them."""
        answer = self.host.collect(params)
        if answer["ids"] is not None:
            self.ids = list(array("I", answer["ids"]))
        rows = {}
        for identifier, value in zip(self.ids, array("d", answer["values"]), strict=True):
            metric, labels = self.defined[identifier]
            rows[(self.summary["metrics"][metric]["name"], *labels)] = value
        for identifier in answer["forget"]:
            del self.defined[identifier]
        return rows

    def call(self, command: str, *args: Any, **kwargs: Any) -> Any:
        """Run one of the plugin's commands."""
        return self.host.call({"command": command, "args": list(args), "kwargs": kwargs})


class Loader:
    """Loads plugins from their source; a call returns one that is loaded, and not yet started."""

    def __init__(self) -> None:
        self._loaded: list[Loaded] = []

    def __call__(
        self,
        source: str,
        *,
        name: str = "probe",
        options: dict[str, Any] | None = None,
        settings: dict[str, Any] | None = None,
        budget: int = 1000,
        samples: int = 100_000,
    ) -> Loaded:
        loaded = Loaded()
        self._loaded.append(loaded)
        params = {
            "name": name,
            "path": PATH,
            "source": text(source).encode(),
            "options": options or {},
            "settings": settings or {},
            "budget": budget,
            "samples": samples,
        }
        loaded.summary = loaded.host.load(params)
        return loaded

    def faults(self, source: str, **arguments: Any) -> list[tuple[str, int | None]]:
        """Return the faults for which a file is refused: what and in which line."""
        with pytest.raises(Failure) as caught:
            self(source, **arguments)
        assert caught.value.code == "plugin.invalid"
        assert all(fault["path"] == PATH for fault in caught.value.data["faults"])
        return [(fault["message"], fault["line"]) for fault in caught.value.data["faults"]]

    def close(self) -> None:
        """End the event loops of asynchronous plugins."""
        for loaded in self._loaded:
            if loaded.host._loop is not None:
                loaded.host._loop.close()


@contextlib.contextmanager
def loader() -> Iterator[Loader]:
    """A loader; nothing of its plugins stays in this process."""
    modules = set(sys.modules)
    started = Loader()
    try:
        yield started
    finally:
        started.close()
        linecache.cache.pop(PATH, None)
        for module in set(sys.modules) - modules:
            if module.startswith("plugd_plugin_"):
                del sys.modules[module]


def text(source: str) -> str:
    """Return a plugin's whole source: the header that all have, and what is given, in its own indentation."""
    return HEADER + textwrap.dedent(source)


def line_of(source: str, mark: str) -> int:
    """Return the line of the whole source that has this mark, such as ``# here``."""
    lines = [number for number, line in enumerate(text(source).splitlines(), 1) if mark in line]
    assert len(lines) == 1, lines
    return lines[0]
