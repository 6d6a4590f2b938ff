"""How a job would be divided, and the bytes that it would take on disk and in each worker."""

from __future__ import annotations

from upweight.jobs.parts import AT_ONCE
from upweight.jobs.shards import usual_width
from upweight.objective import Objective
from upweight.planning.plan import Shards

PLACE = 8
"""Bytes of a position, and of a number in float64."""
COPIES = 3
"""Of a shard's scores: as they are made, and encoded."""


def shards(
    objective: Objective, queries: int | None, examples: int, *, top_k: int | None, size: int | None, workers: int
) -> Shards:
    """The shards of scores of so many training examples; ``queries``: None where every example is its own."""
    each = objective.engine.bytes(queries or 1)
    rows = objective.engine.pass_rows
    width = min(size or usual_width(examples, each, rows, workers, dense=top_k is None), examples)
    count = -(-examples // width)
    extremes = 0 if top_k is None else 2 * (queries or 1) * min(top_k, examples) * (objective.dtype.itemsize + PLACE)
    part = extremes + objective.p * PLACE + width * PLACE
    dense = count * width * each
    disk = dense if top_k is None else extremes
    most = (dense if top_k is None else 0) + 2 * part + examples * PLACE + (AT_ONCE + workers) * part
    return Shards(count, width, workers, COPIES * width * each, disk, most)
