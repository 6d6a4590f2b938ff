"""Projected queries: with the model once, and from then on without it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from upweight.attribution import Quantity
from upweight.errors import InputError
from upweight.gradients.denormals import flushed
from upweight.index.examples import Examples
from upweight.index.fitted import Fitted
from upweight.measurements import Measurement
from upweight.objective import Objective
from upweight.quantities import meanings
from upweight.quantities.queries import (
    check_measurement,
    check_query_targets,
    numbers,
    query_names,
    refuse_infinite,
)
from upweight.store.blocks import Blocks
from upweight.store.tensors import pack, unpack


@dataclass(frozen=True, eq=False)
class ProjectedQueries:
    """Gradients of the queries' measurement as rows of an index.

    Attributes
    ----------
    rows
        ``[queries, k]``.
    ids
        Names of the queries.
    quantity
        What a score will be.
    projector
        Checksum of the numbers by which they were made: only an index that has the same can score them.
    """

    rows: Float[Tensor, "queries k"]
    ids: np.ndarray
    quantity: Quantity
    projector: str

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        return f"ProjectedQueries({len(self.rows):,} queries of {self.rows.shape[1]:,} numbers, {self.quantity.name})"

    def commit(self, blocks: Blocks, name: str) -> None:
        """Put them into a store under a name."""
        said = {"quantity": asdict(self.quantity), "projector": self.projector}
        names = Examples.given(self.ids, None, len(self.ids)).said()["ids"]
        blocks.commit(f"queries-{name}", pack({"rows": self.rows}, {**said, "ids": names}))

    @classmethod
    def read(cls, blocks: Blocks, name: str) -> ProjectedQueries:
        """From a store.

        Raises
        ------
        InputError
            If there are none of this name, or they are damaged.
        """
        there = [each.removeprefix("queries-") for each in blocks.marks("queries-")]
        if name not in there:
            raise InputError(
                f"queries: {blocks.backend} has none called {name!r}; it has {', '.join(map(repr, there)) or 'none'}"
            )
        held, said = unpack(blocks.content(f"queries-{name}"), f"block queries-{name}")
        try:
            ids = Examples.read({"ids": said["ids"], "columns": {}}).ids
            return cls(held["rows"], ids, Quantity(**said["quantity"]), said["projector"])
        except (KeyError, TypeError, json.JSONDecodeError) as error:
            raise InputError(f"queries: block queries-{name} holds no queries ({error})") from error


def projected(
    objective: Objective, fitted: Fitted, checksum: str, queries: Any, measurement: Measurement, query_ids: Any
) -> ProjectedQueries:
    """Rows of the queries' gradients, made as those of training examples are."""
    data = objective.queries(queries)
    names = query_names(data, query_ids)
    check_measurement(objective, data, measurement)
    check_query_targets(objective, data, measurement)
    function = objective.engine.bind(measurement.bind(objective.loss))
    rows = min(objective.engine.block_rows(numbers(objective, function, data)), objective.engine.pass_rows)
    with flushed():
        parts = [fitted.of(function.each(objective.params, batch)).cpu() for _, batch in data.batches(None, rows)]
    found = torch.cat(parts)
    refuse_infinite(found)
    return ProjectedQueries(found, names, meanings.removal(measurement, objective.loss), checksum)
