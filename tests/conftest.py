"""Fixtures for every test: the anyio backend, and the check that nothing is left behind."""

import pytest


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
