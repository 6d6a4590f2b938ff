"""100 queries over 1,000,000 stored rows of 1,000 numbers: ``python -m benchmarks.index.scan DTYPE``, one JSON line.

The rows are random numbers, in a store that is made for the purpose and removed; an index of them is then opened as any
other. Beside its seconds stand those of reading the same bytes and of the bare product. One thread.
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import upweight as uw
from upweight.attribution import Quantity
from upweight.index import codec
from upweight.index.building import CURVATURES, PROJECTOR, curvature_name
from upweight.index.examples import Examples
from upweight.index.projections import Leading, said
from upweight.index.queries import ProjectedQueries
from upweight.index.stored import DESCRIPTION, Description, Part, part_name
from upweight.store.backend import Local
from upweight.store.blocks import Blocks
from upweight.store.tensors import pack

ROWS, NUMBERS, QUERIES, SHARD = 1_000_000, 1000, 100, 16_384
TOP = 10


def made(folder: Path, rows: int, dtype: codec.Dtype) -> uw.index.GradientIndex:
    """An index of random rows."""
    blocks = Blocks(Local(folder))
    generator = torch.Generator().manual_seed(0)
    nothing = torch.zeros(2, 0, dtype=torch.float64)
    numbers = {"scale": torch.ones(NUMBERS), "penalty": torch.full((NUMBERS,), 0.1)}
    checksum = blocks.commit(PROJECTOR, pack({**numbers, "inside": nothing, "outside": nothing})).sha256
    curvature = {"kind": "GGN"}
    assert curvature["kind"] in CURVATURES
    projection, facts = said(Leading(NUMBERS)), {"model": "random rows"}
    description = Description(
        projection, dtype, SHARD, facts, curvature, (NUMBERS,), (), lossless=False, p=10**6, projector=checksum
    )
    blocks.commit(DESCRIPTION, description.sealed())
    part = Part(Examples.given(np.arange(rows), None, rows), "random rows", 0)
    blocks.commit(part_name(0), part.sealed())
    for name, begin, end in part.shards(SHARD):
        drawn = torch.randn(end - begin, NUMBERS, generator=generator)
        content = codec.encode(drawn, (NUMBERS,), dtype, {"weights": torch.ones(end - begin)})
        blocks.commit(name, content, facts={"begin": begin, "end": end})
    blocks.commit(curvature_name(0), pack({"sum": torch.eye(NUMBERS)}))
    return uw.index.open(folder)


def queries(index: uw.index.GradientIndex) -> ProjectedQueries:
    """Random ones."""
    rows = torch.randn(QUERIES, NUMBERS, generator=torch.Generator().manual_seed(1))
    quantity = Quantity("removal", "of random rows", "none", "none")
    return ProjectedQueries(rows, np.arange(QUERIES), quantity, index.description.projector)


def timed(work: Callable[[], Any]) -> dict[str, float]:
    """Process and wall seconds."""
    wall, process = time.perf_counter(), time.process_time()
    work()
    return {"process": time.process_time() - process, "wall": time.perf_counter() - wall}


def read(folder: Path) -> int:
    """Every byte of the rows, by the operating system's reads into memory that is used again."""
    memory, total = bytearray(2**24), 0
    for file in sorted((folder / "blocks").glob("rows-*")):
        with file.open("rb", buffering=0) as stream:
            while got := stream.readinto(memory):
                total += got
    return total


def read_disk(folder: Path) -> int:
    """The same from the disk, past the system's cache."""
    memory, total = mmap.mmap(-1, 2**24), 0
    for file in sorted((folder / "blocks").glob("rows-*")):
        descriptor = os.open(file, os.O_RDONLY | os.O_DIRECT)
        try:
            while got := os.readv(descriptor, [memory]):
                total += got
        finally:
            os.close(descriptor)
    return total


def product(rows: int) -> None:
    """The same products in float32 on numbers that are in the processor's cache."""
    some = torch.randn(2048, NUMBERS)
    asked = torch.randn(QUERIES, NUMBERS)
    for _ in range(rows // 2048):
        asked @ some.T


def best(index: uw.index.GradientIndex, asked: ProjectedQueries) -> Tensor:
    """The first examples of every query."""
    return index.top(asked, TOP, damping=0.1).positions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dtype", choices=("float32", "bfloat16", "int8"))
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--folder", type=Path, help="where the store is made for the time (default: the system's)")
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=given.folder) as made_in:
        folder = Path(made_in) / "index"
        index = made(folder, given.rows, given.dtype)
        asked = queries(index)
        index.damping(0.1)
        found: dict[str, Any] = {"rows": given.rows, "numbers": NUMBERS, "queries": QUERIES}
        found["first"] = timed(lambda: best(index, asked))
        runs = [timed(lambda: best(index, asked)) for _ in range(3)]
        found["later"] = min(runs, key=lambda run: run["process"])
        found["scores"] = timed(lambda: index.scores(asked, damping=0.1))
        found["bytes"] = read(folder)
        found["reading"] = min((timed(lambda: read(folder)) for _ in range(3)), key=lambda run: run["process"])
        with suppress(OSError, AttributeError):  # where a file system knows no such reads
            found["disk"] = timed(lambda: read_disk(folder))
        found["product"] = timed(lambda: product(given.rows))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
