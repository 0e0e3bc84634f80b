"""Memory by state, what is available, slab and huge pages; swap usage, page faults and swapping.

Sources: /proc/meminfo, /proc/swaps and /proc/vmstat (proc(5)).
"""

from collections.abc import Iterable

import psutil

from plugd.plugin import Counter, Gauge, Plugin, Sample

STATE = {"state": "system.memory.state"}
SLAB_STATE = {"state": "system.memory.linux.slab.state"}
HUGEPAGES_STATE = {"state": "system.memory.linux.hugepages.state"}
PAGING = {"state": "system.paging.state", "device": "system.device"}
VMSTAT_FIELDS = ("pgfault", "pgmajfault", "pswpin", "pswpout")


class Memory(Plugin):
    """The memory and the swap space of the host."""

    version = "1.0.0"
    interval = 5.0  # seconds

    usage = Gauge(
        "system.memory.usage", unit="By", labels=STATE, help="Memory by state; the states add up to the limit."
    )
    utilization = Gauge("system.memory.utilization", unit="1", labels=STATE, help="Share of the memory in each state.")
    limit = Gauge("system.memory.limit", unit="By", help="Memory that the kernel can use: MemTotal.")
    available = Gauge(
        "system.memory.linux.available",
        unit="By",
        help="Memory that new programs can have without swapping: MemAvailable.",
    )
    shared = Gauge("system.memory.linux.shared", unit="By", help="Shared memory and tmpfs, part of cached: Shmem.")
    slab = Gauge(
        "system.memory.linux.slab.usage",
        unit="By",
        labels=SLAB_STATE,
        help="The kernel's own objects: reclaimable ones, part of cached, and others, part of used.",
    )
    hugepages_usage = Gauge(
        "system.memory.linux.hugepages.usage",
        unit="{page}",
        labels=HUGEPAGES_STATE,
        help="Huge pages of the default size by state.",
    )
    hugepages_utilization = Gauge(
        "system.memory.linux.hugepages.utilization",
        unit="1",
        labels=HUGEPAGES_STATE,
        help="Share of the huge pages in each state.",
    )
    hugepages_limit = Gauge(
        "system.memory.linux.hugepages.limit", unit="{page}", help="Huge pages in the pool of the default size."
    )
    hugepages_size = Gauge("system.memory.linux.hugepages.page_size", unit="By", help="Default size of a huge page.")
    hugepages_reserved = Gauge(
        "system.memory.linux.hugepages.reserved", unit="{page}", help="Huge pages promised and not yet allocated."
    )
    hugepages_surplus = Gauge(
        "system.memory.linux.hugepages.surplus", unit="{page}", help="Huge pages beyond the configured pool."
    )
    paging_usage = Gauge(
        "system.paging.usage", unit="By", labels=PAGING, help="Swap space by state, of each swap area."
    )
    paging_utilization = Gauge(
        "system.paging.utilization", unit="1", labels=PAGING, help="Share of each swap area in each state."
    )
    faults = Counter(
        "system.paging.faults",
        unit="{fault}",
        labels={"type": "system.paging.fault.type"},
        help="Page faults since boot: major ones had to read from disk, minor ones did not.",
    )
    operations = Counter(
        "system.paging.operations",
        unit="{operation}",
        labels={"type": "system.paging.fault.type", "direction": "system.paging.direction"},
        help="Pages swapped in and out since boot.",
    )

    def collect(self) -> Iterable[Sample]:
        """Yield what each of the three files has; a host without swap has no swap areas."""
        yield from self.collect_memory(parse_meminfo(read(f"{psutil.PROCFS_PATH}/meminfo")))
        for device, size, used in parse_swaps(read(f"{psutil.PROCFS_PATH}/swaps")):
            for state, value in (("used", used), ("free", size - used)):
                yield self.paging_usage(value, state=state, device=device)
                yield self.paging_utilization(value / size, state=state, device=device)
        yield from self.collect_paging(parse_vmstat(read(f"{psutil.PROCFS_PATH}/vmstat")))

    def collect_memory(self, info: dict[str, int]) -> Iterable[Sample]:
        """Yield memory by state, and the rest of what /proc/meminfo has."""
        total = info.get("MemTotal", 0)
        if total:
            for state, value in memory_states(info).items():
                yield self.usage(value, state=state)
                yield self.utilization(value / total, state=state)
            yield self.limit(total)
        if "MemAvailable" in info:
            yield self.available(info["MemAvailable"])
        if "Shmem" in info:
            yield self.shared(info["Shmem"])
        for state, field in (("reclaimable", "SReclaimable"), ("unreclaimable", "SUnreclaim")):
            if field in info:
                yield self.slab(info[field], state=state)
        if info.get("HugePages_Total"):
            yield from self.collect_hugepages(info)

    def collect_hugepages(self, info: dict[str, int]) -> Iterable[Sample]:
        """Yield the pool of huge pages, whose memory counts as used in the states."""
        total, free = info["HugePages_Total"], info.get("HugePages_Free", 0)
        for state, value in (("used", total - free), ("free", free)):
            yield self.hugepages_usage(value, state=state)
            yield self.hugepages_utilization(value / total, state=state)
        yield self.hugepages_limit(total)
        yield self.hugepages_size(info.get("Hugepagesize", 0))
        yield self.hugepages_reserved(info.get("HugePages_Rsvd", 0))
        yield self.hugepages_surplus(info.get("HugePages_Surp", 0))

    def collect_paging(self, stat: dict[str, int]) -> Iterable[Sample]:
        """Yield faults and swapping.

        Operations have the type major only: for the page cache /proc/vmstat counts KiB (pgpgin, pgpgout), and
        those are no operations.
        """
        if "pgfault" in stat and "pgmajfault" in stat:
            yield self.faults(stat["pgfault"] - stat["pgmajfault"], type="minor")  # pgfault counts both
            yield self.faults(stat["pgmajfault"], type="major")
        for direction, field in (("in", "pswpin"), ("out", "pswpout")):
            if field in stat:
                yield self.operations(stat[field], type="major", direction=direction)


def read(path: str) -> str:
    """Return a file's text; empty where the host lacks the file or hides it."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def parse_meminfo(text: str) -> dict[str, int]:
    """Return the fields of /proc/meminfo: sizes in bytes, huge pages as counts."""
    info = {}
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        fields = rest.split()
        if fields and fields[0].isdigit():
            info[name] = int(fields[0]) * (1024 if fields[-1] == "kB" else 1)
    return info


def memory_states(info: dict[str, int]) -> dict[str, int]:
    """Split the memory into states that do not overlap: bytes of each, MemTotal together.

    As in free(1), cached is the page cache with the reclaimable slab, and used is what remains.
    """
    free, buffers = info.get("MemFree", 0), info.get("Buffers", 0)
    cached = info.get("Cached", 0) + info.get("SReclaimable", 0)
    used = info["MemTotal"] - free - buffers - cached
    if used < 0:  # In some containers the total is the container's and the cache is the host's.
        return {"used": info["MemTotal"] - free, "free": free}
    return {"used": used, "free": free, "buffers": buffers, "cached": cached}


def parse_swaps(text: str) -> list[tuple[str, int, int]]:
    """Return device or file, size and used bytes of each swap area in /proc/swaps."""
    areas = []
    for line in text.splitlines()[1:]:
        fields = line.split()
        if len(fields) >= 4 and int(fields[2]) > 0:
            # seq_file escapes white space: "\040" is a space
            device = fields[0].replace("\\040", " ").replace("\\011", "\t")
            areas.append((device, int(fields[2]) * 1024, int(fields[3]) * 1024))
    return areas


def parse_vmstat(text: str) -> dict[str, int]:
    """Return those of /proc/vmstat's nearly two hundred counters that are used here."""
    stat = {}
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if name in VMSTAT_FIELDS:
            stat[name] = int(value)
    return stat
