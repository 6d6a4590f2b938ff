"""A store that every test may read, and one of its own to decide in."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import explored
from upweight.explore import Contents


@pytest.fixture(scope="session")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that nobody writes to."""
    return explored.store(tmp_path_factory.mktemp("store") / "shown")


@pytest.fixture
def place(shown: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(shown, tmp_path / "own"))


@pytest.fixture
def contents(place: Path) -> Contents:
    return Contents(place)
