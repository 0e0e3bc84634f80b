"""Small programs as somebody else would have written them, and tables of the configuration that name them."""

import json
from pathlib import Path
from typing import Any

from harness import Daemon, wait_until


def write_program(path: Path, text: str, interpreter: str = "/bin/sh") -> Path:
    """Put a script in its place, whole, by a rename."""
    new = path.with_name(f".{path.name}.new")
    new.write_text(f"#!{interpreter}\n{text}")
    new.chmod(0o755)
    return new.rename(path)


def table(name: str, **keys: Any) -> str:
    """Return a table of a plugin; it collects ten times a second unless told otherwise."""
    lines = [f"{key} = {_toml(value)}" for key, value in {"interval": 0.1, **keys}.items()]
    return "\n".join([f'[plugins."{name}"]', *lines, ""])


def metrics(running: Daemon, plugin: str) -> dict[tuple[str, ...], float]:
    """Return the latest values of a plugin by metric and labels, each label as "name=value"."""
    return {
        (row["name"], *(f"{name}={value}" for name, value in row["labels"].items())): row["value"]
        for row in running.call("stats", patterns=[plugin])["metrics"]
    }


def wait_failure(running: Daemon, plugin: str, text: str) -> dict[str, Any]:
    """Wait until the last error of a plugin has a text; return its row of ``list``."""

    def failed() -> dict[str, Any] | None:
        row = running.plugin(plugin)
        return row if text in (row["last_error"] or "") else None

    return wait_until(failed, f"{text!r} of {plugin}, not {running.plugin(plugin)['last_error']!r}")


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f'"{key}" = {_toml(each)}' for key, each in value.items()) + " }"
    if isinstance(value, Path):
        value = str(value)
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value, ensure_ascii=False)
