"""A file system that plugd can be installed into with --root, and what tests ask of it."""

import json
import os
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
from harness import BIN

UNITS = "usr/local/lib/systemd/system"
SERVICE = f"{UNITS}/plugd.service"
MANIFEST = "var/lib/plugd-install/manifest.json"

# The copies that the system's own programs keep of what they change.
BACKUPS = {f"etc/{name}" for name in ("passwd-", "group-", "shadow-", "gshadow-", ".pwd.lock")}

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

needs_systemd = pytest.mark.skipif(
    not all(shutil.which(name, path=_PATH) for name in ("systemctl", "systemd-sysusers", "userdel")),
    reason="needs systemd's programs, and shadow's: apt-get install systemd passwd",
)


class Image:
    """The file system of a system that does not run."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for directory in ("etc/systemd/system", "usr/local/bin", "var/lib"):
            (root / directory).mkdir(parents=True)
        self.write("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n")
        self.write("etc/group", "root:x:0:\n")
        self.write("etc/shadow", "root:*:19000:0:99999:7:::\n")
        self.write("etc/gshadow", "root:*::\n")

    def write(self, path: str, text: str) -> None:
        """Write a file, and the directories above it."""
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text)

    def read(self, path: str) -> str:
        """Return a file's text."""
        return (self.root / path).read_text()

    def exists(self, path: str) -> bool:
        """Whether there is such a file, or a link, and be it broken."""
        return os.path.lexists(self.root / path)

    def plugd(self, verb: str, *arguments: str, status: int = 0) -> str:
        """Run ``plugd install`` or ``plugd uninstall`` with this root; return what it printed, and check its status."""
        done = run(verb, "--root", str(self.root), *arguments)
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr

    def plugd_json(self, verb: str, *arguments: str, status: int = 0) -> Any:
        """Return what it says with --json."""
        done = run(verb, "--root", str(self.root), "--json", *arguments)
        assert done.returncode == status, done.stdout + done.stderr
        return json.loads(done.stdout)

    def manifest(self) -> Any:
        """Return what is written down of the installation."""
        return json.loads(self.read(MANIFEST))

    def snapshot(self) -> dict[str, tuple[str, int, str]]:
        """Return every path with its kind, mode and content; but for backups of the system's own."""
        return {path: state for path, state in snapshot(self.root).items() if path not in BACKUPS}


def run(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run plugd, as it is installed for the tests, in an environment of its own."""
    return subprocess.run(
        [BIN / "plugd", *arguments],
        env={"PATH": os.environ["PATH"]},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        **options,
    )


def snapshot(root: Path) -> dict[str, tuple[str, int, str]]:
    """Return every path below a directory with its kind, mode and content."""
    found = {}
    for directory, names, files in os.walk(root):
        for name in [*names, *files]:
            path = Path(directory, name)
            status = path.lstat()
            if path.is_symlink():
                kind, content = "link", os.readlink(path)
            elif path.is_dir():
                kind, content = "directory", ""
            else:
                kind, content = "file", path.read_bytes().decode(errors="replace")
            found[str(path.relative_to(root))] = kind, stat.S_IMODE(status.st_mode), content
    return found


def changes(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    """Return the paths that are not the same in both."""
    return {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
