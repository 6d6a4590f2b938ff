"""The levers of a prediction: the training images through which it is moved most, ranked by ‖∇ₓ I_pert‖₁.

Moved by Δ, training image z changes the query's loss by ⟨∇ₓ I_pert(z, q), Δ⟩/n to first order; within a box of
radius r in every level the most is r‖∇ₓ I_pert‖₁/n. That norm takes a backward pass through the whole network for every
pair of training image and query, so a first ranking by ‖∇_φ I_pert‖₂, the same at the features φ, chooses candidates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from upweight.data import Data
from upweight.optional import imported
from upweight.progress import track
from upweight.tasks.attacks.subject import Subject

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Levers:
    """For each attack the training images that move its queries most, the strongest first.

    Attributes
    ----------
    positions
        ``[attacks, candidates]``.
    norms
        ‖∇ₓ I_pert‖₁ in loss per level at unit weight ε; 1/n of it is the first-order change, ``[attacks, candidates]``.
    feature_norms
        ‖∇_φ I_pert‖₂ of every training example, ``[attacks, train]``.
    ids
        Names of the training examples, ``[train]``.
    """

    positions: Int[Tensor, "attacks candidates"]
    norms: Float[Tensor, "attacks candidates"]
    feature_norms: Float[Tensor, "attacks train"]
    ids: np.ndarray

    def concentration(self, k: int) -> float:
        """Share of Σ‖∇_φ I_pert‖₂ that the k largest of each attack hold, on average over the attacks."""
        largest = self.feature_norms.topk(min(k, self.feature_norms.shape[1]), dim=1).values.sum(1)
        return float((largest / self.feature_norms.sum(1)).mean())

    def first(self, count: int) -> Int[Tensor, "attacks count"]:
        """The strongest of each attack."""
        return self.positions[:, :count]

    def to_pandas(self) -> pd.DataFrame:
        """One row per candidate: the attacks it is one in and the first in, and the mean of its norm there."""
        with imported("tables", "Levers.to_pandas"):
            import pandas as pd
        flat = pd.DataFrame({"position": self.positions.flatten().numpy(), "norm": self.norms.flatten().numpy()})
        table = flat.groupby("position")["norm"].agg(candidate="size", mean_norm="mean").reset_index()
        firsts = pd.Series(self.positions[:, 0].numpy()).value_counts()
        table.insert(0, "id", self.ids[table["position"].to_numpy()])
        table.insert(2, "first", table["position"].map(firsts).fillna(0).astype(int))
        return table.sort_values(["first", "mean_norm"], ascending=False, kind="stable").reset_index(drop=True)


Ranked = tuple[Tensor, Tensor, Tensor]
"""Of one attack: positions and norms of the candidates, and the norms of all examples at the features."""


def ranked(
    subject: Subject,
    queries: Data,
    groups: Sequence[Int[Tensor, " t"]],
    candidates: int,
    batch_size: int,
    known: Callable[[Int[Tensor, " t"], Callable[[], Ranked]], Ranked],
) -> Levers:
    """Rank training images for each group of queries; of several each counts alike, its gradient scaled to length 1.

    ``known(group, rank)`` gives what is on disk of a group, else calls ``rank`` and keeps its result.
    """
    everyone = sorted({int(q) for group in groups for q in group})
    gradients = subject.influence.query_gradients(queries.take(everyone))
    solved = subject.influence.solve(gradients)
    lengths = gradients.norm(dim=1, keepdim=True).clamp_min(torch.finfo(gradients.dtype).tiny)
    rows = {query: row for row, query in enumerate(everyone)}

    def rank(group: Int[Tensor, " t"]) -> Ranked:
        own = [rows[int(q)] for q in group]
        direction = solved.x[own[0]] if len(own) == 1 else (solved.x[own] / lengths[own]).mean(0)
        slopes = _feature_slopes(subject, direction)
        sizes = slopes.flatten(1).norm(dim=1).cpu()
        chosen = torch.argsort(sizes, descending=True, stable=True)[:candidates]
        found = torch.cat([_input_norms(subject, block, slopes[block]) for block in chosen.split(batch_size)])
        order = torch.argsort(found, descending=True, stable=True)
        return chosen[order], found[order], sizes

    found = [known(group, partial(rank, group)) for group in track(groups, "ranking levers")]
    positions, norms, at_features = (torch.stack(parts) for parts in zip(*found, strict=True))
    return Levers(positions, norms, at_features, subject.objective.ids)


def _feature_slopes(subject: Subject, direction: Float[Tensor, " p"]) -> Float[Tensor, "train ..."]:
    """∇_φ I_pert of every training example."""
    objective = subject.objective
    return torch.cat(
        [
            subject.perturbation(objective.params, direction, index, batch)
            for index, batch in objective.data.batches(None, objective.engine.rows)
        ]
    )


def _input_norms(subject: Subject, positions: Int[Tensor, " b"], slopes: Float[Tensor, "b ..."]) -> Float[Tensor, " b"]:
    """‖∇ₓ I_pert‖₁ of training images."""
    levels = subject.levels(positions).requires_grad_()
    # Of size 1 on the way through the network: a well-fitted query's gradient may be too small for float32.
    scale = slopes.abs().max().clamp_min(torch.finfo(slopes.dtype).tiny)
    gradients = subject.through(levels, subject.features(levels), slopes / scale)
    return (gradients.flatten(1).abs().sum(1, dtype=torch.float64) * scale).cpu()
