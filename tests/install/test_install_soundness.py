"""Which plugd a service may run: one that nobody else can change, and that its user can read."""

import os
import shutil
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from plugd.install.program import Program, this_program
from plugd.install.soundness import fault, way

OWNERS = frozenset({0, os.geteuid()})
STRANGER = 54321

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away: sudo make test")


@pytest.fixture
def prefix() -> Iterator[Path]:
    """An installation as pip makes it, where everybody can reach it."""
    with tempfile.TemporaryDirectory() as directory:
        prefix = Path(directory).resolve()
        for path in ("bin/plugd", "bin/plugctl", "lib/site/plugd/x.py", "lib/site/other/y.py"):
            (prefix / path).parent.mkdir(parents=True, exist_ok=True)
            (prefix / path).write_text("")
        for path in (prefix, *prefix.rglob("*")):
            path.chmod(0o755)
        (prefix / "bin/python").symlink_to("/bin/sh")
        yield prefix


def judge(prefix: Path, hidden: tuple[str, ...] = (), others: tuple[str, ...] = ()) -> str | None:
    paths = {name: str(prefix / "bin" / name) for name in ("plugd", "plugctl")}
    program = Program(paths, str(prefix / "bin/python"), (*paths.values(), str(prefix)), others)
    return fault(program, OWNERS, hidden)


def test_one_that_is_sound(prefix: Path) -> None:
    """There is nothing to be said against it."""
    assert judge(prefix) is None


@pytest.mark.parametrize("path", ["bin/plugd", "lib/site/plugd/x.py", "lib/site", "lib"])
def test_what_everybody_can_write(path: str, prefix: Path) -> None:
    """A program, a module, or a directory: each is told, with what to do about it."""
    (prefix / path).chmod(0o757)
    assert judge(prefix) == f"{prefix / path} can be written by everybody; try: chmod go-w {prefix / path}"


@as_root
@pytest.mark.parametrize("path", ["bin/plugctl", "lib/site/other/y.py", "."])
def test_what_somebody_else_owns(path: str, prefix: Path) -> None:
    """Owners can change what is theirs, whatever its mode."""
    os.chown(prefix / path, STRANGER, -1)
    reason = judge(prefix) or ""
    assert reason.startswith(f"{(prefix / path).resolve()} belongs to user {STRANGER}, who could change it")


@as_root
def test_what_a_group_can_write(prefix: Path) -> None:
    """It is the members that count: Debian's group staff may write /usr/local, and has none."""
    (prefix / "lib").chmod(0o775)
    os.chown(prefix / "lib", -1, STRANGER)
    assert judge(prefix) is None
    nobody = 65534
    os.chown(prefix / "lib", -1, nobody)  # the first group of the user of that name
    assert "of its group; try: chmod g-w" in (judge(prefix) or "")


def test_what_an_access_list_lets_others_write(prefix: Path) -> None:
    """With a list, the group's bits of the mode say the most that anybody in it may do. acl(5)"""
    path = prefix / "lib/site/plugd/x.py"
    entries = [(1, 7, -1), (2, 7, STRANGER), (4, 5, -1), (16, 7, -1), (32, 5, -1)]
    data = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)
    try:
        os.setxattr(path, "system.posix_acl_access", data)
    except OSError as error:
        pytest.skip(f"no access lists here: {error.strerror}")
    assert judge(prefix) == f"{path} can be written by those in its access list; try: setfacl -b {path}"


@pytest.mark.parametrize(
    ("path", "mode"), [("lib/site/plugd/x.py", 0o700), ("lib", 0o700), ("bin", 0o744), (".", 0o750)]
)
def test_what_the_services_user_cannot_reach(path: str, mode: int, prefix: Path) -> None:
    """As with a umask of 077."""
    (prefix / path).chmod(mode)
    reason = judge(prefix) or ""
    assert reason.startswith(f"{(prefix / path).resolve()} (mode {mode:04o}) is closed to the service's user")
    assert "chmod -R go+rX" in reason


def test_modules_beside_it_may_be_closed_but_not_open(prefix: Path) -> None:
    """A module of somebody else's that plugd cannot read does it no harm; one that anybody can write does."""
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        module = Path(directory).resolve() / "module.py"
        module.write_text("")
        module.chmod(0o600)
        assert judge(prefix, others=(directory,)) is None
        module.chmod(0o602)
        assert "can be written by everybody" in (judge(prefix, others=(directory,)) or "")


def test_what_a_service_does_not_see(prefix: Path) -> None:
    """A home directory, or a private /tmp; also at the other end of a link."""
    hidden = str(prefix / "lib")
    assert judge(prefix, hidden=(hidden,)) is None  # Nothing leads there from outside.
    assert f"is below {prefix}, where a service does not look" in (judge(prefix, hidden=(str(prefix),)) or "")
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        elsewhere = Path(directory).resolve() / "python"
        shutil.copy("/bin/sh", elsewhere)
        (prefix / "bin/python").unlink()
        (prefix / "bin/python").symlink_to(elsewhere)
        reason = judge(prefix, hidden=(str(elsewhere.parent),)) or ""
        assert reason.startswith(f"{elsewhere} by way of {prefix / 'bin/python'} is below {elsewhere.parent}, where")


def test_a_broken_link_is_told(prefix: Path) -> None:
    """As after the interpreter's package has been removed."""
    (prefix / "bin/python").unlink()
    (prefix / "bin/python").symlink_to("/none/python")
    assert judge(prefix) == f"cannot look at {prefix / 'bin/python'}: No such file or directory"


def test_the_way_to_a_file(prefix: Path) -> None:
    """Every directory that it leads through, on both sides of a link."""
    (prefix / "here").mkdir()
    (prefix / "here/link").symlink_to("../lib/./site")
    steps = list(way(str(prefix / "here/link/plugd/x.py")))
    ends = ("here", "lib", "lib/site", "lib/site/plugd", "lib/site/plugd/x.py")
    assert steps[-5:] == [str(prefix / end) for end in ends]
    assert steps[0] == "/"


def test_links_in_a_circle_have_an_end(prefix: Path) -> None:
    """As the kernel has it."""
    (prefix / "a").symlink_to("b")
    (prefix / "b").symlink_to("a")
    with pytest.raises(OSError, match="too many links"):
        list(way(str(prefix / "a")))


def test_this_plugd_is_found() -> None:
    """Its programs are there, and all that belongs to it."""
    program = this_program()
    assert set(program.paths) == {"plugd", "plugctl"}
    assert all(os.access(path, os.X_OK) for path in program.paths.values())
    assert any(path.endswith("/plugd") and os.path.isdir(path) for path in program.own)
