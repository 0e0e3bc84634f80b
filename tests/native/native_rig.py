"""Native plugins, compiled for the tests, and a host for them in the test's own process."""

import fcntl
import itertools
import os
import shutil
import subprocess
from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from harness import ROOT

from plugd.sealed import SealedCopy
from plugd.worker.failure import Failure
from plugd.worker.native import NativeHost

PLUGINS = Path(__file__).parent / "plugins"
INCLUDE = ROOT / "plugd" / "include"

# The linker knows objects by their names: each is to have one of its own, while a worker has but one object.
_descriptors = itertools.count(200)


def tool(name: str) -> str:
    """Return a compiler, or skip the test."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"there is no {name} on PATH")
    return path


def run(*command: object, cwd: Path | None = None) -> str:
    """Run a command that must succeed; return what it printed."""
    done = subprocess.run([str(word) for word in command], cwd=cwd, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{done.args}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


class Compiler:
    """Makes shared objects; what was made once is not made again."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._made: dict[tuple[object, ...], Path] = {}

    def __call__(self, source: str | Path, *flags: str, language: str = "c") -> Path:
        """Return a shared object of this source: text, or the name of a file in ``plugins``."""
        key = (source, flags, language)
        if key not in self._made:
            number = len(self._made)
            target = self._directory / f"{number}.so"
            if isinstance(source, Path):
                file = PLUGINS / source
            else:
                file = self._directory / f"{number}.{language}"
                file.write_text(source)
            compiler = tool("cc" if file.suffix == ".c" else "c++")
            run(compiler, "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-I", INCLUDE, "-o", target, file,
                *flags)  # fmt: skip
            self._made[key] = target
        return self._made[key]


def install(built: Path, directory: Path, name: str) -> Path:
    """Put a shared object in its place, as a careful author does: whole, by a rename."""
    directory.mkdir(exist_ok=True)
    temporary, target = directory / f".{name}.new", directory / f"{name}.so"
    shutil.copyfile(built, temporary)
    temporary.rename(target)
    return target


class Loaded:
    """A host with a plugin in it, and what it has told the daemon."""

    def __init__(
        self,
        built: Path,
        *,
        name: str = "probe",
        options: Mapping[str, Any] | None = None,
        settings: Mapping[str, Any] | None = None,
        budget: int = 1000,
        samples: int = 20_000,
    ) -> None:
        self.defined: dict[int, tuple[int, list[str]]] = {}
        self.ids: list[int] = []
        copy = SealedCopy(built.read_bytes(), "test")
        image = fcntl.fcntl(copy.descriptor, fcntl.F_DUPFD_CLOEXEC, next(_descriptors))
        del copy
        self.host = NativeHost(self._notify, image)
        try:
            self.summary = self.host.load(
                {
                    "name": name,
                    "path": f"/nowhere/{name}.so",
                    "options": dict(options or {}),
                    "settings": dict(settings or {}),
                    "budget": budget,
                    "samples": samples,
                }
            )
        except Failure:
            assert not os.path.exists(f"/proc/self/fd/{image}")  # Closed in any case.
            raise
        self.host.start({})

    def _notify(self, method: str, params: dict[str, Any]) -> None:
        assert method == "define"
        for identifier, metric, labels in params["series"]:
            self.defined[identifier] = (metric, list(labels))

    def collect(self) -> dict[tuple[str, ...], float]:
        """Collect once, and return the values by metric and labels, as the daemon would understand them."""
        self.answer = self.host.collect({})
        if self.answer["ids"] is not None:
            self.ids = list(array("I", self.answer["ids"]))
        rows = {}
        for identifier, value in zip(self.ids, array("d", self.answer["values"]), strict=True):
            metric, labels = self.defined[identifier]
            rows[(self.summary["metrics"][metric]["name"], *labels)] = value
        return rows

    def call(self, command: str, *args: Any, **kwargs: Any) -> Any:
        """Run one of its commands."""
        return self.host.call({"command": command, "args": list(args), "kwargs": kwargs})


def faults(built: Path, **arguments: Any) -> list[str]:
    """Return the faults for which a file is refused."""
    with pytest.raises(Failure) as caught:
        Loaded(built, **arguments)
    assert caught.value.code == "plugin.invalid"
    return [fault["message"] for fault in caught.value.data["faults"]]


def plugin_source(collect: str, members: str = "", before: str = "") -> str:
    """Return a plugin with one gauge, ``probe.value``, and one with a label, ``probe.labelled``.

    Args:
        collect: the body of its collect().
        members: further members of its descriptor.
        before: what stands before that.
    """
    return f"""
#include <plugd.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
static const char *const labels[] = {{"n"}};
static const struct plugd_metric metrics[] = {{
    {{.kind = PLUGD_GAUGE, .name = "probe.value"}},
    {{.kind = PLUGD_GAUGE, .name = "probe.labelled", .labels = labels, .label_count = 1}},
}};
{before}
static int collect(struct plugd_host *host, struct plugd_buffer *buffer)
{{
    (void)host, (void)buffer;
    {collect}
    return PLUGD_OK;
}}
static const struct plugd_descriptor plugin = {{
    .header = PLUGD_HEADER, .metrics = metrics, .metric_count = 2, .collect = collect, .interval = 0.1, {members}
}};
const struct plugd_descriptor *plugd_plugin(void) {{ return &plugin; }}
"""
