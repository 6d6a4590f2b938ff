"""Proof against retraining: leave examples out for real, and compare with what influence predicted."""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from upweight import plots, retraining
from upweight.attribution import Quantity
from upweight.evaluation.agreement import Agreement, agreement
from upweight.inverse import Solver
from upweight.inverse.dense import DenseSolver
from upweight.messages import InputError, NotStationaryWarning

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from upweight.influence import Influence


@dataclass(frozen=True)
class Verification:
    """Predicted and actual changes of the queries' measurement when examples are left out one by one.

    Attributes
    ----------
    predicted, actual
        ``[queries, k]``; column j belongs to the training example at ``positions[q, j]``.
    gradient_norms
        ‖∇R‖ of the retrained models.
    noise_floor
        Change of the measurement that the remaining ‖∇R‖ of the trained model itself can explain, the largest
        over queries; agreement below it means nothing.
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
    gradient_norms: Float[Tensor, " models"]
    noise_floor: float
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
        return plots.predicted_against_actual(self.predicted, self.actual, unit=self.quantity.unit)

    def to_pandas(self) -> pd.DataFrame:
        """One row per query and example left out."""
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
        return (
            f"Verification: {self.agreement}\n"
            f"  {len(self.gradient_norms)} models retrained to ‖∇R‖ ≤ {float(self.gradient_norms.max()):.1e} "
            f"in {self.seconds:.1f} s; noise floor {self.noise_floor:.1e} {self.quantity.unit}"
        )


def verify(
    influence: Influence,
    queries: Any,
    k: int = 20,
    *,
    select: Literal["largest", "random"] = "largest",
    leverage_corrected: bool = False,
    renormalize: bool = False,
    measurement: Any = None,
    tolerance: float | None = None,
    solver: Solver | None = None,
    seed: int = 0,
) -> Verification:
    """Leave out k training examples of each query, retrain, and compare with the predicted removal.

    Parameters
    ----------
    k
        Examples per query: those of largest |score| (``largest``) or ``random`` ones.
    tolerance
        ‖∇R‖ of the retrained models (default 1e-9 in float64, 1e-5 in float32).
    solver
        A fitted inverse to precondition the retraining with (default: the influence's own, if it is exact).

    Notes
    -----
    The model is convex in θ, or the retraining finds the nearest minimum only. Models are shared between
    queries: an example is left out once, whoever asks.
    """
    objective = influence.objective
    if not 2 <= k <= objective.n:
        raise InputError(f"k: give between 2 and n={objective.n} examples to leave out; got {k}")
    if select not in ("largest", "random"):
        raise InputError(f"select: 'largest' or 'random'; got {select!r}")
    data = objective.queries(queries)
    scored = influence.attribute(data, renormalize=renormalize, measurement=measurement)
    magnitude = scored.scores.abs()
    if select == "random":
        magnitude = torch.rand(magnitude.shape, generator=torch.Generator().manual_seed(seed))
    positions = magnitude.topk(k, dim=1).indices.cpu()
    needed, column = positions.unique(return_inverse=True)
    if leverage_corrected:
        scored = influence.attribute(data, measurement=measurement, train=needed, leverage_corrected=True)
        predicted = scored.scores.gather(1, column.to(scored.scores.device))
    else:
        predicted = scored.scores.gather(1, positions.to(scored.scores.device))
    started = time.perf_counter()
    if solver is None and isinstance(influence.solver, DenseSolver):
        solver = influence.solver  # an exact factor is the best preconditioner there is
    models = retraining.leave_out(
        objective, needed.tolist(), renormalize=renormalize, tolerance=tolerance, solver=solver
    )
    base = influence.measure(data, measurement)
    after = torch.stack([influence.measure(data, measurement, theta) for theta in models.params], dim=1)
    actual = (after - base[:, None]).gather(1, column.to(after.device))
    floor = _noise_floor(influence, data, measurement)
    if floor > 0.1 * float(actual.abs().median()):
        warnings.warn(
            f"verify: the model's own ‖∇R‖ = {influence.stationarity.gradient_norm:.1e} can move the measurement by "
            f"{floor:.1e}, beside a median change of {float(actual.abs().median()):.1e}; train closer to the optimum "
            "first (upweight.retraining.fit)",
            NotStationaryWarning,
            stacklevel=2,
        )
    return Verification(
        predicted,
        actual,
        positions,
        objective.ids[positions.numpy()],
        scored.query_ids,
        scored.quantity,
        agreement(predicted.cpu(), actual.cpu()),
        models.gradient_norms,
        floor,
        time.perf_counter() - started,
    )


def _noise_floor(influence: Influence, data: Any, measurement: Any) -> float:
    """|s_qᵀ∇R|: the change of the measurement on the way from θ to the optimum nearby."""
    solution, _ = influence.query_solution(data, measurement)
    return float((solution.x @ influence.objective.gradient()).abs().max())
