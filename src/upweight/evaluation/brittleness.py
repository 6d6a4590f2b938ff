"""Brittleness: how few training examples, chosen by the scores, does it take to change a prediction?"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from upweight import kinds, plots, scalars
from upweight.attribution import Attribution
from upweight.data import Data
from upweight.errors import InputError
from upweight.evaluation.bootstrap import Bootstrap, Estimate
from upweight.evaluation.training import Training, as_training
from upweight.kept import random_states_kept
from upweight.objective import Objective
from upweight.optional import imported
from upweight.predictions import predictions
from upweight.quantities.attributor import Attributor
from upweight.retraining.workers import Train

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class Brittleness:
    """What happens to predictions without their k most helpful training examples, and without k random ones.

    Attributes
    ----------
    k
        Numbers of examples removed, ``[sizes]``.
    flipped, random_flipped
        Share of the retrained models that predict another class than the model of all examples with the same seed,
        ``[sizes, queries]``.
    loss_change, random_loss_change
        Mean rise of the query's loss over the same, ``[sizes, queries]``, in ``unit``.
    query_ids
        Names of the queries.
    unit
        Unit of the loss.
    models
        Number of models trained.
    seconds
        Wall time of the training.
    """

    k: Int[Tensor, " sizes"]
    flipped: Float[Tensor, "sizes queries"]
    random_flipped: Float[Tensor, "sizes queries"]
    loss_change: Float[Tensor, "sizes queries"]
    random_loss_change: Float[Tensor, "sizes queries"]
    query_ids: np.ndarray
    unit: str
    models: int
    seconds: float

    def mean(self, values: Float[Tensor, "sizes queries"]) -> list[Estimate]:
        """Mean over queries at each k, with a bootstrap interval over queries."""
        rows = values.double().cpu().numpy()
        return [Estimate(float(row.mean()), Bootstrap().of_mean(row)) for row in rows]

    def figure(self, title: str | None = None) -> Figure:
        """Share of flipped predictions over k, by the scores and at random, with 95 % intervals."""
        found = {"most helpful by the scores": self.mean(self.flipped), "random": self.mean(self.random_flipped)}
        bands = {
            name: ([each.interval.low for each in row], [each.interval.high for each in row])
            for name, row in found.items()
        }
        return plots.curves_with_bands(
            self.k,
            {name: [float(each) for each in row] for name, row in found.items()},
            bands if len(self.query_ids) > 1 else {},
            xlabel="Training examples removed before retraining (number)",
            ylabel="Predictions changed (share of queries)",
            note=f"{len(self.query_ids)} queries · {self.models} models retrained",
            title=title,
        )

    def to_pandas(self) -> pd.DataFrame:
        """One row per k and query."""
        with imported("tables", "Brittleness.to_pandas"):
            import pandas as pd
        sizes, queries = self.flipped.shape
        columns = ("flipped", "random_flipped", "loss_change", "random_loss_change")
        named = {name: getattr(self, name).cpu().numpy().reshape(-1) for name in columns}
        return pd.DataFrame({"k": np.repeat(self.k.numpy(), queries), "query": np.tile(self.query_ids, sizes), **named})

    def __repr__(self) -> str:
        lines = [f"Brittleness of {len(self.query_ids)} queries, {self.models} models in {self.seconds:.1f} s"]
        columns = (self.flipped, self.random_flipped, self.loss_change, self.random_loss_change)
        for k, flips, chance, rise, noise in zip(self.k.tolist(), *map(self.mean, columns), strict=True):
            lines.append(
                f"  without the {k} most helpful: {float(flips):.1%} flip {flips.interval}, loss {float(rise):+.3g} "
                f"{self.unit}; without {k} random ones: {float(chance):.1%} flip, loss {float(noise):+.3g}"
            )
        return "\n".join(lines)


@random_states_kept()
def brittleness(
    influence: Attributor,
    queries: Any,
    k: int | Sequence[int],
    train: Train | Training,
    *,
    attribution: Attribution | None = None,
    controls: int = 5,
    seed: int = 0,
) -> Brittleness:
    """Remove the k most helpful training examples of each query, retrain, and see whether its prediction changes.

    Parameters
    ----------
    queries
        Examples in the form of the training data; usually ones that the model gets right.
    k
        Number of examples to remove, or several.
    train
        ``train(indices, seed)``: trains on these training examples, as the model was trained; or a `Training`, with
        several seeds, worker processes, or a folder that survives a kill.
    attribution
        The scores to judge, ``[queries, train]`` (default: the influence's removal scores).
    controls
        Random removals per k; each is judged by all queries, so that few are enough.
    seed
        Of the random removals.

    Returns
    -------
    Brittleness
        From 1 + |k|·(queries + controls) models per seed.

    Raises
    ------
    InputError
        If the objective isn't a classification, k isn't below n, or the scores are of other examples.
    """
    kinds.check(brittleness, locals())
    objective = influence.objective
    data = objective.queries(queries)
    several = [k] if isinstance(k, str) or getattr(k, "ndim", 1) == 0 else k
    several = list(several) if isinstance(several, Sequence | np.ndarray | torch.Tensor) else [several]
    sizes = [scalars.whole("k", size, 1, objective.n - 1) for size in several]
    if not sizes or sorted(set(sizes)) != sizes:
        raise InputError(f"k: numbers of examples to remove, increasing, from 1 to below n={objective.n}; got {k!r}")
    scalars.whole("controls", controls)
    scalars.seed("seed", seed)
    training = as_training(train)
    scored = influence.attribute(data) if attribution is None else attribution
    if tuple(scored.scores.shape) != (len(data), objective.n):
        raise InputError(
            f"attribution: got scores {tuple(scored.scores.shape)}; give [{len(data)} queries, {objective.n} examples]"
        )
    removed = _removals(scored, sizes, controls, scalars.generator(seed))
    started = time.perf_counter()
    flips, rises = _effects(objective, training, removed, data)
    # Row q of the first ones is query q's own removal, judged by query q; the others are judged by every query.
    sides = [side.reshape(len(sizes), len(data) + controls, -1) for side in (flips, rises)]
    flipped, loss_change = (side[:, : len(data)].diagonal(dim1=1, dim2=2) for side in sides)
    random_flipped, random_loss_change = (side[:, len(data) :].mean(1) for side in sides)
    return Brittleness(
        k=torch.tensor(sizes),
        flipped=flipped,
        random_flipped=random_flipped,
        loss_change=loss_change,
        random_loss_change=random_loss_change,
        query_ids=scored.query_ids,
        unit=getattr(objective.loss, "unit", "loss"),
        models=len(training.seeds) * (1 + len(removed)),
        seconds=time.perf_counter() - started,
    )


def _removals(
    scored: Attribution, sizes: list[int], controls: int, generator: torch.Generator
) -> list[Int[Tensor, " _"]]:
    """For each k the most helpful examples of each query, then random ones."""
    ranked = scored.top(max(sizes)).positions
    removals: list[Tensor] = []
    for size in sizes:
        removals += list(ranked[:, :size])
        removals += [torch.randperm(len(scored.ids), generator=generator)[:size] for _ in range(controls)]
    return removals


def _effects(
    objective: Objective, training: Training, removed: list[Int[Tensor, " _"]], data: Data
) -> tuple[Float[Tensor, "removals queries"], Float[Tensor, "removals queries"]]:
    """Share of seeds in which each removal flips each prediction, and the mean rise of its loss."""
    everything = torch.ones(objective.n, dtype=torch.bool)
    kept = [everything, *(everything.scatter(0, positions, False) for positions in removed)]
    said = [
        predictions(model, data) for model in training.models(objective, [mask.nonzero().flatten() for mask in kept])
    ]
    shape = len(training.seeds), len(kept), len(data)
    classes = torch.stack([each.predicted for each in said]).reshape(shape)
    losses = torch.stack([each.losses for each in said]).reshape(shape)
    flips = (classes[:, 1:] != classes[:, :1]).to(losses.dtype)
    return flips.mean(0), (losses[:, 1:] - losses[:, :1]).mean(0)
