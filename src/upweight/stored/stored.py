"""Scores in a store, without the model: what is asked for is read, and no more of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from upweight import scalars
from upweight.attribution import Attribution, Magnitude, Quantity, Ranking
from upweight.errors import InputError
from upweight.linalg.extremes import extremes
from upweight.optional import imported
from upweight.places import place
from upweight.solve_report import SolveReport
from upweight.store.array import ScoreArray
from upweight.store.backend import Backend, Local, backend
from upweight.store.blocks import Blocks, damaged
from upweight.store.columns import Column
from upweight.store.description import described, result
from upweight.store.tensors import unpack
from upweight.stored.names import EXTREMES, PASSING, SCORES, progress
from upweight.stored.scores import Scores

if TYPE_CHECKING:
    import pandas as pd

READ = 2**26
"""Bytes of scores that are read at a time."""


@dataclass(frozen=True, eq=False)
class Stored:
    """Scores of training examples (columns) for queries (rows) in a store.

    Attributes
    ----------
    backend
        Where it is.
    said
        Its description.
    outcome
        What the finished job said of its result.
    """

    backend: Backend
    said: dict[str, Any]
    outcome: dict[str, Any]

    @classmethod
    def open(cls, store: str | os.PathLike[str] | Backend) -> Stored:
        """Open what a job made; nothing of the scores is read yet, and no code is run.

        Raises
        ------
        InputError
            If it is no store, the job hasn't ended (with how far it is), or its description was altered.
        """
        place = backend(store)
        said = described(place)
        assert said is not None
        if "array" not in said:
            raise InputError(f"store: {place} holds {said['kind']}, and no scores")
        outcome = result(place)
        if outcome is None:
            done, total = progress(place, said)
            raise InputError(
                f"store: the job in {place} is at {done:,} of {total:,} shards; run it again to go on with it"
            )
        return cls(place, said, outcome)

    @property
    def quantity(self) -> Quantity:
        """What a score is, its unit and sign."""
        return Quantity(**self.outcome["quantity"])

    @property
    def damping(self) -> float | None:
        """The absolute δ of (H+δI)⁻¹."""
        return None if self.outcome["damping"] is None else float(self.outcome["damping"])

    @property
    def report(self) -> SolveReport | str | None:
        """What the solver did, or was said of it in words; None of scores that came without a word of it."""
        said = self.outcome["solve"]
        return (self.outcome["report"] or None) if said is None else SolveReport.from_dict(said)

    @property
    def facts(self) -> dict[str, float]:
        """Figures that belong to the result (n, p, ‖∇R‖ …)."""
        return dict(self.outcome["facts"])

    @property
    def magnitude(self) -> Magnitude:
        """Whether the sizes of the scores can be believed."""
        return Magnitude(**self.outcome["magnitude"])

    @property
    def shape(self) -> tuple[int, ...]:
        """``(queries, train)``, or ``(train,)``."""
        array = self._array
        return (array.examples,) if array.queries is None else (array.queries, array.examples)

    @property
    def top_k(self) -> int | None:
        """How many largest and smallest scores of a query were kept; None: all."""
        return self.said["top_k"]

    @property
    def ids(self) -> Column:
        """Names of the training examples, read where they are asked for: ``ids[3]``, ``ids[10:20]``."""
        return Column(self._blocks, self.said["ids"])

    @cached_property
    def query_ids(self) -> np.ndarray:
        """Names of the queries."""
        return Column(self._blocks, self.said["query_ids"]).all()

    @property
    def columns(self) -> dict[str, Column]:
        """The user's columns of the training examples, by name."""
        return {name: Column(self._blocks, said) for name, said in self.said["columns"].items()}

    @property
    def scores(self) -> Scores:
        """The scores, read where they are asked for: ``scores[query, 10:20]``, ``scores[:, 5]``.

        Raises
        ------
        InputError
            If only the largest and smallest were kept.
        """
        if self.top_k is not None:
            raise InputError(
                f"scores: {self.backend} keeps the {self.top_k} largest and smallest of each query (top_k); take top "
                "and bottom, or do the job without top_k"
            )
        return Scores(self)

    def top(self, k: int = 5, queries: Any = None) -> Ranking:
        """The k most helpful training examples of each query (largest scores where the sign says nothing).

        Parameters
        ----------
        queries
            Positions or ids of some of them (default: all).

        Raises
        ------
        InputError
            If k is above what was kept.
        """
        return self._ranking(k, queries, helpful=True)

    def bottom(self, k: int = 5, queries: Any = None) -> Ranking:
        """The k most harmful training examples of each query (smallest scores where the sign says nothing)."""
        return self._ranking(k, queries, helpful=False)

    def _ranking(self, k: int, queries: Any, *, helpful: bool) -> Ranking:
        quantity, rows = self.quantity, self._rows(queries)
        k = min(scalars.whole("k", k), self.shape[-1])
        largest = helpful == (quantity.helpful_sign >= 0)
        if self.top_k is not None:
            scores, order = self._kept(k, rows, "largest" if largest else "smallest")
        else:
            scores, order = self._sorted(k, rows, largest)
        kind = "most helpful" if helpful else "most harmful"
        if quantity.helpful_sign == 0:
            kind = "largest" if largest else "smallest"
        names = np.array(["-"]) if len(self.shape) == 1 else self.query_ids[rows]
        title = f"{kind}, {quantity.name} [{quantity.unit}]"
        return Ranking(title, order, scores, self.ids[order.numpy()], names, self.shape[-1])

    def _kept(self, k: int, rows: np.ndarray, name: str) -> tuple[Tensor, Tensor]:
        assert self.top_k is not None
        if k > self.top_k:
            raise InputError(f"k: {k} of each query are asked for, and {self.top_k} were kept (top_k); give less")
        tensors = self._extremes
        return tensors[name][rows, :k], tensors[f"{name}_at"][rows, :k]

    @cached_property
    def _extremes(self) -> dict[str, Tensor]:
        tensors, _ = unpack(self._blocks.content(EXTREMES), str(self.backend))
        return tensors

    def _sorted(self, k: int, rows: np.ndarray, largest: bool) -> tuple[Tensor, Tensor]:
        scores, order = [], []
        for some in self._pieces(rows):
            found = extremes(some, 0, k, descending=largest)  # equal scores rank by position on every machine
            scores.append(found.values)
            order.append(found.places)
        return torch.cat(scores), torch.cat(order)

    def _pieces(self, rows: np.ndarray) -> Iterator[Float[Tensor, "some train"]]:
        """Whole rows, a few at a time."""
        if len(self.shape) == 1:
            yield torch.from_numpy(self.scores.read(slice(None)))[None]
            return
        count = max(READ // (self.shape[1] * np.dtype(self._array.dtype).itemsize), 1)
        for start in range(0, len(rows), count):
            yield torch.from_numpy(self.scores.read(rows[start : start + count], slice(None)))

    def _rows(self, queries: Any) -> np.ndarray:
        """Positions of queries."""
        if len(self.shape) == 1:
            return np.array([0])
        count = self.shape[0]
        if queries is None:
            return np.arange(count)
        given = np.atleast_1d(np.asarray(queries))
        if given.dtype.kind in "iu":
            bad = given[(given < 0) | (given >= count)]
            if len(bad):
                raise InputError(f"queries: {bad[0]} is none of the positions 0 to {count - 1}")
            return given
        places = {name: place for place, name in enumerate(self.query_ids.tolist())}
        unknown = [name for name in given.tolist() if name not in places]
        if unknown:
            raise InputError(f"queries: {unknown[0]!r} is no query of {self.backend}; give positions or ids")
        return np.array([places[name] for name in given.tolist()], dtype=np.int64)

    def attribution(self, queries: Any = None) -> Attribution:
        """The scores in memory, of all queries or of some."""
        rows = self._rows(queries)
        scores = torch.cat(list(self._pieces(rows)))
        single = len(self.shape) == 1
        names = np.array([]) if single else self.query_ids[rows]
        found = scores[0] if single else scores
        return Attribution(
            found, self.quantity, self.ids.all(), names, self.damping, self.report, self.facts, self.magnitude
        )

    def to_pandas(self, k: int | None = None, queries: Any = None) -> pd.DataFrame:
        """One row for each query and training example: of all scores, or of the k most helpful and most harmful.

        With the examples' ids, positions, scores and the user's columns; where ``k`` is given also their rank, 1 and on
        for the most helpful, −1 and on for the most harmful.
        """
        with imported("tables", "Stored.to_pandas"):
            import pandas as pd
        return pd.concat(list(self.frames(k, queries)), ignore_index=True)

    def to_csv(self, path: str | os.PathLike[str], k: int | None = None, queries: Any = None) -> Path:
        """`to_pandas` as a file, a few queries in memory at a time."""
        from upweight import files

        def fill(stream: Any) -> None:
            for number, frame in enumerate(self.frames(k, queries)):
                stream.write(frame.to_csv(index=False, header=number == 0).encode())

        return files.write(self._outside(path), fill)

    def to_parquet(self, path: str | os.PathLike[str], k: int | None = None, queries: Any = None) -> Path:
        """`to_pandas` as a Parquet file, a few queries in memory at a time."""
        with imported("parquet", "Stored.to_parquet"):
            import pyarrow
            import pyarrow.parquet
        from upweight import files

        def fill(stream: Any) -> None:
            writer = None
            for frame in self.frames(k, queries):
                table = pyarrow.Table.from_pandas(frame, preserve_index=False)
                writer = writer or pyarrow.parquet.ParquetWriter(stream, table.schema)
                writer.write_table(table)
            if writer is not None:
                writer.close()

        return files.write(self._outside(path), fill)

    def to_numpy(self, path: str | os.PathLike[str], queries: Any = None) -> Path:
        """The scores as a ``.npy`` file, a few queries in memory at a time; it can be opened with ``mmap_mode``."""
        from numpy.lib import format as npy

        from upweight import files

        rows = self._rows(queries)
        shape = self.shape if len(self.shape) == 1 else (len(rows), self.shape[1])
        _ = self.scores

        def fill(stream: Any) -> None:
            header = {"descr": np.dtype(self._array.dtype).str, "fortran_order": False, "shape": shape}
            npy.write_array_header_2_0(stream, header)
            for some in self._pieces(rows):
                stream.write(some.numpy().tobytes())

        return files.write(self._outside(path), fill)

    def to_safetensors(self, path: str | os.PathLike[str]) -> Path:
        """The scores ``scores``, or the largest and smallest with their positions, as a safetensors file."""
        from safetensors.torch import save

        from upweight import files

        held = self._extremes if self.top_k is not None else {"scores": self.attribution().scores.contiguous()}
        words = {"quantity": str(self.quantity), "damping": str(self.damping)}
        return files.write(self._outside(path), save(held, words))

    def frames(self, k: int | None = None, queries: Any = None) -> Iterator[pd.DataFrame]:
        """`to_pandas` in parts, a few queries each."""
        with imported("tables", "Stored.frames"):
            import pandas as pd

        k = self.top_k if k is None else k
        rows, single = self._rows(queries), len(self.shape) == 1
        examples = self.shape[-1] if k is None else 2 * min(k, self.shape[-1])
        for some in np.array_split(rows, max(-(-len(rows) * examples // 2**20), 1)):
            if k is None:
                scores = torch.cat(list(self._pieces(some)))
                at = torch.arange(examples).expand(len(some), examples)
                ranks = None
            else:
                both = self.top(k, some), self.bottom(k, some)
                scores = torch.cat([each.scores for each in both], dim=1)
                at = torch.cat([each.positions for each in both], dim=1)
                counted = torch.arange(1, both[0].scores.shape[1] + 1)
                ranks = torch.cat([counted, -counted]).repeat(len(some))
            places = at.reshape(-1).numpy()
            frame = {} if single else {"query": np.repeat(self.query_ids[some], at.shape[1])}
            frame |= {} if ranks is None else {"rank": ranks.numpy()}
            frame |= {"id": self.ids[places], "position": places, "score": scores.reshape(-1).numpy()}
            frame |= {name: column[places] for name, column in self.columns.items()}
            yield pd.DataFrame(frame)

    def _outside(self, path: str | os.PathLike[str]) -> Path:
        """A place for a file, which is none of the store's own."""
        file = place("path", path)
        if isinstance(self.backend, Local) and file.resolve().is_relative_to(self.backend.path.resolve()):
            raise InputError(f"path: {file} lies in the store {self.backend}; choose another place")
        return file

    @property
    def _blocks(self) -> Blocks:
        return Blocks(self.backend)

    @property
    def _array(self) -> ScoreArray:
        return ScoreArray(**self.said["array"])

    @cached_property
    def _opened(self) -> Any:
        """The zarr array, every block of which is committed and has its size."""
        array = self._array
        marks = self._blocks.marks(f"{SCORES}-")
        for number in range(array.shards):
            name = f"{SCORES}-{number:06d}"
            mark = marks.get(name)
            size = self.backend.size(array.key(number))
            if mark is None or size != mark.size:
                fault = "is not committed" if mark is None else f"has {size} bytes instead of {mark.size}"
                raise InputError(
                    f"store: {array.key(number)} in {self.backend} (block {name}) {fault}; run the job again, which "
                    "does this block anew, or bring back a copy"
                )
        return array.opened(self.backend)

    def verify(self) -> None:
        """Read every block and compare it with its checksum.

        Raises
        ------
        InputError
            Names the first that is damaged.
        """
        for name, mark in self._blocks.marks().items():
            if name.startswith(PASSING):  # of a worker whose driver is gone: no part of the result
                continue
            fault = self._blocks.fault(name)
            if fault is not None:
                raise damaged(self.backend, name, mark, fault)
        if self.top_k is None:
            _ = self._opened

    def __repr__(self) -> str:
        shape = " × ".join(f"{size:,}" for size in self.shape)
        kept = "" if self.top_k is None else f", the {self.top_k} largest and smallest kept"
        lines = [f"Stored [{shape}]{kept} in {self.backend}", f"  {self.quantity.name}: {self.quantity.words}"]
        lines.append(f"  unit: {self.quantity.unit}; positive: {self.quantity.positive}")
        lines.append(f"  sizes: {self.magnitude}")
        lines.append(f"  solver: {self.outcome['report']}")
        return "\n".join(lines)
