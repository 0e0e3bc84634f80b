"""What the shipped plugins report is what the kernel says, read independently and by a different way."""

import os
import re
import socket
import subprocess
import time
from pathlib import Path

import psutil
import pytest
from shipped import DIRECTORY, import_plugin

TICKS = os.sysconf("SC_CLK_TCK")
PROC = Path("/proc")


def by_metric(samples):
    """Return ``{metric name: {labels' values joined: value}}``."""
    found = {}
    for each in samples:
        found.setdefault(each.metric.name, {})["/".join(map(str, each.labels))] = each.value
    return found


def field(path, name):
    """Return the number that follows a name at the start of a line."""
    match = re.search(rf"^{re.escape(name)}\s+(\d+)", path.read_text(), re.MULTILINE)
    return int(match[1]) if match else None


def test_cpu_time_is_that_of_proc_stat(make):
    """Each mode's time lies between two readings of the line of its CPU."""
    plugin = make("cpu")
    before = cpu_line("cpu0")
    measured = by_metric(plugin.collect())["system.cpu.time"]
    after = cpu_line("cpu0")
    columns = {"user": 0, "nice": 1, "system": 2, "idle": 3, "iowait": 4, "interrupt": 5, "softirq": 6, "steal": 7}
    for mode, column in columns.items():
        bounds = sorted((before[column], after[column]))
        assert bounds[0] - 3 <= measured[f"{mode}/0"] * TICKS <= bounds[1] + 3  # idle is corrected downwards at times


def cpu_line(name):
    lines = (line.split() for line in PROC.joinpath("stat").read_text().splitlines())
    return next([int(column) for column in line[1:]] for line in lines if line[0] == name)


def test_cpu_times_of_all_modes_agree_with_psutil(make):
    """The sum over modes and CPUs is psutil's, within the time that the two readings are apart."""
    measured = sum(by_metric(make("cpu").collect())["system.cpu.time"].values())
    times = psutil.cpu_times()
    # psutil.cpu_times counts guest in user too, and lists it once more.
    expected = sum(times) - getattr(times, "guest", 0) - getattr(times, "guest_nice", 0)
    assert measured == pytest.approx(expected, abs=2.0 * os.cpu_count())


def test_cpu_utilization_is_absent_at_first_and_then_adds_up_to_one(make):
    """The first collection measures nothing; later, the modes of a CPU share all of its time."""
    plugin = make("cpu")
    assert "system.cpu.utilization" not in by_metric(plugin.collect())
    shares = []
    deadline = time.monotonic() + 10
    while not shares and time.monotonic() < deadline:  # a tick has to pass
        sum(range(100_000))
        found = by_metric(plugin.collect()).get("system.cpu.utilization", {})
        shares = [value for key, value in found.items() if key.endswith("/0")]
    assert sum(shares) == pytest.approx(1)


def test_cpu_totals_and_counts(make):
    """Context switches and interrupts lie between two readings; the count is that of the online CPUs."""
    low = [field(PROC / "stat", name) for name in ("ctxt", "intr")]
    measured = by_metric(make("cpu").collect())
    high = [field(PROC / "stat", name) for name in ("ctxt", "intr")]
    assert low[0] <= measured["system.cpu.context_switches"][""] <= high[0]
    assert low[1] <= measured["system.cpu.interrupts"][""] <= high[1]
    assert measured["system.cpu.logical.count"][""] == psutil.cpu_count()
    assert measured.get("system.cpu.physical.count", {}).get("") == psutil.cpu_count(logical=False)


def test_cpu_frequency_is_in_hertz(make):
    """A frequency, where the host tells one, is between 10 MHz and 10 GHz."""
    for value in by_metric(make("cpu").collect()).get("system.cpu.frequency", {}).values():
        assert 1e7 < value < 1e10


def test_cpu_info_tells_each_processor(make):
    """The command's answer has one entry for each processor, with what /proc/cpuinfo says of it."""
    processors = make("cpu").info()
    text = PROC.joinpath("cpuinfo").read_text()
    assert [each["processor"] for each in processors] == [
        int(n) for n in re.findall(r"^processor\s*: (\d+)", text, re.MULTILINE)
    ]
    model = re.search(r"^model name\s*: (.+)", text, re.MULTILINE)
    if model:
        assert processors[0]["model"] == model[1]
    flags = re.search(r"^(?:flags|Features)\s*: (.+)", text, re.MULTILINE)
    if flags:
        assert processors[0]["flags"] == flags[1].split()
    assert set(processors[0]) == {"processor", "vendor", "model", "mhz", "cores", "flags"}


def test_memory_states_add_up_to_the_total(make):
    """The states do not overlap: together they are MemTotal, and their shares are one."""
    measured = by_metric(make("memory").collect())
    total = field(PROC / "meminfo", "MemTotal:") * 1024
    assert measured["system.memory.limit"][""] == total
    assert sum(measured["system.memory.usage"].values()) == total
    assert sum(measured["system.memory.utilization"].values()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("metric", "labels", "name"),
    [
        ("system.memory.usage", "free", "MemFree:"),
        ("system.memory.usage", "buffers", "Buffers:"),
        ("system.memory.linux.available", "", "MemAvailable:"),
        ("system.memory.linux.shared", "", "Shmem:"),
        ("system.memory.linux.slab.usage", "reclaimable", "SReclaimable:"),
        ("system.memory.linux.slab.usage", "unreclaimable", "SUnreclaim:"),
    ],
)
def test_memory_is_that_of_meminfo(metric, labels, name, make):
    """A value is near its field in /proc/meminfo, in bytes; memory moves meanwhile."""
    plugin = make("memory")
    measured = by_metric(plugin.collect())[metric][labels]
    total = field(PROC / "meminfo", "MemTotal:") * 1024
    assert measured == pytest.approx(field(PROC / "meminfo", name) * 1024, abs=total * 0.05)


def test_page_faults_lie_between_two_readings(make):
    """Minor and major faults together are pgfault, which counts both."""
    plugin = make("memory")
    low = field(PROC / "vmstat", "pgfault")
    measured = by_metric(plugin.collect())
    high = field(PROC / "vmstat", "pgfault")
    assert low <= sum(measured["system.paging.faults"].values()) <= high
    assert measured["system.paging.operations"]["major/in"] >= 0


def test_swap_is_that_of_psutil(make):
    """The swap areas together are the host's swap; a host without swap has no series."""
    usage = by_metric(make("memory").collect()).get("system.paging.usage", {})
    assert sum(usage.values()) == pytest.approx(psutil.swap_memory().total, abs=16384 * 4)


def test_disk_is_that_of_diskstats(make):
    """Every device that is not excluded is reported, with bytes and operations between two readings."""
    plugin = make("disk")
    low = diskstats()
    measured = by_metric(plugin.collect())
    high = diskstats()
    names = {name for name in low if not name.startswith(("loop", "ram"))}
    assert set(measured.get("system.disk.io_time", {})) == names
    for name in names:
        for metric, direction, column, unit in (
            ("system.disk.operations", "read", 0, 1),
            ("system.disk.merged", "read", 1, 1),
            ("system.disk.io", "read", 2, 512),
            ("system.disk.operation_time", "read", 3, 1e-3),
            ("system.disk.operations", "write", 4, 1),
            ("system.disk.merged", "write", 5, 1),
            ("system.disk.io", "write", 6, 512),
            ("system.disk.operation_time", "write", 7, 1e-3),
        ):
            value = measured[metric][f"{name}/{direction}"]
            assert low[name][column] * unit - 1e-6 <= value <= high[name][column] * unit + 1e-6
        assert low[name][9] / 1e3 - 1e-6 <= measured["system.disk.io_time"][name] <= high[name][9] / 1e3 + 1e-6


def diskstats():
    rows = [line.split() for line in PROC.joinpath("diskstats").read_text().splitlines()]
    return {row[2]: [int(value) for value in row[3:]] for row in rows}


def test_disk_size_is_that_of_sysfs(make):
    """A device's limit is its size in /sys, where that is in sectors of 512 bytes."""
    for name, value in by_metric(make("disk").collect()).get("system.disk.limit", {}).items():
        assert value == pytest.approx(int(Path(f"/sys/class/block/{name}/size").read_text()) * 512, abs=1024)


def test_disk_options_select_devices(make):
    """A device is reported if it matches a pattern of include and none of exclude."""
    assert list(make("disk", include=()).collect()) == []
    assert list(make("disk", exclude=("*",)).collect()) == []


def test_disk_partitions_are_those_that_are_mounted(make):
    """With every, the command lists each mount point of /proc/1/mounts, with four fields."""
    mounted = {line.split()[1] for line in Path("/proc/1/mounts").read_text().splitlines()}
    partitions = make("disk").partitions(every=True)
    assert {each["mountpoint"].replace(" ", "\\040") for each in partitions} == mounted
    assert all(set(each) == {"device", "mountpoint", "fstype", "opts"} for each in partitions)
    assert len(make("disk").partitions()) <= len(partitions)


def test_network_is_that_of_proc_net_dev(make):
    """Each interface's counters lie between two readings."""
    plugin = make("network", exclude=())
    low = interfaces(plugin.directory)
    measured = by_metric(plugin.collect())
    high = interfaces(plugin.directory)
    assert {key.partition("/")[0] for key in measured["system.network.io"]} == set(low)
    for name in low:
        for column, metric in enumerate(
            (
                "system.network.io",
                "system.network.packet.count",
                "system.network.errors",
                "system.network.packet.dropped",
            )
        ):
            assert low[name][column] <= measured[metric][f"{name}/receive"] <= high[name][column]
            assert low[name][column + 8] <= measured[metric][f"{name}/transmit"] <= high[name][column + 8]


def interfaces(directory):
    rows = [line.split(":") for line in Path(directory, "dev").read_text().splitlines()[2:]]
    return {name.strip(): [int(value) for value in rest.split()] for name, rest in rows}


def test_network_counts_a_listening_socket(make):
    """One more listening TCP socket is one more in the state listen."""
    plugin = make("network")
    if plugin.directory != "/proc/net":
        pytest.skip("this process's own network is not the one that is reported")
    with socket.socket() as listener, socket.socket(type=socket.SOCK_DGRAM) as datagrams:
        listener.bind(("127.0.0.1", 0))
        before = by_metric(plugin.collect())["system.network.connection.count"]
        listener.listen()
        datagrams.bind(("127.0.0.1", 0))
        after = by_metric(plugin.collect())["system.network.connection.count"]
    assert after["listen/tcp"] == before["listen/tcp"] + 1
    assert after["unconnected/udp"] == before["unconnected/udp"] + 1


def test_network_counts_by_both_ways_alike(make):
    """The kernel's answer and its tables have the same number of connections in each state."""
    network = import_plugin("network")
    if network.diagnose_tcp() is None:
        pytest.skip("this kernel, or a filter, denies sock_diag")
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        deadline = time.monotonic() + 10
        while (counts := network.diagnose_tcp()) != (tables := network.count_tables("/proc/net", "tcp")):
            assert time.monotonic() < deadline, (counts, tables)  # others' connections come and go meanwhile
    assert counts is not None
    assert counts[1] >= 2


def test_network_without_connections(make):
    """The option leaves the socket tables alone."""
    assert "system.network.connection.count" not in by_metric(make("network", connections=False).collect())


def test_load_is_that_of_proc_loadavg(make):
    """The three windows are the first three numbers; the kernel may compute anew between the two readings."""
    measured = by_metric(make("load").collect())["system.cpu.load_average"]
    expected = [float(each) for each in PROC.joinpath("loadavg").read_text().split()[:3]]
    assert [measured["1m"], measured["5m"], measured["15m"]] == pytest.approx(expected, abs=1.0)


def test_uptime_and_boot_time(make):
    """Uptime lies between two readings, and boot time and uptime together are now."""
    plugin = make("system")
    low = float(PROC.joinpath("uptime").read_text().split()[0])
    measured = by_metric(plugin.collect())
    high = float(PROC.joinpath("uptime").read_text().split()[0])
    assert low <= measured["system.uptime"][""] <= high
    assert measured["system.boot_time"][""] == field(PROC / "stat", "btime")
    assert measured["system.user.count"][""] <= measured["system.session.count"][""]


def test_process_counts(make):
    """All states together are the processes in /proc, some of which come and go; the limit is the kernel's."""
    plugin = make("processes")
    measured = by_metric(plugin.collect())
    count = sum(name.isdigit() for name in os.listdir("/proc"))
    assert sum(measured["system.process.count"].values()) == pytest.approx(count, abs=max(20, count // 5))
    assert measured["system.process.count"]["running"] >= 1  # this one
    assert measured["system.process.limit"][""] == int(PROC.joinpath("sys/kernel/threads-max").read_text())


def test_forks_are_counted(make):
    """Processes created lie between two readings, and a fork adds to them."""
    plugin = make("processes")
    before = by_metric(plugin.collect())["system.process.created"][""]
    assert before <= field(PROC / "stat", "processes")
    pid = os.posix_spawn("/bin/true", ["true"], {})
    os.waitpid(pid, 0)
    assert by_metric(plugin.collect())["system.process.created"][""] > before


def test_top_processes_are_named(make):
    """The busiest process is among the top ones, by pid and command, and the largest have their memory."""
    plugin = make("processes", top_cpu=2, top_memory=1)
    assert "process.cpu.utilization" not in by_metric(plugin.collect())
    command = PROC.joinpath("self/comm").read_text().strip()
    used = time.process_time() + 0.2
    while time.process_time() < used:
        sum(range(10_000))
    measured = by_metric(plugin.collect())
    assert len(measured["process.memory.usage"]) == 1
    busy = measured["process.cpu.utilization"]
    assert len(busy) == 2
    if f"{os.getpid()}/{command}" in busy:  # unless two others were busier still
        assert 0 < busy[f"{os.getpid()}/{command}"] <= 1.05
    else:
        assert min(busy.values()) > 0


def test_filesystem_is_that_of_statvfs(make):
    """A mount's states add up to its size, and each is near what statvfs says of the mount point."""
    plugin = make("filesystem")
    samples = list(plugin.collect())
    limits = {each.labels: each.value for each in samples if each.metric is plugin.limit}
    assert limits
    for labels, limit in limits.items():
        stat = os.statvfs(labels[-1])
        assert limit == pytest.approx(stat.f_blocks * stat.f_frsize, rel=0.01)
        states = {
            each.labels[0]: each.value for each in samples if each.metric is plugin.usage and each.labels[1:] == labels
        }
        assert sum(states.values()) == limit
        assert states["free"] == pytest.approx(stat.f_bavail * stat.f_frsize, abs=0.05 * limit)
        assert states["used"] == pytest.approx((stat.f_blocks - stat.f_bfree) * stat.f_frsize, abs=0.05 * limit)


def test_filesystem_reports_each_filesystem_once(make):
    """However often something is mounted, its space is counted once."""
    plugin = make("filesystem")
    mountpoints = [each.labels[-1] for each in plugin.collect() if each.metric is plugin.limit]
    assert len({os.stat(mountpoint).st_dev for mountpoint in mountpoints}) == len(mountpoints)


def test_plugd_reports_the_daemon_and_its_workers(make):
    """The daemon is the parent; a child named plugd:NAME is NAME's worker, and its children are its cost too."""
    plugin = make("plugd", pss=True)
    plugin.daemon = os.getpid()
    script = "printf plugd:mine > /proc/$$/comm; sleep 60 & echo ready; read _; kill $!"
    worker = subprocess.Popen(["/bin/sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert worker.stdout.readline() == "ready\n"
        measured = by_metric(plugin.collect())
        assert measured["plugd.process.thread.count"]["worker/mine"] == 2  # the shell and its child
        assert measured["plugd.process.unix.file_descriptor.count"]["worker/mine"] >= 6
        own = psutil.Process()
        assert measured["plugd.process.memory.usage"]["daemon/"] == pytest.approx(own.memory_info().rss, rel=0.2)
        assert measured["plugd.process.thread.count"]["daemon/"] == own.num_threads()
        times = own.cpu_times()
        assert measured["plugd.process.cpu.time"]["daemon/"] == pytest.approx(times.user + times.system, abs=1)
        assert measured["plugd.process.memory.proportional"]["worker/mine"] > 0
    finally:
        worker.communicate("")
    assert "worker/mine" not in by_metric(plugin.collect())["plugd.process.cpu.time"]


def test_shipped_plugins_are_files():
    """Nothing but plugins is in their directory."""
    assert {path.suffix for path in DIRECTORY.iterdir() if path.is_file()} == {".py"}
