"""A data set of arrays, and how its arrays lie in the cache."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from upweight.datasets.registry import DatasetInfo

Array = npt.NDArray[Any]

_MAP_FROM_BYTES = 1 << 20


@dataclass(frozen=True, eq=False)
class Dataset:
    """Named arrays: ``data.train_images`` is ``data["train_images"]`` is ``data.arrays["train_images"]``.

    Large arrays stay on disk until they are used. Arrays may be written to: changes stay in this process's
    memory and never reach the cache.

    Attributes
    ----------
    info : the data set's entry in the registry
    arrays : by name, with the shapes and dtypes that ``info.arrays`` says
    """

    info: DatasetInfo
    arrays: Mapping[str, Array]

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names: label k means ``classes[k]``."""
        return self.info.classes

    def split(self, name: str) -> tuple[Array, Array]:
        """The images and labels of the ``"train"`` or ``"test"`` split.

        Raises
        ------
        ValueError
            If the data set has no split of this name.
        """
        try:
            return self.arrays[f"{name}_images"], self.arrays[f"{name}_labels"]
        except KeyError:
            message = f"data set {self.info.name!r} has no split {name!r}; it holds {', '.join(self.arrays)}."
            raise ValueError(message) from None

    def __getitem__(self, name: str) -> Array:
        return self.arrays[name]

    def __getattr__(self, name: str) -> Array:
        arrays = self.__dict__.get("arrays", {})  # absent while being unpickled
        if name in arrays:
            array: Array = arrays[name]
            return array
        raise AttributeError(f"this data set has no array {name!r}; it holds {', '.join(arrays)}.")

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self.arrays]

    def __repr__(self) -> str:
        arrays = ", ".join(f"{name} {array.dtype}{list(array.shape)}" for name, array in self.arrays.items())
        return f"Dataset({self.info.name!r}: {arrays})"


def write_arrays(entry: Path, arrays: Mapping[str, Array]) -> None:
    """Write each array to ``entry`` as ``<name>.npy``."""
    for name, array in arrays.items():
        np.save(entry / f"{name}.npy", np.ascontiguousarray(array), allow_pickle=False)


def read_arrays(entry: Path, info: DatasetInfo) -> Dataset:
    """Read the arrays that ``info`` lists; those above 1 MiB are mapped into memory instead of read."""
    return Dataset(info, {spec.name: _read(entry / f"{spec.name}.npy") for spec in info.arrays})


def _read(path: Path) -> Array:
    if path.stat().st_size < _MAP_FROM_BYTES:
        small: Array = np.load(path, allow_pickle=False)
        return small
    # Copy on write, since torch warns about read-only arrays; a plain array on top of the mapping, since
    # subclasses surprise other libraries.
    mapped: Array = np.load(path, mmap_mode="c", allow_pickle=False).view(np.ndarray)
    return mapped
