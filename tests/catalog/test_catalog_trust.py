"""Which files may run: judged on descriptors, whatever their names lead to meanwhile."""

import hashlib
import os
import shutil
import socket
import stat
import subprocess
import threading
from pathlib import Path

import pytest

from plugd.catalog import trust
from plugd.catalog.discovery import MAXIMUM_DISTRUSTED, MAXIMUM_SOURCE_BYTES, discover
from plugd.catalog.spec import PluginSpec
from plugd.catalog.trust import Distrusted, Trust, judge, trusted_owners
from plugd.config import PluginConfig

STRANGER = 4321  # a uid, and a gid, that nobody has
SWAPS = 2000

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")


@pytest.fixture
def plugins(tmp_path: Path) -> Path:
    """A directory with one plugin, ``one.py``."""
    directory = tmp_path / "plugins"
    directory.mkdir(mode=0o755)
    (directory / "one.py").write_text("ONE\n")
    (directory / "one.py").chmod(0o644)
    return directory


def find(*directories: Path, name: str = "one") -> PluginSpec:
    return discover(map(str, directories), {}).specs[name]


def fault_of(*directories: Path, name: str = "one") -> str:
    spec = find(*directories, name=name)
    assert spec.fault is not None
    assert (spec.source, spec.sha256) == (b"", "")
    return spec.fault


def status(mode: int, uid: int = 0, gid: int = 0) -> os.stat_result:
    return os.stat_result((mode, 1, 1, 1, uid, gid, 0, 0, 0, 0))


def test_a_trusted_file_has_its_bytes_and_their_hash(plugins: Path) -> None:
    """What is given to the worker is what was read, and what was read is what was hashed."""
    spec = find(plugins)
    assert (spec.fault, spec.source) == (None, b"ONE\n")
    assert spec.sha256 == hashlib.sha256(b"ONE\n").hexdigest()
    assert spec.path == str(plugins / "one.py")


def test_no_descriptor_is_left(plugins: Path) -> None:
    """A walk closes what it has opened, also where it has found faults."""
    (plugins / "two.py").symlink_to(plugins / "one.py")
    before = os.listdir("/proc/self/fd")
    discover([str(plugins), str(plugins / "none"), "/proc/self/mem"], {})
    assert os.listdir("/proc/self/fd") == before


def test_a_directory_that_is_not_there_is_an_empty_one(plugins: Path) -> None:
    """The default directories need not exist."""
    found = discover([str(plugins / "none"), str(plugins)], {})
    assert set(found.specs) == {"one"}
    assert found.ignored == []


def test_the_first_directory_wins_even_where_its_file_is_refused(plugins: Path, tmp_path: Path) -> None:
    """What somebody put before another is not silently replaced by that one."""
    other = tmp_path / "other"
    shutil.copytree(plugins, other)
    (plugins / "one.py").chmod(0o666)
    assert "written by everybody" in fault_of(plugins, other)


@pytest.mark.parametrize(
    ("what", "mode"),
    [("plugins/one.py", 0o646), ("plugins", 0o757), (".", 0o757)],
    ids=["the file", "its directory", "a directory above"],
)
def test_what_everybody_can_write_is_refused(what: str, mode: int, plugins: Path, tmp_path: Path) -> None:
    """The fault names the part of the path, its owner and mode, and the command that mends it."""
    culprit = (tmp_path / what).resolve()
    culprit.chmod(mode)
    fault = fault_of(plugins)
    assert f"{culprit} (uid {os.getuid()}, gid {culprit.stat().st_gid}, mode {mode:04o})" in fault
    assert fault.endswith(f"can be written by everybody: chmod go-w {culprit}")
    subprocess.run(fault.rpartition(": ")[2], shell=True, check=True)
    assert find(plugins).fault is None


def test_the_remedy_can_be_pasted_whatever_the_path(tmp_path: Path) -> None:
    """A path with spaces and quotes is quoted in the command."""
    directory = tmp_path / "it's; a dir"
    directory.mkdir()
    (directory / "one.py").touch()
    directory.chmod(0o777)
    subprocess.run(fault_of(directory).rpartition(": ")[2], shell=True, check=True)
    assert find(directory).fault is None


def test_a_sticky_directory_is_no_reason(plugins: Path, tmp_path: Path) -> None:
    """In such as /tmp, others may make files, but cannot touch those that are there."""
    tmp_path.chmod(0o1777)
    assert find(plugins).fault is None


@as_root
@pytest.mark.parametrize("what", ["plugins/one.py", "plugins", "."], ids=["the file", "its directory", "one above"])
@pytest.mark.parametrize("sticky", [False, True])
def test_what_a_stranger_owns_is_refused(what: str, sticky: bool, plugins: Path, tmp_path: Path) -> None:
    """An owner can change the mode back: also in a sticky directory, and whatever the mode."""
    plugins.chmod(0o1777 if sticky else 0o755)
    culprit = (tmp_path / what).resolve()
    os.chown(culprit, STRANGER, 0)
    fault = fault_of(plugins)
    assert f"{culprit} (uid {STRANGER}, " in fault
    assert fault.endswith(f"belongs to user {STRANGER}, who could change it: chown root {culprit}")


@as_root
@pytest.mark.parametrize("what", ["plugins/one.py", "plugins"])
def test_what_a_strange_group_can_write_is_refused(what: str, plugins: Path, tmp_path: Path) -> None:
    """Group-writable is right for root's group only, or for that of a trusted user alone."""
    os.chown(tmp_path / what, 0, STRANGER)
    (tmp_path / what).chmod(0o775)
    assert f"can be written by group {STRANGER}: chmod go-w" in fault_of(plugins)
    os.chown(tmp_path / what, 0, 0)
    assert find(plugins).fault is None


@pytest.mark.parametrize(
    ("members", "others", "uid", "trusted"),
    [
        ([], [], 7, True),
        (["ann"], [], 7, True),
        (["bob"], [], 7, False),
        ([], [8], 7, False),
        ([], [], 9, False),
    ],
    ids=["alone", "as her own member", "with a member", "with another's first group", "of a stranger"],
)
def test_a_private_group_may_write(
    members: list[str], others: list[int], uid: int, trusted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A group named as a trusted user, and without anybody else, is as good as that user."""

    class Entry:
        def __init__(self, **fields: object) -> None:
            self.__dict__ |= fields

    ann = Entry(pw_name="ann", pw_uid=uid, pw_gid=70)
    users = [ann, *(Entry(pw_name="other", pw_uid=other, pw_gid=70) for other in others)]
    monkeypatch.setattr(trust.grp, "getgrgid", lambda gid: Entry(gr_name="ann", gr_mem=members))
    monkeypatch.setattr(trust.pwd, "getpwnam", lambda name: ann)
    monkeypatch.setattr(trust.pwd, "getpwall", lambda: users)
    fault = judge("/x", status(stat.S_IFREG | 0o664, 0, 70), frozenset({0, 7}))
    assert (fault is None) == trusted


def test_an_access_list_is_more_than_the_mode_says(plugins: Path) -> None:
    """acl(5): the group's bits are then the most that anybody in the list may do."""
    if shutil.which("setfacl") is None:
        # The same, without the tool: owner rw-, user STRANGER rw-, group r--, mask rw-, others r--.
        entries = [(1, 6, -1), (2, 6, STRANGER), (4, 4, -1), (0x10, 6, -1), (0x20, 4, -1)]
        value = (2).to_bytes(4, "little") + b"".join(
            tag.to_bytes(2, "little") + bits.to_bytes(2, "little") + (who % 2**32).to_bytes(4, "little")
            for tag, bits, who in entries
        )
        try:
            os.setxattr(plugins / "one.py", "system.posix_acl_access", value)
        except OSError as error:
            pytest.skip(f"no access lists here: {error}")
    elif subprocess.run(["setfacl", "-m", f"u:{STRANGER}:rw", plugins / "one.py"], check=False).returncode:
        pytest.skip("no access lists here")
    assert "access list" in fault_of(plugins) or "group" in fault_of(plugins)


@pytest.mark.parametrize("what", ["one.py", "."], ids=["the file", "its directory"])
def test_a_link_is_refused_and_its_end_is_named(what: str, plugins: Path, tmp_path: Path) -> None:
    """A symbolic link can be changed after it was judged; the fault says where the real thing is."""
    links = tmp_path / "links"
    if what == ".":
        links.symlink_to(plugins)
    else:
        links.mkdir()
        (links / what).symlink_to(plugins / what)
    link, end = (links / what, plugins / what) if what != "." else (links, plugins)
    assert fault_of(links) == f"{link} is a symbolic link; name what it leads to instead: {end}"


def test_a_link_above_the_directory_is_refused(plugins: Path, tmp_path: Path) -> None:
    """Every component counts, not only the last."""
    link = tmp_path.parent / f"{tmp_path.name}-link"
    link.symlink_to(tmp_path)
    try:
        assert fault_of(link / "plugins").startswith(f"{link} is a symbolic link")
    finally:
        link.unlink()


def test_a_dangling_link_is_an_empty_directory(tmp_path: Path) -> None:
    """A home on a disk that is not mounted is nothing to complain of."""
    (tmp_path / "link").symlink_to(tmp_path / "none")
    assert discover([str(tmp_path / "link")], {}) == ({}, [])


def test_dots_in_a_path_mean_what_they_say(plugins: Path) -> None:
    """``x/../plugins`` is a way to write the same directory."""
    assert find(plugins / ".." / "." / "plugins").fault is None


@pytest.mark.parametrize("kind", ["FIFO", "directory", "socket", "device"])
def test_what_is_no_file_is_refused_at_once(kind: str, plugins: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A FIFO without a writer would hold up whoever opens it; so may a device."""
    path = plugins / "two.py"
    with socket.socket(socket.AF_UNIX) as listener:
        if kind == "FIFO":
            os.mkfifo(path)
        elif kind == "directory":
            path.mkdir()
        elif kind == "socket":
            monkeypatch.chdir(plugins)  # A socket's path has at most 107 bytes.
            listener.bind("two.py")
        else:
            try:
                os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))
            except PermissionError:
                pytest.skip("no devices here")
        fault = fault_of(plugins, name="two")
    assert fault.startswith(f"not a regular file: {path}") or (kind == "device" and fault.startswith("cannot be"))


def test_a_file_has_a_largest_size(plugins: Path) -> None:
    """What is too large is not read into memory."""
    with (plugins / "one.py").open("wb") as file:
        file.truncate(MAXIMUM_SOURCE_BYTES + 1)
    assert fault_of(plugins) == f"larger than {MAXIMUM_SOURCE_BYTES} bytes"


def test_a_directory_that_anybody_may_fill_fills_nothing(plugins: Path) -> None:
    """Of a directory that is not trusted, some plugins are shown as refused: not a million."""
    for number in range(MAXIMUM_DISTRUSTED + 10):
        (plugins / f"p{number}.py").touch()
    plugins.chmod(0o777)
    found = discover([str(plugins)], {})
    assert len(found.specs) == MAXIMUM_DISTRUSTED
    assert all(spec.fault for spec in found.specs.values())
    assert [path for path, _ in found.ignored] == [str(plugins)]


def test_a_name_that_is_no_text_can_be_told(plugins: Path) -> None:
    """A file's name may be any bytes; what the daemon says of it is UTF-8."""
    (plugins / os.fsdecode(b"\xff.py")).touch()
    ((path, _),) = discover([str(plugins)], {}).ignored
    assert path.encode() == os.fsencode(plugins) + b"/\\xff.py"


def test_instances_run_the_bytes_of_one_read(plugins: Path) -> None:
    """``one`` and ``one@a`` are the same file, read once."""
    specs = discover([str(plugins)], {"one@a": PluginConfig()}).specs
    assert specs["one@a"].source is specs["one"].source


def test_plugds_own_owner_is_trusted() -> None:
    """Who can change plugd itself gains nothing from changing a plugin."""
    assert {0, os.geteuid(), os.stat(trust.__file__).st_uid} <= trusted_owners()


@pytest.mark.parametrize(("times", "succeeds"), [(1, True), (2, False)])
def test_a_file_that_changes_while_it_is_read(
    times: int, succeeds: bool, plugins: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is read once more; one that is still being written is refused."""
    path, left = plugins / "one.py", [times]
    read_all = trust._read_all

    def read(descriptor: int, size: int) -> bytes:
        data = read_all(descriptor, size)
        if left[0]:
            left[0] -= 1
            with path.open("ab") as file:
                file.write(b"MORE\n")
        return data

    monkeypatch.setattr(trust, "_read_all", read)
    with Trust(trusted_owners()) as walk:
        if succeeds:
            assert walk.read(str(path), 1000) == b"ONE\nMORE\n"
        else:
            with pytest.raises(Distrusted, match="changed while it was read"):
                walk.read(str(path), 1000)


def test_a_file_that_is_swapped_all_the_time_is_one_or_the_other(plugins: Path) -> None:
    """While two files replace each other under one name, each look has all of one of them, and its hash."""
    path = plugins / "one.py"
    versions = [b"A" * 70_000, b"B" * 90_000]
    hashes = {hashlib.sha256(version).hexdigest(): version for version in versions}
    path.write_bytes(versions[0])
    done, swaps = threading.Event(), 0

    def swap() -> None:
        nonlocal swaps
        while not done.is_set() or swaps < SWAPS:
            temporary = plugins / ".new"
            temporary.write_bytes(versions[swaps % 2])
            temporary.rename(path)
            swaps += 1

    thread = threading.Thread(target=swap)
    thread.start()
    seen: dict[str, int] = {}
    try:
        for _ in range(400):
            spec = find(plugins)
            if spec.fault is not None:
                assert spec.fault.startswith("changed while it was read")
                continue
            assert hashes[spec.sha256] == spec.source
            seen[spec.sha256] = seen.get(spec.sha256, 0) + 1
    finally:
        done.set()
        thread.join()
    assert swaps >= SWAPS
    assert len(seen) == 2, "the swaps never fell between two looks"
    assert sum(seen.values()) > 200


def test_a_directory_swapped_for_a_link_is_never_followed(plugins: Path, tmp_path: Path) -> None:
    """While a directory and a link to another take turns, the other's file never runs."""
    evil = tmp_path / "evil"
    evil.mkdir()
    (evil / "one.py").write_text("EVIL\n")
    aside, link = tmp_path / "aside", tmp_path / "link"
    link.symlink_to(evil)
    done = threading.Event()

    def swap() -> None:
        while not done.is_set():
            plugins.rename(aside)
            link.rename(plugins)
            plugins.rename(link)
            aside.rename(plugins)

    thread = threading.Thread(target=swap)
    thread.start()
    outcomes = set()
    try:
        for _ in range(2000):
            specs = discover([str(plugins)], {}).specs
            outcomes.add(specs["one"].source if "one" in specs else None)
    finally:
        done.set()
        thread.join()
    assert b"ONE\n" in outcomes
    assert b"EVIL\n" not in outcomes


def test_a_group_that_may_write_plugd_may_write_plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a clone made with umask 002: it can change what runs in any case, and no other group can."""
    package = tmp_path / "package"
    package.mkdir()
    package.chmod(0o775)
    monkeypatch.setattr(trust, "PACKAGE", str(package))
    gid = package.stat().st_gid
    assert trust.writes_plugd(gid)
    assert not trust.writes_plugd(gid + 1)
    package.chmod(0o755)
    assert not trust.writes_plugd(gid)
