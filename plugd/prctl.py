"""Attributes of this process that only prctl(2) sets."""

import ctypes
import os

PR_SET_PDEATHSIG = 1  # linux/prctl.h
PR_SET_NAME = 15
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38

_libc = ctypes.CDLL(None, use_errno=True)


def prctl(option: int, value: int | bytes) -> None:
    """Set an attribute of this process.

    Raises:
        OSError: the kernel refused.
    """
    argument = ctypes.c_char_p(value) if isinstance(value, bytes) else ctypes.c_ulong(value)
    zero = ctypes.c_ulong(0)  # Some options refuse anything else in the arguments that they do not use.
    if _libc.prctl(ctypes.c_int(option), argument, zero, zero, zero):
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}): {os.strerror(number)}")
