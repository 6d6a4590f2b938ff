"""The page on architecture names every room, in the order that `make lint` keeps."""

from __future__ import annotations

import itertools
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "upweight"
ROW = re.compile(r"^\| (`[^|]*`) \|", re.MULTILINE)
ROOM = re.compile(r"`(\w+)(\.py|/)`")


def rows() -> list[list[tuple[str, str]]]:
    """Rooms of each row of the page's table, as names with what they end in."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    return [ROOM.findall(row) for row in ROW.findall(page)]


def layers() -> list[set[str]]:
    """What the linter is told, from the top of the building down."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (contract,) = settings["tool"]["importlinter"]["contracts"]
    return [set(layer.split(" | ")) for layer in contract["layers"]]


def test_the_table_names_every_room_once() -> None:
    packages = [(each.parent.name, "/") for each in SOURCE.glob("*/__init__.py")]
    modules = [(each.stem, ".py") for each in SOURCE.glob("*.py") if each.name != "__init__.py"]
    assert sorted(room for row in rows() for room in row) == sorted(packages + modules)


def test_a_room_stands_below_those_that_it_may_use() -> None:
    height = {name: number for number, layer in enumerate(layers()) for name in layer}
    order = [(name, height[name]) for row in rows() for name, _ in row]
    above = [(one, other) for one, other in itertools.pairwise(order) if one[1] < other[1]]
    assert not above
