"""CPU time, utilization and frequency of every processor, context switches and interrupts.

Sources: /proc/stat for everything counted (proc(5)), read once per collection; the frequency from
/sys/devices/system/cpu/cpu*/cpufreq/scaling_cur_freq, and where there is no cpufreq driver, as in most virtual
machines, from /proc/cpuinfo.
"""

import os
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import psutil

from plugd.plugin import Counter, Gauge, Plugin, Sample, command

# The columns of a cpu line. The two that follow, guest and guest_nice, are part of user and nice already.
MODES = ("user", "nice", "system", "idle", "iowait", "interrupt", "softirq", "steal")
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
STEP_BACK = 3 * TICKS_PER_SECOND  # 3 seconds, more than the kernel's corrections ever take back
LABELS = {"mode": "cpu.mode", "cpu": "cpu.logical_number"}


class Stat(NamedTuple):
    """What /proc/stat says of the CPUs: ticks by mode of each online one, and the totals that it has."""

    cpus: dict[int, list[int]]
    context_switches: int | None
    interrupts: int | None


class Cpu(Plugin):
    """The processors of the host."""

    version = "1.0.0"
    interval = 5.0  # seconds

    time = Counter("system.cpu.time", unit="s", labels=LABELS, help="Time each CPU spent in each mode.")
    utilization = Gauge(
        "system.cpu.utilization",
        unit="1",
        labels=LABELS,
        help="Share of the time since the last collection that each CPU spent in each mode.",
    )
    frequency = Gauge(
        "system.cpu.frequency",
        unit="Hz",
        labels={"cpu": "cpu.logical_number"},
        help="Current clock frequency of each CPU.",
    )
    logical = Gauge("system.cpu.logical.count", unit="{cpu}", help="CPUs that are online, hardware threads included.")
    physical = Gauge("system.cpu.physical.count", unit="{cpu}", help="Physical processor cores.")
    context_switches = Counter(
        "system.cpu.context_switches", unit="{context_switch}", help="Context switches on all CPUs since boot."
    )
    interrupts = Counter("system.cpu.interrupts", unit="{interrupt}", help="Interrupts serviced since boot.")

    class Options:
        """What may be left out."""

        frequency: bool = True
        """Whether to read frequencies; some drivers take milliseconds for each CPU."""

    def start(self) -> None:
        """Begin with nothing measured: the first collection has no utilization."""
        self.ticks: dict[int, list[int]] = {}
        self.cores: int | None = None

    def collect(self) -> Iterable[Sample]:
        """Yield time and utilization per CPU and mode, then frequencies, counts and totals."""
        stat = parse_stat(read(f"{psutil.PROCFS_PATH}/stat"))
        if len(stat.cpus) != len(self.ticks):  # The first time, and when a CPU went on- or offline.
            self.cores = psutil.cpu_count(logical=False)
        ticks = {cpu: advance(self.ticks.get(cpu, now), now) for cpu, now in stat.cpus.items()}
        for cpu, now in ticks.items():
            for mode, value in zip(MODES, now, strict=False):
                yield self.time(value / TICKS_PER_SECOND, mode=mode, cpu=cpu)
            if cpu in self.ticks:
                for mode, share in zip(MODES, shares(self.ticks[cpu], now), strict=False):
                    yield self.utilization(share, mode=mode, cpu=cpu)
        self.ticks = ticks
        if self.options.frequency:
            for cpu, hertz in read_frequencies(ticks).items():
                yield self.frequency(hertz, cpu=cpu)
        if ticks:
            yield self.logical(len(ticks))
        if self.cores:
            yield self.physical(self.cores)
        if stat.context_switches is not None:
            yield self.context_switches(stat.context_switches)
        if stat.interrupts is not None:
            yield self.interrupts(stat.interrupts)

    def save_state(self) -> dict[str, list[int]]:
        """Keep the last ticks, so that a reload leaves no gap in the utilization."""
        return {str(cpu): ticks for cpu, ticks in self.ticks.items()}

    def load_state(self, state: dict[str, list[int]]) -> None:
        """Measure on from where the generation before stopped."""
        self.ticks = {int(cpu): list(ticks) for cpu, ticks in state.items()}
        self.cores = psutil.cpu_count(logical=False)

    @command
    def info(self) -> list[dict[str, Any]]:
        """Model, frequency in MHz, cores and flags of each processor, from /proc/cpuinfo."""
        return [describe_processor(fields) for fields in parse_cpuinfo(read(f"{psutil.PROCFS_PATH}/cpuinfo"))]


def read(path: str) -> str:
    """Return a file's text; empty where the host lacks the file or hides it."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def parse_stat(text: str) -> Stat:
    """Take the CPUs' ticks and the totals from /proc/stat."""
    cpus: dict[int, list[int]] = {}
    totals: dict[str, int] = {}
    for line in text.splitlines():
        name, _, rest = line.partition(" ")
        if name.startswith("cpu") and name[3:].isdigit():
            cpus[int(name[3:])] = [int(field) for field in rest.split()[: len(MODES)]]
        elif name in ("ctxt", "intr"):
            totals[name] = int(rest.split(maxsplit=1)[0])  # intr goes on with a number for every interrupt
    return Stat(cpus, totals.get("ctxt"), totals.get("intr"))


def advance(before: Sequence[int], now: Sequence[int]) -> list[int]:
    """Return ``now``, but never a little less than ``before``.

    The kernel corrects idle and iowait downwards by some ticks now and then (proc(5) says so of iowait), which
    a reader of counters would take for a restart. A CPU that was offline does start anew: its fall is larger.
    """
    return [max(old, new) if old - new < STEP_BACK else new for old, new in zip(before, now, strict=False)]


def shares(before: Sequence[int], now: Sequence[int]) -> list[float]:
    """Return each mode's share of the ticks between two readings; empty if none passed, or if they restarted."""
    deltas = [new - old for old, new in zip(before, now, strict=False)]
    total = sum(deltas)
    return [delta / total for delta in deltas] if total > 0 and min(deltas) >= 0 else []


def read_frequencies(cpus: Iterable[int]) -> dict[int, float]:
    """Return the frequency of each CPU in Hz; empty where neither cpufreq nor /proc/cpuinfo knows."""
    frequencies = {}
    for cpu in cpus:
        text = read(f"/sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_cur_freq").strip()
        if not text.isdigit():  # "<unknown>", or no driver: then no other CPU has one either
            break
        frequencies[cpu] = int(text) * 1e3  # kHz
    if frequencies:
        return frequencies
    processors = map(describe_processor, parse_cpuinfo(read(f"{psutil.PROCFS_PATH}/cpuinfo")))
    return {each["processor"]: each["mhz"] * 1e6 for each in processors if each["mhz"] is not None}


def parse_cpuinfo(text: str) -> list[dict[str, str]]:
    """Return the fields of each processor's paragraph in /proc/cpuinfo; architectures differ in which there are."""
    processors = []
    for paragraph in text.split("\n\n"):
        pairs = (line.partition(":") for line in paragraph.splitlines())
        fields = {name.strip(): value.strip() for name, _, value in pairs}
        if fields.get("processor", "").isdigit():
            processors.append(fields)
    return processors


def describe_processor(fields: dict[str, str]) -> dict[str, Any]:
    """Return what the ``info`` command tells of one processor; None for what its architecture does not say."""
    cores = fields.get("cpu cores", "")
    return {
        "processor": int(fields["processor"]),
        "vendor": fields.get("vendor_id") or fields.get("CPU implementer"),
        "model": fields.get("model name") or fields.get("cpu model"),
        "mhz": number(fields.get("cpu MHz", "")),
        "cores": int(cores) if cores.isdigit() else None,
        "flags": (fields.get("flags") or fields.get("Features") or "").split(),
    }


def number(text: str) -> float | None:
    """Return the number that the text is, or None."""
    try:
        return float(text)
    except ValueError:
        return None
