"""Fixtures of the shipped plugins' tests: a plugin's instance, as a worker makes it, and its samples' values."""

from collections.abc import Callable
from typing import Any

import pytest
from shipped import import_plugin, plugin_class


@pytest.fixture
def make() -> Callable[..., Any]:
    """Return a function that makes and starts a plugin with the given options."""

    def make(name: str, **options: Any) -> Any:
        cls = plugin_class(import_plugin(name))
        plugin = cls.__new__(cls)
        plugin.name = name
        plugin.options = cls.Options() if hasattr(cls, "Options") else None
        for option, value in options.items():
            assert hasattr(plugin.options, option)
            setattr(plugin.options, option, value)
        plugin.inputs = {}
        plugin.__init__()
        plugin.start()
        return plugin

    return make


@pytest.fixture
def values() -> Callable[..., dict[tuple[str, ...], float]]:
    """Return a function from a plugin's samples to the values of one metric by its labels' values, as text."""

    def values(samples: Any, metric: Any) -> dict[tuple[str, ...], float]:
        return {tuple(map(str, each.labels)): each.value for each in samples if each.metric is metric}

    return values
