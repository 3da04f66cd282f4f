"""Published networks and properties, where they are at hand."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data():
    """Tiny files that are part of the project."""
    return Path(__file__).parent / "data"


@pytest.fixture(scope="session")
def acasxu():
    """The folder of ACAS Xu and MNIST files of VNN-COMP 2021, which are not part of the project."""
    named = os.environ.get("ACTIVJAX_VERIFY_DATA")
    folder = Path(named) if named else Path(__file__).parents[3] / "shared" / "acasxu"
    if not (folder / "prop_1.vnnlib").is_file():
        pytest.skip(f"no published files in {folder}: set ACTIVJAX_VERIFY_DATA to their folder")
    return folder
