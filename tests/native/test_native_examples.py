"""The examples build with one command each, pass their check, and run."""

import functools
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import BIN, ROOT, Daemons
from native_rig import install, run, tool

EXAMPLES = ROOT / "examples" / "native"
TOOLS = {"c": ("make", "cc"), "cpp": ("make", "c++"), "rust": ("make", "cargo", "rustc")}
NAMES = {"c": "uptime", "cpp": "softirqs", "rust": "sockets"}

Example = Callable[[str], Path]


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Example:
    """Call it with a language for the plugin, built and checked as its Makefile does, in a copy of its directory."""

    @functools.cache
    def make(language: str) -> Path:
        for name in TOOLS[language]:
            tool(name)
        directory = tmp_path_factory.mktemp("examples") / language
        shutil.copytree(EXAMPLES / language, directory, ignore=shutil.ignore_patterns("target", "*.so"))
        environ = os.environ | {"PLUGD": str(BIN / "plugd"), "PLUGCTL": str(BIN / "plugctl")}
        done = subprocess.run(
            ["make", "-C", directory, "check"], env=environ, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "warning" not in done.stderr
        assert f"{NAMES[language]} ok: " in done.stdout
        return directory / f"{NAMES[language]}.so"

    return make


@pytest.mark.parametrize("language", list(NAMES))
def test_an_example_runs(language: str, example: Example, daemon: Daemons) -> None:
    """Its samples are what it declares, and it can be reloaded as it runs."""
    name = NAMES[language]
    install(example(language), daemon.directory / "plugins", name)
    running = daemon(plugins={}, config=f"[plugins.{name}]\ninterval = 0.1\n")
    row = running.plugin(name)
    assert (row["state"], row["last_error"], row["kind"], row["version"]) == ("running", None, "native", "1.0.0")
    metrics = {metric["name"] for metric in running.call("describe", name=name)["metrics"]}
    assert {sample["name"] for sample in running.call("stats")["metrics"]} <= metrics
    assert running.call("stats")["plugins"][name]["series"] >= 2
    assert running.call("reload", names=[name])["reloaded"] == [name]
    assert running.plugin(name)["failures"] == 0


def test_the_cpp_example_has_a_setting_and_a_command(example: Example, daemon: Daemons) -> None:
    """By processor, or for all together; the busiest type comes as a table."""
    install(example("cpp"), daemon.directory / "plugins", "softirqs")
    running = daemon(plugins={}, config="[plugins.softirqs]\ninterval = 0.05\nsettings = { by_cpu = false }\n")
    assert {row["labels"]["cpu.logical_number"] for row in running.call("stats")["metrics"]} == {"all"}
    assert set(running.plugctl_json("call", "softirqs", "busiest")) == {"type", "count"}
    assert running.plugctl_json("set", "softirqs", "by_cpu", "true") is True


def test_the_tests_of_the_rust_example_pass(example: Example) -> None:
    """It has some of its own, as a plugin should."""
    assert "1 passed" in run(tool("cargo"), "test", "--offline", "--quiet", cwd=example("rust").parent)
