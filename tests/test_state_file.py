"""Files of the state directory: replaced as a whole, read with care, and told of once."""

import os
from pathlib import Path

import pytest

from plugd import state_file
from plugd.state_file import Replacement, StateFile


def full(_descriptor: int) -> None:
    raise OSError(28, "No space left on device")


@pytest.fixture
def notes() -> list[str]:
    return []


@pytest.fixture
def file(tmp_path: Path, notes: list[str]) -> StateFile:
    return StateFile(str(tmp_path / "state" / "things"), 1000, notes)


def names(file: StateFile) -> list[str]:
    return sorted(os.listdir(os.path.dirname(file.path)))


def test_it_holds_what_was_last_written(file: StateFile) -> None:
    """For its owner alone, in a directory that is made for it, and with nothing beside it."""
    file.replace(b"one")
    file.replace(b"two")
    assert file.read() == b"two"
    assert names(file) == ["things"]
    assert os.stat(file.path).st_mode & 0o777 == 0o600
    assert os.stat(os.path.dirname(file.path)).st_mode & 0o777 == 0o700


@pytest.mark.parametrize("failing", ["fsync", "rename"])
def test_where_it_cannot_be_written_it_is_as_it_was(
    file: StateFile, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    """Nothing is left that takes up a disk which is full already."""
    file.replace(b"one")
    with monkeypatch.context() as patched:
        patched.setattr(state_file.os, failing, lambda *_: full(0))
        with pytest.raises(OSError, match="No space"):
            file.replace(b"two")
    assert file.read() == b"one"
    assert names(file) == ["things"]


@pytest.mark.parametrize("what", ["file", "link", "fifo"])
def test_what_lies_in_the_way_is_not_written_into(file: StateFile, what: str) -> None:
    """Be it left by one that was killed, or put there by somebody: a link would lead elsewhere."""
    file.replace(b"one")
    way, elsewhere = Path(file.path + ".new"), Path(file.path).with_name("elsewhere")
    elsewhere.write_bytes(b"mine")
    if what == "file":
        way.write_bytes(b"half of what was to b")
        way.chmod(0o666)
    elif what == "link":
        way.symlink_to(elsewhere)
    else:
        os.mkfifo(way)
    file.replace(b"two")
    assert file.read() == b"two"
    assert elsewhere.read_bytes() == b"mine"
    assert os.stat(file.path).st_mode & 0o777 == 0o600
    assert names(file) == ["elsewhere", "things"]


def test_nobody_sees_what_is_not_committed(file: StateFile) -> None:
    """The old one is there until the new one is whole."""
    file.replace(b"one")
    replacement = Replacement(file.path)
    replacement.write(b"two")
    assert file.read() == b"one"
    replacement.discard()
    assert file.read() == b"one"
    assert names(file) == ["things"]


@pytest.mark.parametrize("what", ["fifo", "device", "directory", "large"])
def test_what_is_no_file_of_ours_is_refused_at_once(file: StateFile, what: str) -> None:
    """Nobody waits for what never comes, and nothing without end is read."""
    path = Path(file.path)
    path.parent.mkdir()
    if what == "fifo":
        os.mkfifo(path)
    elif what == "device":
        path.symlink_to("/dev/zero")
    elif what == "directory":
        path.mkdir()
    else:
        path.write_bytes(b"x" * 1001)
    with pytest.raises((OSError, ValueError), match=r"not a regular file|directory|larger than 1000 bytes"):
        file.read()


def test_more_than_may_be_read_is_not_written(file: StateFile) -> None:
    """The next daemon would not take it."""
    with pytest.raises(OSError, match="larger than 1000 bytes"):
        file.replace(b"x" * 1001)
    file.replace(b"x" * 1000)


def test_a_fault_is_told_once_and_then_that_it_is_over(
    file: StateFile, notes: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """A disk that stays full is no line a minute."""
    for _ in range(3):
        file.tell(OSError(28, "No space left on device"))
    lost = "what it would hold will be lost when plugd ends"
    assert notes == [f"cannot write {file.path}: no space left on device; {lost}"]
    file.tell(OSError(30, "Read-only file system"))
    assert notes == [f"cannot write {file.path}: read-only file system; {lost}"]
    file.tell(None)
    file.tell(None)
    assert notes == []
    assert capsys.readouterr().out.count("state_not_written") == 2


def test_what_is_of_no_use_is_put_aside(file: StateFile, notes: list[str]) -> None:
    """For people to look at; the next write does not touch it."""
    file.replace(b"rubbish")
    file.give_up("all is lost", "it is rubbish")
    assert notes == [f"all is lost: {file.path} is broken (it is rubbish); it is kept as {file.path}.broken"]
    file.replace(b"one")
    assert Path(file.path + ".broken").read_bytes() == b"rubbish"


def test_what_cannot_be_put_aside_is_told(file: StateFile, notes: list[str]) -> None:
    """A directory of that name is in the way, with something in it."""
    file.replace(b"rubbish")
    Path(file.path + ".broken", "full").mkdir(parents=True)
    file.give_up("all is lost", "it is rubbish")
    assert "it cannot be put aside: is a directory" in notes[0]
