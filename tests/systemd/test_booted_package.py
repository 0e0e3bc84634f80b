"""The .deb on a machine that has never had it: installed, upgraded, removed and purged."""

import shutil
import subprocess
from pathlib import Path

import deb
import pytest
from conftest import install
from machine import Machine, explained
from restarts import busy_clients
from service import SHIPPED, Service

NEXT = "99.0.0"

# Of dpkg, systemd and man-db: kept by them for all packages.
BOOKS = (
    "/var/lib/dpkg/",
    "/var/cache/debconf/",
    "/var/cache/man/",
    "/var/cache/ldconfig/",
    "/var/lib/systemd/",
    "/var/log/",
)


def differing(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """Return every file that is there only before, only after, or otherwise."""
    paths = [path for path in sorted(before.keys() | after.keys()) if not f"{path}/".startswith(BOOKS)]
    return [
        f"{path}: {before.get(path, 'nothing')} became {after.get(path, 'nothing')}"
        for path in paths
        if before.get(path) != after.get(path)
    ]


def test_installation_starts_and_enables_it(fresh: Machine, package: Path) -> None:
    """``dpkg -i`` alone, without a network: it runs, and will after the next boot."""
    install(fresh, package)
    plugd = Service(fresh)
    for unit in ("plugd.service", "plugd.socket"):
        assert plugd.state(unit) == "active"
        assert fresh.output("systemctl", "is-enabled", unit) == "enabled"
    assert set(plugd.plugins()) == SHIPPED
    assert fresh.output("dpkg", "--verify", "plugd") == ""
    assert fresh.output("dpkg", "--audit") == ""
    assert fresh.output("stat", "-c", "%A %U %G", "/etc/plugd/credentials") == "drwx------ root root"


def test_what_comes_with_it_works(plugd: Service) -> None:
    """Commands, manual pages, completions, examples and a configuration that is valid."""
    machine = plugd.machine
    version = machine.output("dpkg-query", "--show", "--showformat=${Version}", "plugd").partition("-")[0]
    assert machine.output("plugd", "--version", user="mallory") == f"plugd {version}"
    assert machine.output("plugd", "--check-config") == "configuration is valid: /etc/plugd/plugd.toml"
    for page in ("plugd.8", "plugctl.1", "plugd.toml.5"):
        done = machine.run(
            "sh", "-euc", f"man --warnings --pager=cat {page.rpartition('.')[2]} {page.rpartition('.')[0]}"
        )
        assert done.returncode == 0, explained(done)
        assert done.stderr == "", explained(done)
        assert "NAME" in done.stdout
    machine.shell("bash -n /usr/share/bash-completion/completions/plugctl")
    assert machine.output("ls", "/usr/share/doc/plugd/examples")


@pytest.mark.parametrize("release", ["bookworm"], indirect=True)
def test_lintian_has_nothing_to_say(package: Path) -> None:
    """Of the package for the release that this lintian is for, or one close to it."""
    if shutil.which("lintian") is None:
        pytest.skip("needs lintian: apt-get install lintian")
    command = ["lintian", "--allow-root", "--fail-on=error,warning", "--suppress-tags=bad-distribution-in-changes-file"]
    done = subprocess.run([*command, package], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (0, ""), explained(done)


def test_an_upgrade_loses_no_request(fresh: Machine, package: Path, tmp_path: Path) -> None:
    """To a higher version, while clients ask: each is answered, and then by the new one; what was changed stays."""
    install(fresh, package)
    plugd = Service(fresh)
    fresh.output("usermod", "--append", "--groups", "plugd", "alice")
    fresh.shell("echo '# mine' >>/etc/plugd/plugd.toml")
    pid = plugd.pid
    with busy_clients(fresh) as clients:
        install(fresh, deb.raised(package, NEXT, tmp_path))
    assert clients.failed == []
    assert plugd.ask("version")["version"] == NEXT
    assert plugd.pid != pid
    assert fresh.output("tail", "-n", "1", "/etc/plugd/plugd.toml") == "# mine"
    assert [line for line in plugd.journal("--unit=plugd", "--priority=warning") if "audit" not in line] == []


def test_removal_leaves_the_configuration_and_purge_nothing(fresh: Machine, package: Path) -> None:
    """``dpkg --remove`` ends it and takes its files; ``dpkg --purge`` also what it was told and has kept."""
    before = fresh.files()
    install(fresh, package)
    plugd = Service(fresh)
    plugd.configure('[plugins.load]\ninterval = "7s"\n')
    plugd.must("restart")
    fresh.output("dpkg", "--remove", "plugd")
    assert fresh.processes_of("plugd") == []
    assert fresh.run("systemctl", "cat", "plugd.service").returncode != 0
    assert fresh.run("ls", "/usr/bin/plugd", "/usr/bin/plugctl", "/usr/lib/plugd", "/run/plugd").stdout == ""
    assert fresh.output("ls", "/etc/plugd/plugd.toml")

    install(fresh, package)
    assert plugd.state() == "active"
    assert plugd.plugins()["load"]["interval"] == 7

    fresh.output("rm", "/etc/plugd/plugd.d/test.toml")  # The administrator's own: see the next test.
    fresh.output("dpkg", "--purge", "plugd")
    assert differing(before, fresh.files()) == []
    assert fresh.shell("ls /run | grep plugd || true") == ""
    assert fresh.output("systemctl", "list-units", "--all", "--no-legend", "plugd*") == ""


def test_purge_leaves_what_is_not_the_packages_own(fresh: Machine, package: Path) -> None:
    """Plugins, drop-ins and secrets that the administrator has written are not for a package to take away."""
    before = fresh.files()
    install(fresh, package)
    own = ("/etc/plugd/plugins/mine.py", "/etc/plugd/plugd.d/mine.toml", "/etc/plugd/credentials/mine")
    for path in own:
        fresh.write(path, "", mode=0o600)
    fresh.output("dpkg", "--purge", "plugd")
    left = {line.partition(":")[0] for line in differing(before, fresh.files())}
    assert left == {*own, "/etc/plugd", "/etc/plugd/plugins", "/etc/plugd/plugd.d", "/etc/plugd/credentials"}
