"""Where the control socket is."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from plugd.rpc import address
from plugd.rpc.address import SYSTEM_SOCKET, control_socket_candidates

UID = os.getuid()
OTHER = UID + 4242  # owns nothing here


def test_root_has_the_system_socket() -> None:
    """Nothing of a session counts for root, as under sudo -E."""
    assert control_socket_candidates({"XDG_RUNTIME_DIR": "/run/user/1000"}, 0) == ["/run/plugd/control.sock"]
    assert SYSTEM_SOCKET == "/run/plugd/control.sock"


def test_systemd_wins() -> None:
    """A unit's RUNTIME_DIRECTORY comes before everything else."""
    assert control_socket_candidates({"RUNTIME_DIRECTORY": "/run/x"}, 0) == ["/run/x/control.sock", SYSTEM_SOCKET]
    assert control_socket_candidates({"RUNTIME_DIRECTORY": "/run/x"}, OTHER)[0] == "/run/x/control.sock"


def test_the_first_of_several_directories_counts() -> None:
    """systemd separates them by colons."""
    assert control_socket_candidates({"RUNTIME_DIRECTORY": "/run/x:/run/y"}, 0)[0] == "/run/x/control.sock"


def test_an_empty_variable_is_none() -> None:
    """Empty variables mean the same as absent ones."""
    assert control_socket_candidates({"RUNTIME_DIRECTORY": ""}, 0) == [SYSTEM_SOCKET]
    assert control_socket_candidates({"XDG_RUNTIME_DIR": ""}, OTHER) == control_socket_candidates({}, OTHER)


def test_a_user_has_a_socket_in_the_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """XDG_RUNTIME_DIR comes first, then the directory in /tmp, then the system's daemon."""
    user = _owner_is(monkeypatch, tmp_path, 1234)
    assert control_socket_candidates({"XDG_RUNTIME_DIR": str(tmp_path)}, user) == [
        f"{tmp_path}/plugd/control.sock",
        "/tmp/plugd-1234/control.sock",
        SYSTEM_SOCKET,
    ]


def test_somebody_elses_session_does_not_count(tmp_path: Path) -> None:
    """After su, XDG_RUNTIME_DIR is still that of the user before."""
    assert control_socket_candidates({"XDG_RUNTIME_DIR": str(tmp_path)}, OTHER) == [
        f"/tmp/plugd-{OTHER}/control.sock",
        SYSTEM_SOCKET,
    ]


def test_a_session_that_is_not_there_does_not_count(tmp_path: Path) -> None:
    """A service's user has no runtime directory."""
    environ = {"XDG_RUNTIME_DIR": str(tmp_path / "missing")}
    assert control_socket_candidates(environ, OTHER) == [f"/tmp/plugd-{OTHER}/control.sock", SYSTEM_SOCKET]


def test_the_session_is_found_without_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under cron there is no XDG_RUNTIME_DIR, but the directory may be there."""
    user = _owner_is(monkeypatch, Path("/run/user/1234"), 1234)
    assert control_socket_candidates({}, user)[0] == "/run/user/1234/plugd/control.sock"


def _owner_is(monkeypatch: pytest.MonkeyPatch, directory: Path, uid: int) -> int:
    """Make the directory seem to be owned by the user; tests may run as anybody."""

    def stat(path: str) -> os.stat_result:
        if path != str(directory):
            raise FileNotFoundError(path)
        return os.stat_result((0o40700, 1, 1, 1, uid, uid, 0, 0, 0, 0))

    monkeypatch.setattr(address, "os", SimpleNamespace(stat=stat))  # this module's only, not everybody's
    return uid
