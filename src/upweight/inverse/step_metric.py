"""Gradients compared in the metric of an optimiser's steps: diag(1/(√v̂ + ε)) in place of the inverse curvature."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass

import torch
from torch import Tensor

from upweight import kinds
from upweight.curvature import Operator
from upweight.curvature.eigenbasis import Basis, EigenOperator
from upweight.errors import InputError
from upweight.gradients import Block, Gradients
from upweight.inverse.costs import Counts, Work, diagonal_stages
from upweight.inverse.damping import Damping
from upweight.inverse.eigenbasis import EigenSolver
from upweight.objective import Objective


@dataclass(frozen=True, eq=False)
class StepMetric:
    """(√v̂ + ε)⁻¹, entry by entry: how far a step of Adam on one gradient moves along another.

    ``removal`` is then ∇L_q·∇ℓ_z/(√v̂+ε)/n: times the learning rate and the steps taken on z, to first order, what
    those steps did to the query (Xia et al. 2024, LESS). No curvature of the objective is in it.

    Parameters
    ----------
    metric
        √v̂ + ε by parameter name: `upweight.step_metric` of the optimiser and the model.
    damping
        δ added to it.

    Raises
    ------
    InputError
        If a parameter of θ is missing in it, of another shape, or not > 0.
    """

    metric: Mapping[str, Tensor]
    _: KW_ONLY
    damping: Damping = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.metric, Mapping):
            raise InputError(
                f"metric: give numbers by parameter name, uw.step_metric(optimizer, model); got {self.metric!r}"
            )
        kinds.check_fields(self)

    def __repr__(self) -> str:
        norm = sum(float((value.double() ** 2).sum()) for value in self.metric.values()) ** 0.5
        return f"StepMetric(‖√v̂+ε‖ = {norm!r}, damping={self.damping!r})"

    def work(self, counts: Counts, *, timed: bool = True) -> Work:
        """See `upweight.inverse.costs.Costed`."""
        return Work(tuple(diagonal_stages(counts)))

    def fit(self, target: Objective | Operator) -> EigenSolver:
        """Bind to an objective's parameters; no pass is made.

        Raises
        ------
        InputError
            If it is given an operator rather than an objective, whose parameters it knows by name, or the metric lacks
            a parameter, or has one of another shape or not > 0.
        """
        if not isinstance(target, Objective):
            raise InputError("inverse.StepMetric: needs an objective, whose parameters it knows by name")
        bases = [Basis(shape) for shape in target.engine.function.plan.shapes]
        frame = Gradients(target.layout, tuple(Block(basis.shape, ()) for basis in bases), 0)
        values = tuple(matrix[0] for matrix in frame.matrices(vector(self.metric, target)[None]))
        operator = EigenOperator(target, tuple(bases), values, "metric of the optimiser's steps", penalized=False)
        return EigenSolver.of(operator, self.damping)


def vector(metric: Mapping[str, Tensor], objective: Objective) -> Tensor:
    """A metric as one number for every entry of θ, ``[p]``.

    Raises
    ------
    InputError
        Names the parameter that is missing, of another shape, or not positive.
    """
    layout, named = objective.layout, {}
    for name, shape in zip(layout.names, layout.shapes, strict=True):
        if name not in metric:
            raise InputError(
                f"metric: it lacks the parameter {name!r}; give that of the optimiser that trained it, or choose "
                "parameters of the objective that it trained"
            )
        value = torch.as_tensor(metric[name])
        if value.shape != shape:
            raise InputError(f"metric: {name!r} has shape {tuple(value.shape)}, and in θ {tuple(shape)}")
        if not bool((torch.isfinite(value) & (value > 0)).all()):
            raise InputError(f"metric: {name!r} holds numbers that are not > 0; give √v̂ + ε")
        named[name] = value.to(objective.params)
    return layout.flatten(named)
