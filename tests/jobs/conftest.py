"""Processes that others start find the tests' own modules."""

import os
import sys
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def _importable() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PYTHONPATH", os.pathsep.join([os.path.abspath(path) for path in ["tests", *sys.path]]))
        yield
