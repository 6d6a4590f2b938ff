"""What an estimator is translated to, and the parts that families share."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from upweight.errors import InputError
from upweight.losses import Loss


@dataclass(frozen=True)
class TrainingData:
    """What the estimator's last step was fitted on: features, encoded targets, sample weights.

    ``targets`` are positions in ``classes_`` for classifiers, numbers for regressors.
    """

    features: Float[np.ndarray, "n d"]
    targets: np.ndarray
    sample_weight: Float[np.ndarray, " n"]

    @property
    def n(self) -> int:
        """Number of examples."""
        return len(self.features)


@dataclass(frozen=True)
class Form:
    """The arguments of an `Objective` that minimises what the estimator minimised."""

    model: nn.Module
    loss: Loss
    l2: dict[str, float]
    weights: Float[np.ndarray, " n"]


def linear_layer(
    coefficients: Float[np.ndarray, "outputs d"], intercepts: Float[np.ndarray, " outputs"] | None
) -> nn.Linear:
    """``nn.Linear`` in float64 with these numbers, copied; without intercepts, without bias."""
    outputs, features = coefficients.shape
    layer = nn.Linear(features, outputs, bias=intercepts is not None, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(coefficients))
        if intercepts is not None:
            layer.bias.copy_(torch.tensor(np.broadcast_to(intercepts, (outputs,))))
    return layer


def class_weights(estimator: Any, data: TrainingData, by_row: bool = False) -> Float[np.ndarray, " classes"]:
    """The weight of each class in ``classes_``, from the estimator's ``class_weight``.

    ``by_row``: 'balanced' counts every row once, whatever its sample weight.
    """
    from sklearn.utils.class_weight import compute_class_weight

    # Since 1.7 'balanced' counts examples by their sample weight, in most estimators and here alike.
    known = inspect.signature(compute_class_weight).parameters
    options = {"sample_weight": data.sample_weight} if "sample_weight" in known and not by_row else {}
    labels = estimator.classes_[data.targets]
    return compute_class_weight(estimator.class_weight, classes=estimator.classes_, y=labels, **options)


def liblinear_penalties(estimator: Any, l2: float, scaling: float) -> dict[str, float]:
    """λ of weights and intercept where liblinear appended a constant feature ``scaling`` for the intercept.

    The intercept is b = scaling · v with v penalised like the weights: ½λv² = ½(λ/scaling²)b².
    """
    return {"weight": l2, "bias": l2 / scaling**2} if estimator.fit_intercept else {"weight": l2}


def refuse_positive(estimator: Any) -> None:
    """Coefficients on a bound are not where a gradient vanishes."""
    if getattr(estimator, "positive", False):
        raise InputError(
            f"estimator: {type(estimator).__name__}(positive=True) is a constrained fit, at whose bounds influence "
            "functions don't hold; fit with positive=False"
        )
