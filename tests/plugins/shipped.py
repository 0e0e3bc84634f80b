"""Where the shipped plugins are, and how their files are run in a test."""

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

DIRECTORY = Path(__file__).parents[2] / "plugins"


def import_plugin(name: str) -> ModuleType:
    """Run a shipped plugin's file under a name of its own: there is a package "plugd" as well."""
    spec = importlib.util.spec_from_file_location(f"shipped_{name}", DIRECTORY / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def plugin_class(module: ModuleType) -> type[Any]:
    """Return the class that the file's name calls for."""
    return getattr(module, module.__name__.removeprefix("shipped_").title().replace("_", ""))
