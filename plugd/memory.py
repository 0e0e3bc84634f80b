"""Memory that the allocator keeps for later, back to the kernel: malloc_trim(3)."""

import ctypes
import gc


def give_back() -> None:
    """Return free memory to the kernel; takes some milliseconds. Libraries without such a call (musl) keep it."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
