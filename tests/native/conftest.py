"""Fixtures of the tests of native plugins."""

import pytest
from native_rig import Compiler


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Compiler:
    """Call it with a source to have it compiled: see native_rig.Compiler."""
    return Compiler(tmp_path_factory.mktemp("native"))
