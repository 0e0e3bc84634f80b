"""What is told of a file before anything of it is loaded."""

import random
import struct
from pathlib import Path

import pytest
from native_rig import Compiler, plugin_source, run, tool

from plugd.worker import elf

OWN = elf.own_header()


def faults(data: bytes) -> list[str]:
    return [fault.message for fault in elf.faults_of(data, OWN)]


@pytest.fixture
def plugin(build: Compiler) -> bytes:
    return build(Path("full.c")).read_bytes()


def test_a_plugin_has_no_fault(plugin: bytes) -> None:
    """It is this machine's, whole, and exports the symbol; what it takes from others is known."""
    assert faults(plugin) == []
    shared = elf.read(plugin, OWN)
    assert elf.SYMBOL in shared.exported
    assert {"calloc", "free"} <= shared.undefined
    assert "libc.so.6" in shared.needed or shared.needed


@pytest.mark.parametrize("style", ["sysv", "gnu", "both"])
def test_symbols_are_read_by_either_hash_table(style: str, build: Compiler) -> None:
    """Linkers write one of them, or both."""
    assert faults(build(Path("full.c"), f"-Wl,--hash-style={style}").read_bytes()) == []


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"", "the file is empty"),
        (b"print('hello')\n", "not an ELF shared object: it begins with 'prin'"),
        (b"#!/bin/sh\n", "not an ELF shared object: it begins with '#!/b'"),
        (b"\xff\xfe\0\0", "not an ELF shared object: it begins with '\\\\xff\\\\xfe\\x00\\x00'"),
        (b"!<arch>\nlibx.a/", "a static library, not a shared object: link it with -shared"),
        (b"\x7fELF\x02\x01\x01", "truncated: 7 bytes are not even a header"),
    ],
)
def test_what_is_no_shared_object_is_told_apart(data: bytes, fault: str) -> None:
    """By its first bytes."""
    assert faults(data) == [fault]


def test_what_is_not_linked_as_shared_object_is_told_apart(tmp_path: Path) -> None:
    """An object file, a program, and a program of the kind that has the type of a shared object."""
    (tmp_path / "x.c").write_text("int main(void) { return 0; }\n")
    compiler = tool("cc")
    for flags, what in (
        (["-c"], "an object file that is not linked yet"),
        (["-no-pie"], "a program"),
        (["-pie", "-fPIE"], "a program"),
    ):
        run(compiler, *flags, "-o", tmp_path / "x", tmp_path / "x.c")
        assert faults((tmp_path / "x").read_bytes()) == [f"{what}, not a shared object: link it with -shared"]


def test_a_file_cut_short_anywhere_is_truncated(plugin: bytes) -> None:
    """Whatever is missing; nothing of it is loaded, whose pages would not be there."""
    for size in [*range(1, 200), *range(200, len(plugin), 101), len(plugin) - 1]:
        [fault] = faults(plugin[:size])
        assert fault.startswith("truncated: ") or size < 4, (size, fault)


def test_damage_is_a_fault_or_none_and_no_exception(plugin: bytes) -> None:
    """Whatever bytes are wrong in the headers and tables."""
    source = random.Random(5)
    for _ in range(400):
        data = bytearray(plugin)
        for _ in range(source.randint(1, 8)):
            data[source.randrange(4, min(len(data), 3000))] = source.choice((0, 1, 0x7F, 0x80, 0xFF))
        assert all(isinstance(message, str) for message in faults(bytes(data)))


@pytest.mark.parametrize(
    ("offset", "change", "text"),
    [
        (18, b"\xf3\x00", "64-bit RISC-V"),
        (18, b"\x28\x00", "64-bit ARM"),
        (18, b"\x39\x30", "64-bit machine 12345"),
        (4, b"\x01", "32-bit x86-64"),
        (5, b"\x02", "64-bit big-endian machine 15872"),
    ],
)
def test_another_machine_is_named(offset: int, change: bytes, text: str, plugin: bytes) -> None:
    """That of the file and this one's."""
    if struct.unpack_from("<H", OWN, 18) != (62,) or OWN[4:6] != b"\x02\x01":
        pytest.skip("the names in this test are those of 64-bit x86")
    data = plugin[:offset] + change + plugin[offset + len(change) :]
    assert faults(data) == [f"built for {text}; this plugd runs on 64-bit x86-64"]


def test_a_missing_symbol_is_named(build: Compiler) -> None:
    """With the header that has it."""
    built = build("int something;\n")
    assert faults(built.read_bytes()) == [
        "missing symbol 'plugd_plugin', which every plugin exports (see plugd.h: plugd --include-dir)"
    ]


def test_a_symbol_with_a_cpp_name_is_told_apart(build: Compiler) -> None:
    """The author has declared it without the header, and so without extern "C"."""
    built = build('extern const void *plugd_plugin() { return ""; }\n', language="cc")
    [fault] = faults(built.read_bytes())
    assert fault.startswith("missing symbol 'plugd_plugin': it exports '_Z12plugd_pluginv'; declare it extern \"C\"")


def test_a_hidden_symbol_is_told_apart(build: Compiler) -> None:
    """It is in the file, and nobody can find it."""
    source = "const void *plugd_plugin(void);\nconst void *plugd_plugin(void) { return 0; }\n"
    [fault] = faults(build(source, "-fvisibility=hidden").read_bytes())
    assert fault.startswith("missing symbol 'plugd_plugin': it is in the file, but not exported")


def test_the_header_exports_the_symbol_where_others_are_hidden(build: Compiler) -> None:
    """Its declaration says so."""
    assert faults(build(plugin_source(""), "-fvisibility=hidden").read_bytes()) == []


@pytest.mark.parametrize("name", ["go.link.pkghashbytes.runtime", "go:link.pkghashbytes.runtime", "go:plugin.tabs"])
def test_a_go_plugin_is_recognised(name: str, build: Compiler) -> None:
    """By what Go's linker puts into -buildmode=plugin only; it has the symbol, and would hang when it is called."""
    source = f'int hash __asm__("\\"{name}\\"") = 1;\n' + plugin_source("")
    [fault] = faults(build(source).read_bytes())
    assert fault.startswith("a Go plugin (-buildmode=plugin)")
    assert fault.endswith("build it with -buildmode=c-shared")
