"""Plugins in Go, built for the tests; where there is no Go, such a test is skipped."""

import functools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from harness import BIN, ROOT

EXAMPLES = ROOT / "examples"
PACKAGE = EXAMPLES / "go" / "plugd"
CACHE = ROOT / ".cache" / "go-build"  # kept from run to run: without it, the first build takes a quarter of a minute
OLDEST = (1, 19)


@functools.cache
def go() -> str:
    """Return the Go toolchain, or skip the test."""
    path = shutil.which("go")
    if path is None:
        pytest.skip("there is no go on PATH")
    if shutil.which("cc") is None and shutil.which("gcc") is None:
        pytest.skip("there is no C compiler on PATH, which cgo needs")
    text = subprocess.run([path, "env", "GOVERSION"], capture_output=True, text=True, check=True).stdout
    version = tuple(int(number) for number in text.removeprefix("go").split(".")[:2] if number.isdigit())
    if version and version < OLDEST:
        pytest.skip(f"{text.strip()} is older than 1.19")
    return path


def go_environ() -> dict[str, str]:
    """Return an environment in which nothing is downloaded, and plugd and plugctl are those under test."""
    header = ROOT / "plugd" / "include"
    return os.environ | {
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "GOCACHE": os.environ.get("GOCACHE") or str(CACHE),
        "GOPROXY": "off",
        "GOFLAGS": "",
        "GOWORK": "off",
        "GOTOOLCHAIN": "local",
        "CGO_ENABLED": "1",
        "CGO_CFLAGS": f"-O2 -I{header}",
    }


def run_go(*arguments: object, cwd: Path) -> str:
    """Run the toolchain, which must succeed; return what it printed."""
    command = [go(), *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, env=go_environ(), capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, f"{done.args}:\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


class GoCompiler:
    """Makes shared objects of Go source; what was made once is not made again."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._made: dict[tuple[str, str], Path] = {}

    def __call__(self, source: str, mode: str = "c-shared") -> Path:
        """Return a shared object of this text; ``mode``: of the build."""
        key = (source, mode)
        if key not in self._made:
            directory = Path(tempfile.mkdtemp(dir=self._directory))
            (directory / "go.mod").write_text(
                f"module try\n\ngo 1.19\n\nrequire plugd v0.0.0\n\nreplace plugd => {PACKAGE}\n"
            )
            (directory / "main.go").write_text(source)
            run_go("build", f"-buildmode={mode}", "-o", "built.so", "main.go", cwd=directory)
            self._made[key] = directory / "built.so"
        return self._made[key]
