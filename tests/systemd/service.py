"""plugd as a unit on a machine, and what an operator does with it."""

import json
import subprocess
import time
from typing import Any

from harness import wait_until
from machine import Machine, explained

SHIPPED = {"cpu", "disk", "filesystem", "load", "memory", "network", "plugd", "processes", "sensors", "system"}

KEPT = "/var/lib/plugd-test"  # the configuration as it was installed

# What tests change, and the way back.
RESET = f"""
systemctl stop plugd.service plugd.socket
rm -rf /etc/systemd/system/plugd.service.d /etc/systemd/system/plugd.socket.d /etc/plugd
find /var/lib/plugd /run/plugd -mindepth 1 -delete
cp -a {KEPT} /etc/plugd
systemctl daemon-reload
systemctl reset-failed
systemctl start plugd.socket
"""


class Service:
    """plugd on a machine."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self._began = 0.0

    def keep_configuration(self) -> None:
        """Remember ``/etc/plugd`` as it is, for :meth:`reset`."""
        self.machine.output("cp", "-a", "/etc/plugd", KEPT)

    def reset(self) -> None:
        """Have it as it was installed, but for that it does not run; what it had kept is forgotten."""
        # Not a cursor: where that is an entry of somebody else's, journalctl 252 leaves out the first of one's own.
        self._began = time.time()
        self.machine.shell(RESET)

    def systemctl(self, verb: str, unit: str = "plugd.service") -> "subprocess.CompletedProcess[str]":
        """Run ``systemctl VERB`` and return what came of it."""
        return self.machine.run("systemctl", verb, unit)

    def must(self, verb: str, unit: str = "plugd.service") -> None:
        """Run ``systemctl VERB``, which must succeed, and say nothing."""
        done = self.systemctl(verb, unit)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), explained(done)

    def stop(self) -> None:
        """Stop the service; the socket goes on to listen, as systemctl tells with a warning."""
        done = self.systemctl("stop")
        assert done.returncode == 0, explained(done)

    def state(self, unit: str = "plugd.service") -> str:
        """Return whether it is active, failed, inactive, ..."""
        return self.machine.show(unit, "ActiveState")

    @property
    def pid(self) -> int:
        """The daemon's process, as it is numbered on the machine; 0: there is none."""
        return int(self.machine.show("plugd.service", "MainPID"))

    @property
    def restarts(self) -> int:
        """How often systemd has restarted it by itself."""
        return int(self.machine.show("plugd.service", "NRestarts"))

    def plugctl(self, *arguments: str, user: str = "root") -> "subprocess.CompletedProcess[str]":
        """Run plugctl and return what came of it."""
        return self.machine.run("plugctl", *arguments, user=user)

    def ask(self, *arguments: str, user: str = "root") -> Any:
        """Run plugctl with --json, which must succeed; return what it prints."""
        return json.loads(self.machine.output("plugctl", "--json", *arguments, user=user))

    def plugins(self) -> dict[str, dict[str, Any]]:
        """Return the rows of ``plugctl list``, by name."""
        return {row["name"]: row for row in self.ask("list")}

    def wait_restarted(self, old: int) -> None:
        """Wait until systemd has started another daemon than that of this process id, and it is ready."""
        wait_until(lambda: self.state() == "active" and self.pid not in {0, old}, "the restart")

    def configure(self, text: str) -> None:
        """Write a drop-in of plugd's configuration."""
        self.machine.write("/etc/plugd/plugd.d/test.toml", text)

    def add_plugin(self, name: str, source: str) -> None:
        """Put a plugin beside those that are shipped."""
        self.machine.write(f"/etc/plugd/plugins/{name}.py", source)

    def drop_in(self, text: str, name: str = "test") -> None:
        """Write a drop-in of the unit, and have systemd read it: what runs is as it was until it is restarted."""
        self.machine.write(f"/etc/systemd/system/plugd.service.d/{name}.conf", text)
        self.machine.output("systemctl", "daemon-reload")

    def journal(self, *arguments: str) -> list[str]:
        """Return the messages of the journal since the last :meth:`reset`, or from its beginning."""
        return self.machine.journal(f"--since=@{self._began:.6f}", *arguments)
