"""Linking a plugin's sealed copy into this process, and what to say where that cannot be."""

import contextlib
import ctypes
import mmap
import os
from collections.abc import Iterator

from plugd.worker import abi, elf
from plugd.worker.failure import Fault, invalid

_LINE_BUFFERED = 1  # _IOLBF, stdio.h

_libc = ctypes.CDLL(None)


def link(image: int, path: str) -> int:
    """Link a shared object, and call its ``plugd_plugin()``; return the address of the descriptor.

    What is linked is never the file itself, which somebody may replace, or cut short, while its code runs.

    Args:
        image: the descriptor of a sealed copy of the file; it is closed.
        path: where the file was found, for messages.

    Raises:
        Failure: ``plugin.invalid``: it is no plugin, or lacks something that it needs.
    """
    try:
        with _mapped(image) as data:
            faults = elf.faults_of(data, elf.own_header())
            if faults:
                raise invalid(path, faults)
            _print_line_by_line()
            return _descriptor(f"/proc/self/fd/{image}", data, path)
    finally:
        os.close(image)


@contextlib.contextmanager
def _mapped(image: int) -> Iterator[elf.Bytes]:
    """The bytes of a sealed copy, as long as it lasts."""
    if os.fstat(image).st_size == 0:
        yield b""
        return
    # Private: of a file that is sealed against writing, Linux before 6.7 refuses a shared mapping, even to read.
    with mmap.mmap(image, 0, mmap.MAP_PRIVATE, mmap.PROT_READ) as mapped:
        yield mapped


def _print_line_by_line() -> None:
    """Have stdio write each line: to a pipe it writes 4 KiB at a time, and a plugin that dies loses what it printed."""
    _libc.setvbuf(ctypes.c_void_p.in_dll(_libc, "stdout"), None, _LINE_BUFFERED, ctypes.c_size_t(0))


def _descriptor(file: str, data: elf.Bytes, path: str) -> int:
    try:
        library = ctypes.CDLL(file)
    except OSError as error:
        message = f"cannot be linked: {str(error).replace(file, path)}"
        raise invalid(path, list(_unresolved(data)) or [Fault(message)]) from error
    address = abi.DescriptorFunction((elf.SYMBOL, library))()
    if not address:
        raise invalid(path, [Fault(f"{elf.SYMBOL}() returned NULL")])
    return int(address)


def _unresolved(data: elf.Bytes) -> Iterator[Fault]:
    """Name everything that keeps a shared object from being linked; the loader names the first only."""
    shared = elf.read(data, elf.own_header())
    libraries = [_libc]
    for name in shared.needed:
        try:
            libraries.append(ctypes.CDLL(name))
        except OSError as error:
            yield Fault(f"needs {name}, which cannot be linked: {str(error).removeprefix(f'{name}: ')}")
    for symbol in sorted(shared.undefined):
        if not any(hasattr(library, symbol) for library in libraries):
            yield Fault(f"undefined symbol {symbol!r}: nothing that it is linked with has it")
