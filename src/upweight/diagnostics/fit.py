"""An objective whose outputs are linear in θ, as arrays."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float

from upweight.diagnostics.families import Family, family
from upweight.errors import InputError
from upweight.losses import SquaredError, split_batch
from upweight.objective import Objective

LINEAR = 1e-8
"""How far outputs may be from those of a linear model, of their size, at another θ."""


@dataclass(frozen=True, eq=False)
class Fit:
    """What was fitted: outputs η = Aθ + constants minimise Σ w_i ℓ_i + ½ Σ Λ_k θ_k².

    Attributes
    ----------
    design
        A, ``[n, p]``.
    outputs, targets, weights
        ``[n]``.
    losses
        ℓ_i, ``[n]``, half the deviance of a row of weight 1.
    theta, penalty
        θ and the diagonal of Λ = n·l2, ``[p]``.
    """

    family: Family
    design: Float[np.ndarray, "n p"]
    outputs: Float[np.ndarray, " n"]
    targets: Float[np.ndarray, " n"]
    weights: Float[np.ndarray, " n"]
    losses: Float[np.ndarray, " n"]
    theta: Float[np.ndarray, " p"]
    penalty: Float[np.ndarray, " p"]

    @property
    def used(self) -> int:
        """Rows of a weight above 0."""
        return int((self.weights > 0).sum())

    def weighted(self, factor: float) -> Fit:
        """The same fit with all weights, and the penalty, times a factor."""
        return replace(self, weights=factor * self.weights, penalty=factor * self.penalty)


def as_fit(objective: Objective) -> Fit:
    """Read an objective, in double precision.

    Raises
    ------
    InputError
        If its loss has no influence measures here, or its model has several outputs or isn't linear in θ.
    """
    found = family(objective.loss)
    double = objective.to(torch.float64)
    outputs = double.outputs()
    if outputs.numel() != double.n:
        raise InputError(
            f"objective: influence measures are of models of one output; this has outputs {tuple(outputs.shape)}: fit "
            "and give one output at a time"
        )
    blocks = double.data.batches(None, double.engine.block_rows(double.p))
    design = torch.cat([double.engine.function.output_factors(double.params, batch)[0] for _, batch in blocks])[:, 0]
    if not double.is_linear:
        _refuse_other_models(double, design, outputs.reshape(-1))
    targets = torch.cat([split_batch(batch)[1].reshape(-1) for _, batch in double.batches()]).double()
    losses, penalty = double.losses(), double.n * double.l2
    if isinstance(double.loss, SquaredError):  # in the units of ½(y − η)²
        losses, penalty = losses / (2 * double.loss.factor), penalty / (2 * double.loss.factor)
    columns = (outputs.reshape(-1), targets, double.weights, losses, double.params, penalty)
    return Fit(found, design.cpu().numpy(), *(column.detach().cpu().numpy() for column in columns))


def _refuse_other_models(objective: Objective, design: torch.Tensor, outputs: torch.Tensor) -> None:
    """Look at another θ: there a linear model's outputs have moved by A times the step."""
    step = torch.randn(objective.p, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    step = step.to(objective.device) * (1 + objective.params.abs())
    moved = objective.at(objective.params + step).outputs().reshape(-1)
    foretold = outputs + design @ step
    off = float((moved - foretold).abs().max() / (foretold.abs().max() + outputs.abs().max() + 1e-300))
    if not off <= LINEAR:
        raise InputError(
            f"objective: the outputs of {type(objective.model).__name__} aren't linear in θ (off by {off:.1e} of their "
            "size at another θ), so its hat matrix isn't that of a regression; hold all but the last layer fixed, e.g. "
            "Objective(parameters=['head.*']), or use upweight.Influence"
        )
