"""Races between a reload and whoever swaps the file: ``python bench/swaps.py [--count N]``; run as root.

A process of its own renames good and evil versions over a plugin's file as fast as it can, overwrites it in place,
and makes it a link, while the daemon reloads and checks the plugin. Evil versions are such as the daemon must refuse:
somebody else's, or writable by everybody. Each good version knows its number, at its beginning and at its end, so that
what runs can be compared with what was hashed.
"""

import argparse
import contextlib
import hashlib
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent / "tests"
sys.path[:1] = [str(TESTS / "faults"), str(TESTS)]  # bench/harness.py is another one

from harness import RpcError  # noqa: E402
from rig import Rig  # noqa: E402

NAME = "target"
GOOD_VERSIONS = 16
SOMEBODY = 12345  # a user who is neither root nor the daemon's
CHECK_EVERY = 10
MARK = "EVIL CODE RAN"
PADDING = "# what makes it longer than one read of a page\n" * 400

SOURCE = '''"""Tells which version runs."""

from collections.abc import Iterable

from plugd.plugin import Plugin, Sample, command

BEGINNING = {number}
{padding}{extra}

class Target(Plugin):
    interval = 3600.0  # seconds

    def collect(self) -> Iterable[Sample]:
        return []

    @command
    def versions(self) -> list[int]:
        """Return the numbers at the beginning and at the end of the file."""
        return [BEGINNING, END]


END = {number}
'''


def source(number: int, extra: str = "") -> bytes:
    """Return a version of the plugin; all have one length."""
    return SOURCE.format(number=f"{number:4}".replace(" ", "1"), padding=PADDING, extra=extra).encode()


GOOD = [source(number) for number in range(GOOD_VERSIONS)]
EVIL = source(6666, f"print({MARK!r})\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000, help="reloads (default: 10000)")
    parser.add_argument("--swap", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.swap:
        swap(options.swap)
    elif os.geteuid():
        sys.exit("swaps.py: needs root, to make files that belong to somebody else")
    else:
        with tempfile.TemporaryDirectory(prefix="ps-") as directory, Rig(Path(directory), ()) as rig:
            print(*race(rig, options.count), sep="\n")


def race(rig: Rig, count: int) -> list[str]:
    """Reload so often; return the lines that tell what ran."""
    known = contents()
    target = rig.install(NAME, GOOD[0].decode())
    rig.client.call("load", names=[NAME])
    outcomes: Counter[str] = Counter()
    evil = torn = unhashed = 0
    with swapping(target) as swapper:
        began = time.monotonic()
        for number in range(count):
            outcomes[attempt(rig, check=number % CHECK_EVERY == 0)] += 1
            digest = rig.row(NAME)["sha256"]
            beginning, end = rig.client.call("call", name=NAME, command="versions")
            evil += 6666 in (beginning, end)
            torn += beginning != end
            unhashed += known.get(digest) != (beginning, end)
        seconds = time.monotonic() - began
        swaps = int(swapper.communicate(b"\n")[0])
    evil += rig.daemon.log.count(MARK)
    return [
        f"{count:,} reloads and checks in {seconds:.0f} s, against {swaps:,} swaps",
        *(f"  {times:6,} {outcome}" for outcome, times in outcomes.most_common()),
        f"evil code ran: {evil} times; what ran was not what was hashed: {unhashed} (aim: 0)",
        f"half-written files, of two good versions, that were hashed and ran: {torn}",
        *(f"logged: …{line[-300:]}" for line in rig.daemon.log.splitlines() if '"level": "error"' in line),
    ]


def contents() -> dict[str, tuple[int, int]]:
    """Return the numbers at the beginning and at the end of all that may be in the file, by its hash.

    Half-written files are among them: :func:`overwrite` leaves one for a moment, which nobody can tell from a whole
    one. It is no attack, since only who is trusted can write there.
    """
    half = len(GOOD[0]) // 2
    numbers = [int(data.split(b"BEGINNING = ")[1][:4]) for data in GOOD]
    return {
        hashlib.sha256(new[:half] + old[half:]).hexdigest(): (beginning, end)
        for new, beginning in zip(GOOD, numbers, strict=True)
        for old, end in zip(GOOD, numbers, strict=True)
    }


def attempt(rig: Rig, *, check: bool) -> str:
    """Reload or check once; return what came of it, in short."""
    try:
        if check:
            report = rig.client.call("check", name=NAME)
            reason = "" if report["ok"] else report["faults"][0]["message"]
            done = "checked"
        else:
            answer = rig.client.call("reload", names=[NAME])
            reason = answer["failed"][0]["error"]["message"] if answer["failed"] else ""
            done = "reloaded"
    except RpcError as error:
        return f"refused: {error.message}"
    if not reason:
        return done
    for known in ("can be written by everybody", "belongs to user", "symbolic link", "changed while it was read"):
        if known in reason:
            return f"refused: {known}"
    return f"refused: {reason[-150:]}"


@contextlib.contextmanager
def swapping(target: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run the process that swaps; a line on its stdin ends it, and it prints how often it did."""
    command = [sys.executable, __file__, "--swap", str(target)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def swap(target: Path) -> None:
    """Swap until there is something on stdin."""
    os.set_blocking(0, False)
    chance = random.Random(1)
    elsewhere = target.parent.parent / "evil.py"
    elsewhere.write_bytes(EVIL)
    fresh = target.parent / ".new"
    count = 0
    while True:
        with contextlib.suppress(BlockingIOError):
            os.read(0, 1)
            break
        how = chance.choice(("good", "good", "good", "foreign", "writable", "link", "overwrite", "flip"))
        if how == "overwrite":
            overwrite(target, chance.choice(GOOD), chance.choice((0, 0.001)))
        elif how == "flip":
            flip(target, chance.choice(GOOD))
        else:
            if how == "link":
                fresh.symlink_to(elsewhere)
            else:
                fresh.write_bytes(chance.choice(GOOD) if how == "good" else EVIL)
                if how == "foreign":
                    os.chown(fresh, SOMEBODY, SOMEBODY)
                fresh.chmod(0o666 if how == "writable" else 0o644)
            fresh.rename(target)
        count += 1
        time.sleep(chance.choice((0, 0, 0.0002, 0.002)))
    print(count)


def overwrite(target: Path, data: bytes, pause: float) -> None:
    """Write another version into the same file, in two halves, as a careless editor does."""
    if target.is_symlink() or target.stat().st_uid or target.stat().st_mode & 0o022:
        return
    with target.open("r+b", buffering=0) as file:
        file.write(data[: len(data) // 2])
        time.sleep(pause)
        file.write(data[len(data) // 2 :])


def flip(target: Path, data: bytes) -> None:
    """A file of somebody else's that is evil, becomes root's, and good, and its own again: all in one inode."""
    fresh = target.parent / ".flip"
    fresh.write_bytes(EVIL.ljust(len(data), b"\n")[: len(data)] if len(EVIL) < len(data) else EVIL)
    os.chown(fresh, SOMEBODY, SOMEBODY)
    fresh.rename(target)
    with target.open("r+b", buffering=0) as file:
        file.write(data)
        file.truncate(len(data))
    os.chown(target, 0, 0)


if __name__ == "__main__":
    main()
