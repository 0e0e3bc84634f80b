"""What a shared object is, read from its bytes before anything of it is loaded: elf(5).

The loader would say less, or nothing: of a Go plugin it loads, and calls, what then hangs for ever; of a truncated file
it maps pages that are not there.
"""

import mmap
import struct
from collections.abc import Iterator
from typing import NamedTuple

from plugd.worker.failure import Fault

SYMBOL = "plugd_plugin"

Bytes = bytes | mmap.mmap

_MAGIC = b"\x7fELF"
_ARCHIVE = b"!<arch>\n"
_CLASSES = {1: "32-bit", 2: "64-bit"}
_ORDERS = {1: "little-endian", 2: "big-endian"}
_MACHINES = {2: "SPARC", 3: "i386", 8: "MIPS", 20: "PowerPC", 21: "PowerPC64", 22: "S/390", 40: "ARM", 43: "SPARC64",
             62: "x86-64", 183: "AArch64", 243: "RISC-V", 258: "LoongArch"}  # fmt: skip
_RELOCATABLE, _EXECUTABLE, _SHARED, _CORE = 1, 2, 3, 4
_TYPES = {_RELOCATABLE: "an object file that is not linked yet", _EXECUTABLE: "a program", _CORE: "a core dump"}

_PT_LOAD, _PT_DYNAMIC = 1, 2
_DT_NEEDED, _DT_HASH, _DT_STRTAB, _DT_SYMTAB, _DT_STRSZ = 1, 4, 5, 6, 10
_DT_GNU_HASH, _DT_FLAGS_1 = 0x6FFFFEF5, 0x6FFFFFFB
_DF_1_PIE = 0x08000000
_UNDEFINED = 0  # the section of a symbol that is somewhere else
_WEAK = 2

# What Go's linker puts into -buildmode=plugin and into nothing else; the colon came with Go 1.20.
_GO_PLUGIN = ("go.link.pkghash", "go:link.pkghash", "go.plugin.", "go:plugin.")


class NotElf(ValueError):  # noqa: N818 - it says what the file is
    """The bytes are no shared object that could be loaded; the text says why."""


class Shared(NamedTuple):
    """What a shared object says of itself."""

    exported: frozenset[str]
    undefined: frozenset[str]  # what it takes from other objects, and cannot do without
    needed: tuple[str, ...]  # the objects it takes that from


def faults_of(data: Bytes, own: Bytes) -> list[Fault]:
    """Return why a file cannot be a plugin here: what can be known without running anything of it.

    Args:
        data: the file's bytes.
        own: the first of those of the program that is to load it: :func:`own_header`.
    """
    try:
        shared = read(data, own)
    except NotElf as error:
        return [Fault(str(error))]
    if any(name.startswith(_GO_PLUGIN) for name in shared.exported):
        return [
            Fault(
                "a Go plugin (-buildmode=plugin), which only a Go program of the very same build can open: "
                "build it with -buildmode=c-shared"
            )
        ]
    if SYMBOL not in shared.exported:
        return [Fault(_missing(shared, data))]
    return []


def read(data: Bytes, own: Bytes) -> Shared:
    """Read a shared object.

    Raises:
        NotElf: it is none, it is not whole, or it is for another machine than this program.
    """
    try:
        return _read(data, own)
    except (struct.error, IndexError) as error:
        raise NotElf(f"truncated: {len(data)} bytes, and its tables go beyond them") from error


def _read(data: Bytes, own: Bytes) -> Shared:
    _check_magic(data)
    if len(data) < 64:
        raise NotElf(f"truncated: {len(data)} bytes are not even a header")
    kind, reader = _check_machine(data, own), _Reader(data)
    if kind != _SHARED:
        raise NotElf(f"{_TYPES.get(kind, f'an ELF file of type {kind}')}, not a shared object: link it with -shared")
    reader.check_whole()
    tags = list(reader.tags())
    if not tags:
        raise NotElf("without a dynamic section: nothing can be loaded from it")
    if any(tag == _DT_FLAGS_1 and value & _DF_1_PIE for tag, value in tags):
        raise NotElf("a program, not a shared object: link it with -shared")
    return reader.shared(dict(tags), [value for tag, value in tags if tag == _DT_NEEDED])


def _check_magic(data: Bytes) -> None:
    if not data:
        raise NotElf("the file is empty")
    if data[:8] == _ARCHIVE:
        raise NotElf("a static library, not a shared object: link it with -shared")
    if data[:4] != _MAGIC:
        shown = data[:4].decode("ascii", "backslashreplace")
        raise NotElf(f"not an ELF shared object: it begins with {shown!r}")


def _check_machine(data: Bytes, own: Bytes) -> int:
    """Compare class, byte order and machine with those of this program; return the type."""
    if data[4:6] == own[4:6]:
        order = "<" if data[5] == 1 else ">"
        kind, machine = struct.unpack_from(f"{order}HH", data, 16)
        if machine == struct.unpack_from(f"{order}HH", own, 16)[1]:
            return int(kind)
    raise NotElf(f"built for {_machine(data)}; this plugd runs on {_machine(own)}")


def _machine(data: Bytes) -> str:
    """``64-bit x86-64``, and the byte order where it is not the usual one."""
    order = ">" if data[5] == 2 else "<"
    (number,) = struct.unpack_from(f"{order}H", data, 18)
    name = _MACHINES.get(number, f"machine {number}")
    words = [_CLASSES.get(data[4], f"class {data[4]}"), *([_ORDERS[2]] if data[5] == 2 else []), name]
    return " ".join(words)


class _Reader:
    """The tables of one file; offsets as in linux/elf.h, of the class and byte order of the file."""

    def __init__(self, data: Bytes) -> None:
        self._data = data
        self._order = "<" if data[5] == 1 else ">"
        self._wide = data[4] == 2
        header = self._unpack("HHIQQQIHHHHHH" if self._wide else "HHIIIIIHHHHHH", 16)
        _, _, _, _, phoff, self._shoff, _, _, phentsize, phnum, self._shentsize, self._shnum, _ = header
        self._programs = [self._program(phoff + number * phentsize) for number in range(phnum)]

    def check_whole(self) -> None:
        """Raise NotElf where the file ends before what its tables speak of does."""
        end = max((offset + size for kind, offset, _, size in self._programs if kind == _PT_LOAD), default=0)
        if self._shnum:
            end = max(end, self._shoff + self._shnum * self._shentsize)  # At the end of what linkers write.
        if end > len(self._data):
            raise NotElf(f"truncated: {len(self._data)} bytes of at least {end}")

    def tags(self) -> Iterator[tuple[int, int]]:
        """The entries of the dynamic section."""
        width = 16 if self._wide else 8
        for kind, offset, _, size in self._programs:
            if kind != _PT_DYNAMIC:
                continue
            for position in range(offset, offset + size - width + 1, width):
                tag, value = self._unpack("qQ" if self._wide else "iI", position)
                if tag == 0:
                    return
                yield tag, value

    def shared(self, tags: dict[int, int], needed: list[int]) -> Shared:
        """Read the dynamic symbols."""
        if _DT_SYMTAB not in tags or _DT_STRTAB not in tags:
            return Shared(frozenset(), frozenset(), ())
        symbols, strings = self._offset(tags[_DT_SYMTAB]), self._offset(tags[_DT_STRTAB])
        text = self._data[strings : strings + tags.get(_DT_STRSZ, 0)]
        exported, undefined = set(), set()
        for number in range(1, self._count(tags)):
            name, info, section = self._symbol(symbols, number)
            binding = info >> 4
            if section != _UNDEFINED:
                exported.add(_name(text, name))
            elif binding != _WEAK:
                undefined.add(_name(text, name))
        return Shared(frozenset(exported), frozenset(undefined), tuple(_name(text, name) for name in needed))

    def _unpack(self, form: str, offset: int) -> tuple[int, ...]:
        return struct.unpack_from(self._order + form, self._data, offset)

    def _program(self, offset: int) -> tuple[int, int, int, int]:
        """A program header: type, offset in the file, address, size in the file."""
        if self._wide:
            kind, _, position, address, _, size = self._unpack("IIQQQQ", offset)
        else:
            kind, position, address, _, size = self._unpack("IIIII", offset)
        return kind, position, address, size

    def _symbol(self, table: int, number: int) -> tuple[int, int, int]:
        """A symbol: where its name is, its binding and type, its section."""
        if self._wide:
            name, info, _, section = self._unpack("IBBH", table + 24 * number)
        else:
            name, _, _, info, _, section = self._unpack("IIIBBH", table + 16 * number)
        return name, info, section

    def _offset(self, address: int) -> int:
        for kind, offset, start, size in self._programs:
            if kind == _PT_LOAD and start <= address < start + size:
                return offset + address - start
        raise NotElf("damaged: its dynamic section points to what is not in the file")

    def _count(self, tags: dict[int, int]) -> int:
        """How many dynamic symbols there are: only the hash tables tell."""
        if _DT_HASH in tags:
            return self._unpack("II", self._offset(tags[_DT_HASH]))[1]
        if _DT_GNU_HASH not in tags:
            return 0
        # https://flapenguin.me/elf-dt-gnu-hash
        table = self._offset(tags[_DT_GNU_HASH])
        buckets, first, words, _ = self._unpack("IIII", table)
        start = table + 16 + words * (8 if self._wide else 4)
        last = max(self._unpack(f"{buckets}I", start), default=0)
        if last < first:
            return first  # Nothing is exported; those before are what it needs.
        chain = start + 4 * buckets
        while not self._unpack("I", chain + 4 * (last - first))[0] & 1:
            last += 1
        return last + 1


def _name(text: bytes, offset: int) -> str:
    return text[offset : text.find(b"\0", offset)].decode("utf-8", "backslashreplace")


def _missing(shared: Shared, data: Bytes) -> str:
    """What to say of a file that lacks the symbol: usually it has it under another name, or hides it."""
    fault = f"missing symbol {SYMBOL!r}"
    mangled = sorted(name for name in shared.exported if SYMBOL in name)
    if mangled and mangled[0].startswith("_Z"):
        return f'{fault}: it exports {mangled[0]!r}; declare it extern "C" (in Rust: #[no_mangle] pub extern "C")'
    if mangled:
        return f"{fault}: it exports {mangled[0]!r}"
    if data.find(f"\0{SYMBOL}\0".encode()) >= 0:
        return f'{fault}: it is in the file, but not exported; with #include <plugd.h>, or visibility("default"), it is'
    return f"{fault}, which every plugin exports (see plugd.h: plugd --include-dir)"


def own_header() -> bytes:
    """Return the ELF header of the running program."""
    with open("/proc/self/exe", "rb") as file:
        return file.read(64)
