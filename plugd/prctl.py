"""Attributes of this process that only prctl(2) sets."""

import ctypes
import os

PR_SET_PDEATHSIG = 1  # linux/prctl.h
PR_SET_DUMPABLE = 4
PR_SET_KEEPCAPS = 8
PR_SET_NAME = 15
PR_CAPBSET_DROP = 24
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47

_libc = ctypes.CDLL(None, use_errno=True)


def prctl(option: int, value: int | bytes, second: int = 0) -> None:
    """Set an attribute of this process; few options have a second value.

    Raises:
        OSError: the kernel refused.
    """
    argument = ctypes.c_char_p(value) if isinstance(value, bytes) else ctypes.c_ulong(value)
    zero = ctypes.c_ulong(0)  # Some options refuse anything else in the arguments that they do not use.
    if _libc.prctl(ctypes.c_int(option), argument, ctypes.c_ulong(second), zero, zero):
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}): {os.strerror(number)}")
