"""Queries read for an attribution: their names, and the gradients of what is measured, in blocks that fit memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from upweight.data import Data
from upweight.measurements import Measurement
from upweight.messages import InputError
from upweight.objective import Objective

QUERY_ELEMENTS = 2**27
"""Numbers in a block of query gradients (512 MiB in float32); each block costs a pass over the training data."""


def query_names(data: Data, query_ids: Sequence[Any] | None) -> np.ndarray:
    """The names given, one per query, or positions."""
    names = np.arange(len(data)) if query_ids is None else np.asarray(query_ids)
    if names.shape != (len(data),):
        raise InputError(f"query_ids: need {len(data)}, one per query; got shape {names.shape}")
    return names


def check_query_targets(objective: Objective, data: Data, measurement: Measurement) -> None:
    """Refuse queries whose targets the loss isn't defined for, where the measurement reads them."""
    if measurement.reads_targets:
        for _, batch in data.batches(None, objective.batch_size):
            objective.check_targets(batch)


def query_gradient_blocks(
    objective: Objective, data: Data, measurement: Measurement
) -> Iterator[Float[Tensor, "block p"]]:
    """Gradients of the queries' measurement, without the regulariser, in order.

    Raises
    ------
    InputError
        If a gradient isn't finite.
    """
    function = objective.bind(measurement.bind(objective.loss))
    rows = objective.block_rows(objective.p)
    for block in torch.arange(len(data)).split(max(QUERY_ELEMENTS // objective.p, 1)):
        parts = [function.materialize(objective.params, batch) for _, batch in data.batches(block, rows)]
        gradients = torch.cat(parts)
        refuse_infinite(gradients, int(block[0]))
        yield gradients


def refuse_infinite(gradients: Float[Tensor, "block width"], first: int = 0) -> None:
    """Refuse query gradients that aren't finite; ``first`` is the position of the first row."""
    finite = torch.isfinite(gradients).all(1)
    if not finite.all():
        bad = first + int((~finite).nonzero()[0, 0])
        raise InputError(f"queries: the gradient of query {bad} is NaN or infinite; check its input and label")
