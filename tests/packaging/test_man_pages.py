"""The manual pages are held to the programs: every flag, verb, key, default and status, and no others."""

import itertools
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from harness import BIN, ROOT

from plugctl.verbs import GLOBALS, VERBS, Option
from plugd.config import Config, PluginConfig, merge, parse, validate

PAGES = ROOT / "docs" / "man"
FONT = re.compile(r"\\f[BIR]")
ESCAPES = {r"\-": "-", r"\(dq": '"', r"\(aq": "'", r"\e": "\\"}
FLAG = re.compile(r"(?<![\w-])--?[a-z][a-z-]*")


def plain(line: str) -> str:
    """Return a line of a page as it is shown: without its macro, fonts and escapes."""
    line = FONT.sub("", line)
    for escape, text in ESCAPES.items():
        line = line.replace(escape, text)
    if not line.startswith("."):
        return line
    macro, _, rest = line.partition(" ")
    if macro in (".BR", ".RB", ".BI", ".IR", ".RI"):  # Their words are joined, unless quoted.
        return "".join(quoted or word for quoted, word in re.findall(r'"([^"]*)"|(\S+)', rest))
    return rest.strip('"')


def section(page: str, heading: str) -> list[str]:
    """Return the lines below a heading of a page."""
    text = (PAGES / page).read_text()
    found = re.search(rf"^\.SH \"?{heading}\"?\n(.*?)(?=^\.SH |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"{page}: no {heading}"
    return found[1].splitlines()


def tags(lines: list[str]) -> list[str]:
    """Return what stands on the left, of every paragraph that has something there."""
    return [plain(line) for before, line in itertools.pairwise(lines) if before == ".TP"]


def flags(text: str) -> set[str]:
    return set(FLAG.findall(text))


def helped(*command: str) -> str:
    done = subprocess.run(
        [BIN / command[0], *command[1:], "--help"], capture_output=True, text=True, timeout=30, check=True
    )
    # What a sentence names, such as `plugctl lock`, is none of this program's flags.
    return done.stdout.partition("\n\n")[0] + "\n".join(re.findall(r"^  (-.*)", done.stdout, re.MULTILINE))


def verb_entries() -> dict[str, list[str]]:
    """Return the lines of every verb in plugctl.1, by its name; its options are in lines of their own."""
    entries: dict[str, list[str]] = {}
    depth = 0
    lines = section("plugctl.1", "VERBS")
    for before, line in itertools.pairwise(lines):
        depth += {".RS": 1, ".RE": -1}.get(before, 0)
        if before == ".TP" and not depth:
            entries[plain(line).split()[0]] = [before]
        list(entries.values())[-1].append(line)
    return entries


def test_plugd_8_has_every_flag() -> None:
    """Its options are those of plugd --help, and their values are called the same."""
    found = tags(section("plugd.8", "OPTIONS"))
    assert flags(" ".join(found)) == flags(helped("plugd"))
    assert flags(" ".join(map(plain, section("plugd.8", "SYNOPSIS")))) >= flags(helped("plugd")) - {"-h"}
    usage = re.findall(r"(--[a-z-]+) ([A-Z]+)", helped("plugd"))
    assert set(usage) == {(tag.split()[0], tag.split()[1]) for tag in found if " " in tag and "," not in tag}


def test_plugd_8_has_every_flag_of_install_and_uninstall() -> None:
    """What it tells of installing has those of both."""
    found = flags(" ".join(tags(section("plugd.8", "INSTALLING"))))
    assert found == flags(helped("plugd", "install") + helped("plugd", "uninstall")) - {"-h", "--help"}


def test_plugd_8_has_every_exit_status() -> None:
    """The statuses of plugd --help are in it, and no others."""
    done = subprocess.run([BIN / "plugd", "--help"], capture_output=True, text=True, timeout=30, check=True)
    own = set(re.findall(r"^  (\d+)  ", done.stdout.partition("exit codes:")[2], re.MULTILINE))
    assert own
    assert own <= set(tags(section("plugd.8", "EXIT STATUS"))) <= own | {"71"}


def test_plugctl_1_has_every_global_option() -> None:
    """Its options are those of plugctl --help."""
    found = flags(" ".join(tags(section("plugctl.1", "OPTIONS"))))
    assert found == {flag for option in GLOBALS for flag in option.flags}
    assert found == flags(helped("plugctl"))


def test_plugctl_1_has_every_verb() -> None:
    """Its verbs are plugctl's, in the same order."""
    assert list(verb_entries()) == list(VERBS)


@pytest.mark.parametrize("name", VERBS)
def test_plugctl_1_has_every_argument_of_a_verb(name: str) -> None:
    """A verb has the options and arguments that it takes, in its line, and each option is told."""
    verb = VERBS[name]
    lines = verb_entries()[name]
    usage, *told = tags(lines)

    def written(option: Option) -> list[str]:
        return [f"{flag} {option.metavar}".strip() for flag in option.flags]

    for option in verb.options:
        assert any(f"[{form}]" in usage for form in written(option)), option.flags
        assert written(option)[-1] in [tag.split(", ")[-1] for tag in told], option.flags
    assert len(told) == len(verb.options)
    assert flags(usage) <= {flag for option in verb.options for flag in option.flags}
    words = re.sub(r"\[-[^]]*\]", "", usage).split()[1:]
    arguments = {positional.metavar: positional.count for positional in verb.positionals}
    shapes = {"1": "{}", "?": "[{}]", "*": "[{}...]", "+": "{}..."}
    assert words == [shapes[count].format(metavar) for metavar, count in arguments.items()]


def test_plugctl_1_has_every_exit_status_and_variable() -> None:
    """They are those of plugctl --help."""
    done = subprocess.run([BIN / "plugctl", "--help"], capture_output=True, text=True, timeout=30, check=True)
    statuses = done.stdout.partition("exit status:")[2].partition("\n\n")[0]
    assert set(tags(section("plugctl.1", "EXIT STATUS"))) == set(re.findall(r"\b(\d)\b", statuses))
    variables = re.findall(r"^  ([A-Z_]+) ", done.stdout, re.MULTILINE)
    assert tags(section("plugctl.1", "ENVIRONMENT")) == variables


def test_plugd_toml_5_has_every_key() -> None:
    """Its keys are those of docs/configuration.md, which tests hold to the configuration."""
    documented = re.findall(r"^\| `([^`-]+)` \|", (ROOT / "docs" / "configuration.md").read_text(), re.MULTILINE)
    assert [tag.partition(" = ")[0] for tag in tags(section("plugd.toml.5", "KEYS"))] == documented


def test_plugd_toml_5_has_the_defaults() -> None:
    """Set to what it gives as its default, no key changes anything."""
    lines = [tag.replace("NAME", "cpu") for tag in tags(section("plugd.toml.5", "KEYS")) if " = " in tag]
    assert len(lines) > 40
    config = validate(merge([parse("\n".join(lines).encode(), "plugd.toml.5")]))
    assert config == Config(plugins={"cpu": PluginConfig()})


def test_the_example_of_plugd_toml_5_is_valid() -> None:
    """What it shows is taken as a configuration."""
    lines = section("plugd.toml.5", "EXAMPLES")
    text = "\n".join(plain(line) for line in lines[lines.index(".EX") + 1 : lines.index(".EE")])
    assert validate(merge([parse(text.encode(), "plugd.toml.5")])) != Config()


@pytest.mark.parametrize("page", sorted(PAGES.iterdir()), ids=lambda page: page.name)
def test_groff_has_nothing_to_say(page: Path) -> None:
    """man formats it without a warning."""
    if shutil.which("man") is None or shutil.which("groff") is None:
        pytest.skip("needs man and groff: apt-get install man-db groff-base")
    command = ["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", str(page)]
    environ = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "MANWIDTH": "80"}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=30, check=True)
    assert done.stderr == ""


@pytest.mark.parametrize("page", sorted(PAGES.iterdir()), ids=lambda page: page.name)
def test_mandoc_has_nothing_to_say(page: Path) -> None:
    """Nor has mandoc, which some systems have instead of groff."""
    if shutil.which("mandoc") is None:
        pytest.skip("needs mandoc: apt-get install mandoc")
    command = ["mandoc", "-Tlint", "-Wstyle", str(page)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.stdout + done.stderr == ""
