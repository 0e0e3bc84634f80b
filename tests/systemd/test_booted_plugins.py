"""Every shipped plugin in the unit: it measures the host, and as much of it as outside."""

from collections.abc import Callable, Iterator

import plugins_inside
import pytest
from plugins_inside import FILESYSTEMS, INTERFACE, measured, total
from service import SHIPPED, Service
from test_booted_units import use_example

BYTES = 1_000_000
# To the loopback, whose counters are those of the machine's own network namespace.
SEND = f"""
import socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
    for _ in range({BYTES} // 1000):
        sender.sendto(bytes(1000), ("127.0.0.1", 9))
"""
NEAR = 10  # processes that may come and go meanwhile

HIDDEN = {"": (), "strict": ("/home", "/run/user")}  # by strict.conf: where filesystems are out of sight


@pytest.fixture
def equipped(plugd: Service) -> Iterator[tuple[Service, bool]]:
    """plugd on a machine with more filesystems, and whether that has got another network interface as well."""
    has_interface = plugins_inside.prepare(plugd.machine)
    try:
        yield plugd, has_interface
    finally:
        plugd.machine.output("systemctl", "stop", "plugd.service", "plugd.socket")
        plugins_inside.tidy(plugd.machine)


@pytest.mark.parametrize("name", HIDDEN)
def test_plugins_measure_as_much_as_outside(
    equipped: tuple[Service, bool], name: str, figure: Callable[[str], None]
) -> None:
    """The same metrics and the same series, with the same labels; what strict.conf hides is what its comment names."""
    plugd, has_interface = equipped
    use_example(plugd, name)
    inside = measured(plugins_inside.inside(plugd))
    outside = measured(plugins_inside.outside(plugd))
    assert set(inside) == set(outside) == SHIPPED
    for plugin in sorted(SHIPPED):
        figure(f"plugin {plugin} inside{f' {name}.conf' if name else ''}: {inside[plugin]}; outside: {outside[plugin]}")
    for plugin in SHIPPED - {"filesystem"}:
        assert inside[plugin] == outside[plugin], plugin
    assert has_interface == any(INTERFACE in series for series in inside["network"].series)

    shown = {place for place in FILESYSTEMS if not place.startswith(HIDDEN[name] or ("no such",))}
    hidden = {series for series in outside["filesystem"].series if is_of(series, set(FILESYSTEMS) - shown)}
    assert inside["filesystem"].series == outside["filesystem"].series - hidden
    assert inside["filesystem"].metrics == outside["filesystem"].metrics
    for place in shown:
        assert any(is_of(series, {place}) for series in inside["filesystem"].series), place


@pytest.mark.parametrize("name", HIDDEN)
def test_what_they_measure_is_the_hosts(plugd: Service, name: str) -> None:
    """The traffic is that of the machine's network, also where the service has another, and so are the processes."""
    plugd.machine.output("python3", "-c", SEND)
    use_example(plugd, name)
    stats = plugins_inside.inside(plugd)
    assert total(stats, "system.network.io", network_interface_name="lo", network_io_direction="receive") >= BYTES
    processes = len(plugd.machine.output("ps", "-e", "--no-headers").splitlines())
    assert abs(total(stats, "system.process.count") - processes) <= NEAR


def is_of(series: str, places: set[str]) -> bool:
    """Whether a series is about one of these mount points, with the mode that the host has it in."""
    labels = [f"system.filesystem.mode={FILESYSTEMS[each]},system.filesystem.mountpoint={each}," for each in places]
    return any(each in series for each in labels)
