"""The page for authors is held to what it says."""

import re
from pathlib import Path

from harness import ROOT, plugctl
from native_rig import INCLUDE, Compiler, install

PAGE = (ROOT / "docs" / "native.md").read_text()
HEADER = (INCLUDE / "plugd.h").read_text()


def test_the_first_example_builds_and_runs(build: Compiler, tmp_path: Path) -> None:
    """As it stands on the page, and in the header's own first lines."""
    sources = dict(re.findall(r"<!-- (\w+)\.c -->\n+```c\n(.*?)```", PAGE, re.DOTALL))
    commented = HEADER.partition("#include <plugd.h>")[2].partition(" *     cc -shared")[0]
    sources["header"] = "#include <plugd.h>" + re.sub(r"^ \*     ?|^ \*$", "", commented, flags=re.MULTILINE)
    for name, source in sources.items():
        path = install(build(source), tmp_path, "dice")
        done = plugctl("check", str(path), directory=tmp_path)
        assert (done.returncode, done.stdout.startswith("dice ok: 1 samples")) == (0, True), (name, done)


def test_everything_that_the_page_names_is_in_the_header() -> None:
    """Functions, macros and members."""
    names = set(re.findall(r"\b(?:plugd|PLUGD)_[A-Za-z0-9_]+", PAGE))
    assert names
    assert {name for name in names if not re.search(rf"\b{name}\b", HEADER)} == {"plugd_pluginv"} & names


def test_every_function_of_the_descriptor_is_on_the_page() -> None:
    """Whatever is added has to be told."""
    descriptor = HEADER.partition("struct plugd_descriptor {")[2].partition("\n};")[0]
    functions = set(re.findall(r"\(\*(\w+)\)", descriptor))
    assert functions == {"open", "collect", "close", "reconfigure", "save_state", "load_state"}
    assert {name for name in functions if f"`{name}`" not in PAGE} == set()
