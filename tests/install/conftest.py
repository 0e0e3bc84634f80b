"""An image for every test that wants one."""

from pathlib import Path

import pytest
from install_rig import Image


@pytest.fixture
def image(tmp_path: Path) -> Image:
    return Image(tmp_path / "image")
