"""Space and inodes of every mounted filesystem.

Sources: /proc/1/mountinfo (proc(5)) for what is mounted, statvfs(3) for the rest. A service has mounts of its own: its
directories, others hidden, nearly all of them read-only. So it is process 1 that says what the host has, and
/proc/self/mountinfo where each of it can be reached; what is hidden from the service altogether has no samples.
"""

import os
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import NamedTuple

import psutil

from plugd.plugin import Gauge, Plugin, Sample

MOUNT = {
    "device": "system.device",
    "type": "system.filesystem.type",
    "mode": "system.filesystem.mode",
    "mountpoint": "system.filesystem.mountpoint",
}
MOUNT_AND_STATE = {"state": "system.filesystem.state", **MOUNT}

# Those with no storage behind them, those that are full by nature, and autofs, which mounts when it is looked at.
# tmpfs, overlay and the like can fill up, and stay.
PSEUDO_TYPES = (
    "autofs",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "efivarfs",
    "fuse.gvfsd-fuse",
    "fuse.lxcfs",
    "fuse.portal",
    "fusectl",
    "hugetlbfs",
    "iso9660",
    "mqueue",
    "nfsd",
    "nsfs",
    "proc",
    "pstore",
    "ramfs",
    "rpc_pipefs",
    "securityfs",
    "selinuxfs",
    "squashfs",
    "sysfs",
    "tracefs",
)
REMOTE_TYPES = ("9p", "afs", "ceph", "cifs", "fuse.sshfs", "fuse.glusterfs", "lustre", "nfs", "nfs4", "smb3", "smbfs")
CONTAINER_MOUNTS = (
    "/dev",  # a tmpfs there, as /sys can be one
    "/proc/*",
    "/sys",
    "/sys/*",
    "/run/credentials/*",
    "/run/docker/*",
    "/var/lib/docker/*",
    "/var/lib/containers/*",
    "/var/lib/kubelet/pods/*",
)


class Mount(NamedTuple):
    """One line of /proc/self/mountinfo: what is mounted where, and which part (``root``) of which filesystem."""

    number: str
    root: str
    mountpoint: str
    mode: str
    type: str
    device: str


class Space(NamedTuple):
    """What statvfs(3) says of a filesystem: bytes by state, inodes by state."""

    size_bytes: dict[str, int]
    inodes: dict[str, int]


class Filesystem(Plugin):
    """The mounted filesystems of the host, each of them once."""

    version = "1.0.0"
    interval = 30.0  # seconds

    usage = Gauge(
        "system.filesystem.usage",
        unit="By",
        labels=MOUNT_AND_STATE,
        help="Space by state: used, free for everyone, and reserved for root; together the limit.",
    )
    utilization = Gauge(
        "system.filesystem.utilization", unit="1", labels=MOUNT_AND_STATE, help="Share of the space in each state."
    )
    limit = Gauge("system.filesystem.limit", unit="By", labels=MOUNT, help="Size of the filesystem.")
    inodes_usage = Gauge(
        "system.filesystem.inodes.usage", unit="{inode}", labels=MOUNT_AND_STATE, help="Inodes used and free."
    )
    inodes_limit = Gauge(
        "system.filesystem.inodes.limit", unit="{inode}", labels=MOUNT, help="Inodes that the filesystem can have."
    )

    class Options:
        """Which filesystems to report; types and mountpoints are shell patterns."""

        exclude_types: tuple[str, ...] = PSEUDO_TYPES
        exclude_mounts: tuple[str, ...] = CONTAINER_MOUNTS
        remote: bool = False
        """Whether to look at network filesystems. When their server is away the call blocks until the
        collection's deadline, which costs the local ones' samples too: better in an instance of its own."""

    def collect(self) -> Iterable[Sample]:
        """Yield space and inodes of every filesystem that the options select."""
        own = parse_mountinfo(read(f"{psutil.PROCFS_PATH}/self/mountinfo"))
        host = parse_mountinfo(read(f"{psutil.PROCFS_PATH}/1/mountinfo")) or own  # hidepid may hide process 1
        for mount, place in located(distinct(filter(self.selects, host)), own):
            try:
                space = split_space(os.statvfs(place))
            except OSError:
                continue  # Unmounted since it was listed, or this user may not look at it.
            yield from self.collect_mount(mount, space)

    def selects(self, mount: Mount) -> bool:
        """Whether the options select this mount."""
        if any(fnmatchcase(mount.type, pattern) for pattern in self.options.exclude_types):
            return False
        if mount.type in REMOTE_TYPES and not self.options.remote:
            return False
        return not any(fnmatchcase(mount.mountpoint, pattern) for pattern in self.options.exclude_mounts)

    def collect_mount(self, mount: Mount, space: Space) -> Iterable[Sample]:
        """Yield the samples of one filesystem; none if it has no size, as pseudo filesystems have not."""
        device, kind, mode, mountpoint = mount.device, mount.type, mount.mode, mount.mountpoint
        total = sum(space.size_bytes.values())
        if total:
            for state, value in space.size_bytes.items():
                yield self.usage(value, state=state, device=device, type=kind, mode=mode, mountpoint=mountpoint)
                yield self.utilization(
                    value / total, state=state, device=device, type=kind, mode=mode, mountpoint=mountpoint
                )
            yield self.limit(total, device=device, type=kind, mode=mode, mountpoint=mountpoint)
        inodes = sum(space.inodes.values())
        if total and inodes:  # Some, such as btrfs, make inodes as they need them and say 0.
            for state, value in space.inodes.items():
                yield self.inodes_usage(value, state=state, device=device, type=kind, mode=mode, mountpoint=mountpoint)
            yield self.inodes_limit(inodes, device=device, type=kind, mode=mode, mountpoint=mountpoint)


def read(path: str) -> str:
    """Return a file's text; empty where the host lacks the file or hides it."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def parse_mountinfo(text: str) -> list[Mount]:
    """Return the mounts in the order in which they were made."""
    mounts = []
    for line in text.splitlines():
        fields = line.split(" ")
        if "-" not in fields[6:]:
            continue
        end = fields.index("-", 6)  # any number of optional fields stand before it
        kind, device = fields[end + 1], fields[end + 2]
        mode = "ro" if "ro" in fields[5].split(",") else "rw"
        mounts.append(Mount(fields[2], unescape(fields[3]), unescape(fields[4]), mode, kind, unescape(device)))
    return mounts


def unescape(text: str) -> str:
    """Undo mountinfo's octal escapes of space, tab, newline and backslash."""
    for escape, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(escape, character)
    return text


def distinct(mounts: Iterable[Mount]) -> list[Mount]:
    """Keep one mount of each filesystem.

    Of several mounts at one place only the last can be seen. Of the several places of one filesystem (bind mounts,
    subvolumes) the one that shows it whole is kept, or else the one with the shortest path.
    """
    visible = {mount.mountpoint: mount for mount in mounts}
    kept: dict[str, Mount] = {}
    for mount in sorted(visible.values(), key=lambda each: (each.root != "/", len(each.mountpoint), each.mountpoint)):
        kept.setdefault(mount.number, mount)
    return list(kept.values())


def located(mounts: Iterable[Mount], own: Iterable[Mount]) -> list[tuple[Mount, str]]:
    """Return each mount with a path at which this process can see its filesystem; not those that it cannot see.

    Mostly that is the mount's own mountpoint. Where this process sees something else there, any other place of the
    same filesystem will do: its space is the same everywhere.
    """
    visible = {mount.mountpoint: mount for mount in own}
    anywhere = {mount.number: mount.mountpoint for mount in distinct(visible.values())}
    places = []
    for mount in mounts:
        at_mountpoint = visible.get(mount.mountpoint)
        if at_mountpoint is not None and at_mountpoint.number == mount.number:
            places.append((mount, mount.mountpoint))
        elif mount.number in anywhere:
            places.append((mount, anywhere[mount.number]))
    return places


def split_space(stat: os.statvfs_result) -> Space:
    """Split a filesystem's blocks and inodes by state; what root alone may use is reserved."""
    unit = stat.f_frsize or stat.f_bsize
    blocks = {
        "used": stat.f_blocks - stat.f_bfree,
        "free": stat.f_bavail,
        "reserved": max(0, stat.f_bfree - stat.f_bavail),
    }
    inodes = {"used": stat.f_files - stat.f_ffree, "free": stat.f_ffree}
    return Space({state: count * unit for state, count in blocks.items()}, inodes)
