"""A regression that was fitted to transformed targets, in the targets' own units.

A transformer of targets t = a·y + b (a scaler of any kind) leaves a risk R(θ) of ½(f − t)². With g = (f − b)/a this is
a²·½(g − y)²: R/a² is a risk of the targets as they are, with the same minimum, and its losses are
squared units of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from upweight.losses import SquaredError, split_batch
from upweight.objective import Objective

ROUNDING = 1e-9
"""Of the targets' spread: how far from a line a transformation may be that is one."""


def in_own_units(objective: Objective, targets: npt.NDArray[np.float64]) -> tuple[Objective, str]:
    """The objective on ``targets`` ``[rows]`` as they are, and a note where it can't be.

    It is the given one where its targets are these already, and where they are no linear transformation of them: then
    the note says what its numbers are.
    """
    inputs, own = split_batch(objective.data.take(range(objective.n)))
    given = own.double().cpu().numpy().reshape(-1)
    if given.shape != targets.shape or np.array_equal(given, targets):
        return objective, ""
    slope, shift = np.polyfit(targets - targets.mean(), given, 1).tolist()
    shift -= slope * targets.mean()
    far = np.abs(slope * targets + shift - given).max()
    if not isinstance(objective.loss, SquaredError) or not slope or far > ROUNDING * np.ptp(given):
        at = int(np.abs(targets - np.median(targets)).argmin())
        return objective, (
            "values, predictions, suggestions and losses are of the target as the estimator transforms it "
            f"({given[at]:.6g} for {targets[at]:.6g}), not in its own units"
        )
    model, is_linear = _scaled(objective.model, slope, shift)
    changes: dict[str, Any] = {"model": model, "data": (inputs, torch.tensor(targets, dtype=own.dtype))}
    l2: Any = objective.problem.given.l2
    if not is_linear:
        shares = {name: value / slope**2 for name, value in l2.items()} if isinstance(l2, Mapping) else l2 / slope**2
        changes["l2"] = shares
    return objective.replace(**changes), ""


def _scaled(model: nn.Module, slope: float, shift: float) -> tuple[nn.Module, bool]:
    """The model with outputs (f − b)/a, its parameters under their names, and whether θ itself was divided by a.

    It is where outputs are linear in θ, and λ‖θ‖² is divided by a² with it. Of a network, parameters of other sizes
    would make other curvatures, and a last layer does it that isn't trained.
    """
    other = deepcopy(model)
    layers = list(other) if isinstance(other, nn.Sequential) else [other]
    last = layers[-1]
    with torch.no_grad():
        trained = {id(each) for each in other.parameters() if each.requires_grad}
        if isinstance(last, nn.Linear) and trained <= {id(each) for each in last.parameters()}:
            last.weight.div_(slope)
            if last.bias is None:
                start = torch.zeros(last.out_features, dtype=last.weight.dtype)
                last.bias = nn.Parameter(start, requires_grad=False)
            last.bias.sub_(shift).div_(slope)
            return other, True
        unit = nn.Linear(1, 1, dtype=next(other.parameters()).dtype).requires_grad_(False)
        unit.weight.fill_(1 / slope)
        unit.bias.fill_(-shift / slope)
    return nn.Sequential(*layers, unit).eval(), False
