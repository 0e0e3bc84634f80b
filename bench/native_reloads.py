"""A Go plugin reloaded with changed code, again and again: ``python bench/native_reloads.py [--count N]``.

A line of its source is another one each time. Nine other plugins collect every 100 ms meanwhile.
What the daemon has is counted before and after. Needs go and a C compiler.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TESTS = ROOT / "tests"
sys.path[:1] = [str(TESTS / "faults"), str(TESTS), str(ROOT / "bench")]  # bench/harness.py is another one

from probe import percentile  # noqa: E402
from reloads import Kept  # noqa: E402
from rig import Rig  # noqa: E402

NAME = "ticker"
PACKAGE = ROOT / "examples" / "go" / "plugd"
SOURCE = """// Counts its collections, over reloads.
package main

import (
	"plugd"
	"strconv"
	"time"
)

type Ticker struct{ count int }

func (*Ticker) Name() string            { return "ticker" }
func (*Ticker) Desc() string            { return "Counts." }
func (*Ticker) Version() string         { return "VERSION" }
func (*Ticker) Interval() time.Duration { return 100 * time.Millisecond }

var count = plugd.Counter("ticker.count", "1", "Collections.")

func (t *Ticker) Collect(samples *plugd.Samples) error {
	t.count++
	samples.Add(count, float64(t.count))
	return nil
}

func (t *Ticker) SaveState() ([]byte, error) { return []byte(strconv.Itoa(t.count)), nil }

func (t *Ticker) LoadState(state []byte) (err error) {
	t.count, err = strconv.Atoi(string(state))
	return err
}

func init() {
	ticker := &Ticker{}
	plugd.Register(ticker)
	plugd.Command("turns", "Collections so far.", func() int { return ticker.count })
	go func() { // It never ends, as goroutines of plugins do.
		for range time.Tick(time.Millisecond) {
		}
	}()
}

func main() {}
"""
"""The plugin; VERSION stands for the version."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100, help="reloads that count (default: 100)")
    parser.add_argument(
        "--warm-up", type=int, default=50, help="reloads before those, between two builds (default: 50)"
    )
    options = parser.parse_args()
    if shutil.which("go") is None:
        sys.exit("native_reloads.py: there is no go on PATH")
    with tempfile.TemporaryDirectory(prefix="pg-") as name:
        directory = Path(name)
        (directory / "source").mkdir()
        with Rig(directory, ()) as rig:
            print(*measure(rig, Builder(directory / "source"), options.count, options.warm_up), sep="\n")


class Builder:
    """Builds versions of the plugin."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        (directory / "go.mod").write_text(
            f"module ticker\n\ngo 1.19\n\nrequire plugd v0.0.0\n\nreplace plugd => {PACKAGE}\n"
        )

    def build(self, version: str) -> bytes:
        """Return a version's shared object."""
        (self._directory / "ticker.go").write_text(SOURCE.replace("VERSION", version))
        environ = os.environ | {
            "GOCACHE": os.environ.get("GOCACHE") or str(ROOT / ".cache" / "go-build"),
            "GOPROXY": "off",
            "CGO_CFLAGS": f"-O2 -I{ROOT / 'plugd' / 'include'}",
        }
        command = ["go", "build", "-buildmode=c-shared", "-o", "ticker.so", "ticker.go"]
        subprocess.run(command, cwd=self._directory, env=environ, check=True)
        return (self._directory / "ticker.so").read_bytes()

    def keep(self, version: str) -> Path:
        """Return a file that has a version's shared object."""
        kept = self._directory / f"{version}.so"
        kept.write_bytes(self.build(version))
        return kept


def measure(rig: Rig, builder: Builder, count: int, warm_up: int) -> list[str]:
    """Reload so often; return the lines that tell what the daemon had before and has after."""
    versions = [builder.build(f"0.{number}") for number in range(2)]
    builds = [builder.keep(f"1.{number}") for number in range(count)]  # Before: a compiler takes all there is.
    install(rig, versions[0])
    rig.client.call("load", names=[NAME])
    for number in range(warm_up):
        reload(rig, versions[(number + 1) % 2], f"0.{(number + 1) % 2}")
    settle(rig)
    before, turns, missed = Kept.of(rig), counted(rig), rig.skipped()
    rig.probe.figures()
    latencies = []
    for number, build in enumerate(builds):
        latencies.append(reload(rig, build.read_bytes(), f"1.{number}"))
    settle(rig)
    others, after, missed = rig.probe.figures(), Kept.of(rig), rig.skipped() - missed
    row = rig.row(NAME)
    return [
        f"{count} reloads of a Go plugin, each of other code: version {row['version']}, generation {row['generation']}",
        (
            f"reload: p50 {percentile(latencies, 0.5) * 1e3:.1f} ms, max {max(latencies) * 1e3:.1f} ms; it counts on "
            f"from {turns:.0f} to {counted(rig):.0f}, {row['failures']} failures"
        ),
        "",
        f"{'the daemon has':16}{'before':>10}{'after':>10}{'change':>10}",
        *(
            f"{title:16}{first:10,}{last:10,}{last - first:+10,}"
            for title, first, last in zip(
                ("RSS, KiB", "descriptors", "threads", "processes below"), before, after, strict=True
            )
        ),
        "",
        (
            f"the nine others: {others['samples']} collections, {others['missed']} missed, "
            f"{others['wrong_steps']} lost or doubled, {missed} skipped by the daemon's count; "
            f"stall of the machine {others['stall'] * 1e3:.1f} ms, load average {os.getloadavg()[0]:.1f}"
        ),
    ]


def install(rig: Rig, built: bytes) -> None:
    """Put a version in its place."""
    temporary = rig.plugin_dir / ".new"
    temporary.write_bytes(built)
    temporary.rename(rig.plugin_dir / f"{NAME}.so")


def reload(rig: Rig, built: bytes, version: str) -> float:
    """Reload another version; return the seconds that the answer took."""
    install(rig, built)
    began = time.perf_counter()
    answer = rig.client.call("reload")
    seconds = time.perf_counter() - began
    if answer["reloaded"] != [NAME] or rig.row(NAME)["version"] != version:
        raise RuntimeError(f"version {version} does not run: {answer}")
    return seconds


def counted(rig: Rig) -> float:
    """Return how many collections the plugin has counted."""
    turns: float = rig.client.call("call", name=NAME, command="turns")
    return turns


def settle(rig: Rig) -> None:
    """Wait until the generation before has gone, which is kept as long as the new one is on probation."""
    collects = rig.row(NAME)["collects"]
    rig.wait(lambda: rig.row(NAME)["collects"] >= collects + 10, lambda: "it does not collect")


if __name__ == "__main__":
    main()
