"""Directories that a worker cannot read from, and what is allowed round about them."""

import os
from pathlib import Path
from typing import Any

import pytest
from test_worker_confine import confined, needs_landlock

from plugd.worker.paths_around import paths_around
from plugd.worker.secrets import Credentials, read_credentials


def tree(top: Path) -> None:
    """Make ``a/hidden/secret``, ``a/file``, ``b/file`` and a link to ``a``."""
    for name in ("a/hidden/own", "b"):
        (top / name).mkdir(parents=True)
    for name in ("a/hidden/secret", "a/hidden/own/secret", "a/file", "b/file"):
        (top / name).write_text(name)
    (top / "link").symlink_to(top / "a")


def test_all_is_allowed_but_what_is_hidden(tmp_path: Path) -> None:
    """Each entry on its own, on the way to it only; a link is nothing of its own."""
    tree(tmp_path)
    hidden = [str(tmp_path / "a/hidden")]
    assert sorted(paths_around(str(tmp_path), hidden) or ()) == [f"{tmp_path}/a/file", f"{tmp_path}/b"]
    assert paths_around(str(tmp_path / "b"), hidden) is None
    assert paths_around(str(tmp_path / "link"), hidden) == [f"{tmp_path}/a/file"]


def test_what_is_named_itself_is_had_as_a_whole(tmp_path: Path) -> None:
    """A path at or below what is hidden leads to nothing that is."""
    tree(tmp_path)
    hidden = [str(tmp_path / "a/hidden")]
    assert paths_around(str(tmp_path / "a/hidden"), hidden) is None
    assert paths_around(str(tmp_path / "a/hidden/own"), hidden) is None


def test_a_hidden_directory_that_is_not_there_hides_its_place(tmp_path: Path) -> None:
    """It may be made later, and is not allowed then either."""
    tree(tmp_path)
    assert sorted(paths_around(str(tmp_path), [f"{tmp_path}/b/later/x"]) or ()) == [
        f"{tmp_path}/a",
        f"{tmp_path}/b/file",
    ]


def test_what_cannot_be_listed_is_not_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rather too little than what is hidden."""

    def refuse(path: str) -> Any:
        raise PermissionError(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert paths_around(str(tmp_path), [f"{tmp_path}/a"]) == []


FILES = ("a/hidden/secret", "a/hidden/own/secret", "a/file", "b/file", "link/hidden/secret")
OWN, A, B = "a/hidden/own/secret", "a/file", "b/file"


@needs_landlock
@pytest.mark.parametrize(
    ("read", "write", "readable"),
    [
        (None, [], {OWN, A, B}),
        (["."], [], {OWN, A, B}),
        (["b"], [], {OWN, B}),
        (None, ["."], {OWN, A, B}),
        (["a/hidden"], [], {OWN, "a/hidden/secret", "link/hidden/secret"}),
    ],
)
def test_files_that_are_hidden_cannot_be_read(
    tmp_path: Path, read: list[str] | None, write: list[str], readable: set[str]
) -> None:
    """Whatever else may be read or written, its own excepted, and what the configuration names itself."""
    tree(tmp_path)
    program = f"""
    paths = [({str(tmp_path)!r} + "/" + name, name) for name in {FILES!r}]
    [name for path, name in paths if tried(read, path) != "PermissionError"]
    """
    sandbox = {
        "write": [str(tmp_path / path) for path in write],
        "read": None if read is None else [str(tmp_path / path) for path in read],
        "hidden": [str(tmp_path / "a/hidden")],
        "credentials": str(tmp_path / "a/hidden/own"),
    }
    assert set(confined(program, sandbox=sandbox)) == readable


@needs_landlock
def test_nothing_else_is_different(tmp_path: Path) -> None:
    """Programs run, modules are imported, directories are listed, and what is made deeper down can be read."""
    tree(tmp_path)
    new, hidden = str(tmp_path / "b" / "new"), str(tmp_path / "a/hidden")
    program = f"""
    import csv, psutil
    ran = subprocess.run(["uname", "-s"], capture_output=True, text=True).stdout.strip()
    write({new!r}, "later")
    seen = [tried(read, {new!r}), tried(os.listdir, "/"), tried(os.listdir, {hidden!r}), tried(read, "/proc/self/stat")]
    [ran, seen, unconfined]
    """
    sandbox = {"write": [f"{tmp_path}/b"], "read": None, "hidden": [hidden], "credentials": None}
    ran, (later, root, names, stat), unconfined = confined(program, sandbox=sandbox)
    assert (ran, later) == ("Linux", "later")
    assert "proc" in root
    assert sorted(names) == ["own", "secret"]
    assert stat[0].isdigit()
    assert not [note for note in unconfined if "cannot be allowed" in note]


def test_values_are_not_shown() -> None:
    """By whoever prints the mapping, or looks for one that is not there."""
    given = Credentials({"b": b"secret", "a": b"other"})
    assert repr(given) == str(given) == "<credentials: a, b>"
    assert dict(given) == {"a": b"other", "b": b"secret"}
    with pytest.raises(KeyError, match="no credential 'c'"):
        given["c"]
    assert given.get("c") is None


def test_they_are_the_files_of_the_directory(tmp_path: Path) -> None:
    """Of any bytes; without a directory there are none."""
    (tmp_path / "key").write_bytes(b"\x00\xff\n")
    assert dict(read_credentials({"CREDENTIALS_DIRECTORY": str(tmp_path)})) == {"key": b"\x00\xff\n"}
    assert repr(read_credentials({})) == "<credentials: none>"
