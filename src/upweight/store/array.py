"""Scores as one zarr array of which every job's shard is one zarr shard: no two writers share a file.

Within a shard, a few queries at a time are a chunk of their own with a checksum, so that a query is read without the
others, and never in altered form.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from upweight.store.backend import Backend, Memory

if TYPE_CHECKING:
    import zarr

CHUNK = 2**17
"""Bytes of a chunk, about: what is read for one query of one shard."""


@dataclass(frozen=True)
class ScoreArray:
    """Scores ``[queries, train]``, or ``[train]``, cut along the training examples.

    Attributes
    ----------
    name
        Of the array in its store.
    queries
        Rows; None where there is one number for every example.
    examples, width
        Columns, and those of a shard.
    dtype
        NumPy's name of the numbers.
    """

    name: str
    queries: int | None
    examples: int
    width: int
    dtype: str

    @property
    def shards(self) -> int:
        """How many there are."""
        return -(-self.examples // self.width)

    def key(self, number: int) -> str:
        """Where a shard's bytes are."""
        return f"{self.name}/c/{number}" if self.queries is None else f"{self.name}/c/0/{number}"

    @cached_property
    def _rows(self) -> int:
        """Queries of a chunk."""
        queries = self.queries
        assert queries is not None
        about = max(CHUNK // (self.width * np.dtype(self.dtype).itemsize), 1)
        fit = range(max(about // 2, 1), 2 * about + 1)
        return min(queries, min(fit, key=lambda rows: (-queries % rows, -rows)))  # that least is padded

    def _made(self, memory: Memory, examples: int) -> Any:
        import zarr
        from zarr.codecs import Crc32cCodec

        checked: Any = {"compressors": [Crc32cCodec()], "filters": None}
        store = memory.arrays(read_only=False)
        common = {"name": self.name, "dtype": self.dtype, "fill_value": np.nan, **checked}
        if self.queries is None:
            array = zarr.create_array(store, shape=(examples,), chunks=(self.width,), **common)
        else:
            shard = -(-self.queries // self._rows) * self._rows, self.width
            shape = self.queries, examples
            array = zarr.create_array(store, shape=shape, shards=shard, chunks=(self._rows, self.width), **common)
        return store, array

    def description(self) -> tuple[str, bytes]:
        """Key and content of the array's own description."""
        store, _ = self._made(Memory(), self.examples)
        key = f"{self.name}/zarr.json"
        return key, store._store_dict[key].to_bytes()

    def is_described(self, backend: Backend) -> bool:
        """Whether that is there, and whole."""
        content = backend.read(f"{self.name}/zarr.json")
        try:
            return content is not None and isinstance(json.loads(content), dict)
        except ValueError:
            return False

    def encoded(self, scores: Float[np.ndarray, "*queries width"]) -> bytes:
        """The bytes of a shard, the same wherever it stands."""
        store, array = self._made(Memory(), self.width)
        array[..., : scores.shape[-1]] = scores
        return store._store_dict[self.key(0)].to_bytes()

    def opened(self, backend: Backend) -> zarr.Array[Any]:
        """The array, to be read lazily."""
        import zarr

        found = zarr.open_array(backend.arrays(), path=self.name, mode="r")
        assert isinstance(found, zarr.Array)
        return found
