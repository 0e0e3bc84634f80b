"""lock and verify: write down which plugins run, by their bytes, and see later whether the same do."""

from __future__ import annotations

from plugctl.errors import FAILED, OK, CallError
from plugctl.session import session
from plugctl.text import BOLD, GREEN, Style, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from plugctl.arguments import Call
    from plugctl.output import Output
    from plugd.lockfile import Locked


def write(call: Call, output: Output) -> int:
    """Print the lock of the plugins that are loaded; return FAILED if one of them cannot be locked.

    Raises:
        CallError: the request failed.
    """
    from plugd.lockfile import dump

    with session(call) as client:
        version = client.request("version")["version"]
        rows = client.request("list")
    output.lines([dump(rows, str(version))])
    left_out = [row for row in rows if not row["sha256"]]
    for row in left_out:
        output.complain(f"cannot lock plugin {row['name']!r}: {row.get('last_error') or 'it has no sha256'}")
    return FAILED if left_out else OK


def verify(call: Call, output: Output) -> int:
    """Compare what is loaded with a lock; return FAILED where they differ.

    Raises:
        CallError: the file is no lock, or the request failed.
    """
    locked = _read(call.params["file"])
    with session(call) as client:
        rows = client.request("list")
    found = differences(locked, rows)
    result = {"equal": not found, "plugins": len(locked), "differences": found}
    output.result(result, verdict)
    return FAILED if found else OK


def differences(locked: dict[str, Locked], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return in what they differ: ``{name, what, locked, running}`` each, by name.

    ``what`` is ``missing``, ``extra``, ``sha256``, ``kind``, ``version`` or ``api``. Of a plugin whose bytes are
    others, no more is told. What one side does not say, such as the version of a plugin that could not be started,
    is no difference.
    """
    running = {row["name"]: row for row in rows}
    found = []
    for name in sorted(locked.keys() | running.keys()):
        one, other = locked.get(name), running.get(name)
        if one is None:
            found.append(_difference(name, "extra", None, other["sha256"] if other else None))
        elif other is None:
            found.append(_difference(name, "missing", one.sha256, None))
        elif one.sha256 != other["sha256"]:
            found.append(_difference(name, "sha256", one.sha256, other["sha256"]))
        else:
            for what, wanted in (("kind", one.kind), ("version", one.version), ("api", one.api)):
                if None not in (wanted, other[what]) and wanted != other[what]:
                    found.append(_difference(name, what, wanted, other[what]))
    return found


def verdict(result: dict[str, Any], style: Style) -> list[str]:
    """Draw the differences, a line for each; or that there are none."""
    if result["equal"]:
        count = result["plugins"]
        return [style.paint(f"{count} plugin{'' if count == 1 else 's'} as locked", GREEN)]
    return [f"{style.paint(printable(each['name']), BOLD)}  {printable(_told(each))}" for each in result["differences"]]


def _told(difference: dict[str, Any]) -> str:
    what, locked, running = difference["what"], difference["locked"], difference["running"]
    if what == "missing":
        return "missing: it is locked, and not loaded"
    if what == "extra":
        return "extra: it is loaded, and not locked"
    if what == "sha256" and not running:
        return f"other sha256: {locked} is locked, and what is there may not run (plugctl why tells)"
    return f"other {what}: {running} runs, {locked} is locked"


def _difference(name: str, what: str, locked: Any, running: Any) -> dict[str, Any]:
    return {"name": name, "what": what, "locked": locked, "running": running or None}


def _read(path: str) -> dict[str, Locked]:
    from plugd.lockfile import MAXIMUM_BYTES, LockError, parse

    try:
        with open(path, "rb") as file:
            data = file.read(MAXIMUM_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise CallError("client.usage", f"cannot read the lock {path!r}: {reason.lower()}") from None
    try:
        if len(data) > MAXIMUM_BYTES:
            raise LockError(f"larger than {MAXIMUM_BYTES} bytes")
        return parse(data)
    except LockError as error:
        raise CallError("client.usage", f"cannot verify {path!r}: it is not a lock: {error}") from None
