"""A sealed file in memory: bytes that nobody can change any more, not even who has it open; see memfd_create(2).

What is mapped from a file on disk changes with that file, and is a SIGBUS where it has become shorter. What is mapped
from a sealed copy stays as it is, whatever becomes of the file.
"""

import fcntl
import os
from collections.abc import Callable

MFD_NOEXEC_SEAL = 0x0008  # linux/memfd.h; it can be mapped and linked, but not be run as a program

_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
_NAME_BYTES = 200  # the kernel takes 249: memfd_create(2)


class SealedCopy:
    """A sealed copy of bytes; closes its descriptor when nobody refers to it any more.

    Args:
        data: the bytes.
        name: what /proc/PID/maps shows of it, and debuggers and profilers with it.

    Raises:
        OSError: there is no memory or no descriptor for it.
    """

    __slots__ = ("descriptor",)

    def __init__(self, data: bytes, name: str) -> None:
        self.descriptor = -1
        self.descriptor = _create(os.fsencode(name)[-_NAME_BYTES:])
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self.descriptor, rest) :]
        fcntl.fcntl(self.descriptor, fcntl.F_ADD_SEALS, _SEALS)

    def __del__(self, close: Callable[[int], None] = os.close) -> None:  # At the very end there is no os any more.
        if self.descriptor >= 0:
            close(self.descriptor)


def _create(name: bytes) -> int:
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    text = os.fsdecode(name)
    try:
        return os.memfd_create(text, flags | MFD_NOEXEC_SEAL)
    except OSError:
        return os.memfd_create(text, flags)  # A kernel before Linux 6.3 does not know that flag.
