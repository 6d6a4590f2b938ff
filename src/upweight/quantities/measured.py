"""What is explained of each query, at the trained θ or at another."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from upweight.checks.per_example import refuse_shape
from upweight.data import Data
from upweight.gradients.substituted import called
from upweight.measurements import as_measurement
from upweight.objective import Objective


def measured(
    objective: Objective, queries: Any, measurement: Any = None, params: Float[Tensor, " p"] | None = None
) -> Float[Tensor, " queries"]:
    """The measurement of each query, one forward pass over them."""
    data: Data = objective.queries(queries)
    function = as_measurement(measurement).bind(objective.loss)
    named = objective.layout.unflatten(objective.theta(params))
    parts = []
    for index, batch in data.batches(None, objective.engine.rows):
        values = called(objective.model, function, batch, named)
        refuse_shape("measurement", values, len(index), "queries")
        parts.append(values.detach())
    return torch.cat(parts)
