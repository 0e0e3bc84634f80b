"""The floors as they are at run time: what real calls have loaded, whatever the import statements say."""

import subprocess
from pathlib import Path

from harness import BIN, SHIPPED, Daemons

SLOW = {"anyio", "asyncio", "psutil", "structlog", "msgspec", "argparse", "logging", "dataclasses", "typing", "socket"}

MODULES = """
\"\"\"Tells what is loaded where it runs.\"\"\"

import sys

from plugd.plugin import Gauge, Plugin, command


class {name}(Plugin):
    value = Gauge("test.value")

    {collect}

    @command
    def modules(self) -> list[str]:
        return sorted(sys.modules)
"""
SYNC = MODULES.format(name="Sync", collect="def collect(self):\n        yield self.value(1)")
ASYNC = MODULES.format(name="Later", collect="async def collect(self):\n        return [self.value(1)]")


def run_python(program: str, directory: Path) -> str:
    """Run a program with the plugd under test; return what it printed."""
    done = subprocess.run(
        [BIN / "python", "-I", "-c", program], cwd=directory, capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout


def packages(modules: list[str]) -> set[str]:
    return {name.partition(".")[0] for name in modules}


def test_a_call_of_plugctl_loads_nothing_slow(daemon: Daemons) -> None:
    """After a real `plugctl list` there is msgpack, and none of what takes longer to import than the call."""
    running = daemon(plugins={"sync": SYNC})
    program = f"""
import sys
from plugctl.cli import main
status = main(["--socket", {str(running.socket)!r}, "list"])
print()
print(status, *sys.modules)
"""
    status, *modules = run_python(program, running.directory).splitlines()[-1].split()
    assert status == "0"
    assert "msgpack" in packages(modules)
    assert not packages(modules) & SLOW


def test_plugctl_loads_only_rpc_of_plugd(daemon: Daemons) -> None:
    """Of plugd's own code, a call has the socket's address at most."""
    running = daemon(plugins={"sync": SYNC})
    program = f"""
import sys
from plugctl.cli import main
status = main(["--socket", {str(running.socket)!r}, "stats", "--json"])
print()
print(status, *sys.modules)
"""
    status, *modules = run_python(program, running.directory).splitlines()[-1].split()
    assert status == "0"
    assert {name for name in modules if name.startswith("plugd")} <= {"plugd", "plugd.rpc", "plugd.rpc.address"}


def test_a_plain_plugin_has_no_event_loop(daemon: Daemons) -> None:
    """The worker of a plugin without `async` loads neither asyncio nor anything of the daemon's."""
    running = daemon(plugins={"sync": SYNC})
    modules = running.call("call", name="sync", command="modules")
    assert not packages(modules) & {"asyncio", "anyio", "structlog", "logging"}
    daemons_own = ("plugd.daemon", "plugd.control", "plugd.sampling", "plugd.hosting", "plugd.catalog", "plugd.config")
    assert not [name for name in modules if name.startswith(daemons_own)]


def test_an_asynchronous_plugin_has_an_event_loop_and_no_anyio(daemon: Daemons) -> None:
    """asyncio is loaded where a plugin is asynchronous: the test above looks in the right place."""
    running = daemon(plugins={"later": ASYNC})
    modules = packages(running.call("call", name="later", command="modules"))
    assert "asyncio" in modules
    assert "anyio" not in modules


def test_the_daemon_has_no_psutil(daemon: Daemons) -> None:
    """psutil's library is in the workers' memory, and not in the daemon's."""
    running = daemon(plugins={"cpu": SHIPPED / "cpu.py"})
    assert running.plugin("cpu")["state"] == "running"
    maps = {pid: Path(f"/proc/{pid}/maps").read_text() for pid in (running.pid, running.plugin("cpu")["pid"])}
    assert {pid: "psutil" in text for pid, text in maps.items()} == {
        running.pid: False,
        running.plugin("cpu")["pid"]: True,
    }


def test_checking_a_configuration_starts_no_daemon(tmp_path: Path) -> None:
    """`plugd --check-config` loads no event loop: it is run before every restart."""
    program = """
import sys
from plugd.cli import main
status = main(["--check-config"])
print(status, *sys.modules)
"""
    status, *modules = run_python(program, tmp_path).splitlines()[-1].split()
    assert status == "0"
    assert "plugd.daemon" not in modules
    assert "anyio" not in modules
