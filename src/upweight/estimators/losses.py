"""Losses that only scikit-learn's parametrisations need."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from upweight.losses import CrossEntropy, Loss, signs


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
