"""The units as systemd judges them, and the drop-ins that come with them."""

import re
from collections.abc import Callable

import pytest
from harness import ROOT
from machine import explained
from service import SHIPPED, Service

EXAMPLES = sorted(path.stem for path in (ROOT / "systemd" / "examples").glob("*.conf"))
INSTALLED = "/usr/share/doc/plugd/examples"

NEEDS = {"type-notify-reload": 253, "restart-backoff": 254}  # the version of systemd, by the drop-in

# At most, of 10, by the drop-in: docs/systemd.md has the same figures.
EXPOSURE = {"": 1.0, "strict": 0.5, "network-plugins": 1.4, "privileged-plugins": 2.6}


def use_example(plugd: Service, name: str) -> None:
    """Put a drop-in in its place, as its first lines tell to."""
    if plugd.machine.release.systemd < NEEDS.get(name, 0):
        pytest.skip(f"{name}.conf needs systemd {NEEDS[name]}")
    if name:
        plugd.drop_in(plugd.machine.output("cat", f"{INSTALLED}/{name}.conf"), name)


@pytest.mark.parametrize("name", ["", *EXAMPLES])
def test_verify_is_silent(stopped: Service, name: str) -> None:
    """``systemd-analyze verify`` has nothing to say, whatever drop-in is used."""
    use_example(stopped, name)
    done = stopped.machine.run("systemd-analyze", "verify", "plugd.service", "plugd.socket")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), explained(done)


@pytest.mark.parametrize("name", EXPOSURE)
def test_exposure_is_low(stopped: Service, name: str, figure: Callable[[str], None]) -> None:
    """``systemd-analyze security`` finds little that plugd could do beyond what it is for."""
    use_example(stopped, name)
    text = stopped.machine.output("systemd-analyze", "security", "--no-pager", "plugd.service")
    found = re.search(r"Overall exposure level for plugd.service: ([0-9.]+)", text)
    assert found is not None, text
    figure(f"`systemd-analyze security plugd`{f' with {name}.conf' if name else ''}: {found[1]}")
    assert float(found[1]) <= EXPOSURE[name], text


@pytest.mark.parametrize("name", EXAMPLES)
def test_plugd_runs_with_each_drop_in(stopped: Service, name: str) -> None:
    """It starts, reloads and stops, and every plugin runs."""
    use_example(stopped, name)
    stopped.must("start")
    rows = stopped.plugins()
    assert {each: row["state"] for each, row in rows.items()} == dict.fromkeys(SHIPPED, "running")
    assert {each: row["failures"] for each, row in rows.items()} == dict.fromkeys(SHIPPED, 0)
    stopped.configure('[plugins.load]\ninterval = "7s"\n')
    stopped.must("reload")
    assert stopped.plugins()["load"]["interval"] == 7
    stopped.stop()
    assert stopped.machine.run("pgrep", "--full", "plugd.worker").stdout == ""
    assert stopped.machine.show("plugd.service", "Result") == "success"


def test_a_running_unit_has_no_warning(plugd: Service) -> None:
    """systemd understands every line of the units: what it does not, it ignores with a line in the journal."""
    plugd.machine.output("systemctl", "daemon-reload")
    lines = plugd.journal("--identifier=systemd", "--priority=warning")
    assert [line for line in lines if "plugd" in line] == []
