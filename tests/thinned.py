"""Test functions of many costly cases, of which the ordinary run tries every k-th: ``name k`` a line of `thinned.txt`.

The others are marked ``exhaustive`` by `conftest.py`, and ``make test-all`` runs them too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

LIST = Path(__file__).with_suffix(".txt")

Named = TypeVar("Named")


def listed() -> dict[str, int]:
    """Every how many-th case is tried, by ``tests/room/test_file.py::test_function``."""
    lines = (line.split() for line in LIST.read_text(encoding="utf-8").splitlines())
    return {name: int(every) for name, every in lines}


def left_to_the_exhaustive_run(cases: Iterable[tuple[str, Named]], every: dict[str, int]) -> Iterator[Named]:
    """Those of ``(function, case)`` that are neither the first, nor the k-th after it, and so on."""
    seen: Counter[str] = Counter()
    for function, case in cases:
        if function in every:
            if seen[function] % every[function]:
                yield case
            seen[function] += 1
