"""I/O of every block device: bytes, operations, merges and time.

Sources: /proc/diskstats, described in the kernel's Documentation/admin-guide/iostats.rst, and /proc/partitions for
the sizes (proc(5)). A disk and its partitions are devices of their own: the disk's figures include theirs. What is
mounted is what process 1 sees (/proc/1/mounts): a service has mounts of its own.
"""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import psutil

from plugd.plugin import Counter, Gauge, Plugin, Sample, command

SECTOR_BYTES = 512  # the unit of /proc/diskstats, whatever the device's own sectors are
BLOCK_BYTES = 1024  # the unit of /proc/partitions
DEVICE = {"device": "system.device"}
DEVICE_AND_DIRECTION = {"device": "system.device", "direction": "disk.io.direction"}


class Direction(NamedTuple):
    """What a device did in one direction since boot: counts, bytes and seconds."""

    operations: int
    merged: int
    size_bytes: int
    time: float


class Device(NamedTuple):
    """One line of /proc/diskstats."""

    name: str
    read: Direction
    write: Direction
    io_time: float


class Disk(Plugin):
    """The block devices of the host."""

    version = "1.0.0"
    interval = 5.0  # seconds

    io = Counter("system.disk.io", unit="By", labels=DEVICE_AND_DIRECTION, help="Bytes read and written.")
    operations = Counter(
        "system.disk.operations", unit="{operation}", labels=DEVICE_AND_DIRECTION, help="Reads and writes completed."
    )
    io_time = Counter(
        "system.disk.io_time", unit="s", labels=DEVICE, help="Time with at least one operation in progress."
    )
    operation_time = Counter(
        "system.disk.operation_time",
        unit="s",
        labels=DEVICE_AND_DIRECTION,
        help="Time that all operations took together; parallel ones add up.",
    )
    merged = Counter(
        "system.disk.merged",
        unit="{operation}",
        labels=DEVICE_AND_DIRECTION,
        help="Operations merged with an adjacent one before they reached the device.",
    )
    limit = Gauge("system.disk.limit", unit="By", labels=DEVICE, help="Size of the device.")

    class Options:
        """Which devices to report, as shell patterns of their names."""

        include: tuple[str, ...] = ("*",)
        exclude: tuple[str, ...] = ("loop*", "ram*")

    def collect(self) -> Iterable[Sample]:
        """Yield the counters and the size of every device that the options select."""
        sizes = parse_partitions(read(f"{psutil.PROCFS_PATH}/partitions"))
        for device in parse_diskstats(read(f"{psutil.PROCFS_PATH}/diskstats")):
            name = device.name
            if not selected(name, self.options.include, self.options.exclude):
                continue
            for direction, done in (("read", device.read), ("write", device.write)):
                yield self.io(done.size_bytes, device=name, direction=direction)
                yield self.operations(done.operations, device=name, direction=direction)
                yield self.operation_time(done.time, device=name, direction=direction)
                yield self.merged(done.merged, device=name, direction=direction)
            yield self.io_time(device.io_time, device=name)
            if name in sizes:
                yield self.limit(sizes[name], device=name)

    @command
    def partitions(self, every: bool = False) -> list[dict[str, Any]]:
        """Mounted partitions: device, mountpoint, fstype and opts; with every, pseudo filesystems as well."""
        mounts = read(f"{psutil.PROCFS_PATH}/1/mounts") or read(f"{psutil.PROCFS_PATH}/self/mounts")
        stored = parse_stored(read(f"{psutil.PROCFS_PATH}/filesystems"))
        return [each for each in parse_mounts(mounts) if every or each["fstype"] in stored]


def read(path: str) -> str:
    """Return a file's text; empty where the host lacks the file or hides it."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def parse_diskstats(text: str) -> list[Device]:
    """Return the devices of /proc/diskstats in the kernel's order."""
    devices = []
    for line in text.splitlines():
        fields = line.split()
        if len(fields) < 14:  # Linux before 2.6.25 said only four things of a partition.
            continue
        counts = [int(field) for field in fields[3:13]]
        devices.append(Device(fields[2], direction(counts[0:4]), direction(counts[4:8]), counts[9] / 1e3))
    return devices


def direction(counts: Sequence[int]) -> Direction:
    """Make a direction of its four columns: operations, merged, sectors, milliseconds."""
    operations, merged, sectors, milliseconds = counts
    return Direction(operations, merged, sectors * SECTOR_BYTES, milliseconds / 1e3)


def parse_partitions(text: str) -> dict[str, int]:
    """Return the size in bytes of every device in /proc/partitions."""
    rows = (line.split() for line in text.splitlines())
    return {row[3]: int(row[2]) * BLOCK_BYTES for row in rows if len(row) == 4 and row[2].isdigit()}


def parse_mounts(text: str) -> list[dict[str, Any]]:
    """Return the mounts of a file such as /proc/1/mounts; its octal escapes are those of fstab(5)."""
    mounts = []
    for line in text.splitlines():
        fields = [unescape(field) for field in line.split(" ")]
        if len(fields) >= 4:
            mounts.append(dict(zip(("device", "mountpoint", "fstype", "opts"), fields, strict=False)))
    return mounts


def unescape(text: str) -> str:
    """Undo the octal escapes of space, tab, newline and backslash."""
    for escape, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(escape, character)
    return text


def parse_stored(text: str) -> set[str]:
    """Return the types of /proc/filesystems that are on devices; zfs has devices of its own and says "nodev"."""
    return {line.split()[-1] for line in text.splitlines() if line and not line.startswith("nodev")} | {"zfs"}


def selected(name: str, include: Iterable[str], exclude: Iterable[str]) -> bool:
    """Whether a name matches a pattern of ``include`` and none of ``exclude``."""
    return any(fnmatchcase(name, each) for each in include) and not any(fnmatchcase(name, each) for each in exclude)
