"""What a worker cannot do once it has confined itself: tried by processes that have."""

import ctypes
import json
import os
import resource
import signal
import stat
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from plugd.prctl import PR_SET_CHILD_SUBREAPER
from plugd.worker import landlock, searchpath
from plugd.worker.confine import count_tasks
from plugd.worker.credentials import CAP_DAC_READ_SEARCH
from plugd.worker.searchpath import trusted_entries

OWN_UID = 61500
SCOPES = 6  # the version of Landlock that confines signals

needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can change its user")
needs_landlock = pytest.mark.skipif(not landlock.abi(), reason="this kernel has no Landlock")
needs_scopes = pytest.mark.skipif(landlock.abi() < SCOPES, reason="this kernel's Landlock does not confine signals")

Confined = Callable[..., Any]

PRELUDE = """
import json, os, resource, signal, subprocess, sys, tempfile
from plugd.worker.confine import ConfinementError, confine

def tried(function, *arguments, **keywords):
    try:
        return function(*arguments, **keywords)
    except (OSError, MemoryError) as error:
        return type(error).__name__

def write(path, data="x"):
    with open(path, "w") as file:
        return file.write(data)

def read(path):
    with open(path) as file:
        return file.read()

rules = json.loads(sys.argv[1])
unconfined = confine(rules)
"""


def rules(**changes: Any) -> dict[str, Any]:
    """Rules of a worker that keeps this user, with the default limits."""
    return {
        "uid": None,
        "user": None,
        "environment": {"PATH": "/usr/bin:/bin", "HOME": "/", "PLUGD_PLUGIN": "probe"},
        "cgroup": None,
        "memory": 256 * 1024**2,
        "open_files": 256,
        "processes": 64,
        "sandbox": {"write": [], "read": None},
        "notes": [],
        **changes,
    }


def confined(program: str, **changes: Any) -> Any:
    """Run a program after it has confined itself; return the value of its last line."""
    *lines, last = textwrap.dedent(program).strip().splitlines()
    text = "\n".join([PRELUDE, *lines, f"print(json.dumps({last}))"])
    done = subprocess.run(
        [sys.executable, "-I", "-B", "-c", text, json.dumps(rules(**changes))],
        env={"SECRET": "of the daemon", "PYTHONPATH": "/nonexistent"},
        extra_groups=[4242] if os.getuid() == 0 else None,  # of the daemon; not for a worker with another user
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@needs_landlock
def test_nothing_can_be_written_but_the_named_paths(tmp_path: Path) -> None:
    """Neither made, changed, truncated, moved nor removed: and all of it below a path that is allowed."""
    allowed, other = tmp_path / "allowed", tmp_path / "other"
    for directory in (allowed, other):
        directory.mkdir(mode=0o777)
        (directory / "file").write_text("kept")
    program = f"""
    results = []
    for directory in ({str(allowed)!r}, {str(other)!r}):
        results.append([
            tried(write, directory + "/new"),
            tried(write, directory + "/file"),
            tried(os.truncate, directory + "/file", 0),
            tried(os.mkdir, directory + "/sub"),
            tried(os.rename, directory + "/file", directory + "/moved"),
            tried(os.unlink, directory + "/moved" if os.path.exists(directory + "/moved") else directory + "/file"),
        ])
    results
    """
    free, refused = confined(program, sandbox={"write": [str(allowed)], "read": None})
    assert free == [1, 1, None, None, None, None]
    assert refused == ["PermissionError"] * 6
    assert (other / "file").read_text() == "kept"


@needs_landlock
def test_what_is_written_to_nowhere_is_not_refused() -> None:
    """A child's output to /dev/null, as everybody has it."""
    program = """
    done = subprocess.run(["sh", "-c", "echo x; echo y > /dev/null"], stdout=subprocess.DEVNULL)
    [done.returncode, tried(write, "/dev/full")]
    """
    assert confined(program) == [0, "OSError"]


@needs_landlock
def test_a_temporary_file_needs_a_path_that_is_allowed(tmp_path: Path) -> None:
    """Without one, tempfile says that there is no usable directory; with TMPDIR allowed it works."""
    program = """
    def temporary():
        with tempfile.NamedTemporaryFile() as file:
            return file.name
    tried(temporary)
    """
    assert confined(program) == "FileNotFoundError"
    tmp_path.chmod(0o777)
    environment = {"PATH": "/bin", "TMPDIR": str(tmp_path)}
    name = confined(program, environment=environment, sandbox={"write": [str(tmp_path)], "read": None})
    assert name.startswith(f"{tmp_path}/")


@needs_landlock
def test_reading_can_be_limited_to_named_paths(tmp_path: Path) -> None:
    """Modules, libraries, programs, /proc and /sys can still be read: a plugin works, and sees nothing else."""
    for name in ("allowed", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    program = f"""
    import csv, psutil, plugd.worker.event_loop
    seen = [tried(read, {str(tmp_path)!r} + name) for name in ("/allowed/file", "/other/file")]
    listed = tried(os.listdir, {str(tmp_path)!r} + "/other")
    ran = subprocess.run(["uname", "-s"], capture_output=True, text=True).stdout.strip()
    [*seen, listed, ran, psutil.cpu_times().user > 0, len(psutil.net_if_addrs()) > 0, len(psutil.pids()) > 0]
    """
    answer = confined(program, sandbox={"write": [], "read": [str(tmp_path / "allowed")]})
    assert answer == ["allowed", "PermissionError", "PermissionError", "Linux", True, True, True]


@needs_scopes
def test_nobody_can_be_signalled_but_what_it_started() -> None:
    """A worker with the daemon's own user can neither kill nor trace it; its children are its own."""
    program = """
    child = subprocess.Popen(["sleep", "60"], stdout=subprocess.DEVNULL)
    child.kill()
    answers = [tried(os.kill, os.getppid(), 0), tried(open, f"/proc/{os.getppid()}/mem", "rb")]
    [*answers, child.wait()]
    """
    assert confined(program) == ["PermissionError", "PermissionError", -signal.SIGKILL]


@needs_landlock
def test_a_path_that_is_not_there_is_told() -> None:
    """The rest of the sandbox holds all the same."""
    answer = confined(
        'unconfined + [tried(write, "/nonexistent-plugd")]', sandbox={"write": ["/nonexistent"], "read": None}
    )
    assert [line for line in answer if line.startswith("sandbox")] == [
        "sandbox: '/nonexistent' cannot be allowed: No such file or directory"
    ]
    assert answer[-1] == "PermissionError"


def test_a_kernel_without_landlock_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything else is applied, and this is not held back."""
    monkeypatch.setattr(landlock, "abi", lambda: 0)
    assert landlock.restrict([], None) == [
        "sandbox: this kernel has no Landlock: writing is up to the user's permissions"
    ]


@pytest.mark.parametrize(
    ("version", "rights", "scopes", "missing"),
    [(1, 13, 0, 2), (2, 14, 0, 2), (3, 15, 0, 1), (4, 15, 0, 1), (5, 16, 0, 1), (6, 16, 2, 0), (7, 16, 2, 0)],
)
def test_of_an_older_landlock_only_what_it_has_is_asked(version: int, rights: int, scopes: int, missing: int) -> None:
    """A ruleset with a right that the kernel does not know is refused as a whole; what is missing is told."""
    writing, scope, lines = landlock._handled(version)
    assert (writing.bit_length(), scope.bit_count(), len(lines)) == (rights, scopes, missing)


def test_the_sandbox_can_be_switched_off(tmp_path: Path) -> None:
    """By configuration, for the plugin that has to write where nobody can say in advance."""
    tmp_path.chmod(0o777)
    assert confined(f"tried(write, {str(tmp_path / 'file')!r})", sandbox=None) == 1


def test_a_confined_process_can_be_traced_and_killed_from_outside() -> None:
    """It is confined, not protected: the daemon's kill and a debugger reach it as before."""
    program = PRELUDE + 'print("ready", flush=True)\nsignal.pause()\n'
    with subprocess.Popen(
        [sys.executable, "-I", "-c", program, json.dumps(rules())], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "ready\n"
            libc = ctypes.CDLL(None, use_errno=True)
            assert libc.ptrace(0x4206, process.pid, None, None) == 0  # PTRACE_SEIZE
        finally:
            process.kill()
        assert process.wait() == -signal.SIGKILL


def test_the_environment_is_what_it_was_given_and_nothing_else() -> None:
    """Nothing of the daemon's: neither for the plugin nor for what it starts."""
    program = """
    child = subprocess.run(["/usr/bin/env"], capture_output=True, text=True).stdout.split()
    [dict(os.environ), sorted(line for line in child if not line.startswith(("PWD=", "SHLVL=", "_=")))]
    """
    environment = {"PATH": "/usr/bin:/bin", "HOME": "/", "PLUGD_PLUGIN": "probe"}
    assert confined(program) == [environment, sorted(f"{name}={value}" for name, value in environment.items())]


def test_limits_are_those_of_the_rules_and_hard() -> None:
    """Soft and hard limits are the same: a plugin cannot raise them."""
    program = """
    kinds = (resource.RLIMIT_NOFILE, resource.RLIMIT_CORE)
    data = resource.getrlimit(resource.RLIMIT_DATA)
    [*(resource.getrlimit(kind) for kind in kinds), data[0] == data[1], data[0] > rules["memory"]]
    """
    assert confined(program, open_files=20) == [[20, 20], [0, 0], True, True]


def test_files_cannot_be_opened_without_end() -> None:
    """The plugin gets EMFILE, and nobody else anything."""
    program = """
    def open_many():
        held = []
        while True:
            held.append(open("/dev/null"))
    [tried(open_many)]
    """
    assert confined(program, open_files=30) == ["OSError"]


def test_memory_beyond_the_limit_is_a_memory_error() -> None:
    """Which a plugin can even survive; up to the limit there is memory."""
    program = """
    [tried(lambda: len(bytearray(30 * 2**20))), tried(lambda: len(bytearray(100 * 2**20)))]
    """
    assert confined(program, memory=64 * 2**20) == [30 * 2**20, "MemoryError"]


def test_the_threads_that_are_allowed_have_room_for_their_stacks() -> None:
    """The default limits of memory and of processes can be used together."""
    program = """
    import threading
    done = threading.Event()
    threads = [threading.Thread(target=done.wait) for _ in range(60)]
    for thread in threads: thread.start()
    done.set()
    for thread in threads: thread.join()
    len(threads)
    """
    assert confined(program) == 60


@pytest.mark.parametrize("user", [None, pytest.param(OWN_UID, marks=needs_root)])
def test_a_fork_bomb_ends_at_its_limit(user: int | None) -> None:
    """It is on top of what the user has running already: of a user of its own that is nothing."""
    if user is None and os.getuid() == 0:
        pytest.skip("the kernel does not limit root's processes")
    program = """
    def bomb():
        pids = []
        try:
            while len(pids) < 200:
                pid = os.fork()
                if not pid:
                    signal.pause()
                pids.append(pid)
        except BlockingIOError:
            pass
        for pid in pids:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
        return len(pids)
    bomb()
    """
    assert 0 < confined(program, uid=user, processes=10) < 200
    if user is not None:
        assert confined(program, uid=user, processes=10) == 9


@needs_root
def test_a_generation_at_its_limit_does_not_hinder_the_next() -> None:
    """Both have the same user: the new worker has its own processes on top of the old one's."""
    held = [
        subprocess.Popen(["sleep", "60"], user=OWN_UID + 2, group=OWN_UID + 2, stdout=subprocess.DEVNULL)
        for _ in range(10)
    ]
    try:
        assert confined("subprocess.run(['true']).returncode", uid=OWN_UID + 2, processes=10) == 0
    finally:
        for process in held:
            process.kill()
            process.wait()


@needs_root
def test_that_root_has_no_limit_of_processes_is_told() -> None:
    """The kernel does not count root's: no limit is promised that there is not."""
    assert "limits.processes: the kernel sets root no such limit" in confined("unconfined")


def test_tasks_of_a_user_are_counted_with_their_threads() -> None:
    """This process is among them."""
    assert count_tasks(os.getuid()) >= len(os.listdir("/proc/self/task"))
    assert count_tasks(OWN_UID + 1) == 0


def test_no_privileges_can_be_gained_and_nothing_escapes() -> None:
    """no_new_privs is set, what is orphaned below stays below, and the kernel prefers to kill it for memory."""
    program = f"""
    import ctypes
    subreaper = ctypes.c_int(0)
    ctypes.CDLL(None).prctl({PR_SET_CHILD_SUBREAPER + 1}, ctypes.byref(subreaper), 0, 0, 0)
    status = dict(line.split(":", 1) for line in read("/proc/self/status").splitlines())
    [status["NoNewPrivs"].strip(), subreaper.value, int(read("/proc/self/oom_score_adj")), os.getcwd()]
    """
    score = min(int(Path("/proc/self/oom_score_adj").read_text()) + 500, 1000)
    assert confined(program) == ["1", 1, score, "/"]


@needs_root
def test_a_user_of_its_own_reads_everything_and_changes_nothing(tmp_path: Path) -> None:
    """One capability is left, and what it starts has it too: to read; not to write, to kill, or to trace."""
    secret = tmp_path / "secret"
    secret.write_text("kept")
    secret.chmod(0o600)
    program = f"""
    status = dict(line.split(":", 1) for line in read("/proc/self/status").splitlines())
    sets = [int(status[name], 16) for name in ("CapPrm", "CapEff", "CapInh", "CapAmb", "CapBnd")]
    path, parent = {str(secret)!r}, os.getppid()
    child = subprocess.run(["cat", path], capture_output=True, text=True).stdout
    tries = [tried(write, path), tried(os.kill, parent, 0), tried(open, f"/proc/{{parent}}/mem"), tried(os.setuid, 0)]
    [sets, [*os.getresuid(), *os.getresgid()], os.getgroups(), read(path), child, tries, read("/proc/self/comm") != ""]
    """
    sets, ids, groups, text, child, tries, itself = confined(program, uid=OWN_UID, sandbox=None)
    assert sets == [1 << CAP_DAC_READ_SEARCH] * 5
    assert (ids, groups) == ([OWN_UID] * 6, [])
    assert (text, child) == ("kept", "kept")
    assert tries == ["PermissionError"] * 4
    assert itself
    assert secret.read_text() == "kept"


@needs_root
def test_its_own_proc_entries_belong_to_it() -> None:
    """After the change of user the process can still be dumped, or /proc/self would be root's."""
    assert confined('os.stat("/proc/self/fd").st_uid', uid=OWN_UID, sandbox=None) == OWN_UID


@needs_root
def test_a_named_user_has_its_groups_and_no_capability() -> None:
    """It is what `su` would make of it."""
    program = """
    status = dict(line.split(":", 1) for line in read("/proc/self/status").splitlines())
    sets = [int(status[name], 16) for name in ("CapPrm", "CapEff", "CapInh", "CapAmb", "CapBnd")]
    [os.getuid(), os.getgid(), os.getgroups(), sets]
    """
    import pwd

    nobody = pwd.getpwnam("nobody")
    groups = os.getgrouplist("nobody", nobody.pw_gid)
    assert confined(program, user="nobody") == [nobody.pw_uid, nobody.pw_gid, groups, [0] * 5]


@pytest.mark.parametrize(
    ("user", "reason"),
    [
        ("no_such_user", "cannot run as user 'no_such_user': there is no user 'no_such_user'"),
        pytest.param(
            OWN_UID,
            f"cannot run as user {OWN_UID}: Operation not permitted",
            marks=pytest.mark.skipif(os.getuid() == 0, reason="root may"),
        ),
    ],
)
def test_a_user_that_it_cannot_become_is_an_error(user: str | int, reason: str) -> None:
    """Nothing of the plugin may run as somebody else."""
    program = """
    def attempt(**changes):
        try:
            confine({**rules, **changes})
        except ConfinementError as error:
            return str(error)
    attempt(user=__USER__)
    """.replace("__USER__", repr(user))
    assert confined(program) == reason


def test_modules_are_found_where_nobody_else_writes(tmp_path: Path) -> None:
    """An entry of sys.path that others can write to, or that is relative, or not there, is taken out."""
    directories = {name: tmp_path / name for name in ("own", "group", "world", "sticky")}
    for directory, mode in zip(directories.values(), (0o755, 0o775, 0o777, 0o1777), strict=True):
        directory.mkdir()
        directory.chmod(mode)
    below = directories["world"] / "below"
    below.mkdir()
    link = tmp_path / "link"
    link.symlink_to(directories["group"])
    entries = [*directories.values(), below, link, tmp_path / "none", Path("relative")]
    assert trusted_entries(["", *map(str, entries)]) == [str(directories["own"])]


def test_plugd_and_python_themselves_stay_in_the_search_path() -> None:
    """Whatever the permissions of where they are: they run already."""
    kept = trusted_entries(sys.path)
    assert str(Path(landlock.__file__).parents[2]) in kept
    assert str(Path(resource.__file__ or os.__file__).parent) in kept or str(Path(os.__file__).parent) in kept
    assert not [entry for entry in kept if os.stat(entry).st_mode & stat.S_IWOTH]


def test_the_directory_of_plugds_dependencies_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However it is written to, as by a group in a clone made with umask 002: no worker could start without it."""
    site, loose = tmp_path / "site", tmp_path / "loose"
    for directory in (site, loose):
        directory.mkdir()
        directory.chmod(0o775)
    monkeypatch.setattr(searchpath.msgpack, "__file__", str(site / "msgpack" / "__init__.py"))
    assert trusted_entries([str(site), str(loose)]) == [str(site)]


# A process that may not change its user any more, as a service with SystemCallFilter=~@privileged: seccomp(2).
WITHOUT_CALLS = """
import ctypes, os, platform, struct
from plugd.prctl import PR_SET_NO_NEW_PRIVS, prctl

NUMBERS = {"x86_64": (126, 117, 119), "aarch64": (91, 147, 149)}  # capset, setresuid, setresgid
numbers = NUMBERS[platform.machine()]
LOAD_NUMBER, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06  # linux/bpf_common.h
ALLOW, FAIL_WITH_EPERM = 0x7FFF0000, 0x00050001  # linux/seccomp.h
program = struct.pack("HBBI", LOAD_NUMBER, 0, 0, 0)
for left, number in zip(range(len(numbers), 0, -1), numbers):
    program += struct.pack("HBBI", JUMP_IF_EQUAL, left, 0, number)
program += struct.pack("HBBI", RETURN, 0, 0, ALLOW) + struct.pack("HBBI", RETURN, 0, 0, FAIL_WITH_EPERM)
buffer = ctypes.create_string_buffer(program)
fields = struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(buffer))
prctl(PR_SET_NO_NEW_PRIVS, 1)
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(22, 2, ctypes.c_char_p(fields), 0, 0) == 0, os.strerror(ctypes.get_errno())
try:
    os.setresuid(-1, -1, -1)
except PermissionError:
    print("denied")
from plugd.worker.confine import rehearse
rehearse()
print("rehearsed")
"""


@pytest.mark.skipif(os.uname().machine not in {"x86_64", "aarch64"}, reason="system calls have other numbers here")
def test_a_service_may_deny_the_calls_that_only_root_needs() -> None:
    """The forkserver rehearses what it can; a worker that keeps its user needs none of them."""
    done = subprocess.run([sys.executable, "-c", WITHOUT_CALLS], capture_output=True, text=True, timeout=30)
    assert done.stdout == "denied\nrehearsed\n", done.stderr
