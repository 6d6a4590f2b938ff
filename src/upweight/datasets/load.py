"""Loading a data set by name, fetching it first where needed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from upweight.datasets import cache, mnist, registry
from upweight.datasets.fetch import ensure
from upweight.datasets.registry import DatasetInfo


class _Reader(Protocol):
    """What the module of each data set provides."""

    def convert(self, archives: Sequence[Path], entry: Path) -> None: ...

    def read(self, entry: Path, info: DatasetInfo) -> Any: ...


_READERS: dict[str, _Reader] = {"mnist": mnist, "fashion-mnist": mnist}


def fetch(name: str, *, progress: bool = True) -> Path:
    """Return the data set's folder in the cache, fetching it first if it is not there."""
    info = registry.info(name)
    return ensure(info, _READERS[name].convert, show=progress)


def is_cached(name: str) -> bool:
    """Whether loading the data set needs no download."""
    return cache.is_complete(cache.entry_path(registry.info(name)))


def load(name: str, *, progress: bool = True) -> Any:
    """Load a data set, fetching it first if it is not in the cache."""
    return _READERS[name].read(fetch(name, progress=progress), registry.info(name))
