"""plugd as pip installs it, made a service by ``plugd install``, and taken away again."""

from collections.abc import Iterator
from pathlib import Path

import deb
import pytest
from conftest import install, or_skip
from machine import Machine, booted, explained
from service import SHIPPED, Service
from test_booted_package import differing
from tree import Release

ENVIRONMENT = "/opt/plugd"
PLUGD = f"{ENVIRONMENT}/bin/plugd"


@pytest.fixture(scope="module")
def piped(release: Release, package: Path) -> Iterator[Machine]:
    """A machine on which ``pip install`` has put plugd into a virtual environment; the tests leave no more on it."""
    with booted(release) as machine:
        machine.copy_in(or_skip(release, lambda: deb.wheels(release)), "/var/tmp/wheels")
        with deb.copied_sources() as sources:
            machine.copy_in(sources, "/var/tmp/plugd")
        machine.output("python3", "-m", "venv", ENVIRONMENT)
        pip = [f"{ENVIRONMENT}/bin/pip", "install", "--quiet", "--no-index", "--find-links", "/var/tmp/wheels"]
        machine.output(*pip, "/var/tmp/plugd")
        machine.output("rm", "-r", "/var/tmp/plugd", "/var/tmp/wheels")
        yield machine


def test_install_is_idempotent_and_uninstall_leaves_nothing(piped: Machine) -> None:
    """Installed, it is the service that the package makes; done again, nothing happens; purged, nothing is left."""
    before = piped.files()
    plugd = Service(piped)
    piped.output(PLUGD, "install", "--now")
    for unit in ("plugd.service", "plugd.socket"):
        assert plugd.state(unit) == "active"
        assert piped.output("systemctl", "is-enabled", unit) == "enabled"
    assert {name: row["state"] for name, row in plugd.plugins().items()} == dict.fromkeys(SHIPPED, "running")
    piped.output("usermod", "--append", "--groups", "plugd", "alice")
    assert plugd.ask("stats", user="alice")["plugins"].keys() == SHIPPED
    assert plugd.plugctl("stats", user="mallory").returncode == 4
    verified = piped.run("systemd-analyze", "verify", "plugd.service", "plugd.socket")
    assert (verified.returncode, verified.stderr) == (0, ""), explained(verified)

    installed, pid = piped.files(), plugd.pid
    assert piped.output(PLUGD, "install", "--now") == "nothing to do: plugd is installed"
    assert (differing(installed, piped.files()), plugd.pid) == ([], pid)

    plugd.must("reload")
    plugd.must("restart")
    piped.output(PLUGD, "uninstall", "--purge")
    assert piped.run("pgrep", "--full", "plugd.worker").stdout == ""
    assert differing(before, piped.files()) == []
    assert piped.shell("ls /run | grep plugd || true") == ""
    assert piped.output(PLUGD, "uninstall", "--purge") == "nothing to do: plugd is not installed"


def test_install_beside_a_package_is_refused(piped: Machine, package: Path) -> None:
    """Two of one name would be in each other's way."""
    install(piped, package)
    before = piped.files()
    done = piped.run(PLUGD, "install")
    assert done.returncode == 69, explained(done)
    assert "plugd is installed already, by the package plugd" in done.stderr
    assert differing(before, piped.files()) == []
    piped.output("dpkg", "--purge", "plugd")
