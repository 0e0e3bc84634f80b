"""The shipped plugins' parsers and decisions, with fixed text: what this host may not have."""

import os
from types import SimpleNamespace

import psutil
import pytest
from shipped import import_plugin

MOUNTINFO = """\
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard
30 27 254:1 /sub /home/my\\040data ro,nosuid shared:2 master:1 - xfs /dev/vdb rw
31 27 254:1 / /srv rw - xfs /dev/vdb rw
32 27 254:0 /etc/hosts /etc/hosts rw - ext4 /dev/vda rw
33 27 0:40 / /mnt/share rw - nfs4 server:/export rw
34 27 0:41 / /tmp rw - tmpfs tmpfs rw
35 27 0:42 / /tmp rw - tmpfs second rw
cut short
"""
STAT = "cpu  9 9 9 9\ncpu0 100 1 20 5000 3 4 5 6 70 8\ncpu2 1 2 3 4\nintr 1234 0 5 6\nctxt 98765\nbtime 1\n"
CHILD = "42 (a) b (c) S 7 42 42 0 -1 4194304 120 0 0 0 30 12 5 6 20 0 3 0 777 3850240 499 18446744073709551615\n"


def test_cpu_parses_stat():
    """Online CPUs by their own numbers without guest time, which is part of user; the first number of intr."""
    stat = import_plugin("cpu").parse_stat(STAT)
    assert stat.cpus == {0: [100, 1, 20, 5000, 3, 4, 5, 6], 2: [1, 2, 3, 4]}
    assert stat.context_switches == 98765
    assert stat.interrupts == 1234


def test_cpu_corrections_are_no_restart():
    """A tick less than before is held; a CPU that starts anew is taken as it is."""
    cpu = import_plugin("cpu")
    assert cpu.advance([100, 5000], [99, 5100]) == [100, 5100]
    assert cpu.advance([100, 500_000], [100, 12]) == [100, 12]


def test_cpu_shares():
    """Shares are parts of the ticks that passed; none passed or a restart means no shares."""
    cpu = import_plugin("cpu")
    assert cpu.shares([0, 0], [25, 75]) == [0.25, 0.75]
    assert cpu.shares([5, 5], [5, 5]) == []
    assert cpu.shares([5, 5], [1, 50]) == []


def test_cpu_keeps_its_ticks_over_a_reload(make):
    """The next generation has a utilization in its first collection, if a tick passed."""
    old, new = make("cpu"), make("cpu")
    list(old.collect())
    new.load_state({cpu: [0] * 8 for cpu in old.save_state()})
    assert any(each.metric is new.utilization for each in new.collect())


def test_cpuinfo_of_other_architectures():
    """Arm has Features and no MHz; a paragraph that is no processor is skipped."""
    cpu = import_plugin("cpu")
    text = "processor\t: 0\nBogoMIPS\t: 48.00\nFeatures\t: fp asimd\nCPU implementer\t: 0x41\n\nHardware\t: Board\n"
    assert [cpu.describe_processor(fields) for fields in cpu.parse_cpuinfo(text)] == [
        {"processor": 0, "vendor": "0x41", "model": None, "mhz": None, "cores": None, "flags": ["fp", "asimd"]}
    ]


def test_memory_states_in_a_container():
    """A total that is smaller than the host's cache gives used and free, still without overlap."""
    states = import_plugin("memory").memory_states
    assert states({"MemTotal": 100, "MemFree": 40, "Buffers": 5, "Cached": 30, "SReclaimable": 5}) == {
        "used": 20,
        "free": 40,
        "buffers": 5,
        "cached": 35,
    }
    assert states({"MemTotal": 100, "MemFree": 40, "Cached": 500}) == {"used": 60, "free": 40}


def test_memory_parses_swaps():
    """Sizes are in KiB; white space in a file's name is escaped."""
    text = "Filename\tType\tSize\tUsed\tPriority\n/swap\\040file file 1024 24 -2\n/dev/zram0 partition 2048 0 100\n"
    assert import_plugin("memory").parse_swaps(text) == [
        ("/swap file", 1024 * 1024, 24 * 1024),
        ("/dev/zram0", 2048 * 1024, 0),
    ]


def test_memory_reports_swap_and_huge_pages(make, values, tmp_path, monkeypatch):
    """Each swap area has its states and shares; huge pages appear with the pool."""
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(tmp_path))
    tmp_path.joinpath("swaps").write_text("Filename Type Size Used Priority\n/dev/sdb partition 1000 250 -2\n")
    pool = "HugePages_Total: 10\nHugePages_Free: 4\nHugePages_Rsvd: 1\nHugePages_Surp: 0\nHugepagesize: 2048 kB\n"
    tmp_path.joinpath("meminfo").write_text(f"MemTotal: 100 kB\nMemFree: 60 kB\n{pool}")
    plugin = make("memory")
    samples = list(plugin.collect())
    assert values(samples, plugin.paging_usage) == {("used", "/dev/sdb"): 256000, ("free", "/dev/sdb"): 768000}
    assert values(samples, plugin.paging_utilization) == {("used", "/dev/sdb"): 0.25, ("free", "/dev/sdb"): 0.75}
    assert values(samples, plugin.hugepages_usage) == {("used",): 6, ("free",): 4}
    assert values(samples, plugin.hugepages_size) == {(): 2 * 1024 * 1024}


def test_disk_parses_diskstats():
    """Sectors become bytes and milliseconds seconds; the short lines of old kernels are skipped."""
    disk = import_plugin("disk")
    text = "8 0 sda 10 2 30 4000 50 6 70 8000 1 1500 9999 0 0\n8 1 sda1 1 2 3 4\n"
    [device] = disk.parse_diskstats(text)
    assert device == ("sda", (10, 2, 30 * 512, 4.0), (50, 6, 70 * 512, 8.0), 1.5)


def test_disk_selects_by_pattern():
    """Exclusion wins over inclusion."""
    selected = import_plugin("disk").selected
    assert selected("sda", ("*",), ("loop*",))
    assert not selected("loop0", ("*",), ("loop*",))
    assert not selected("sda", ("nvme*",), ())


def test_filesystem_parses_mountinfo():
    """Optional fields are skipped, escapes undone, and the mode is the mount's, not the filesystem's."""
    mounts = import_plugin("filesystem").parse_mountinfo(MOUNTINFO)
    assert len(mounts) == 8
    assert mounts[2] == ("254:1", "/sub", "/home/my data", "ro", "xfs", "/dev/vdb")


def test_filesystem_keeps_each_once(make):
    """Bind mounts and hidden mounts are left out, pseudo and remote types by default."""
    module = import_plugin("filesystem")
    plugin = make("filesystem")
    mounts = module.parse_mountinfo(MOUNTINFO)
    kept = module.distinct(filter(plugin.selects, mounts))
    assert [(each.mountpoint, each.device) for each in kept] == [
        ("/", "/dev/vda"),
        ("/srv", "/dev/vdb"),
        ("/tmp", "second"),
    ]
    plugin.options.remote = True
    assert "/mnt/share" in {each.mountpoint for each in filter(plugin.selects, mounts)}
    plugin.options.exclude_mounts = ("/s*",)
    assert "/srv" not in {each.mountpoint for each in filter(plugin.selects, mounts)}


def test_filesystem_space_adds_up():
    """Used, free and reserved are all the blocks, by the fragment size."""
    fields = {"f_frsize": 4096, "f_bsize": 512, "f_blocks": 100, "f_bfree": 40, "f_bavail": 35}
    stat = SimpleNamespace(**fields, f_files=50, f_ffree=20)
    space = import_plugin("filesystem").split_space(stat)
    assert space.size_bytes == {"used": 60 * 4096, "free": 35 * 4096, "reserved": 5 * 4096}
    assert space.inodes == {"used": 30, "free": 20}


def test_filesystem_skips_a_mount_that_is_gone(make, tmp_path, monkeypatch):
    """A mount that disappears after it was listed costs only its own samples."""
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(tmp_path))
    tmp_path.joinpath("self").mkdir()
    gone = f"40 27 254:9 / {tmp_path}/gone rw - ext4 /dev/vdz rw\n"
    tmp_path.joinpath("self/mountinfo").write_text(gone + "27 1 254:0 / / rw - ext4 /dev/vda rw\n")
    plugin = make("filesystem")
    assert {each.labels[-1] for each in plugin.collect()} == {"/"}


HOST = """\
27 1 254:0 / / rw - ext4 /dev/vda rw
28 27 254:1 / /home rw - xfs /dev/vdb rw
29 27 0:41 / /tmp rw - tmpfs tmpfs rw
30 27 254:2 / /root rw - ext4 /dev/vdc rw
"""
SERVICE = """\
427 1 254:0 / / ro - ext4 /dev/vda rw
428 427 254:1 / /home ro - xfs /dev/vdb rw
429 427 0:41 /private /tmp rw - tmpfs tmpfs rw
430 427 254:0 /var/lib/plugd /var/lib/plugd rw - ext4 /dev/vda rw
431 427 254:2 / /root rw - ext4 /dev/vdc rw
432 427 0:99 / /root ro - tmpfs tmpfs rw
433 427 0:98 / /dev rw - tmpfs tmpfs rw
"""


def test_filesystem_finds_the_hosts_in_a_service():
    """A service's own mounts are places only: what is hidden under another is none, nor is what the host lacks."""
    module = import_plugin("filesystem")
    host, own = module.parse_mountinfo(HOST), module.parse_mountinfo(SERVICE)
    found = {mount.mountpoint: (mount.mode, place) for mount, place in module.located(host, own)}
    assert found == {"/": ("rw", "/"), "/home": ("rw", "/home"), "/tmp": ("rw", "/tmp")}


def test_filesystem_of_elsewhere_will_do():
    """Where something else is to be seen at a mount point, another place of its filesystem is as good."""
    module = import_plugin("filesystem")
    host = module.parse_mountinfo("28 27 254:1 / /data rw - xfs /dev/vdb rw\n")
    own = module.parse_mountinfo("50 1 0:50 / /data rw - tmpfs t rw\n51 1 254:1 /x /srv/deep/x ro - xfs /dev/vdb rw\n")
    [(mount, place)] = module.located(host, own)
    assert (mount.mountpoint, mount.mode, place) == ("/data", "rw", "/srv/deep/x")


def test_filesystem_reports_what_process_1_has(make, tmp_path, monkeypatch):
    """Mounts and modes are those of /proc/1; where that is hidden, this process's own."""
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(tmp_path))
    for directory, mode in (("self", "ro"), ("1", "rw")):
        tmp_path.joinpath(directory).mkdir()
        tmp_path.joinpath(directory, "mountinfo").write_text(f"27 1 254:0 / / {mode} - ext4 /dev/vda rw\n")
    plugin = make("filesystem")
    limits = [each for each in plugin.collect() if each.metric is plugin.limit]
    assert [each.labels[-2:] for each in limits] == [("rw", "/")]
    tmp_path.joinpath("1/mountinfo").unlink()
    assert {each.labels[-2:] for each in plugin.collect() if each.metric is plugin.limit} == {("ro", "/")}


def test_disk_lists_the_hosts_mounts(make, tmp_path, monkeypatch):
    """The command's rows are of /proc/1/mounts, unescaped; by default those of types that are on devices."""
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(tmp_path))
    for directory in ("self", "1"):
        tmp_path.joinpath(directory).mkdir()
    tmp_path.joinpath("filesystems").write_text("nodev\tproc\n\text4\nnodev\tzfs\n")
    tmp_path.joinpath("self/mounts").write_text("/dev/vda / ext4 ro 0 0\n")
    text = "/dev/vda / ext4 rw 0 0\npool /my\\040data zfs rw 0 0\nproc /proc proc rw 0 0\ncut short\n"
    tmp_path.joinpath("1/mounts").write_text(text)
    disk = make("disk")
    assert [(each["mountpoint"], each["opts"]) for each in disk.partitions()] == [("/", "rw"), ("/my data", "rw")]
    assert len(disk.partitions(every=True)) == 3
    tmp_path.joinpath("1/mounts").unlink()
    assert disk.partitions() == [{"device": "/dev/vda", "mountpoint": "/", "fstype": "ext4", "opts": "ro"}]


def test_network_parses_dev():
    """Columns of both directions; no space need follow the colon, and an alias has one of its own."""
    row = "1 2 3 4 0 0 0 0 5 6 7 8 0 0 0 0"
    text = f"Inter-| Receive\n face |bytes\n  eth0:{row}\n eth0:1: {row}\n"
    assert import_plugin("network").parse_dev(text) == [
        ("eth0", (1, 2, 3, 4), (5, 6, 7, 8)),
        ("eth0:1", (1, 2, 3, 4), (5, 6, 7, 8)),
    ]


def test_network_falls_back_to_the_hosts(tmp_path):
    """With nothing but the loopback of its own, the namespace of process 1 is read, if that has more."""
    network = import_plugin("network")
    row = "0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0"
    for directory, names in (("net", ["lo"]), ("1/net", ["lo", "eth0"])):
        tmp_path.joinpath(directory).mkdir(parents=True)
        tmp_path.joinpath(directory, "dev").write_text("".join(f"{name}: {row}\n" for name in names))
    assert network.network_directory(str(tmp_path)) == f"{tmp_path}/1/net"
    tmp_path.joinpath("net/dev").write_text(f"lo: {row}\nwg0: {row}\n")
    assert network.network_directory(str(tmp_path)) == f"{tmp_path}/net"
    assert network.network_directory(str(tmp_path / "absent")) == f"{tmp_path}/absent/net"


def test_network_knows_its_own_namespace(tmp_path):
    """A host with nothing but a loopback is read as itself by a process in it, and not by one in a namespace apart."""
    network = import_plugin("network")
    for directory in ("net", "1/net"):
        tmp_path.joinpath(directory).mkdir(parents=True)
    tmp_path.joinpath("1/net/dev").write_text("lo: 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n")
    os.link(tmp_path / "1/net/dev", tmp_path / "net/dev")
    assert network.network_directory(str(tmp_path)) == f"{tmp_path}/net"
    tmp_path.joinpath("net/dev").unlink()
    tmp_path.joinpath("net/dev").write_text("lo: 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n")
    assert network.network_directory(str(tmp_path)) == f"{tmp_path}/1/net"


def test_network_counts_states(tmp_path):
    """States are counted over both tables; a missing table is no error."""
    count_states = import_plugin("network").count_states
    table = "  sl  local rem st\n   0: 00:07E8 00:0000 0A 0:0 0\n10000: 00:1 00:2 01 0:0 0\n   2: 00:1 00:3 01 0:0 0\n"
    tmp_path.joinpath("tcp").write_text(table)
    counts = {}
    assert count_states(f"{tmp_path}/tcp", counts)
    assert count_states(f"{tmp_path}/tcp", counts)
    assert not count_states(f"{tmp_path}/tcp6", counts)
    assert counts == {10: 2, 1: 4}


def test_network_counts_diagnosed_sockets():
    """Sockets are counted by state until the kernel says that it is done; its errors are raised."""
    network = import_plugin("network")

    def message(kind, body):
        data = network.HEADER.pack(network.HEADER.size + len(body), kind, 0, 1, 0) + body
        return data + bytes(-len(data) % 4)

    listening, established = (message(20, bytes([2, state]) + bytes(71)) for state in (10, 1))
    counts = {}
    assert network.count_diagnosed(listening + established, counts)
    assert not network.count_diagnosed(established + message(3, bytes(4)), counts)
    assert counts == {10: 1, 1: 2}
    with pytest.raises(OSError, match="refused"):
        network.count_diagnosed(message(2, bytes(20)), counts)


def test_network_reads_tables_where_the_kernel_does_not_answer(monkeypatch):
    """Without netlink sockets the connections are counted all the same."""
    network = import_plugin("network")
    monkeypatch.setattr(network, "NETLINK_SOCK_DIAG", 999)
    assert network.diagnose_tcp() is None
    assert network.count_tables("/proc/net", "tcp") is not None


def test_processes_parses_a_command_with_parentheses():
    """The command ends at the last parenthesis, whatever a program calls itself."""
    module = import_plugin("processes")
    process = module.parse_process(CHILD.encode())
    assert process == (42, "a) b (c", "S", 777, 42, 499 * os.sysconf("SC_PAGE_SIZE"))
    assert module.parse_process(b"") is None
    assert module.parse_process(b"42 (x) S 1 2") is None


def test_processes_busiest_counts_a_new_process_from_its_start(make, values):
    """A pid that was given to another process is a new one: its time is all its own."""
    module = import_plugin("processes")
    plugin = make("processes", top_cpu=2)
    old = module.Process(7, "old", "S", started=1, ticks=5000, memory_bytes=0)
    other = module.Process(8, "other", "S", started=2, ticks=100, memory_bytes=0)
    assert list(plugin.collect_busiest([old, other], 10.0)) == []
    new = module.Process(7, "new", "R", started=9, ticks=20, memory_bytes=0)
    samples = list(plugin.collect_busiest([new, other._replace(ticks=110)], 11.0))
    ticks = module.TICKS_PER_SECOND * os.cpu_count()
    assert values(samples, plugin.utilization) == {
        ("7", "new"): pytest.approx(20 / ticks),
        ("8", "other"): pytest.approx(10 / ticks),
    }


def test_system_parses_uptime():
    """The first number is the uptime, the second the idle time of all CPUs."""
    parse_uptime = import_plugin("system").parse_uptime
    assert parse_uptime("350735.47 234388.90\n") == 350735.47
    assert parse_uptime("") is None


def test_sensors_with_hardware(make, values, monkeypatch):
    """Two chips of one name stay two sensors; a driver that fails costs only its own kind."""
    heat = SimpleNamespace(label="Composite", current=41.5, high=80.0, critical=None)
    monkeypatch.setattr(psutil, "sensors_temperatures", lambda: {"nvme": [heat, heat]})
    monkeypatch.setattr(psutil, "sensors_battery", lambda: SimpleNamespace(percent=50, secsleft=-2))

    def fail():
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(psutil, "sensors_fans", fail)
    plugin = make("sensors")
    samples = list(plugin.collect())
    assert values(samples, plugin.temperature) == {("nvme:0", "Composite"): 41.5, ("nvme:1", "Composite"): 41.5}
    assert values(samples, plugin.temperature_limit) == {
        ("nvme:0", "Composite", "high.degraded"): 80.0,
        ("nvme:1", "Composite", "high.degraded"): 80.0,
    }
    assert values(samples, plugin.battery_charge) == {(): 0.5}
    assert values(samples, plugin.battery_time_left) == {}


def test_plugd_tells_roles():
    """The command name tells what a child of the daemon is."""
    module = import_plugin("plugd")
    process = module.parse_process(CHILD)
    assert process == (42, "a) b (c", 7, 777, 42, 11, 3, 499 * os.sysconf("SC_PAGE_SIZE"))
    assert module.role_of(process, daemon=42) == ("daemon", "")
    assert module.role_of(process, daemon=1) == ("other", "")
    assert module.role_of(process._replace(command="plugd:forksrv"), daemon=1) == ("forkserver", "")
    assert module.role_of(process._replace(command="plugd:disk@data"), daemon=1) == ("worker", "disk@data")


def test_plugd_family_has_descendants_once():
    """A process comes before its descendants, and none is counted twice."""
    children = {1: [2, 3], 2: [4], 3: [4]}
    assert import_plugin("plugd").family(1, lambda pid: children.get(pid, [])) == [1, 2, 3, 4]


def test_plugd_time_does_not_fall_at_a_reload(make):
    """Two generations' times add up; when the old one ends, what it used stays in the sum."""
    module = import_plugin("plugd")
    plugin = make("plugd")
    process = module.parse_process(CHILD)
    role = ("worker", "mine")

    def cost(pid, ticks):
        return module.Cost(process._replace(pid=pid), ticks, [])

    seen = []
    for costs in ([cost(1, 100)], [cost(1, 110), cost(2, 5)], [cost(2, 8)], [cost(2, 8)]):
        plugin.count_ticks({role: costs})
        seen.append(plugin.ticks[role])
    assert seen == [100, 115, 118, 118]
    successor = make("plugd")
    successor.load_state(plugin.save_state())
    successor.count_ticks({role: [cost(2, 9)]})
    assert successor.ticks[role] == 119


def test_plugd_children_without_the_kernels_help(tmp_path):
    """Where threads have no "children" file, every process is asked for its parent."""
    for pid, parent in ((7, 1), (8, 7), (9, 7), (10, 8)):
        tmp_path.joinpath(str(pid)).mkdir()
        text = CHILD.replace("42 (", f"{pid} (", 1).replace("S 7", f"S {parent}")
        tmp_path.joinpath(str(pid), "stat").write_text(text)
    module = import_plugin("plugd")
    children = module.children_function(str(tmp_path))
    assert sorted(children(7)) == [8, 9]
    costs = module.read_costs(str(tmp_path), 7)
    # The daemon on its own: 42 ticks. A child with what it waited for: 53; with its own child: twice that.
    assert sorted(each.ticks for each in costs) == [42, 53, 106]
