"""Rise of a query's loss after retraining without the training examples that scores say helped it most."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
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
from upweight.quantities.attributor import Attributor
from upweight.retraining.workers import Train

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

OWN = "influence"


@dataclass(frozen=True, eq=False)
class QueryLossRise:
    """What queries lose without their top training examples, beyond what they lose without as many random ones.

    Attributes
    ----------
    removed
        How many examples are left out.
    change
        For each ranking, L(query; without its top) − L(query; trained on everything), ``[seeds, queries]``.
    random_change
        The same without random examples, ``[seeds, controls, queries]``.
    before
        L(query; trained on everything), ``[seeds, queries]``.
    query_ids
        Names of the queries.
    unit
        Of the loss.
    models
        Number of models trained.
    seconds
        Wall time of the training.
    bootstrap
        How intervals are made.
    """

    removed: int
    change: dict[str, Float[Tensor, "seeds queries"]]
    random_change: Float[Tensor, "seeds controls queries"]
    before: Float[Tensor, "seeds queries"]
    query_ids: np.ndarray
    unit: str
    models: int
    seconds: float
    bootstrap: Bootstrap = field(default_factory=Bootstrap)

    def rises(self, name: str | None = None) -> Float[Tensor, "seeds queries"]:
        """Rise of each query's loss beyond the mean of the random removals with the same seed."""
        return self.change[self._named(name)] - self.random_change.mean(1)

    def rise(self, name: str | None = None) -> Estimate:
        """Mean over queries and seeds, with a bootstrap interval over both (over queries alone, of one seed).

        Parameters
        ----------
        name
            Of the ranking, where there are several.
        """
        return self._over(self.rises(name))

    def difference(self, first: str, second: str) -> Estimate:
        """By how much one ranking's rise is above another's: paired, on the same queries and seeds."""
        return self._over(self.change[self._named(first)] - self.change[self._named(second)])

    def _over(self, values: Float[Tensor, "seeds queries"]) -> Estimate:
        return self.bootstrap.of_table(values.double().cpu().numpy())

    def _named(self, name: str | None) -> str:
        if name is None and len(self.change) == 1:
            return next(iter(self.change))
        if name not in self.change:
            raise InputError(f"name: give one of the rankings {list(self.change)}; got {name!r}")
        return name

    def figure(self, title: str | None = None) -> Figure:
        """Rise of each ranking with its interval."""
        found = [self.rise(name) for name in self.change]
        ends = [
            [each.interval.low, each.interval.high] if len(self.query_ids) > 1 else [each.value] * 2 for each in found
        ]
        return plots.estimates(
            list(self.change),
            [each.value for each in found],
            [low for low, _ in ends],
            [high for _, high in ends],
            xlabel=f"Rise of the query's loss beyond random removal ({self.unit})",
            note=f"without {self.removed} examples · {len(self.query_ids)} queries · {self.models} models retrained",
            title=title,
        )

    def to_pandas(self) -> pd.DataFrame:
        """One row per ranking, seed and query."""
        with imported("tables", "QueryLossRise.to_pandas"):
            import pandas as pd
        seeds, queries = self.before.shape
        return pd.concat(
            [
                pd.DataFrame(
                    {
                        "ranking": name,
                        "seed": np.repeat(np.arange(seeds), queries),
                        "query": np.tile(self.query_ids, seeds),
                        "before": self.before.cpu().numpy().reshape(-1),
                        "change": values.cpu().numpy().reshape(-1),
                        "random_change": self.random_change.mean(1).cpu().numpy().reshape(-1),
                        "rise": self.rises(name).cpu().numpy().reshape(-1),
                    }
                )
                for name, values in self.change.items()
            ],
            ignore_index=True,
        )

    def __repr__(self) -> str:
        lines = [
            f"Rise of the loss of {len(self.query_ids)} queries without their top {self.removed} examples, beyond "
            f"random removal [{self.unit}]; {self.models} models in {self.seconds:.1f} s"
        ]
        return "\n".join([*lines, *(f"  {name}: {self.rise(name)}" for name in self.change)])


@random_states_kept()
def query_loss_rise(
    influence: Attributor,
    queries: Any,
    train: Train | Training,
    *,
    attributions: Attribution | Mapping[str, Attribution] | None = None,
    share: float = 0.01,
    controls: int = 5,
    seed: int = 0,
) -> QueryLossRise:
    """Retrain without each query's top share of the training examples: by how much does its loss rise?

    The rise beyond that after removing as many random examples is the proponents' query loss difference of the bergson
    leaderboard (EleutherAI 2026, arXiv 2606.11660): one number of what a score is for, in the loss's own unit.

    Parameters
    ----------
    influence
        Of the trained model: its objective, and its removal scores where no others are given.
    queries
        Examples in the form of the training data.
    train
        ``train(indices, seed)``: trains on these training examples, as the model was trained; or a `Training`, with
        several seeds, worker processes, or a folder that survives a kill.
    attributions
        The scores to judge, ``[queries, train]``, or several by name, to be compared on the same random removals.
    share
        Share of the training examples that is left out, in (0, 1); at least one example is.
    controls
        Random removals; each is judged by all queries, so that few are enough.
    seed
        Of the random removals.

    Returns
    -------
    QueryLossRise
        From 1 + controls + rankings · queries models per seed.

    Raises
    ------
    InputError
        If scores are of other examples, or a number is out of range.
    """
    kinds.check(query_loss_rise, locals())
    objective = influence.objective
    data = objective.queries(queries)
    scalars.number("share", share, above=0, below=1)
    scalars.whole("controls", controls)
    generator = scalars.generator(scalars.seed("seed", seed))
    training = as_training(train)
    removed = min(max(round(share * objective.n), 1), objective.n - 1)
    given = influence.attribute(data) if attributions is None else attributions
    named = dict(given) if isinstance(given, Mapping) else {OWN: given}
    if not named:
        raise InputError("attributions: give at least one, by name")
    for name, scored in named.items():
        scalars.instance(f"attributions[{name!r}]", scored, Attribution, "what influence.attribute(queries) gives")
        if tuple(scored.scores.shape) != (len(data), objective.n):
            raise InputError(
                f"attributions[{name!r}]: got scores {tuple(scored.scores.shape)}; give "
                f"[{len(data)} queries, {objective.n} examples]"
            )
    chosen = [row for scored in named.values() for row in scored.top(removed).positions]
    random = [torch.randperm(objective.n, generator=generator)[:removed] for _ in range(controls)]
    started = time.perf_counter()
    losses = _losses(objective, training, [*random, *chosen], data)
    before, after = losses[:, 0], losses[:, 1:] - losses[:, :1]
    own = after[:, controls:].unflatten(1, (len(named), len(data)))
    return QueryLossRise(
        removed=removed,
        change={name: own[:, place].diagonal(dim1=1, dim2=2) for place, name in enumerate(named)},
        random_change=after[:, :controls],
        before=before,
        query_ids=next(iter(named.values())).query_ids,
        unit=getattr(objective.loss, "unit", "loss"),
        models=len(training.seeds) * (1 + len(random) + len(chosen)),
        seconds=time.perf_counter() - started,
    )


def _losses(
    objective: Objective, training: Training, removals: list[Tensor], data: Data
) -> Float[Tensor, "seeds models queries"]:
    """Losses of the queries by the model of everything, then by that of each removal."""
    everything = torch.ones(objective.n, dtype=torch.bool)
    kept = [everything, *(everything.scatter(0, positions, False) for positions in removals)]
    found = [model.losses(data) for model in training.models(objective, [mask.nonzero().flatten() for mask in kept])]
    return torch.stack(found).reshape(len(training.seeds), len(kept), len(data)).detach()
