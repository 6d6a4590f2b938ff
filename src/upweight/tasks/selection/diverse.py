"""A choice of examples that are good and unlike each other, and how unlike each other chosen ones are."""

from __future__ import annotations

from dataclasses import dataclass

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
DOUBLE = 0.95
"""Cosine of gradients above which two examples say the same."""
PROBES, BLOCK = 2000, 250
"""Chosen examples whose nearest are looked for, and how many at a time."""


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


@dataclass(frozen=True)
class Variety:
    """How different the examples of a subset are, by the cosines of their gradients.

    Attributes
    ----------
    directions
        Effective number of different directions, 1 … k: the exponential of the entropy of the eigenvalues of the k × k
        cosines over k, Σ λ = 1 (the Vendi score of Friedman & Dieng 2023). k where no two have anything in common, 1
        where all are the same.
    doubles
        Share of the examples that have another with a cosine above .95: one of the two would do.
    best, random
        ``directions`` of as many examples of the highest scores, and of random ones (the mean over some draws), of the
        same pool.
    """

    directions: float
    doubles: float
    best: float
    random: float

    def __str__(self) -> str:
        return (
            f"{self.directions:.3g} different directions of gradients ({self.best:.3g} among the best scores, "
            f"{self.random:.3g} among random examples); {self.doubles:.0%} have a double among them (cosine above "
            f"{DOUBLE})"
        )


def variety(
    directions: Float[Tensor, "train d"],
    chosen: Int[np.ndarray, " k"],
    best: Int[np.ndarray, " k"],
    draws: int,
    generator: torch.Generator,
) -> Variety:
    """Of the subset, beside the best of its size and random ones."""
    drawn = [torch.randperm(len(directions), generator=generator)[: len(chosen)] for _ in range(draws)]
    mine = directions[torch.from_numpy(chosen)]
    return Variety(
        directions=effective(mine),
        doubles=float((nearest(mine, generator) > DOUBLE).double().mean()),
        best=effective(directions[torch.from_numpy(best)]),
        random=float(np.mean([effective(directions[rows]) for rows in drawn])),
    )


def effective(rows: Float[Tensor, "k d"]) -> float:
    """exp(−Σ λ log λ), λ the eigenvalues of the rows' cosines over k; of zero rows alone 1."""
    wide = rows.double() if len(rows) > rows.shape[1] else rows.double().T
    eigenvalues = torch.linalg.eigvalsh(wide.T @ wide)  # of the smaller Gram matrix; the others are 0
    shares = eigenvalues.clamp_min(0) / eigenvalues.clamp_min(0).sum().clamp_min(torch.finfo(torch.float64).tiny)
    return float(torch.exp(-torch.xlogy(shares, shares).sum()))


def nearest(rows: Float[Tensor, "k d"], generator: torch.Generator) -> Float[Tensor, " probes"]:
    """Largest cosine of rows of length 1 to another row: of all, or of 2,000 drawn ones."""
    probes = torch.randperm(len(rows), generator=generator)[:PROBES].sort().values
    found = []
    for some in probes.split(BLOCK):
        products = rows[some] @ rows.T
        products[torch.arange(len(some)), some] = -1
        found.append(products.max(1).values.double())
    return torch.cat(found)
