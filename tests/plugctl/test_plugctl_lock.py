"""lock and verify: what is written, and in what it differs from what is loaded."""

import json
from pathlib import Path
from typing import Any

import pytest
from fake_daemon import CPU, Refusal, Run, answering

from plugd.lockfile import LockError, dump, parse

A, B = "a" * 64, "b" * 64
ROWS: list[dict[str, Any]] = [
    {**CPU, "name": "disk", "sha256": B, "path": "/etc/plugd/plugins/disk.py", "version": None, "api": None},
    {**CPU, "name": "cpu", "sha256": A, "path": "/plugins/cpu.py"},
]
VERSION = {"version": "1.2.3"}

TEXT = f"""\
{{
  "lock": 1,
  "plugd": "1.2.3",
  "plugins": [
    {{"name": "cpu", "kind": "python", "version": "1.0.0", "api": 1, "sha256": "{A}", "file": "cpu.py"}},
    {{"name": "disk", "kind": "python", "version": null, "api": null, "sha256": "{B}", "file": "disk.py"}}
  ]
}}
"""


def test_a_lock_is_a_line_for_each_plugin(run: Run, socket_path: Path) -> None:
    """By name, with nothing of where they are or how they do: the same plugins give the same text anywhere."""
    for rows in (ROWS, [{**row, "pid": 5, "state": "backoff", "generation": 7} for row in reversed(ROWS)]):
        socket_path.unlink(missing_ok=True)
        with answering(socket_path, {"version": VERSION, "list": rows}) as daemon:
            for arguments in (["lock"], ["--json", "lock"]):
                assert run(*arguments) == (0, TEXT, "")
        assert daemon.requests[:2] == [("version", {}), ("list", {})]
    assert list(parse(TEXT.encode())) == ["cpu", "disk"]


def test_no_plugins_are_a_lock_as_well() -> None:
    """Nothing may run then."""
    assert json.loads(dump([], "1")) == {"lock": 1, "plugd": "1", "plugins": []}
    assert parse(dump([], "1").encode()) == {}


def test_what_cannot_be_locked_is_told(run: Run, socket_path: Path) -> None:
    """The others are locked all the same, and the status is 1: a lock that lacks something must not go unseen."""
    rows = [ROWS[1], {**ROWS[0], "sha256": "", "last_error": "/d is writable by others"}]
    with answering(socket_path, {"version": VERSION, "list": rows}):
        outcome = run("lock")
    assert (outcome.status, outcome.err) == (1, "plugctl: cannot lock plugin 'disk': /d is writable by others\n")
    assert list(parse(outcome.out.encode())) == ["cpu"]


def locked(**changes: Any) -> list[dict[str, Any]]:
    return [{"name": "cpu", "kind": "python", "version": "1.0.0", "api": 1, "sha256": A, **changes}]


@pytest.mark.parametrize(
    ("lock", "running", "line"),
    [
        (locked(), [], "cpu  missing: it is locked, and not loaded"),
        ([], [{}], "cpu  extra: it is loaded, and not locked"),
        (locked(sha256=B), [{}], f"cpu  other sha256: {A} runs, {B} is locked"),
        (
            locked(),
            [{"sha256": ""}],
            f"cpu  other sha256: {A} is locked, and what is there may not run (plugctl why tells)",
        ),
        (locked(version="0.9"), [{}], "cpu  other version: 1.0.0 runs, 0.9 is locked"),
        (locked(kind="native"), [{}], "cpu  other kind: python runs, native is locked"),
        (locked(api=2), [{}], "cpu  other api: 1 runs, 2 is locked"),
    ],
)
def test_a_difference_is_a_line_and_status_1(
    run: Run, socket_path: Path, tmp_path: Path, lock: Any, running: list[dict[str, Any]], line: str
) -> None:
    """Each kind of it."""
    file = tmp_path / "plugins.lock"
    file.write_text(json.dumps(lock))
    rows = [{**CPU, "sha256": A, **row} for row in running]
    with answering(socket_path, {"list": rows}):
        outcome, told = run("verify", str(file)), run("--json", "verify", str(file))
    assert outcome == (1, f"{line}\n", "")
    result = json.loads(told.out)
    assert (told.status, result["equal"], len(result["differences"])) == (1, False, 1)
    assert set(result["differences"][0]) == {"name", "what", "locked", "running"}
    assert line.startswith(f"cpu  other {result['differences'][0]['what']}: ") or "other" not in line


@pytest.mark.parametrize(
    "document",
    [
        json.loads(TEXT),
        ROWS,
        {"cpu": A, "disk": B.upper()},
        {"lock": 1, "plugins": {"cpu": A, "disk": B}},
        [*ROWS, {"name": "x"}],
    ],
)
def test_every_form_of_a_lock_is_verified(run: Run, socket_path: Path, tmp_path: Path, document: Any) -> None:
    """What one side does not say is no difference: the version of what could not be started, or was never noted."""
    file = tmp_path / "plugins.lock"
    file.write_text(json.dumps(document))
    with answering(socket_path, {"list": [ROWS[0] | {"version": "2", "api": 1}, ROWS[1]]}):
        assert run("verify", str(file)) == (0, "2 plugins as locked\n", "")
        assert json.loads(run("verify", str(file), "--json").out) == {"equal": True, "plugins": 2, "differences": []}


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (None, "cannot read the lock"),
        (b"{", "it is not a lock: "),
        (b"[1]", "it is not a lock: expected the output of `plugctl lock`"),
        (b'{"lock": 2, "plugins": []}', "it is not a lock: its format is 2, and 1 is the one that is known"),
        (b'{"lock": 1}', "it is not a lock: expected"),
        (b"[" * 100_000, "it is not a lock: "),
    ],
)
def test_what_is_no_lock_is_status_2(run: Run, tmp_path: Path, data: bytes | None, reason: str) -> None:
    """Not 1: nobody knows whether anything differs. The daemon is not even asked."""
    file = tmp_path / "plugins.lock"
    if data is not None:
        file.write_bytes(data)
    outcome = run("verify", str(file))
    assert (outcome.status, outcome.out) == (2, "")
    assert reason in outcome.err


def test_a_daemon_that_cannot_be_asked_has_its_own_status(run: Run, socket_path: Path, tmp_path: Path) -> None:
    """As with any verb."""
    file = tmp_path / "plugins.lock"
    file.write_text(TEXT)
    assert run("verify", str(file)).status == 3
    with answering(socket_path, {"list": Refusal("auth.denied", "no")}):
        assert run("verify", str(file)).status == 4


def test_a_plugin_may_be_called_lock() -> None:
    """Its hash is text, and a format is a number."""
    assert parse(json.dumps({"lock": A, "plugins": B}).encode()).keys() == {"lock", "plugins"}


def test_two_hashes_are_no_lock() -> None:
    """Nobody could say which of them holds."""
    with pytest.raises(LockError, match="'cpu' is in it twice, with two hashes"):
        parse(json.dumps([{"name": "cpu", "sha256": A}, {"name": "cpu", "sha256": B}]).encode())
