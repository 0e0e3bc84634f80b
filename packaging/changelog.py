"""Turn CHANGELOG.md into a Debian changelog: ``changelog.py VERSION RELEASE MAINTAINER <CHANGELOG.md >changelog``.

What is not released yet, and what was released as this version, is the first entry; its time is SOURCE_DATE_EPOCH.
Releases before it follow, each with the date in its heading: ``## 0.1.0 - 2026-11-20``. deb-changelog(5).
"""

import os
import re
import sys
import textwrap
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import NamedTuple

_HEADING = re.compile(r"^## \[?(?P<version>[^]\s]+)\]?(?:\D+(?P<date>\d{4}-\d{2}-\d{2}))?", re.MULTILINE)
_ITEM = re.compile(r"^- (.*(?:\n  .*)*)", re.MULTILINE)


class Section(NamedTuple):
    """One heading of CHANGELOG.md with what stands below it."""

    version: str
    date: str | None
    items: tuple[str, ...]


def sections(changelog: str) -> list[Section]:
    """Return the sections of CHANGELOG.md, in its order."""
    headings = list(_HEADING.finditer(changelog))
    starts = [heading.start() for heading in headings] + [len(changelog)]
    return [
        Section(
            heading["version"],
            heading["date"],
            tuple(" ".join(item.split()) for item in _ITEM.findall(changelog[heading.end() : end])),
        )
        for heading, end in zip(headings, starts[1:], strict=True)
    ]


def debian_changelog(changelog: str, version: str, release: str, maintainer: str, time: int) -> str:
    """Return the Debian changelog.

    Args:
        changelog: CHANGELOG.md.
        version: the package's, such as ``0.1.0-1~bookworm``.
        release: the code name of the Debian release.
        maintainer: with an address in angle brackets.
        time: of the first entry, in Unix seconds.

    Raises:
        ValueError: the date of a heading is none.
    """
    upstream, _, revision = version.rpartition("-")
    found = sections(changelog)
    own = ("Unreleased", upstream)
    items = [item for section in found if section.version in own for item in section.items]
    entries = [_entry(version, release, maintainer, items, datetime.fromtimestamp(time, UTC))]
    entries += [
        _entry(f"{each.version}-{revision}", release, maintainer, each.items, _day(each.date))
        for each in found
        if each.version not in own and each.date is not None
    ]
    return "\n".join(entries)


def _entry(version: str, release: str, maintainer: str, items: list[str] | tuple[str, ...], time: datetime) -> str:
    lines = [
        textwrap.fill(item, 78, initial_indent="  * ", subsequent_indent="    ", break_on_hyphens=False)
        for item in items or ["No changes that users notice."]
    ]
    text = "\n".join(lines).replace("`", "")
    return f"plugd ({version}) {release}; urgency=medium\n\n{text}\n\n -- {maintainer}  {format_datetime(time)}\n"


def _day(date: str) -> datetime:
    return datetime.fromisoformat(date).replace(tzinfo=UTC)


if __name__ == "__main__":
    _, version, release, maintainer = sys.argv
    time = int(os.environ["SOURCE_DATE_EPOCH"])
    sys.stdout.write(debian_changelog(sys.stdin.read(), version, release, maintainer, time))
