"""Machines with a booted systemd, for every release that can be had here, and plugd on them."""

import os
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import deb
import pytest
import tree
from machine import Machine, booted, require_means
from service import Service
from tree import RELEASES, Release, UnavailableError

REQUIRED = "bookworm"  # In CI, what .ci/run prepares must not be skipped; other releases are tried.
TAIL = 60  # lines of the journal that a failing test shows

figures: list[str] = []


@pytest.fixture(scope="session", params=RELEASES)
def release(request: pytest.FixtureRequest) -> Release:
    """Each release of Debian; all tests of one are run before those of the next."""
    return RELEASES[request.param]


@pytest.fixture(scope="session")
def package(release: Release) -> Path:
    """The .deb for the release; the tests are skipped where it, or a machine to install it on, cannot be had."""
    or_skip(release, require_means)
    with ThreadPoolExecutor(max_workers=1) as aside:
        making = aside.submit(tree.make, release)
        package: Path = or_skip(release, lambda: deb.built(release))
        or_skip(release, making.result)
    return package


@pytest.fixture(scope="session")
def machine(release: Release, package: Path) -> Iterator[Machine]:
    """A machine on which plugd is installed, for all tests of a release; see ``plugd`` for what they may change."""
    with booted(release) as machine:
        install(machine, package)
        machine.output("usermod", "--append", "--groups", "plugd", "alice")
        Service(machine).keep_configuration()
        yield machine


@pytest.fixture
def stopped(machine: Machine) -> Service:
    """plugd as it was installed, whatever a test before has changed, but for that it does not run."""
    service = Service(machine)
    service.reset()
    return service


@pytest.fixture
def plugd(stopped: Service) -> Service:
    """plugd, running, as it does after its installation."""
    stopped.must("start")
    return stopped


@pytest.fixture
def fresh(release: Release, package: Path) -> Iterator[Machine]:
    """A machine of the test's own, on which plugd has never been."""
    with booted(release) as machine:
        yield machine


@pytest.fixture
def figure(release: Release) -> Callable[[str], None]:
    """Call it with a line that is shown when all tests have been run."""
    return lambda text: figures.append(f"{release.name}: {text}")


def or_skip(release: Release, make: Callable[[], Any]) -> Any:
    """Return what is made; where it cannot be had, skip the test, or have it fail if CI should have it."""
    try:
        return make()
    except UnavailableError as error:
        if os.environ.get("CI") == "true" and error.preventable and release.name == REQUIRED:
            pytest.fail(str(error), pytrace=False)
        pytest.skip(f"{release.name}: {error}")


def install(machine: Machine, package: Path) -> None:
    """Install a package, as an operator does who has it in a file."""
    machine.copy_in(package, f"/var/tmp/{package.name}")
    machine.output("dpkg", "--install", f"/var/tmp/{package.name}")
    machine.output("rm", f"/var/tmp/{package.name}")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have these tests run last: a machine is a child of this process, and other tests count on having none."""
    here = Path(__file__).parent
    items.sort(key=lambda item: here in item.path.parents)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the end of the journal of a machine on which a test has failed."""
    report = yield
    if report.failed:
        for machine in _machines(item):
            try:
                text = "\n".join(machine.journal(f"--lines={TAIL}"))
            except Exception as error:
                text = f"cannot read the journal: {error}"
            report.sections.append((f"journal of {machine.name} ({machine.release.name})", text))
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show what was measured."""
    if figures:
        terminalreporter.section("plugd under systemd")
        for line in figures:
            terminalreporter.write_line(line)


def _machines(item: pytest.Item) -> list[Machine]:
    values = getattr(item, "funcargs", {}).values()
    found = [value for value in values if isinstance(value, Machine)]
    return found + [value.machine for value in values if isinstance(value, Service) and value.machine not in found]
