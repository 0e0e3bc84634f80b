"""The Debian changelog that is made of CHANGELOG.md."""

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path
from types import ModuleType

import pytest
from harness import ROOT

CHANGELOG = """\
# Changelog

What users notice.

## Unreleased

### Added

- `plugctl sing`, which is
  new.

## 0.2.0 - 2026-11-19

- A second thing.

## [0.1.0] released 2026-10-01

### Fixed

- The first thing.
"""


@pytest.fixture(scope="module")
def changelog() -> ModuleType:
    spec = importlib.util.spec_from_file_location("changelog", ROOT / "packaging" / "changelog.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_releases_become_entries(changelog: ModuleType) -> None:
    """What is not released is with the version at hand, at the given time; older releases have their own days."""
    made = changelog.debian_changelog(CHANGELOG, "0.2.0-1~trixie", "trixie", "Ann <ann@a.invalid>", 1_795_211_018)
    assert made == (
        "plugd (0.2.0-1~trixie) trixie; urgency=medium\n\n"
        "  * plugctl sing, which is new.\n"
        "  * A second thing.\n\n"
        " -- Ann <ann@a.invalid>  Fri, 20 Nov 2026 21:43:38 +0000\n"
        "\n"
        "plugd (0.1.0-1~trixie) trixie; urgency=medium\n\n"
        "  * The first thing.\n\n"
        " -- Ann <ann@a.invalid>  Thu, 01 Oct 2026 00:00:00 +0000\n"
    )


def test_a_version_without_changes_has_an_entry(changelog: ModuleType) -> None:
    """A changelog without any item is still one that dpkg takes."""
    made = changelog.debian_changelog("# Changelog\n", "1.0-1~sid", "sid", "Ann <ann@a.invalid>", 0)
    assert "  * No changes that users notice.\n" in made


def test_every_item_is_in_it(changelog: ModuleType) -> None:
    """Of the project's own CHANGELOG.md, no item is lost, and no line is too long."""
    text = (ROOT / "CHANGELOG.md").read_text()
    items = [item for section in changelog.sections(text) for item in section.items]
    assert len(items) == len(re.findall(r"^- ", text, re.MULTILINE)) > 0
    made = changelog.debian_changelog(text, "9.9-1~sid", "sid", "Ann <ann@a.invalid>", 0)
    assert made.count("\n  * ") == len(items)
    assert max(map(len, made.splitlines())) <= 80


def test_dpkg_takes_it(changelog: ModuleType, tmp_path: Path) -> None:
    """dpkg-parsechangelog reads it without a warning, and finds the version."""
    if shutil.which("dpkg-parsechangelog") is None:
        pytest.skip("needs dpkg-parsechangelog: apt-get install dpkg-dev")
    made = tmp_path / "changelog"
    made.write_text(changelog.debian_changelog(CHANGELOG, "0.2.0-1~sid", "sid", "Ann <ann@a.invalid>", 0))
    command = ["dpkg-parsechangelog", "--file", str(made), "--all", "--show-field", "Version"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    assert (done.stdout, done.stderr) == ("0.2.0-1~sid\n", "")
