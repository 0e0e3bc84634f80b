"""Do other people's plugins give the same values under plugd? ``python bench/parity.py``, as root.

Needs Debian's monitoring-plugins-basic, munin-plugins-core and, to run the latter as Munin does, munin-node, whose
service need not run. Each plugin is run by its native runner before and after plugd runs it: Nagios plugins directly,
Munin's by munin-run. What is printed is read here by a few lines that share nothing with plugd's parsers.

A value is the same if plugd's lies between the native ones, or as near to them as they are to each other; one that
moves faster than that is compared by its name, and is told of.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import NamedTuple

from harness import Daemon
from parity_services import Services

NAGIOS = pathlib.Path("/usr/lib/nagios/plugins")
MUNIN = pathlib.Path("/usr/share/munin/plugins")
MUNIN_CONF = pathlib.Path("/etc/munin/plugin-conf.d")
RUN_TIMEOUT = 20  # seconds
SETTLING = 90.0  # seconds until every plugin has been tried
TOLERANCE = 0.05  # of a value
JITTER = 10.0  # processes, connections and the like that come and go while this runs

# What is written to under plugd, and what needs more than a user of its own: docs/commands.md has the reasons.
ROOT = ("check_ping", "check_icmp", "check_host", "check_rta_multi", "check_dhcp", "check_log")

Values = dict[str, float]


class Native(NamedTuple):
    """A plugin under its own runner: its exit status, and what it measured."""

    status: int
    values: Values
    output: str


def main() -> int:
    """Compare, and report; the exit status says whether all is equal."""
    if os.geteuid() != 0:
        print("parity: some of these plugins work for root only", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="plugd-parity-") as name, Services() as services:
        directory = pathlib.Path(name)
        directory.chmod(0o755)
        results = [
            compare("Nagios", *nagios(directory, services)),
            compare("Munin", *munin(directory, services)),
        ]
    return 0 if all(results) else 1


def compare(what: str, native: "dict[str, list[Native]]", plugd: dict[str, tuple[Values, str]]) -> bool:
    """Print how many work natively, how many of them are the same under plugd, and what differs."""
    working = {name: runs for name, runs in native.items() if runs}
    print(f"{what}: {len(native)} plugins, of which {len(working)} work here under their native runner", end="")
    different, moving = {}, {}
    for name, runs in working.items():
        values, error = plugd.get(name, ({}, "not there"))
        reason, moved = difference(runs, values)
        if reason:
            different[name] = reason if values else error
        elif moved:
            moving[name] = moved
    print(f", and {len(working) - len(different)} give the same under plugd")
    for name, reason in sorted(different.items()):
        print(f"  differs: {name}: {reason}")
    for name, moved in sorted(moving.items()):
        print(f"  by name: {name}: {', '.join(sorted(moved)[:6])}{' …' if len(moved) > 6 else ''}")
    print(f"  not here: {', '.join(sorted(set(native) - set(working)))}\n")
    return not different


def difference(runs: list[Native], values: Values) -> tuple[str, list[str]]:
    """Return why the values are not those of the native runs, or ""; and the names of those that move."""
    before, after = runs[0].values, runs[-1].values
    names = (set(before) & set(after), set(before) | set(after))
    if missing := names[0] - set(values):
        return f"misses {', '.join(sorted(missing)[:5])}", []
    if more := set(values) - names[1]:
        return f"has {', '.join(sorted(more)[:5])} besides", []
    moved = []
    for name in names[0]:
        low, high = sorted((before[name], after[name]))
        slack = high - low
        if slack == 0 and values[name] != low:
            if not same_soon(low, values[name]):
                return f"{name} is {values[name]:g}, and natively {low:g}", []
            moved.append(name)
        elif not low - slack - 1e-9 <= values[name] <= high + slack + 1e-9:
            moved.append(name)
    return "", moved


def same_soon(native: float, value: float) -> bool:
    """Whether two values may be those of one thing at two instants."""
    return abs(native - value) <= max(TOLERANCE * abs(native), JITTER)


# Nagios


def nagios(
    directory: pathlib.Path, services: Services
) -> tuple[dict[str, list[Native]], dict[str, tuple[Values, str]]]:
    """Return the plugins run directly, and by plugd."""
    arguments = dict(nagios_arguments(directory, services))
    names = sorted(path.name for path in NAGIOS.glob("check_*"))
    commands = {name: [str(NAGIOS / name), *arguments.get(name, [])] for name in names}
    runs = {name: [run_nagios(command)] for name, command in commands.items()}
    native = {name: [run for run in each if 0 <= run.status <= 2 and run.output.strip()] for name, each in runs.items()}
    tables = []
    for name in (name for name, each in native.items() if each):
        command = ", ".join(f"'''{word}'''" for word in commands[name])
        tables.append(f"[plugins.{name}]\ncommand = [{command}]\nformat = 'nagios'\ninterval = '1h'\ntimeout = '20s'\n")
        if name in ROOT:
            tables.append(f"user = 'root'\nsandbox = {{ write = ['{directory}'] }}\n")
    with Settled((), "".join(tables)) as daemon:
        values: dict[str, tuple[Values, str]] = {
            row["name"]: ({}, str(row["last_error"])) for row in daemon.request("list")
        }
        for metric in daemon.request("stats")["metrics"]:
            label = metric["labels"].get("label")
            if metric["name"].startswith("nagios.perfdata"):
                values[metric["plugin"]][0][label] = metric["value"]
            elif metric["name"] == "nagios.status":
                values[metric["plugin"]][0]["(status)"] = metric["value"]
        for name, each in native.items():
            if each:
                each.append(run_nagios(commands[name]))
    return native, values


def nagios_arguments(directory: pathlib.Path, services: Services) -> Iterator[tuple[str, list[str]]]:
    """Yield arguments with which each can do something on this host alone, with the services that are started here."""
    now = int(time.time())
    (directory / "log").write_text("nothing\n")
    (directory / "mrtg").write_text(f"{now} 10 20\n{now} 1 2 3 4\n{now - 300} 1 2 3 4\n")
    (directory / "nagios").write_text(f"[{now}] PROGRAM;\nlast_command_check={now}\n")
    local = ["-H", "127.0.0.1"]
    yield "check_cluster", ["--service", "-l", "all", "-d", "0,2,0"]
    yield "check_dhcp", ["-t", "3"]
    yield "check_disk", ["-w", "5%", "-c", "1%", "-p", "/"]
    yield "check_dummy", ["0", "fine"]
    yield "check_file_age", ["-w", "9999999999", "-c", "9999999999", "-f", "/etc/debian_version"]
    yield "check_load", ["-w", "500,400,300", "-c", "1000,800,600"]
    yield "check_log", ["-F", str(directory / "log"), "-O", str(directory / "log.old"), "-q", "wrong"]
    yield "check_mrtg", ["-F", str(directory / "mrtg"), "-a", "AVG", "-v", "1", "-w", "99", "-c", "999", "-e", "60"]
    yield "check_mrtgtraf", ["-F", str(directory / "mrtg"), "-a", "AVG", "-w", "99,99", "-c", "999,999", "-e", "60"]
    yield (
        "check_nagios",
        ["-F", str(directory / "nagios"), "-e", "60", "-C", pathlib.Path("/proc/1/comm").read_text().strip()],
    )
    yield "check_ping", [*local, "-w", "100,20%", "-c", "500,60%", "-p", "2"]
    yield "check_procs", ["-w", "5000", "-c", "9000"]
    yield "check_swap", ["-w", "0", "-c", "0", "-n", "ok"]
    yield "check_users", ["-w", "50", "-c", "100"]
    for name in ("check_icmp", "check_host", "check_rta_multi"):
        yield name, ["-H", "127.0.0.1"]
    for name, port in services.ports.items():
        yield (
            name,
            ["-p", str(port), "127.0.0.1"] if name == "check_ssh" else [*local, "-p", str(port), *services.extra(name)],
        )
    for name in (
        "check_by_ssh",
        "check_nt",
        "check_ntp",
        "check_ntp_peer",
        "check_ntp_time",
        "check_nwstat",
        "check_overcr",
    ):
        yield name, [*local, "-t", "3"] + (["-C", "true"] if name == "check_by_ssh" else [])


def run_nagios(command: list[str]) -> Native:
    """Run a plugin, and read what it says: its status, and label=value after a bar."""
    done = run(command)
    data = " ".join(line.partition("|")[2] for line in done.stdout.splitlines() if "|" in line)
    pairs = re.findall(r"(?:'([^']+)'|([^\s=']+))=(-?[0-9.]+(?:[eE][-+]?[0-9]+)?)", data)
    values = {quoted or bare: float(value) for quoted, bare, value in pairs}
    return Native(done.returncode, {"(status)": float(done.returncode), **values}, done.stdout)


# Munin


def munin(directory: pathlib.Path, services: Services) -> tuple[dict[str, list[Native]], dict[str, tuple[Values, str]]]:
    """Return the plugins run by munin-run, and by plugd."""
    plugins, conf = directory / "munin", directory / "plugin-conf.d"
    plugins.mkdir()
    shutil.copytree(MUNIN_CONF, conf)
    (conf / "zzz-parity").write_text(f"[http_loadtime]\nenv.target http://127.0.0.1:{services.ports['check_http']}/\n")
    runner = ["munin-run", "--servicedir", str(plugins), "--sconfdir", str(conf)]
    for path in sorted(MUNIN.iterdir()):
        if not os.access(path, os.X_OK) or path.is_dir():
            continue
        if not path.name.endswith("_"):
            (plugins / path.name).symlink_to(path)
            continue
        (plugins / path.name).symlink_to(path)
        suggested = run([*runner, path.name, "suggest"]).stdout.split()
        (plugins / path.name).unlink()
        own = {"ps_": ["init"], "ping_": ["127.0.0.1"], "ip_": [], "port_": ["22"]}.get(path.name, [])
        for word in suggested[:3] or own or [""]:
            if re.fullmatch(r"[\w.:-]*", word):
                (plugins / f"{path.name}{word}").symlink_to(path)
    native: dict[str, list[Native]] = {}
    for link in sorted(plugins.iterdir()):
        first = run_munin(runner, link.name)
        if not (first.status == 0 and first.values):
            first = run_munin(runner, link.name)  # Some have to see a state that they have kept.
        native[link.name] = [first] if first.status == 0 and first.values else []
        if not native[link.name]:
            link.unlink()
    config = f"[import.munin]\ndirectory = '{plugins}'\nconf_dir = '{conf}'\ninterval = '1h'\ntimeout = '20s'\n"
    # ping has a capability of its file's, and nothing that plugd starts gets more than it has: limits.md.
    config += "[plugins.'munin.ping_127.0.0.1']\nuser = 'root'\n"
    names = {f"munin.{re.sub('[^a-z0-9_.-]', '_', name.lower())}": name for name in native}
    with Settled((), config) as daemon:
        rows = daemon.request("list")
        values: dict[str, tuple[Values, str]] = {names[row["name"]]: ({}, str(row["last_error"])) for row in rows}
        for metric in daemon.request("stats")["metrics"]:
            values[names[metric["plugin"]]][0][metric["name"].removeprefix("munin.")] = metric["value"]
        for name, runs in native.items():
            if runs:
                runs.append(run_munin(runner, name))
    return native, values


def run_munin(runner: list[str], name: str) -> Native:
    """Run a plugin, and read its lines "field.value number", below "multigraph" lines."""
    done = run([*runner, name])
    graph, values = name, {}
    for line in done.stdout.splitlines():
        if match := re.match(r"multigraph\s+(\S+)", line):
            graph = match[1]
        elif match := re.match(r"\s*(\S+)\.value\s+(?:\d+:)?([-+0-9.eE]+)\s*$", line):
            field = re.sub(r"[^A-Za-z0-9_]", "_", re.sub(r"^[^A-Za-z_]", "_", match[1]))
            values[re.sub(r"[^\w./-]", "_", f"{graph}.{field}")] = float(match[2])
    return Native(done.returncode, values, done.stdout)


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a program; one that does not end has failed."""
    environ = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "HOME": "/"}
    try:
        return subprocess.run(
            command, env=environ, cwd="/", stdin=subprocess.DEVNULL, capture_output=True, text=True,
            errors="replace", timeout=RUN_TIMEOUT, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, -9, "", "")


class Settled(Daemon):
    """A daemon all of whose plugins have been tried, and tried again where they failed the first time."""

    def _wait_until_running(self) -> None:
        end = time.monotonic() + SETTLING
        while time.monotonic() < end:
            try:
                states = [row["state"] for row in self.request("list")]
            except (OSError, RuntimeError):
                states = ["starting"]
            if "plugd_ready" in self._log.read_text() and all(
                state in ("running", "failed", "quarantined") for state in states
            ):
                return
            time.sleep(0.2)


if __name__ == "__main__":
    sys.exit(main())
