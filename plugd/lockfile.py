"""The lock as a file: which plugins there are, by the bytes that run. Read by plugd and by plugctl, written by plugctl.

Three forms are read: what ``plugctl lock`` writes, what ``plugctl list --json`` prints, and ``{name: sha256}``.
"""

import json
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

MAXIMUM_BYTES = 16 * 1024 * 1024
FORMAT = 1

_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_SHAPE = "expected the output of `plugctl lock` or `plugctl list --json`, or {name: sha256}"


class Locked(NamedTuple):
    """A plugin in a lock; None is what the lock does not say.

    Attributes:
        name: the plugin's.
        kind: how it runs: python, native or command.
        version: its own.
        api: version of the interface that it is written for; of a native plugin, of the ABI.
        sha256: of its file, in lowercase hexadecimal; empty where none was known.
        file: the last part of its file's path, for people.
    """

    name: str
    sha256: str
    kind: str | None = None
    version: str | None = None
    api: int | None = None
    file: str | None = None


class LockError(ValueError):
    """What was read is no lock."""


def parse(data: bytes) -> dict[str, Locked]:
    """Return the plugins of a lock by name, without those that have no hash: these are as good as absent.

    Raises:
        LockError: it is none; the text says why.
    """
    try:
        rows = _rows(json.loads(data))
    except (ValueError, RecursionError) as error:
        raise LockError(str(error) or "nested too deeply") from error
    plugins: dict[str, Locked] = {}
    for row in rows:
        if not row.sha256:
            continue
        if not _SHA256.match(row.sha256):
            raise LockError(f"the sha256 of {row.name!r} is not 64 hexadecimal digits: {row.sha256[:80]!r}")
        if plugins.setdefault(row.name, row).sha256 != row.sha256:
            raise LockError(f"{row.name!r} is in it twice, with two hashes")
    return plugins


def dump(rows: Iterable[Mapping[str, Any]], version: str) -> str:
    """Return the text of a lock: of the same plugins always the same, one to a line.

    Args:
        rows: plugins, as ``list`` has them; those without a hash are left out.
        version: of the plugd that runs them.
    """
    lines = []
    for row in sorted(rows, key=lambda row: str(row["name"])):
        if row["sha256"]:
            plugin = {key: row.get(key) for key in ("name", "kind", "version", "api", "sha256")}
            lines.append(json.dumps({**plugin, "file": os.path.basename(row.get("path") or "")}))
    plugins = ",\n    ".join(lines)
    head = f'{{\n  "lock": {FORMAT},\n  "plugd": {json.dumps(version)},\n  "plugins": ['
    return f"{head}\n    {plugins}\n  ]\n}}" if lines else f"{head}]\n}}"


def _rows(document: Any) -> list[Locked]:
    if isinstance(document, dict) and "lock" in document and not isinstance(document["lock"], str):
        if document["lock"] != FORMAT:
            raise ValueError(f"its format is {document['lock']!r:.20}, and {FORMAT} is the one that is known")
        document = document.get("plugins")
    if isinstance(document, dict):
        return [_locked({"name": name, "sha256": sha256}) for name, sha256 in document.items()]
    if isinstance(document, list):
        return [_locked(row) for row in document]
    raise ValueError(_SHAPE)


def _locked(row: Any) -> Locked:
    if not isinstance(row, dict) or not isinstance(row.get("name"), str):
        raise ValueError(f"{_SHAPE}; got {row!r:.80}")  # noqa: TRY004 - of the document, not the type
    sha256, api = row.get("sha256"), row.get("api")
    if not isinstance(sha256, str | None):
        raise ValueError(f"{_SHAPE}; got {row['name']!r:.80}: {sha256!r:.80}")  # noqa: TRY004 - as above
    return Locked(
        row["name"],
        (sha256 or "").lower(),
        _text(row.get("kind")),
        _text(row.get("version")),
        api if type(api) is int else None,
        _text(row.get("file")),
    )


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
