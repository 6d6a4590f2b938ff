"""One training example for another at equal weight: relabelling, editing, substituting."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from upweight.checks.values import refuse_bad_targets
from upweight.errors import InputError
from upweight.objective import Objective


def scores(
    objective: Objective, directions: Float[Tensor, "queries p"], positions: Tensor, examples: Any
) -> Float[Tensor, "queries k"]:
    """(1/n) s_qᵀ(∇ℓ(z) − ∇ℓ(z̃)) for each pair of a training example and its replacement."""
    data = objective.queries(examples)
    if len(data) != len(positions):
        raise InputError(f"examples: need one for each of the {len(positions)} indices; got {len(data)}")
    weights = objective.weights[positions]
    parts = []
    for index, batch in data.batches(None, objective.engine.rows):
        refuse_bad_targets(objective.problem, batch)
        parts.append(weights[index] * objective.engine.function.each(objective.params, batch).inner(directions))
    return (objective.inner(directions, positions) - torch.cat(parts, dim=1)) / objective.n
