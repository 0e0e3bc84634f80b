"""Secrets that systemd hands to plugd, in a plugin on a machine."""

from service import Service

ORDERS = '''
"""Orders that wait."""

from collections.abc import Iterable

from plugd.plugin import Gauge, Plugin, Sample


class Orders(Plugin):
    interval = 60.0

    value = Gauge("orders.secret", unit="1")

    def collect(self) -> Iterable[Sample]:
        yield self.value(int(self.credentials["db_password"]))
'''

CURIOUS = '''
"""Looks for what it has not been given."""

import glob
from collections.abc import Iterable

from plugd.plugin import Gauge, Plugin, Sample


def readable(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return str(4700 + 11).encode() in file.read()
    except OSError:
        return False


class Curious(Plugin):
    interval = 60.0

    value = Gauge("curious.found", unit="1")

    def collect(self) -> Iterable[Sample]:
        places = ("/run/credentials/**", "/run/plugd/**", "/etc/plugd/**")
        yield self.value(sum(readable(path) for place in places for path in glob.glob(place, recursive=True)))
'''


def test_a_secret_reaches_the_plugin_that_it_is_for(plugd: Service) -> None:
    """From /etc/plugd/credentials, which only root can read, by systemd; another plugin finds nothing of it."""
    plugd.machine.write("/etc/plugd/credentials/db_password", "4711\n", 0o600)
    plugd.add_plugin("orders", ORDERS)
    plugd.add_plugin("curious", CURIOUS)
    plugd.configure('[plugins.orders]\ncredentials = ["db_password"]\n')
    plugd.must("restart")
    values = {row["name"]: row["value"] for row in plugd.ask("stats", "orders", "curious")["metrics"]}
    assert values == {"orders.secret": 4711.0, "curious.found": 0.0}


def test_a_secret_that_is_missing_is_told(plugd: Service) -> None:
    """The plugin fails, and says what it looked for; the others run."""
    plugd.add_plugin("orders", ORDERS)
    plugd.configure('[plugins.orders]\ncredentials = ["db_password"]\n')
    plugd.must("restart")
    rows = plugd.plugins()
    assert rows.pop("orders")["state"] == "failed"
    assert {row["state"] for row in rows.values()} == {"running"}
    assert "no credential 'db_password'" in plugd.machine.output("plugctl", "why", "orders")
