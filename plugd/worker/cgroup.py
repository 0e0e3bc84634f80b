"""The cgroup of a worker, which it makes, limits and enters itself: cgroups(7), version 2.

It does so before it runs anything of a plugin, and while it has the daemon's rights: what it starts is born in there.
Entering waits for a grace period of RCU, some ten milliseconds, which so is no time of the daemon's.
"""

import os
from collections.abc import Mapping
from typing import Any


def enter(rules: Mapping[str, Any]) -> list[str]:
    """Make a cgroup, set its limits, and move this process into it.

    Args:
        rules: ``path`` of its directory, which is not there yet, and ``limits``, the values of its files by name.

    Returns: what could not be done, a sentence each. Without its cgroup a worker is held to its limits as where there
        are none.
    """
    path = rules["path"]
    failed = []
    try:
        os.mkdir(path)
        for file, value in rules["limits"].items():
            try:
                _write(f"{path}/{file}", value)
            except OSError as error:
                failed.append(f"cgroup: {file}: {error.strerror}")
        _write(f"{path}/cgroup.procs", "0")  # itself
    except OSError as error:
        failed.append(f"cgroup: {error.strerror}")
    return failed


def _write(path: str, value: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, value.encode())
    finally:
        os.close(descriptor)
