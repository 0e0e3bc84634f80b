"""plugd.h and its reading by ctypes: the same structures, in every language that it is for."""

import ctypes
import subprocess
from pathlib import Path

import pytest
from harness import BIN
from native_rig import INCLUDE, run, tool

from plugd.worker import abi

STRUCTURES = {
    "plugd_value": abi.Value,
    "plugd_metric": abi.Metric,
    "plugd_parameter": abi.Parameter,
    "plugd_setting": abi.Setting,
    "plugd_command": abi.Command,
    "plugd_header": abi.Header,
    "plugd_descriptor": abi.Descriptor,
    "plugd_host": abi.Host,
    "plugd_buffer": abi.Buffer,
}
CONSTANTS = {
    "PLUGD_ABI_VERSION": abi.ABI_VERSION,
    "PLUGD_OK": abi.OK,
    "PLUGD_FAILED": abi.FAILED,
    "PLUGD_REFUSED": abi.REFUSED,
    "PLUGD_GAUGE": abi.GAUGE,
    "PLUGD_COUNTER": abi.COUNTER,
    "PLUGD_TYPE_NULL": abi.NULL,
    "PLUGD_TYPE_BOOL": abi.BOOL,
    "PLUGD_TYPE_INT": abi.INT,
    "PLUGD_TYPE_FLOAT": abi.FLOAT,
    "PLUGD_TYPE_STRING": abi.STRING,
    "PLUGD_TYPE_JSON": abi.JSON,
    "PLUGD_TYPE_BYTES": abi.BYTES,
    "PLUGD_OPTIONAL": abi.OPTIONAL,
    "PLUGD_NO_SERIES": abi.NO_SERIES,
    "PLUGD_DROPPED": abi.DROPPED,
}


@pytest.mark.parametrize(
    ("compiler", "standard"),
    [("cc", "c99"), ("cc", "c11"), ("cc", "c17"), ("c++", "c++11"), ("c++", "c++17"), ("c++", "c++20")],
)
def test_the_header_compiles_without_a_warning(compiler: str, standard: str, tmp_path: Path) -> None:
    """By every standard that it promises; twice included is as good as once."""
    source = tmp_path / ("probe.c" if compiler == "cc" else "probe.cc")
    source.write_text("#include <plugd.h>\n#include <plugd.h>\nint unused_name;\n")
    flags = [f"-std={standard}", "-pedantic", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror"]
    run(tool(compiler), *flags, "-I", INCLUDE, "-c", source, "-o", tmp_path / "probe.o")


def test_the_layout_is_that_of_the_header(tmp_path: Path) -> None:
    """Every member of every structure has the same place and size in C and in ctypes, and every constant its value."""
    lines = []
    expected = []
    for name, structure in STRUCTURES.items():
        lines.append(f'printf("{name} %zu\\n", sizeof(struct {name}));')
        expected.append(f"{name} {ctypes.sizeof(structure)}")
        for member, *_ in structure._fields_:
            place = f"offsetof(struct {name}, {member}), sizeof(((struct {name} *)0)->{member})"
            lines.append(f'printf("{name}.{member} %zu %zu\\n", {place});')
            field = getattr(structure, member)
            expected.append(f"{name}.{member} {field.offset} {field.size}")
    for name, value in CONSTANTS.items():
        lines.append(f'printf("{name} %llu\\n", (unsigned long long){name});')
        expected.append(f"{name} {value}")
    source, program = tmp_path / "layout.c", tmp_path / "layout"
    source.write_text("#include <plugd.h>\nint main(void) {\n" + "\n".join(lines) + "\nreturn 0;\n}\n")
    run(tool("cc"), "-I", INCLUDE, "-o", program, source)
    assert run(program).splitlines() == expected


def test_the_first_sizes_never_change() -> None:
    """A plugin compiled with the first plugd.h of this ABI is taken for ever: these numbers are history."""
    assert abi.ABI_VERSION == 1
    if ctypes.sizeof(ctypes.c_void_p) == 8:
        assert abi.FIRST_SIZES == {
            "descriptor_size": 168,
            "metric_size": 40,
            "parameter_size": 160,
            "setting_size": 176,
            "command_size": 40,
        }


def test_plugd_says_where_the_header_is(tmp_path: Path) -> None:
    """`plugd --include-dir`, of the plugd that is installed."""
    done = subprocess.run([BIN / "plugd", "--include-dir"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert (Path(done.stdout.strip()) / "plugd.h").read_text() == (INCLUDE / "plugd.h").read_text()
