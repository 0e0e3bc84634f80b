"""Minimal Debian trees, made once by mmdebstrap or debootstrap and kept in ``.cache/systemd-trees``."""

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness import ROOT

CACHE = ROOT / ".cache" / "systemd-trees"  # `make clean` takes it away
BUILDING = 600.0  # seconds that the making of a tree may take, what it downloads included

PACKAGES = ("systemd", "systemd-sysv", "dbus", "man-db", "python3", "python3-venv", "procps")

# What a server has that nobody looks at, and what would change files while a test compares them.
MASKED = (
    "console-getty.service",
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "fstrim.timer",
    "man-db.timer",
    "systemd-tmpfiles-clean.timer",
)
USERS = ("alice", "mallory")  # a member of group plugd to be, and a stranger

CUSTOMISE = f"""
: >/etc/machine-id
rm -f /etc/hostname /etc/resolv.conf  # this machine's
for user in {" ".join(USERS)}; do useradd --create-home --shell /bin/sh "$user"; done
mkdir -p /etc/systemd/system
for unit in {" ".join(MASKED)}; do ln -sf /dev/null "/etc/systemd/system/$unit"; done
rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/cache/apt/archives/*.deb
"""


class UnavailableError(Exception):
    """A machine cannot be had here.

    Args:
        reason: why, with the command that mends it where there is one.
        preventable: whether ``.ci/run`` sees to it, where it runs as root: then it is no reason to skip.
    """

    def __init__(self, reason: str, *, preventable: bool) -> None:
        super().__init__(reason)
        self.preventable = preventable


@dataclass(frozen=True)
class Release:
    """A release of Debian."""

    name: str
    systemd: int
    python: str


RELEASES = {
    each.name: each
    for each in (Release("bookworm", systemd=252, python="3.11"), Release("trixie", systemd=257, python="3.13"))
}


@contextlib.contextmanager
def tree(release: Release, *further: str) -> Iterator[Path]:
    """Yield a directory with a release of Debian, which the caller leaves as it is; it is made where there is none.

    Args:
        release: which one.
        further: packages besides those that every tree has.

    Raises:
        UnavailableError: if it cannot be made.
    """
    path = make(release, *further)
    with locked(path, exclusive=False):  # Nobody takes it away while it is in use.
        yield path


def make(release: Release, *further: str) -> Path:
    """Make a tree where there is none, and return its directory; see :func:`tree`."""
    CACHE.mkdir(parents=True, exist_ok=True)
    CACHE.chmod(0o700)  # A tree holds programs that run as root whoever calls them.
    packages = (*PACKAGES, *further)
    key = hashlib.sha256(repr((release, packages, CUSTOMISE)).encode()).hexdigest()[:10]
    kind = f"{release.name}-{'build' if further else 'test'}"
    path = CACHE / f"{kind}-{key}"
    if not path.exists():
        with locked(path, exclusive=True):
            if not path.exists():  # Another run may have made it meanwhile.
                _make(path, release, packages)
    for other in CACHE.glob(f"{kind}-??????????"):
        if other != path:
            _remove_unused(other)
    return path


@contextlib.contextmanager
def locked(path: Path, *, exclusive: bool, wait: bool = True) -> Iterator[None]:
    """Keep other runs from a path, which need not exist: all of them, or those that want it ``exclusive``.

    Raises:
        BlockingIOError: if another has it, and ``wait`` is false.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | (0 if wait else fcntl.LOCK_NB))
        yield
    finally:
        os.close(descriptor)


def _make(path: Path, release: Release, packages: tuple[str, ...]) -> None:
    part = path.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)  # of one that was interrupted
    # Whatever they mount is gone with them, and they are gone when this process is.
    isolated = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--"]
    try:
        _run([*isolated, *_bootstrap(), f"--include={','.join(packages)}", release.name, str(part)], release)
        _run(["chroot", str(part), "sh", "-euc", CUSTOMISE], release)
        part.rename(path)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _bootstrap() -> list[str]:
    if shutil.which("mmdebstrap"):
        return ["mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", '--aptopt=Acquire::Retries "3"']
    if shutil.which("debootstrap"):
        return ["debootstrap", "--variant=minbase"]
    raise UnavailableError("there is no mmdebstrap: apt-get install mmdebstrap", preventable=True)


def _run(command: list[str], release: Release) -> None:
    environ = {
        "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin",
        "LC_ALL": "C.UTF-8",
        "DEBIAN_FRONTEND": "noninteractive",
    }
    environ |= {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
    try:
        done = subprocess.run(
            command,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=BUILDING,
            check=False,
        )
    except subprocess.TimeoutExpired:
        message = f"cannot make a tree of {release.name}: it took longer than {BUILDING:.0f} s"
        raise UnavailableError(message, preventable=True) from None
    if done.returncode:
        last = " / ".join(done.stdout.strip().splitlines()[-3:])
        message = f"cannot make a tree of {release.name} (network access to a Debian mirror is needed): {last}"
        raise UnavailableError(message, preventable=True)


def _remove_unused(path: Path) -> None:
    try:
        with locked(path, exclusive=True, wait=False):
            shutil.rmtree(path, ignore_errors=True)
    except BlockingIOError:
        pass  # Another run has a machine on it.
