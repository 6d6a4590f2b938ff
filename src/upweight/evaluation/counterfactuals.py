"""The models that predictions are checked against: what a query's measurement does when an example is left out."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from upweight import retraining
from upweight.data import Data
from upweight.errors import InputError, NotStationaryWarning, UpweightWarning, warn
from upweight.evaluation.training import Training, as_training
from upweight.inverse import Solver
from upweight.inverse.dense import DenseSolver
from upweight.quantities.attributor import Attributor
from upweight.quantities.measured import measured
from upweight.retraining.workers import Train


class NoisyWarning(UpweightWarning):
    """Changes are no larger than those between models trained alike with other seeds."""


@dataclass(frozen=True)
class Floor:
    """A change of the measurement that means nothing: its size, its cause, and what lowers it."""

    value: float
    cause: str
    mend: str
    warning: type[UpweightWarning]


@dataclass(frozen=True)
class Outcomes:
    """Changes of the queries' measurement, one column per example left out.

    Attributes
    ----------
    values
        ``[queries, examples]``.
    words
        How the models were made.
    models
        How many were.
    gradient_norms
        ‖∇‖ of their objectives; empty where that isn't known.
    floor
        The noise in the values; None where there is none.
    standard_errors
        Of the values over seeds; None without seeds.
    """

    values: Float[Tensor, "queries examples"]
    words: str
    models: int
    gradient_norms: Float[Tensor, " models"]
    floor: Floor | None = None
    standard_errors: Float[Tensor, "queries examples"] | None = None

    def warn_if_drowned(self, actual: Tensor) -> None:
        """Say when the changes that are looked at are no larger than the noise."""
        median = float(actual.abs().median())
        if self.floor is not None and self.floor.value > 0.1 * median:
            warn(
                f"verify: {self.floor.cause} can move the measurement by {self.floor.value:.1e}, beside a median "
                f"change of {median:.1e}; {self.floor.mend}",
                self.floor.warning,
            )


Maker = Callable[[Attributor, Data, Any, Int[Tensor, " examples"]], Outcomes]
"""(influence, queries, measurement, positions to leave out one by one) -> changes."""


def maker(
    counterfactual: Literal["retrain", "pbrf"] | Train | Training,
    renormalize: bool,
    tolerance: float | None,
    solver: Solver | None,
) -> Maker:
    """What makes the models of a kind of counterfactual; see `verify` for the kinds.

    Raises
    ------
    InputError
        If the kind is unknown or doesn't go with another argument.
    """
    if counterfactual == "retrain":
        return partial(_retrained, renormalize=renormalize, tolerance=tolerance, solver=solver)
    if counterfactual == "pbrf":
        if renormalize:
            raise InputError("renormalize: the proximal Bregman response keeps the weights 1/n; leave it False")
        return partial(_responses, tolerance=tolerance, solver=solver)
    if callable(counterfactual) or isinstance(counterfactual, Training):
        return partial(_trained, training=as_training(counterfactual))
    raise InputError(
        "counterfactual: 'retrain', 'pbrf', a function train(indices, seed) -> model, or a Training; "
        f"got {counterfactual!r}"
    )


def _retrained(
    influence: Attributor,
    data: Data,
    measurement: Any,
    out: Int[Tensor, " examples"],
    renormalize: bool,
    tolerance: float | None,
    solver: Solver | None,
) -> Outcomes:
    models = retraining.leave_out(
        influence.objective,
        out.tolist(),
        renormalize=renormalize,
        tolerance=tolerance,
        solver=solver or _exact(influence),
    )
    # |s_qᵀ∇R|: the change of the measurement on the way from θ to the optimum nearby.
    solution, _ = influence.query_solution(data, measurement)
    floor = float((solution.x @ influence.objective.gradient()).abs().max())
    return Outcomes(
        _moved(influence, data, measurement, models.params),
        "retraining",
        len(out),
        models.gradient_norms,
        Floor(
            floor,
            f"the model's own ‖∇R‖ = {influence.stationarity.gradient_norm:.1e}",
            "train closer to the optimum first (upweight.retraining.fit)",
            NotStationaryWarning,
        ),
    )


def _responses(
    influence: Attributor,
    data: Data,
    measurement: Any,
    out: Int[Tensor, " examples"],
    tolerance: float | None,
    solver: Solver | None,
) -> Outcomes:
    damping = influence.solver.damping
    models = retraining.pbrf(
        influence.objective, out.tolist(), damping, tolerance=tolerance, solver=solver or _exact(influence)
    )
    return Outcomes(
        _moved(influence, data, measurement, models.params),
        f"the proximal Bregman response at δ = {damping:.3g}",
        len(out),
        models.gradient_norms,
    )


def _exact(influence: Attributor) -> Solver | None:
    """The influence's own inverse where it is exact: the best preconditioner there is."""
    return influence.solver if isinstance(influence.solver, DenseSolver) else None


def _moved(
    influence: Attributor, data: Data, measurement: Any, params: Float[Tensor, "examples p"]
) -> Float[Tensor, "queries examples"]:
    after = [measured(influence.objective, data, measurement, theta) for theta in params]
    return torch.stack(after, dim=1) - measured(influence.objective, data, measurement)[:, None]


def _trained(
    influence: Attributor, data: Data, measurement: Any, out: Int[Tensor, " examples"], training: Training
) -> Outcomes:
    objective, seeds = influence.objective, len(training.seeds)
    everything = torch.arange(objective.n)
    subsets = [everything, *(everything[everything != position] for position in out)]
    after = [measured(model, data, measurement) for model in training.models(objective, subsets)]
    by_seed = torch.stack(after).reshape(seeds, len(subsets), -1)
    changes = (by_seed[:, 1:] - by_seed[:, :1]).transpose(1, 2)
    errors = changes.std(0) / math.sqrt(seeds) if seeds > 1 else None
    noise = math.nan if errors is None else float(errors.square().mean().sqrt())
    return Outcomes(
        changes.mean(0),
        f"training from scratch, seeds per example: {seeds}",
        len(after),
        torch.empty(0, dtype=changes.dtype),
        Floor(noise, f"the noise of {seeds} seeds", "average over more of them (seeds=…)", NoisyWarning),
        errors,
    )
