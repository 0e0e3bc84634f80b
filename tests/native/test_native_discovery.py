"""Shared objects in plugin directories: found, judged, hashed and copied before anything of them runs."""

import fcntl
import hashlib
import os
from pathlib import Path

import pytest

from plugd.catalog import discovery
from plugd.catalog.discovery import Found, discover
from plugd.config import PluginConfig
from plugd.sealed import SealedCopy


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    directory = tmp_path / "plugins"
    directory.mkdir(mode=0o755)
    return directory


def find(*directories: Path, **configs: PluginConfig) -> Found:
    # Who owns the directories above is not what is tested here.
    owners = frozenset({0, os.getuid(), *(status.stat().st_uid for path in directories for status in path.parents)})
    return discover([str(path) for path in directories], configs, owners=owners)


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    path.chmod(0o644)
    return path


def test_a_shared_object_is_a_native_plugin(directory: Path) -> None:
    """Its bytes are in a sealed copy, and what was hashed."""
    path = write(directory / "probe.so", b"\x7fELF and so on")
    spec = find(directory).specs["probe"]
    assert (spec.kind, spec.path, spec.source, spec.fault) == ("native", str(path), b"", None)
    assert spec.sha256 == hashlib.sha256(b"\x7fELF and so on").hexdigest()
    assert spec.image is not None
    path.write_bytes(b"something else, and longer than before")
    assert Path(f"/proc/self/fd/{spec.image.descriptor}").read_bytes() == b"\x7fELF and so on"


def test_instances_share_the_copy(directory: Path) -> None:
    """One file is read once."""
    write(directory / "probe.so", b"x")
    specs = find(directory, **{"probe@second": PluginConfig()}).specs
    assert specs["probe"].image is specs["probe@second"].image


def test_two_kinds_of_one_name_in_a_directory_are_a_fault(directory: Path) -> None:
    """Which of them is meant is not guessed; both are named."""
    for suffix in (".py", ".so"):
        write(directory / f"probe{suffix}", b"x")
    spec = find(directory).specs["probe"]
    both = f"{directory}/probe.py or {directory}/probe.so"
    assert spec.fault == f"which of them is the plugin: {both}? Take the other one away"
    assert (spec.source, spec.sha256, spec.image) == (b"", "", None)


def test_the_first_directory_wins_whatever_the_kind(directory: Path, tmp_path: Path) -> None:
    """Between directories there is an order, and no question."""
    second = tmp_path / "second"
    second.mkdir(mode=0o755)
    write(directory / "probe.so", b"x")
    write(second / "probe.py", b"x")
    assert find(directory, second).specs["probe"].kind == "native"
    assert find(second, directory).specs["probe"].kind == "python"


def test_a_shared_object_may_be_larger_than_a_source(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have a whole runtime in it; but not without end."""
    monkeypatch.setattr(discovery, "MAXIMUM_SOURCE_BYTES", 10)
    monkeypatch.setattr(discovery, "MAXIMUM_OBJECT_BYTES", 20)
    for name, size in (("a.py", 11), ("b.so", 20), ("c.so", 21)):
        write(directory / name, b"x" * size)
    faults = {name: spec.fault for name, spec in find(directory).specs.items()}
    assert faults == {"a": "larger than 10 bytes", "b": None, "c": "larger than 20 bytes"}


def test_a_file_that_others_may_write_is_not_copied(directory: Path) -> None:
    """Trust is the same for both kinds."""
    write(directory / "probe.so", b"x").chmod(0o666)
    spec = find(directory).specs["probe"]
    assert spec.fault is not None
    assert "can be written by everybody" in spec.fault
    assert spec.image is None


def test_nobody_can_change_a_sealed_copy() -> None:
    """Not who has it open, and not who opens it anew; nor can it be run as a program."""
    copy = SealedCopy(b"12345", "probe")
    for descriptor in (copy.descriptor, os.open(f"/proc/self/fd/{copy.descriptor}", os.O_RDWR)):
        for change in (
            lambda fd: os.pwrite(fd, b"x", 0),
            lambda fd: os.ftruncate(fd, 2),
            lambda fd: os.ftruncate(fd, 9),
            lambda fd: fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE),
        ):
            with pytest.raises(PermissionError):
                change(descriptor)
        assert os.pread(descriptor, 10, 0) == b"12345"
        if descriptor != copy.descriptor:
            os.close(descriptor)
    assert not os.get_inheritable(copy.descriptor)


def test_a_sealed_copy_is_closed_when_nobody_has_it() -> None:
    """At once, and not when the rubbish is collected."""
    copy = SealedCopy(b"x", "probe")
    descriptor = copy.descriptor
    del copy
    assert not Path(f"/proc/self/fd/{descriptor}").exists()
