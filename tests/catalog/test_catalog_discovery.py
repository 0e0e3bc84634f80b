"""Which plugins exist: the walk over the directories, and what the configuration adds."""

import hashlib
import os
import socket
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from plugd.catalog.discovery import MAXIMUM_SOURCE_BYTES, Found, discover
from plugd.catalog.spec import PluginSpec
from plugd.config import PluginConfig

SOURCE = b"class Probe: pass\n"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory of plugins, named without links."""
    path = tmp_path.resolve() / "plugins"
    path.mkdir(mode=0o755)
    return path


def write(directory: Path, name: str, source: bytes = SOURCE) -> Path:
    directory.mkdir(mode=0o755, exist_ok=True)
    path = directory / name
    path.write_bytes(source)
    path.chmod(0o644)
    return path


def find(*directories: Path, **configs: PluginConfig) -> Found:
    return discover([str(directory) for directory in directories], configs)


def faults(found: Found) -> dict[str, str | None]:
    return {name: spec.fault for name, spec in found.specs.items()}


def test_a_file_is_a_plugin(directory: Path) -> None:
    """Named after its stem, with its bytes and their hash."""
    path = write(directory, "disk_io.py")
    assert find(directory).specs == {
        "disk_io": PluginSpec(
            "disk_io", "python", str(path), SOURCE, hashlib.sha256(SOURCE).hexdigest(), PluginConfig()
        )
    }


def test_a_plugin_has_its_table_of_the_configuration(directory: Path) -> None:
    """Others have the defaults; a disabled one is found as well."""
    write(directory, "cpu.py")
    write(directory, "disk.py")
    config = PluginConfig(enabled=False, interval=3.0)
    specs = find(directory, cpu=config).specs
    assert specs["cpu"].config == config
    assert specs["cpu"].fault is None
    assert specs["disk"].config == PluginConfig()


def test_the_first_directory_wins(directory: Path) -> None:
    """An administrator's file takes the place of the shipped one of its name; the others stay."""
    own, shipped = directory / "own", directory / "shipped"
    mine = write(own, "cpu.py", b"mine")
    write(shipped, "cpu.py", b"shipped")
    other = write(shipped, "disk.py")
    specs = find(own, shipped).specs
    assert {name: spec.path for name, spec in specs.items()} == {"cpu": str(mine), "disk": str(other)}
    assert specs["cpu"].source == b"mine"


def test_the_first_directory_wins_even_with_a_fault(directory: Path) -> None:
    """What cannot run in the first directory is not quietly replaced by what is in the second."""
    own, shipped = directory / "own", directory / "shipped"
    own.mkdir(mode=0o755)
    (own / "cpu.py").mkdir()
    write(shipped, "cpu.py")
    spec = find(own, shipped).specs["cpu"]
    assert spec.path == str(own / "cpu.py")
    assert spec.fault is not None


@pytest.mark.parametrize(
    "name", ["README.md", "cpu.txt", "cpu", "cpu.pyc", "cpu.py~", "_helper.py", ".hidden.py", "__init__.py", ".cpu.new"]
)
def test_what_is_no_plugin_is_passed_over_in_silence(directory: Path, name: str) -> None:
    """Other files may lie in the directory, and helpers whose names begin with an underscore."""
    write(directory, name)
    assert find(directory) == Found({}, [])


@pytest.mark.parametrize(
    "name", ["Cpu.py", "1cpu.py", "cpu@data.py", "c pu.py", "\u00e9.py", "cpu\n.py", f"{'a' * 65}.py"]
)
def test_a_name_that_no_plugin_can_have_is_told(directory: Path, name: str) -> None:
    """It looks like a plugin, so that its author wants to know why it is none."""
    path = write(directory, name)
    reason = "not a plugin's name: a lowercase letter, then letters, digits and _ . -"
    assert find(directory) == Found({}, [(str(path), reason)])


@pytest.mark.parametrize("name", ["a", "cpu2", "disk_io", "disk-io", "disk.io", "a" * 64])
def test_names_of_plugins(directory: Path, name: str) -> None:
    """Lowercase letters, digits and _ . - after a letter."""
    write(directory, f"{name}.py")
    assert faults(find(directory)) == {name: None}


def test_several_instances_of_one_file(directory: Path) -> None:
    """Each with its own table, all with the same bytes; the plain plugin is found as well."""
    write(directory, "disk.py")
    configs = {
        "disk@data": PluginConfig(options={"path": "/data"}),
        "disk@logs.2": PluginConfig(options={"path": "/var/log"}),
    }
    specs = find(directory, **configs).specs
    assert set(specs) == {"disk", "disk@data", "disk@logs.2"}
    assert len({(spec.path, spec.sha256, spec.source) for spec in specs.values()}) == 1
    assert {name: specs[name].config for name in configs} == configs


@pytest.mark.parametrize("name", ["nothing", "nothing@data"])
def test_a_configured_plugin_without_a_file_is_a_fault(directory: Path, name: str) -> None:
    """It is listed with the reason, and where it was looked for; a disabled one is not missed."""
    other = directory / "other"
    found = find(directory, other, **{name: PluginConfig()})
    assert faults(found) == {name: f"no file nothing.py or nothing.so in {directory}, {other}"}
    assert find(directory, **{name: PluginConfig(enabled=False)}).specs == {}
    assert discover([], {name: PluginConfig()}).specs[name].fault == "no file nothing.py or nothing.so in no directory"


def test_the_directories_may_be_named_by_anything_that_can_be_gone_through_once(directory: Path) -> None:
    """A generator of them is as good as a list, also for what is said of a missing file."""
    found = discover((str(each) for each in [directory]), {"cpu": PluginConfig()})
    assert faults(found) == {"cpu": f"no file cpu.py or cpu.so in {directory}"}


def test_a_directory_that_is_not_there_is_empty(directory: Path) -> None:
    """/etc/plugd/plugins need not exist."""
    assert find(directory / "nowhere") == Found({}, [])


def test_what_is_no_directory_is_told(directory: Path) -> None:
    """A file in place of a directory is a mistake, and no reason to find nothing elsewhere."""
    file = write(directory, "cpu.py")
    found = find(file, directory)
    assert faults(found) == {"cpu": None}
    assert found.ignored == [(str(file), "cannot be read: Not a directory")]


def make_directory(path: Path) -> None:
    path.mkdir()


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


def make_socket(path: Path) -> None:
    # By its descriptor's directory: a socket's path has at most 107 bytes.
    here = os.open(path.parent, os.O_PATH)
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(f"/proc/self/fd/{here}/{path.name}")
    finally:
        os.close(here)


def make_link(path: Path) -> None:
    path.symlink_to(write(path.parent / "elsewhere", "real.py"))


def make_dangling_link(path: Path) -> None:
    path.symlink_to("nowhere.py")


def make_loop(path: Path) -> None:
    path.symlink_to(path.name)


def make_large(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(MAXIMUM_SOURCE_BYTES + 1)


def make_sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)  # 1 TiB, none of which is on the disk


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (make_directory, "not a regular file"),
        (make_fifo, "not a regular file"),
        (make_socket, "not a regular file"),
        (make_link, "is a symbolic link"),
        (make_dangling_link, "is a symbolic link"),
        (make_loop, "is a symbolic link"),
        (make_large, f"larger than {MAXIMUM_SOURCE_BYTES} bytes"),
        (make_sparse, f"larger than {MAXIMUM_SOURCE_BYTES} bytes"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_what_is_in_place_of_a_file_is_a_fault_of_that_plugin_alone(directory: Path, make, reason: str) -> None:
    """It neither blocks nor breaks the walk; the plugin is listed with the reason, and without bytes to run."""
    make(directory / "odd.py")
    write(directory, "sound.py")
    specs = find(directory).specs
    assert specs["sound"].fault is None
    assert reason in (specs["odd"].fault or "")
    assert (specs["odd"].source, specs["odd"].sha256) == (b"", "")


def test_a_file_that_cannot_be_read_is_a_fault() -> None:
    """Root can read everything; the test gives that up for a moment."""
    own = os.geteuid()
    with tempfile.TemporaryDirectory() as name:  # pytest's own directories are for their owner alone
        directory = Path(name).resolve()
        directory.chmod(0o755)
        write(directory, "odd.py").chmod(0)
        write(directory, "sound.py")
        if own == 0:
            os.seteuid(65534)  # nobody
        try:
            found = discover([str(directory)], {}, owners=frozenset({0, own}))
        finally:
            os.seteuid(own)
    assert faults(found) == {"odd": "cannot be opened: Permission denied", "sound": None}


def test_a_file_of_the_greatest_size_is_read(directory: Path) -> None:
    """The limit itself is within it."""
    write(directory, "large.py", b"#" * MAXIMUM_SOURCE_BYTES)
    assert len(find(directory).specs["large"].source) == MAXIMUM_SOURCE_BYTES


def test_an_empty_file_is_a_plugin_of_no_bytes(directory: Path) -> None:
    """Whether it makes sense is for its worker to say."""
    write(directory, "empty.py", b"")
    spec = find(directory).specs["empty"]
    assert (spec.fault, spec.sha256) == (None, hashlib.sha256(b"").hexdigest())


def test_a_walk_leaves_no_descriptors(directory: Path) -> None:
    """Whatever it comes upon."""
    for number, make in enumerate((make_directory, make_fifo, make_socket, make_link, make_large)):
        make(directory / f"odd{number}.py")
    before = os.listdir("/proc/self/fd")
    find(directory, directory / "nowhere")
    assert os.listdir("/proc/self/fd") == before


def test_what_was_read_is_what_runs(directory: Path) -> None:
    """The spec does not change with the file; a new walk sees the new bytes."""
    path = write(directory, "cpu.py", b"old")
    before = find(directory).specs["cpu"]
    path.write_bytes(b"new")
    after = find(directory).specs["cpu"]
    assert (before.source, after.source) == (b"old", b"new")
    assert before.sha256 != after.sha256
    assert not before.same_code(after)


def test_a_new_time_is_not_a_new_plugin(directory: Path) -> None:
    """Bytes and options decide: a file that was only touched is the same."""
    path = write(directory, "cpu.py")
    before = find(directory).specs["cpu"]
    os.utime(path, (1.0, 1.0))
    assert before.same_code(find(directory).specs["cpu"])


def spec(config: PluginConfig | None = None, **changes: object) -> PluginSpec:
    plain = PluginSpec(
        "cpu", "python", "/p/cpu.py", SOURCE, hashlib.sha256(SOURCE).hexdigest(), config or PluginConfig()
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "config",
    [PluginConfig(interval=1.0), PluginConfig(timeout=2.0), PluginConfig(offset=3.0), PluginConfig(enabled=False)],
)
def test_another_schedule_is_the_same_code(config: PluginConfig) -> None:
    """It takes no new worker."""
    assert spec().same_code(spec(config))


@pytest.mark.parametrize(
    "other",
    [
        spec(sha256="0" * 64),
        spec(fault="gone"),
        spec(PluginConfig(options={"top": 3})),
        spec(PluginConfig(settings={"level": 3})),
        spec(PluginConfig(environment={"LANG": "C"})),
        spec(user="nobody"),
    ],
)
def test_other_bytes_options_or_bounds_are_other_code(other: PluginSpec) -> None:
    """Each alone takes a new generation; in both directions."""
    assert not spec().same_code(other)
    assert not other.same_code(spec())


def test_another_path_is_the_same_code() -> None:
    """Where the bytes lie is nothing to them."""
    assert spec().same_code(spec(path="/elsewhere/cpu.py"))


def test_the_source_is_not_shown() -> None:
    """A spec in a message is a line, and not a file."""
    assert "class Probe" not in repr(spec())


def test_every_plugin_of_a_walk_is_under_its_own_name(directory: Path) -> None:
    """The key of a spec is its name, instances and faults included."""
    write(directory, "cpu.py")
    make_directory(directory / "odd.py")
    configs: Mapping[str, PluginConfig] = {"cpu@a": PluginConfig(), "nothing": PluginConfig()}
    specs = discover([str(directory)], configs).specs
    assert {name: each.name for name, each in specs.items()} == {
        name: name for name in ("cpu", "odd", "cpu@a", "nothing")
    }
