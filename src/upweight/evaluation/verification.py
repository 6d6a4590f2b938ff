"""Proof against counterfactual models: leave examples out for real, and compare with what influence predicted."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from upweight import kinds, plots, scalars
from upweight.attribution import Attribution, Quantity
from upweight.errors import InputError
from upweight.evaluation import counterfactuals
from upweight.evaluation.agreement import Agreement, agreement
from upweight.evaluation.training import Training
from upweight.inverse import Solver
from upweight.kept import random_states_kept
from upweight.optional import imported
from upweight.quantities import further
from upweight.quantities.attributor import Attributor
from upweight.retraining.workers import Train

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


CANDIDATES = 5
"""Multiple of k that leverage is divided out of, to choose the k largest from."""


@dataclass(frozen=True)
class Verification:
    """Predicted and actual changes of the queries' measurement when examples are left out one by one.

    Attributes
    ----------
    predicted, actual
        ``[queries, k]``; column j belongs to the training example at ``positions[q, j]``.
    positions
        Of the examples left out, ``[queries, k]``.
    ids
        Names of the same examples, ``[queries, k]``.
    query_ids
        Names of the queries, ``[queries]``.
    quantity
        What was predicted, in words, with its unit and sign.
    agreement
        Correlations and slope over all pairs; its parts are properties here too.
    counterfactual
        How the models without an example were made.
    models
        Number of models made.
    gradient_norms
        ‖∇‖ of their objectives; empty for a user's training, which doesn't say.
    noise_floor
        Change of the measurement that means nothing, [its unit]: for ``retrain`` what the remaining ‖∇R‖ of the
        trained model itself can explain, the largest over queries; for ``pbrf`` 0, since θ is the optimum of its
        objective; for a user's training the root mean square, over queries and examples left out, of the
        standard error over seeds; nan with one seed.
    standard_errors
        Of ``actual`` over seeds, ``[queries, k]``; None where there is one model per example.
    seconds
        Wall time of the retraining.
    """

    predicted: Float[Tensor, "queries k"]
    actual: Float[Tensor, "queries k"]
    positions: Int[Tensor, "queries k"]
    ids: np.ndarray
    query_ids: np.ndarray
    quantity: Quantity
    agreement: Agreement
    counterfactual: str
    models: int
    gradient_norms: Float[Tensor, " models"]
    noise_floor: float
    standard_errors: Float[Tensor, "queries k"] | None
    seconds: float

    @property
    def pearson(self) -> float:
        """Pearson correlation over all pairs."""
        return self.agreement.pearson

    @property
    def spearman(self) -> float:
        """Spearman rank correlation over all pairs."""
        return self.agreement.spearman

    @property
    def slope(self) -> float:
        """Slope of actual on predicted; 1 where magnitudes are right."""
        return self.agreement.slope

    def figure(self) -> Figure:
        """Predicted against actual, with the diagonal."""
        return plots.predicted_against_actual(
            self.predicted, self.actual, unit=self.quantity.unit, standard_error=self.standard_errors
        )

    def to_pandas(self) -> pd.DataFrame:
        """One row per query and example left out."""
        with imported("tables", "Verification.to_pandas"):
            import pandas as pd
        k = self.predicted.shape[1]
        return pd.DataFrame(
            {
                "query": np.repeat(self.query_ids, k),
                "id": self.ids.reshape(-1),
                "predicted": self.predicted.cpu().numpy().reshape(-1),
                "actual": self.actual.cpu().numpy().reshape(-1),
            }
        )

    def __repr__(self) -> str:
        reached = f" to ‖∇‖ ≤ {float(self.gradient_norms.max()):.1e}" if len(self.gradient_norms) else ""
        return (
            f"Verification against {self.counterfactual}: {self.agreement}\n"
            f"  {self.models} models{reached} in {self.seconds:.1f} s; noise floor {self.noise_floor:.1e} "
            f"{self.quantity.unit}"
        )


@random_states_kept()
def verify(
    influence: Attributor,
    queries: Any,
    k: int = 20,
    *,
    counterfactual: Literal["retrain", "pbrf"] | Train | Training = "retrain",
    select: Literal["largest", "random"] = "largest",
    leverage_corrected: bool = False,
    newton_steps: int = 1,
    renormalize: bool = False,
    measurement: Any = None,
    tolerance: float | None = None,
    solver: Solver | None = None,
    seed: int = 0,
) -> Verification:
    """Leave out k training examples of each query, make the models without them, and compare with the prediction.

    Parameters
    ----------
    influence
        Whose predictions are compared; as a method, its own.
    queries
        Examples in the form of the training data.
    k
        Examples left out for each query (default 20), from 2 to n.
    counterfactual
        ``retrain``: minimise the objective without the example, starting at θ; the truth for convex models.
        ``pbrf``: the proximal Bregman response with the influence's own damping, which is what influence functions
        of networks predict (Bae et al. 2022); the inverse should be of the GGN. A function
        ``train(indices, seed)``, or a `Training` with several seeds: train from scratch, as the model itself was
        trained, without the example and with all of them; the differences are averaged over seeds.
    select
        Which k examples of each query are left out: those of ``largest`` predicted |score| (the default), or ``random``
        ones.
    leverage_corrected
        Predictions, and the choice of the largest, as those of `Influence.attribute`: equal to ``retrain`` for squared
        error of outputs linear in θ.
        Where an example of leverage 1 leaves a direction flat, retraining stays at θ there, and the prediction takes
        the least norm.
    newton_steps
        Of leverage-corrected predictions, as for `Influence.attribute`.
    renormalize
        Whether the mean is taken over the n − 1 examples left, in the predictions and by ``retrain``; default: weights
        stay 1/n, as ``pbrf`` has it always.
    measurement
        What is compared: one of `upweight.measurements`, its name, or a function ``(model, batch) -> [batch]``; default
        the loss.
    tolerance
        ‖∇‖ of the models made by ``retrain`` and ``pbrf`` (default 1e-9 in float64, 1e-5 in float32).
    solver
        A fitted inverse to precondition both with (default: the influence's own, if it is exact).
    seed
        Of the ``random`` choice.

    Raises
    ------
    InputError
        If nothing can be left out of the training data, or corrections are asked for that don't go together.

    Notes
    -----
    Models are shared between queries: an example is left out once, whoever asks.
    """
    kinds.check(verify, locals())
    objective = influence.objective
    if objective.n < 2:
        raise InputError(f"data: n={objective.n}; leaving examples out takes two or more training examples")
    scalars.whole("k", k, 2, objective.n)
    scalars.one_of("select", select, ("largest", "random"))
    scalars.flag("leverage_corrected", leverage_corrected)
    scalars.flag("renormalize", renormalize)
    if renormalize and leverage_corrected:
        raise InputError("leverage_corrected: holds where weights stay 1/n; leave renormalize=False")
    further.check(objective, newton_steps, leverage_corrected)
    scalars.seed("seed", seed)
    if tolerance is not None:
        scalars.number("tolerance", tolerance, above=0)
    make = counterfactuals.maker(counterfactual, renormalize, tolerance, solver)
    data = objective.queries(queries)
    scored = influence.attribute(data, renormalize=renormalize, measurement=measurement)
    among = positions = _chosen(scored, k, select, seed)
    if leverage_corrected:
        # A solve an example: of a few times k, and the largest of what is verified are chosen among those.
        first = _chosen(scored, min(CANDIDATES * k, objective.n), select, seed) if select == "largest" else positions
        some = first.unique()
        scored = influence.attribute(
            data, measurement=measurement, train=some, leverage_corrected=True, newton_steps=newton_steps
        )
        among = _chosen(scored, k, select, seed) if select == "largest" else torch.searchsorted(some, positions)
        positions = some[among]
    predicted = scored.scores.gather(1, among.to(scored.scores.device))
    needed, column = positions.unique(return_inverse=True)
    started = time.perf_counter()
    changes = make(influence, data, measurement, needed)
    column = column.to(changes.values.device)
    actual = changes.values.gather(1, column)
    changes.warn_if_drowned(actual)
    return Verification(
        predicted,
        actual,
        positions,
        objective.ids[positions.numpy()],
        scored.query_ids,
        scored.quantity,
        agreement(predicted.cpu(), actual.cpu()),
        changes.words,
        changes.models,
        changes.gradient_norms,
        changes.floor.value if changes.floor else 0.0,
        None if changes.standard_errors is None else changes.standard_errors.gather(1, column),
        time.perf_counter() - started,
    )


def against_pbrf(influence: Attributor, queries: Any, k: int = 20, **options: Any) -> Verification:
    """`verify` against the proximal Bregman response: is the inverse right, whatever the training did?

    Parameters
    ----------
    influence, queries, k
        As for `verify`.
    options
        `verify`'s others, by name.

    Raises
    ------
    InputError
        As `verify`.
    """
    kinds.check(against_pbrf, locals())
    return verify(influence, queries, k, counterfactual="pbrf", **options)


def against_retraining(
    influence: Attributor, queries: Any, train: Train | Training, k: int = 20, **options: Any
) -> Verification:
    """`verify` against the user's own training from scratch: does influence predict what really happens?

    Parameters
    ----------
    influence, queries, k
        As for `verify`.
    train
        ``train(indices, seed)``, or a `Training` with several seeds: `verify`'s counterfactual.
    options
        `verify`'s others, by name.

    Raises
    ------
    InputError
        As `verify`.
    """
    kinds.check(against_retraining, locals())
    return verify(influence, queries, k, counterfactual=train, **options)


def _chosen(scored: Attribution, k: int, select: str, seed: int) -> Int[Tensor, "queries k"]:
    magnitude = scored.scores.abs()
    if select == "random":
        magnitude = torch.rand(magnitude.shape, generator=scalars.generator(seed))
    return magnitude.topk(k, dim=1).indices.cpu()
