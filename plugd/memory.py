"""Memory that the allocator keeps for later, back to the kernel: malloc_trim(3)."""

import ctypes


def give_back() -> None:
    """Return free memory to the kernel; takes a millisecond or so. Does nothing where libc has no such call (musl)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
