"""Fixtures for plugctl's tests."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_daemon import Outcome, Run

from plugctl.cli import main


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No socket of the environment is used, and no thread stays behind."""
    for name in ("PLUGD_SOCKET", "RUNTIME_DIRECTORY", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    before = threading.active_count()
    yield
    assert threading.active_count() == before


@pytest.fixture
def socket_path(tmp_path: Path) -> Path:
    return tmp_path / "control.sock"


@pytest.fixture
def run(socket_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Call plugctl in this process, at ``socket_path``."""

    def call(*arguments: str) -> Outcome:
        status = main(["--socket", str(socket_path), *arguments])
        return Outcome(status, *capsys.readouterr())

    return call


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stdout seems to be a terminal that knows colours."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("plugctl.output.stdout_is_terminal", lambda: True)
