"""Microseconds per sample, by kind of plugin, at 10 and at 10,000 samples a collection: ``python bench/samples.py``.

Each plugin has one metric with one label; its values change each time, its series do not. For each there is a daemon of
its own, with that plugin alone. The program on stdio is in Python, with msgpack's extension. Where go or cc is missing,
its row is left out.
"""

import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
from typing import Any, NamedTuple

from harness import ROOT, Daemon, children, compile_bytecode, cost_of

NUMBERS = (10, 10_000)  # of samples
INTERVALS = {10: 0.02, 10_000: 0.25}  # seconds
WARM_UP = 2.0  # seconds
NAME = "many"
INCLUDE = ROOT / "plugd" / "include"

PYTHON = '''"""Many samples."""

from plugd.plugin import Gauge, Plugin


class Many(Plugin):
    interval = INTERVAL
    value = Gauge("many.value", labels=("n",))
    turn = 0.0

    def collect(self):
        self.turn += 0.25
        for number in range(SAMPLES):
            yield self.value(number + self.turn, n=number)
'''

GO = """package main

import (
	"plugd"
	"strconv"
)

type Many struct {
	turn   float64
	series []*plugd.Series
}

func (*Many) Name() string { return "many" }
func (*Many) Desc() string { return "Many samples." }

var value = plugd.Gauge("many.value", "1", "", "n")

func (m *Many) Open() error {
	for number := 0; number < SAMPLES; number++ {
		m.series = append(m.series, value.Series(strconv.Itoa(number)))
	}
	return nil
}

func (m *Many) Collect(samples *plugd.Samples) error {
	m.turn += 0.25
	for number, series := range m.series {
		samples.AddTo(series, float64(number)+m.turn)
	}
	return nil
}

func init() { plugd.Register(&Many{}) }

func main() {}
"""

STDIO = """import os
import msgpack

turn = 0.0
unpacker = msgpack.Unpacker()
while data := os.read(0, 65536):
    unpacker.feed(data)
    for _, number, method, params in unpacker:
        result = None
        if method == "load":
            metrics = [{"name": "many.value", "labels": ["n"]}]
            result = {"version": "1.0", "description": "Many samples.", "interval": INTERVAL, "metrics": metrics}
        elif method == "collect":
            turn += 0.25
            result = [["many.value", each + turn, {"n": str(each)}] for each in range(SAMPLES)]
        answer = msgpack.packb([1, number, None, result])
        while answer:
            answer = answer[os.write(1, answer):]
"""


class Cost(NamedTuple):
    """Of one collection, in microseconds."""

    collections: int
    trip: float  # from the daemon's request to the answer, median
    worker_cpu: float
    program_cpu: float  # of what the worker has started
    daemon_cpu: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0, help="length of each measurement (default: 10)")
    options = parser.parse_args()
    compile_bytecode()
    print(f"{'':10}{'samples':>9}{'rounds':>8}{'trip':>10}{'CPU: worker':>13}{'program':>9}{'daemon':>9}"
          f"{'per sample: trip':>18}{'all CPU':>9}")  # fmt: skip
    for samples in NUMBERS:
        for kind in KINDS:
            with tempfile.TemporaryDirectory(prefix="plugd-samples-") as directory:
                daemon = KINDS[kind](pathlib.Path(directory), samples)
                if daemon is not None:
                    print(row(kind, samples, measure(daemon, options.seconds)), flush=True)
    print(f"µs; load average {os.getloadavg()[0]:.2f}")


def row(kind: str, samples: int, cost: Cost) -> str:
    cpu = cost.worker_cpu + cost.program_cpu + cost.daemon_cpu
    return (
        f"{kind:10}{samples:9,}{cost.collections:8,}{cost.trip:10,.0f}{cost.worker_cpu:13,.0f}{cost.program_cpu:9,.0f}"
        f"{cost.daemon_cpu:9,.0f}{cost.trip / samples:18,.3f}{cpu / samples:9,.3f}"
    )


def measure(prepared: Daemon, seconds: float) -> Cost:
    """Start a daemon, and return what a collection of its only plugin costs."""
    with prepared as daemon:
        time.sleep(WARM_UP)
        worker = next(pid for pid, role in daemon.roles().items() if role == "worker")
        pids = {daemon.pid: "daemon", worker: "worker"} | dict.fromkeys(children(worker), "program")
        before, collects = {pid: cost_of(pid).cpu_ns for pid in pids}, figures(daemon)["collects"]
        time.sleep(seconds)
        after, last = {pid: cost_of(pid).cpu_ns for pid in pids}, figures(daemon)
    rounds = last["collects"] - collects
    cpu = dict.fromkeys(("daemon", "worker", "program"), 0.0)
    for pid, role in pids.items():
        cpu[role] += (after[pid] - before[pid]) / rounds / 1e3
    return Cost(rounds, last["duration_p50"] * 1e6, cpu["worker"], cpu["program"], cpu["daemon"])


def figures(daemon: Daemon) -> dict[str, Any]:
    found: dict[str, Any] = daemon.request("stats")["plugins"][NAME]
    if found["failures"] or found["dropped"]:
        raise RuntimeError(f"it does not work: {found}")
    return found


def configuration(samples: int) -> str:
    return f"[plugins.{NAME}]\ninterval = {INTERVALS[samples]}\n"


def filled(source: str, samples: int) -> str:
    return source.replace("SAMPLES", str(samples)).replace("INTERVAL", str(INTERVALS[samples]))


def with_python(_: pathlib.Path, samples: int) -> Daemon:
    return Daemon((), configuration(samples), {NAME: filled(PYTHON, samples)})


def with_c(directory: pathlib.Path, samples: int) -> Daemon | None:
    if shutil.which("cc") is None:
        return None
    source, built = ROOT / "tests" / "native" / "plugins" / "many.c", directory / "many.so"
    flags = ["-O2", "-shared", "-fPIC", f"-I{INCLUDE}", f"-DSERIES={samples}"]
    subprocess.run(["cc", *flags, "-o", str(built), str(source)], check=True)
    return native(built, samples)


def with_go(directory: pathlib.Path, samples: int) -> Daemon | None:
    if shutil.which("go") is None or shutil.which("cc") is None:
        return None
    package = ROOT / "examples" / "go" / "plugd"
    (directory / "go.mod").write_text(f"module many\n\ngo 1.19\n\nrequire plugd v0.0.0\n\nreplace plugd => {package}\n")
    (directory / "many.go").write_text(filled(GO, samples))
    environ = os.environ | {
        "GOCACHE": os.environ.get("GOCACHE") or str(ROOT / ".cache" / "go-build"),
        "GOPROXY": "off",
        "CGO_CFLAGS": f"-O2 -I{INCLUDE}",
    }
    command = ["go", "build", "-buildmode=c-shared", "-o", "many.so", "many.go"]
    subprocess.run(command, cwd=directory, env=environ, check=True)
    return native(directory / "many.so", samples)


def native(built: pathlib.Path, samples: int) -> Daemon:
    daemon = Daemon((), configuration(samples))
    shutil.copyfile(built, daemon.plugin_dir / f"{NAME}.so")
    daemon.plugins = (NAME,)
    return daemon


def with_stdio(directory: pathlib.Path, samples: int) -> Daemon:
    program = directory / "many"
    program.write_text(f"#!{sys.executable} -I\n{filled(STDIO, samples)}")
    program.chmod(0o755)
    text = f'{configuration(samples)}command = ["{program}"]\nformat = "plugd"\n'
    daemon = Daemon((), text)
    daemon.plugins = (NAME,)
    return daemon


KINDS = {"C": with_c, "Go": with_go, "Python": with_python, "stdio": with_stdio}


if __name__ == "__main__":
    main()
