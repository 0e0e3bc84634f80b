"""What goes into a package: pinned, hashed, what pyproject.toml asks for, and licensed in the copyright file."""

import re
import tomllib
from typing import Any, NamedTuple

import pytest
from harness import ROOT
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PACKAGING = ROOT / "packaging"
FILES = ("requirements.txt", "build-requirements.txt")
PIN = re.compile(
    r"^(?P<name>[\w.-]+)==(?P<version>[\w.]+)(?: ; (?P<marker>[^\\\n]+?))?(?P<hashes>(?: \\\n[^\\\n]+)*)$", re.MULTILINE
)
PYTHONS = ("3.11", "3.12", "3.13")
MACHINES = ("x86_64", "aarch64")


class Pin(NamedTuple):
    """One pinned distribution."""

    version: str
    marker: str | None
    hashes: list[str]


def text(name: str) -> str:
    return (PACKAGING / name).read_text()


def pins(name: str) -> dict[str, Pin]:
    return {
        canonicalize_name(found["name"]): Pin(
            found["version"], found["marker"], re.findall(r"--hash=sha256:([0-9a-f]{64})\b", found["hashes"])
        )
        for found in PIN.finditer(text(name))
    }


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def wanted(name: str) -> list[Requirement]:
    whole = project()
    listed = whole["project"]["dependencies"] if name == FILES[0] else whole["dependency-groups"]["build"]
    return [Requirement(line) for line in listed]


@pytest.mark.parametrize("name", FILES)
def test_every_dependency_is_pinned_to_a_version_that_will_do(name: str) -> None:
    """What pyproject.toml asks for is in the file, in a version that it allows."""
    pinned = pins(name)
    for requirement in wanted(name):
        assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)].version), requirement.name


@pytest.mark.parametrize("name", FILES)
def test_every_pin_has_hashes(name: str) -> None:
    """Nothing is in the file but pins with their sha256, of a source archive and a wheel at least."""
    pinned = pins(name)
    left = "".join(line for line in PIN.sub("", text(name)).splitlines() if not line.startswith("#")).strip()
    assert left == ""
    assert min(len(set(pin.hashes)) for pin in pinned.values()) >= 2
    assert sum(len(pin.hashes) for pin in pinned.values()) == text(name).count("--hash=")


@pytest.mark.parametrize("name", FILES)
def test_no_address_is_in_the_file(name: str) -> None:
    """Where the wheels come from is each builder's own affair."""
    assert not re.search(r"://|^\s*-(?!-hash)|--(?!hash)[a-z]|@", text(name), re.MULTILINE)


@pytest.mark.parametrize("name", FILES)
def test_a_marker_says_the_same_everywhere(name: str) -> None:
    """So that wheels can be fetched on one machine for another: the marker is judged where pip runs."""
    for pin in pins(name).values():
        environments = [
            {"python_version": python, "python_full_version": f"{python}.1", "platform_machine": machine}
            for python in PYTHONS
            for machine in MACHINES
        ]
        linux = {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix"}
        assert len({pin.marker is None or Marker(pin.marker).evaluate(linux | each) for each in environments}) == 1


def test_the_versions_of_python_are_those_of_the_project() -> None:
    """The Pythons that the wheels are for are those that the classifiers have."""
    found = re.findall(r"Python :: (3\.\d+)$", "\n".join(project()["project"]["classifiers"]), re.MULTILINE)
    assert tuple(found) == PYTHONS


def test_the_license_of_everything_inside_is_told() -> None:
    """The copyright file has each library that the package brings with it, and none that it does not."""
    found = re.findall(r"^Files: \S+/site-packages/(\w+)\*$", text("debian/copyright"), re.MULTILINE)
    assert sorted(map(canonicalize_name, found)) == sorted(pins(FILES[0]))
    licenses = set(re.findall(r"^License: (.+)$", text("debian/copyright"), re.MULTILINE))
    assert {one for either in licenses for one in either.split(" or ")} <= licenses
