"""A choice of examples that are good and unlike each other."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from upweight.baselines.products import units
from upweight.baselines.projection import Projection, projected
from upweight.gradients.denormals import flushed
from upweight.objective import Objective

DIMENSION = 512
"""Numbers that a gradient is projected to: cosines are then known to about ±.04."""


def directions(objective: Objective, seed: int) -> Float[Tensor, "train d"]:
    """Each example's gradient, projected and of length 1."""
    engine = objective.engine
    projection = Projection(objective.p, DIMENSION, (seed,))
    with flushed():
        rows = min(engine.block_rows(objective.p), engine.pass_rows)
        return units(projected(engine.function, objective.params, objective.data, rows, projection)).cpu()


def greedy(
    scores: Float[np.ndarray, " train"], directions: Float[Tensor, "train d"], k: int, diversity: float
) -> Int[np.ndarray, " k"]:
    """Positions in the order of choice: each has the largest score·(1 − λc), c its largest cosine to one chosen before.

    Maximal marginal relevance (Carbonell & Goldstein 1998) with a factor in place of a difference, so that the unit of
    the scores doesn't matter: what is equal to a chosen example counts 1 − λ of its score, what is unlike all of them
    (c ≤ 0) the whole. Scores of harmful examples stay as they are. Of equal values the first position is taken.
    """
    helpful = torch.from_numpy(scores).double()
    nearest = torch.zeros_like(helpful)
    left = torch.ones(len(scores), dtype=torch.bool)
    chosen = []
    for _ in range(k):
        values = torch.where(helpful > 0, helpful * (1 - diversity * nearest), helpful)
        best = int(values.masked_fill(~left, -torch.inf).argmax())
        chosen.append(best)
        left[best] = False
        nearest = torch.maximum(nearest, (directions @ directions[best]).double())
    return np.array(chosen)
