"""What is left undetermined when examples go that alone hold a direction of θ: leverage 1.

The risk of the others is flat along such a direction. A refit is then what scikit-learn's least squares take: of all
minimisers the one whose coefficients have the least norm, the limit of a vanishing l2. Intercepts are free, as in
scikit-learn: parameters of the name ``bias`` don't count in the norm.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from upweight.curvature import ObjectiveCurvature
from upweight.errors import UpweightWarning, warn
from upweight.linalg.eigh import pencil
from upweight.objective import Objective

ROUNDING = 100
"""Multiple of the precision up to which the curvature that others leave in a direction, relative, is none."""
NAMED = 5


class UndeterminedWarning(UpweightWarning):
    """Examples alone determine a direction of θ, so that without them a refit is not unique."""


def say_undetermined(names: Sequence[Any], limit: bool, *, group: bool = False) -> None:
    """Warn by name; ``limit``: whether a least norm stands in the scores, else NaN."""
    listed = ", ".join(str(name) for name in names[:NAMED]) + (
        f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    )
    if group:
        who = f"the group of training examples {listed} alone determines"
    else:
        who = (
            f"training example {listed} alone determines"
            if len(names) == 1
            else f"training examples {listed} each determine"
        )
    score = "that of the refit whose coefficients have the least norm" if limit else "NaN"
    warn(
        f"leverage 1: {who} a direction of θ that the data left without it say nothing of: the score is {score}. "
        "l2 > 0 or damping > 0 would decide",
        UndeterminedWarning,
    )


def rest_of(objective: Objective, name: str, members: Tensor, scale: float | None = None) -> ObjectiveCurvature:
    """The curvature of all examples but these, with the penalty; each counts ``scale`` (1/n unless said otherwise)."""
    kept = torch.ones(objective.n, dtype=torch.bool)
    kept[members] = False
    return ObjectiveCurvature(objective, name, kept.nonzero().flatten(), scale or 1 / objective.n)


def flat(
    whole: Float[Tensor, "k p"], rest: Float[Tensor, "k p"], directions: Float[Tensor, "k p"], precision: float
) -> tuple[Float[Tensor, "j p"], Float[Tensor, " k"]]:
    """The part of a span of directions that is flat without the examples, and the shares of curvature left in it.

    ``whole`` and ``rest`` are products of the directions with the two matrices; a share is a generalised eigenvalue of
    the pair, 1 − h of an example alone. Taken from the others' own curvature a share is exact to the square of a
    solve's error, where 1 − h has the error itself.
    """
    all_of, left = ((directions.double() @ product.double().T) for product in (whole, rest))
    shares, combinations = pencil(left, all_of)
    found = combinations.T[shares <= ROUNDING * precision]
    return (found @ directions.double()).to(directions), shares


def least_norm(
    objective: Objective, step: Float[Tensor, " p"], directions: Float[Tensor, "k p"]
) -> Float[Tensor, " p"]:
    """The step and what of the directions brings the coefficients of θ + step to the least norm."""
    sizes = objective.layout.sizes
    counted = torch.cat(
        [
            torch.full((size,), name.rpartition(".")[2] != "bias", dtype=torch.bool)
            for name, size in zip(objective.layout.names, sizes, strict=True)
        ]
    ).to(step.device)
    unit = (directions / directions.norm(dim=1, keepdim=True)).double()
    theta = (objective.params + step).double()
    share = theta[counted] @ torch.linalg.pinv(unit[:, counted], rtol=torch.finfo(step.dtype).eps ** 0.5)
    return step - (share @ unit).to(step)
