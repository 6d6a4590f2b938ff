"""Losses that only scikit-learn's parametrisations need."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from upweight.data import Batch
from upweight.errors import InputError
from upweight.losses import CrossEntropy, Loss, OneAgainstRest, margins, signs, split_batch


class CentredCrossEntropy(CrossEntropy):
    """Cross-entropy + ½ f̄², f̄ the mean of the outputs over classes.

    A softmax doesn't see a shift common to all classes, so with unpenalised intercepts (or weights) the Hessian of
    cross-entropy is singular. scikit-learn's solution has f̄ = 0 everywhere, so there the added term and its gradient
    are zero; its curvature lies along the common shift alone, apart from all that cross-entropy sees. Scores are those
    of cross-entropy with the pseudo-inverse, and H is invertible. The term is itself minimised at that solution, so
    retraining finds the same one.
    """

    def compare(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy with the common shift tied to zero."""
        return super().compare(outputs, targets) + 0.5 * outputs.mean(-1) ** 2


@dataclass(frozen=True)
class PositiveWeighted(Loss):
    """A one-against-rest loss whose own-class term is multiplied by the weight of the class.

    With more than two classes liblinear weighs the positive examples of each machine by their class and the
    rest by one, which is no weight per example.
    """

    loss: Loss
    class_weights: tuple[float, ...]

    def compare(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The loss by output, own class weighted."""
        weights = outputs.new_tensor(self.class_weights)
        positive = signs(outputs, targets) > 0
        return self.loss.compare(outputs, targets) * torch.where(positive, weights, 1.0)

    def check(self, outputs: Tensor, batch: object) -> None:
        """As for the loss."""
        self.loss.check(outputs, batch)


class SquaredErrorOfSigns(OneAgainstRest):
    """½ (1 − y f)² = ½ (y − f)², y = ±1: least squares as a classifier; several outputs: one against the rest."""

    def compare(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Half the squared distance of the margin from 1."""
        return 0.5 * (1 - margins(outputs, targets)) ** 2


@dataclass(frozen=True)
class HalfDeviance(Loss):
    """½ Tweedie deviance of targets y from means μ = exp(output): power 1 Poisson, 2 gamma, 0 squared error.

    As `sklearn.metrics.mean_tweedie_deviance` defines it: zero where μ = y.
    """

    power: float = 1.0
    unit = "half deviance"
    classifies = False

    @property
    def is_convex(self) -> bool:  # type: ignore[override]
        """In the log mean, for powers from 1 to 2."""
        return 1 <= self.power <= 2

    def compare(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Half the deviance by output."""
        logs, p = outputs.reshape(targets.shape), self.power
        if p == 1:
            return logs.exp() - targets * logs + torch.special.xlogy(targets, targets) - targets
        if p == 2:
            return logs + targets * (-logs).exp() - targets.log() - 1
        constant = targets.clamp_min(0) ** (2 - p) / ((1 - p) * (2 - p))
        return constant - targets * ((1 - p) * logs).exp() / (1 - p) + ((2 - p) * logs).exp() / (2 - p)

    def check(self, outputs: Tensor, batch: Batch) -> None:
        """Targets in the range of the distribution: above 0 from power 2 on, from 0 between 1 and 2."""
        targets = split_batch(batch)[1]
        if outputs.numel() != targets.numel():
            raise InputError(f"HalfDeviance: outputs {tuple(outputs.shape)} against targets {tuple(targets.shape)}")
        least = float(targets.min())
        if (self.power >= 2 and least <= 0) or (1 <= self.power < 2 and least < 0):
            bound = "> 0" if self.power >= 2 else "≥ 0"
            raise InputError(f"HalfDeviance: targets of power {self.power:g} must be {bound}; the least is {least:g}")
