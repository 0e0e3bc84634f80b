"""Fixtures of the worker's tests."""

from collections.abc import Iterator

import pytest
from worker_harness import Loader, loader


@pytest.fixture
def load() -> Iterator[Loader]:
    """Call it with a plugin's source to have it loaded: see worker_harness.Loader."""
    with loader() as started:
        yield started
