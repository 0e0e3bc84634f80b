"""A system call of the daemon or of its forkserver fails at the Nth time: the daemon lives, and is well again."""

import shutil
import subprocess

import pytest
from harness import Daemons
from injection import FAULTS, inject, start


def can_trace() -> bool:
    """Whether strace is here, and may trace."""
    return (
        bool(shutil.which("strace"))
        and not subprocess.run(["strace", "-o", "/dev/null", "true"], check=False).returncode
    )


pytestmark = pytest.mark.skipif(not can_trace(), reason="strace is not here or may not trace: apt-get install strace")


@pytest.mark.parametrize("name", FAULTS)
def test_the_daemon_lives_when_a_call_fails(daemon: Daemons, name: str) -> None:
    """Some of the first calls, one after the other; tests/faults/injection.py has the first 200."""
    running = start(daemon)
    for nth in (1,) if name.startswith("forkserver") else (1, 2, 5):
        assert inject(running, FAULTS[name], nth).status is None
