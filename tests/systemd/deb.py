"""The .deb of the sources at hand, made by ``make deb`` for a release of Debian, and one of a higher version."""

import contextlib
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from harness import ROOT
from machine import booted
from tree import Release, UnavailableError, locked

CACHE = ROOT / ".cache" / "systemd-debs"  # by the bytes of what they are made of
KEPT = 4  # packages of each release
BUILDING = 300.0  # seconds
# What packaging/build-deb asks for.
BUILD_PACKAGES = ("debhelper", "dpkg-dev", "make")
# What packaging/build-deb reads, and `make deb` with it.
SOURCES = (
    *("plugd", "plugctl", "plugins", "systemd", "packaging", "docs"),
    *("pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE", "Makefile"),
)


def wheels(release: Release) -> Path:
    """Return the directory of the wheels that plugd needs on a release, which ``make wheels`` fills once.

    Raises:
        UnavailableError: if they cannot be fetched.
    """
    directory = ROOT / "build" / "wheels" / f"{release.python}-{platform.machine()}"
    variables = [f"PYTHON_VERSION={release.python}", f"WHEELS={directory}"]
    with locked(CACHE / "wheels", exclusive=True):
        done = _run("make", "--no-print-directory", "-C", str(ROOT), "wheels", *variables)
    if done.returncode:
        message = f"cannot fetch the wheels (network access to a package index is needed): {_last(done)}"
        raise UnavailableError(message, preventable=True)
    return directory


def built(release: Release) -> Path:
    """Return the package of the sources as they are, for a release: on it, or on a machine that has it.

    Raises:
        UnavailableError: if what it is made of cannot be had.
    """
    directory_of_wheels = wheels(release)
    with copied_sources() as sources:
        kept = CACHE / f"{release.name}-{_digest(sources, directory_of_wheels)}"
        with locked(kept, exclusive=True):
            if not kept.exists():
                package = (_build_here if _is_here(release) else _build_there)(release, sources, directory_of_wheels)
                part = Path(tempfile.mkdtemp(dir=CACHE, suffix=".part"))
                shutil.copy(package, part)
                part.rename(kept)
                for old in sorted(CACHE.glob(f"{release.name}-*/"), key=os.path.getmtime)[:-KEPT]:
                    shutil.rmtree(old)
        return next(kept.glob("*.deb"))


@contextlib.contextmanager
def copied_sources() -> Iterator[Path]:
    """Yield a directory with a copy of what packages are made of."""
    with tempfile.TemporaryDirectory(prefix="plugd-test-deb-") as directory:
        target = Path(directory, "plugd")
        target.mkdir()
        for name in SOURCES:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
            else:
                shutil.copy2(ROOT / name, target / name)
        yield target


def raised(package: Path, version: str, directory: Path) -> Path:
    """Return a copy of a package with a higher version, in a directory: what an upgrade brings."""
    inside = directory / "raised"
    subprocess.run(["dpkg-deb", "--raw-extract", package, inside], check=True)
    control = inside / "DEBIAN" / "control"
    old = next(line for line in control.read_text().splitlines() if line.startswith("Version: "))
    control.write_text(control.read_text().replace(old, f"Version: {version}-1"))
    (module,) = inside.glob("usr/lib/plugd/lib/python3*/site-packages/plugd/__init__.py")
    text = module.read_text()
    (line,) = [line for line in text.splitlines() if line.startswith("__version__ = ")]
    module.write_text(text.replace(line, f'__version__ = "{version}"'))
    target = directory / f"plugd_{version}.deb"
    command = ["dpkg-deb", "--root-owner-group", "-Znone", "--build", inside, target]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    shutil.rmtree(inside)
    return target


def _is_here(release: Release) -> bool:
    """Return whether packages for a release are built on this machine itself."""
    codename = platform.freedesktop_os_release().get("VERSION_CODENAME") if Path("/etc/os-release").exists() else ""
    if codename != release.name or shutil.which("dpkg-checkbuilddeps") is None:
        return False
    return _run("dpkg-checkbuilddeps", "-I", str(ROOT / "packaging/debian/control")).returncode == 0


def _build_here(release: Release, sources: Path, directory_of_wheels: Path) -> Path:
    done = _run("make", "-C", str(sources), "deb", f"WHEELS={directory_of_wheels}")
    assert done.returncode == 0, f"make deb:\n{done.stdout}"
    return next((sources / "dist").glob("*.deb"))


def _build_there(release: Release, sources: Path, directory_of_wheels: Path) -> Path:
    with booted(release, *BUILD_PACKAGES) as machine:
        machine.copy_in(sources, "/home/alice/plugd")
        machine.copy_in(directory_of_wheels, "/var/wheels")
        machine.output("chown", "-R", "alice:", "/home/alice")
        done = machine.run("make", "-C", "/home/alice/plugd", "deb", "WHEELS=/var/wheels", user="alice")
        assert done.returncode == 0, f"make deb on {release.name}:\n{done.stdout}{done.stderr}"
        (package,) = (machine.root / "home/alice/plugd/dist").glob("*.deb")
        return Path(shutil.copy(package, sources))


def _digest(sources: Path, directory_of_wheels: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(sources.rglob("*")):
        mode = path.stat().st_mode & 0o777
        content = path.read_bytes() if path.is_file() else b""
        digest.update(f"{path.relative_to(sources)} {mode:o} {len(content)}\n".encode() + content)
    digest.update("\n".join(sorted(path.name for path in directory_of_wheels.iterdir())).encode())
    return digest.hexdigest()[:16]


def _run(*command: str) -> "subprocess.CompletedProcess[str]":
    # What `make test` was told is not for another make.
    environ = {name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MFLAGS", "MAKELEVEL"}}
    return subprocess.run(
        command,
        env=environ | {"LC_ALL": "C.UTF-8"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=BUILDING,
        check=False,
    )


def _last(done: "subprocess.CompletedProcess[str]") -> str:
    return " / ".join(done.stdout.strip().splitlines()[-3:])
