"""The two demos run as the page says, and print what stands on it."""

import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from go_rig import EXAMPLES, go, go_environ
from harness import ROOT, adopt_orphans, children

DEMOS = EXAMPLES / "demos"
PAGE = (ROOT / "docs" / "demos.md").read_text()
OF_THE_MACHINE = ("plugctl call disk info",)  # commands whose output is compared by its first line only


def run(demo: str, directory: Path, **environ: str) -> str:
    """Run a demo; return what it printed. Nothing of it is left, in its directory or elsewhere."""
    go()
    if shutil.which("cc") is None:
        pytest.skip("there is no cc on PATH")
    adopt_orphans(wanted=True)
    done = subprocess.run(
        [DEMOS / demo / "run.sh"],
        cwd=directory,
        env=go_environ() | {"TMPDIR": str(directory)} | environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    left = survivors()
    assert (done.returncode, done.stderr, left) == (0, "", {}), done.stdout + done.stderr
    assert list(directory.iterdir()) == []
    return done.stdout


def survivors() -> dict[int, str]:
    """Return what a demo has left running, which is ended: orphans have become this process's children."""
    left: dict[int, str] = {}
    while found := children(os.getpid()):
        for pid, (name, state) in found.items():
            if state != "Z":
                left[pid] = name
                os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    return left


def blocks(text: str) -> list[tuple[str, list[str]]]:
    """Return each command, or remark, with the lines of its output, without what differs from run to run."""
    found: list[tuple[str, list[str]]] = []
    for line in text.splitlines():
        if line.startswith(("$ ", "# ")):
            found.append((re.sub(r"/proc/\d+", "/proc/PID", line), []))
        elif line.strip():
            found[-1][1].append(stable(line))
    return [(command, lines[:1] if command.removeprefix("$ ") in OF_THE_MACHINE else lines) for command, lines in found]


def stable(line: str) -> str:
    """A line without widths, numbers of processes, times, paths, and what a processor is."""
    line = re.sub(r"/\S*/demo-\w+", "TEMPORARY", line)
    line = re.sub(r"\b[\d.]+ samples in [\d.]+ \S+", "SAMPLES", line)
    line = re.sub(r'("(?:model|mhz|cores)": |^\s+)(?:"[^"]*"|[\d.]+)', r"\1…", line)
    line = re.sub(r"(\bnative +\S+ +)\d+( +\d+ m?s +)\d+", r"\1PID\2N", line)
    return " ".join(line.split())


def documented(demo: str) -> str:
    """Return a demo's output on the page."""
    return PAGE.partition(f"<!-- {demo} -->\n```console\n")[2].partition("```")[0]


def answers(output: str) -> dict[str, str]:
    """Return the last output of each command."""
    return {
        command: rest.strip("\n") for command, _, rest in (part.partition("\n") for part in output.split("\n$ ")[1:])
    }


@pytest.mark.parametrize("demo", ["golang-plugins-demo", "go-plugin-demo"])
def test_a_demo_prints_what_the_page_says(demo: str, tmp_path: Path) -> None:
    """Command by command; what is of the machine, and of the moment, may differ."""
    output = run(demo, tmp_path)
    assert blocks(output) == blocks(documented(demo))


def test_the_page_says_what_it_is_to_show() -> None:
    """A function of Go called by name; a variable of Go read and written; what Go itself cannot do."""
    golang, go_plugin = answers(documented("golang-plugins-demo")), answers(documented("go-plugin-demo"))
    assert golang["plugctl call simple add 1 2"] == "3"
    assert golang["plugctl unload cpu"] == "unloaded  cpu"
    assert golang["plugctl load cpu"].startswith("loaded  cpu")
    assert "a Go plugin (-buildmode=plugin)" in golang["plugctl check old/cpu.so"]
    assert (go_plugin["plugctl set plugin1 I=8"], go_plugin["plugctl get plugin1 I"]) == ("8", "8")
    assert go_plugin["plugctl call plugin1 print_i"].startswith("plugin 1 has 8 in I")


def test_the_plugin_is_chosen_at_run_time(tmp_path: Path) -> None:
    """By PLUGIN_NUMBER: the second one has 41 in its variable."""
    shown = answers(run("go-plugin-demo", tmp_path, PLUGIN_NUMBER="2"))
    assert shown["plugctl call plugin2 run"].startswith("plugin 2 runs")
    assert shown["plugctl set plugin2 I=42"] == "42"
    assert shown["plugctl call plugin2 print_i"].startswith("plugin 2 has 42 in I")
    assert "it returned 41" in shown["./main plugins/plugin2.so"]


def test_every_demo_is_run_here() -> None:
    """A new one needs its section on the page."""
    scripts = {path.parent.name for path in DEMOS.rglob("run.sh")}
    assert scripts == set(re.findall(r"<!-- ([\w-]+) -->\n```console", PAGE))
