"""A C plugin that writes through NULL, again and again: ``python bench/native_crashes.py [--count N]``.

Nine other plugins collect every 100 ms meanwhile, and must miss nothing. Needs a C compiler.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TESTS = ROOT / "tests"
sys.path[:1] = [str(TESTS / "faults"), str(TESTS)]  # bench/harness.py is another one

from rig import NEIGHBOURS, Rig  # noqa: E402

NAME = "fatal"
SOURCE = """
#include <plugd.h>
#include <stdio.h>

static const struct plugd_metric metrics[] = {{.kind = PLUGD_COUNTER, .name = "fatal.turns"}};

static int collect(struct plugd_host *host, struct plugd_buffer *buffer)
{
    static int turn;
    plugd_emit(buffer, plugd_series0(host, 0), ++turn);
    printf("turn %d\\n", turn);
    if (turn == 5)
        *(volatile int *)0 = turn;
    return PLUGD_OK;
}

static const struct plugd_descriptor plugin = {
    .header = PLUGD_HEADER, .description = "Writes through NULL in its fifth collection.", .interval = 0.05,
    .metrics = metrics, .metric_count = 1, .collect = collect,
};

const struct plugd_descriptor *plugd_plugin(void) { return &plugin; }
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=50, help="crashes (default: 50)")
    options = parser.parse_args()
    if shutil.which("cc") is None:
        sys.exit("native_crashes.py: there is no cc on PATH")
    with tempfile.TemporaryDirectory(prefix="pc-") as directory, Rig(Path(directory), ()) as rig:
        print(*measure(rig, options.count), sep="\n")


def measure(rig: Rig, count: int) -> list[str]:
    """Have it crash so often; return the lines that tell what came of it."""
    build(rig.plugin_dir / f"{NAME}.so")
    rig.client.call("load", names=[NAME])
    crash(rig)
    pids, skipped, descriptors = rig.pids(), rig.skipped(), rig.descriptors()
    rig.probe.figures()
    deaths = sum(crash(rig) == "killed by SIGSEGV" for _ in range(count))
    others = rig.probe.figures()
    why = rig.client.call("why", name=NAME)
    # A generation that has died is freed by Python's collector of cycles, which comes as the daemon works on.
    rig.wait(lambda: rig.row(NAME) and rig.descriptors() <= descriptors, lambda: f"left: {rig.descriptors()}")
    return [
        f"$ plugctl why {NAME}",
        why["summary"],
        f"exit    {why['exit']}",
        f"output  {why['output'][-1]}",
        "",
        f"{count} crashes, {deaths} of them told as SIGSEGV",
        (
            f"the {len(NEIGHBOURS)} others: {others['samples']} collections, {others['missed']} missed, "
            f"{others['wrong_steps']} lost or doubled, {rig.skipped() - skipped} skipped by the daemon's count; "
            f"late at most {others['late_max'] * 1e3:.1f} ms"
        ),
        (
            f"their workers are {'the same' if rig.pids() == pids else 'NOT the same'}; "
            f"the daemon has {rig.descriptors() - descriptors:+} descriptors; "
            f"ping p99 {others['ping_p99'] * 1e3:.1f} ms"
        ),
    ]


def build(target: Path) -> None:
    """Compile it."""
    source = target.with_suffix(".c")
    source.write_text(SOURCE)
    command = ["cc", "-shared", "-fPIC", "-O1", f"-I{ROOT / 'plugd' / 'include'}", "-o", str(target), str(source)]
    subprocess.run(command, check=True)
    source.unlink()


def crash(rig: Rig) -> str:
    """Start it if it does not run, and wait until it has died; return how it did."""
    if rig.row(NAME)["state"] != "running":
        rig.client.call("reload", names=[NAME])
    rig.wait(lambda: rig.row(NAME)["state"] in ("backoff", "quarantined"), lambda: f"it lives: {rig.row(NAME)}")
    exit_text: str = rig.client.call("why", name=NAME)["exit"]
    return exit_text


if __name__ == "__main__":
    main()
