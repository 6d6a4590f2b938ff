"""What a linear model's weights say of a group's features, for comparison with influence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from upweight import kinds
from upweight.errors import InputError
from upweight.objective import Objective
from upweight.plots import checks
from upweight.positions import read
from upweight.scalars import shown


@dataclass(frozen=True, kw_only=True, eq=False)
class GroupFeatures:
    """The inputs of a linear model that stand for a group.

    Parameters
    ----------
    positions
        Where they are among the model's inputs, each once.
    names
        Names of all inputs (default: their positions).

    Raises
    ------
    InputError
        If positions are no numbers, or none; they are compared with the model by `domain_mismatch`.
    """

    positions: Sequence[Any]
    names: Sequence[str] | None = None

    def __post_init__(self) -> None:
        kinds.check_fields(self)
        object.__setattr__(self, "positions", tuple(self.positions))
        checks.vector("positions", list(self.positions))
        if self.names is not None and not all(isinstance(name, str) for name in self.names):
            raise InputError(f"names: give text for each input; got {shown(self.names)}")


@dataclass(frozen=True)
class Coefficients:
    """What reading a linear model's weights would say of the group's features.

    Attributes
    ----------
    feature
        The one of largest |weight|.
    weight
        That weight.
    outranked_by
        How many of all other features have a larger |weight|.
    of
        Number of features.
    """

    feature: str
    weight: float
    outranked_by: int
    of: int


def coefficients(objective: Objective, features: GroupFeatures | None) -> Coefficients | None:
    """Weights by feature, over outputs the largest; only of a linear model whose inputs are the features themselves."""
    if features is None:
        return None
    if not isinstance(objective.model, torch.nn.Linear):
        raise InputError(
            f"features: the weights of {type(objective.model).__name__} don't belong to single inputs; leave out "
            "features, or give a torch.nn.Linear"
        )
    weights = dict(objective.layout.unflatten(objective.params)).get("weight")
    if weights is None:
        raise InputError("features: the objective holds the weight fixed; leave out features")
    flat = weights.double().cpu().numpy()
    largest = flat[np.abs(flat).argmax(0), np.arange(flat.shape[1])]
    columns = read(list(features.positions), np.arange(flat.shape[1]), "positions").numpy()
    names = features.names
    if names is not None and len(names) != flat.shape[1]:
        raise InputError(f"names: need {flat.shape[1]}, one for each input; got {len(names)}")
    best = int(columns[np.abs(largest[columns]).argmax()])
    others = np.delete(np.abs(largest), columns)
    word = str(best) if names is None else str(names[best])
    return Coefficients(word, float(largest[best]), int((others > abs(largest[best])).sum()), flat.shape[1])
