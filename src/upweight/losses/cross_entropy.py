"""The cross-entropy of a softmax."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from upweight import scalars
from upweight.data import Batch
from upweight.errors import InputError
from upweight.losses import softmax
from upweight.losses.base import Loss, checked_temperature, class_weights, one_hot
from upweight.losses.batches import split_batch


@dataclass(frozen=True)
class CrossEntropy(Loss):
    """−log softmax(outputs)[target], in all the forms of torch's ``cross_entropy``; a value per example.

    Outputs are ``[batch, classes]``, or ``[batch, ..., classes]`` or as in torch ``[batch, classes, ...]``. Targets are
    class numbers ``[batch, ...]``, whose shape tells which dimension of the outputs is the classes': an image's
    ``[b, C, H, W]`` with ``[b, H, W]`` is read as torch reads it, a sequence's ``[b, T, C]`` with ``[b, T]`` as it
    stands. Where both fit (C = H = W, C = T) it is refused until ``class_axis`` says it. Or targets are probabilities
    of the classes, of the outputs' shape (floating-point; beyond ``[b, C]`` they need ``class_axis``).

    Parameters
    ----------
    ignore_index
        Class numbers equal to it contribute nothing.
    temperature
        T that divides the model's outputs. 1 is the loss that was trained; above it gradients and curvature are those
        of a model less sure of its training data, as it was earlier in training, and would be on half of the data.
        Leaving out a *large share* of the data is then foretold better (LDS, see benchmarks/fidelity/RESULTS.md: most
        at 1.4); a single example's influence, whose magnitude is to mean something, asks for 1.
    weight
        Of each class, as in torch: a place of class y counts w_y.
    label_smoothing
        α: targets are 1 − α of themselves and α of all classes alike.
    class_axis
        Dimension of the classes in the outputs, 1 or −1 (default: by shape).
    factor
        What every value is multiplied by.

    Notes
    -----
    An example's value is the sum over its places, as torch's ``reduction='sum'`` gives it for the example alone.
    torch's ``reduction='mean'`` divides by the weights of all places that count, Σ w_y (by their number without
    weights; for probabilities by their number always), while R(θ) divides by the number of examples. So for a model
    trained with the weighted mean give ``nn.CrossEntropyLoss(weight=…)`` itself as the loss, or, what is the same,
    ``factor = n / Σ w_y`` over the training labels: then R without penalty is torch's mean over the training data, and
    l2 means what it meant there. ``Objective(model, CrossEntropy(), data, weights=w[y] / w[y].mean())`` has the same R
    too (without smoothing), where the loss of queries is unweighted. Weights not divided so have the same minimum only
    at l2 = 0.

    Targets for a Fisher matrix are drawn from the softmax and count as much as the given target does (w_y; with
    smoothing and probabilities Σ_c q_c of its coefficients), so that its mean is the GGN.
    """

    ignore_index: int = -100
    temperature: float = 1.0
    weight: Sequence[float] | Tensor | None = None
    label_smoothing: float = 0.0
    class_axis: int | None = None
    factor: float = 1.0
    unit = "nats"
    is_likelihood = True
    is_convex = True

    def __post_init__(self) -> None:
        checked_temperature(self, self.temperature)
        scalars.whole("ignore_index", self.ignore_index, -(2**63))
        scalars.number("label_smoothing", self.label_smoothing, least=0, most=1)
        scalars.number("factor", self.factor, above=0)
        object.__setattr__(self, "weight", class_weights("weight", self.weight))
        if self.class_axis is not None and scalars.whole("class_axis", self.class_axis, -1) not in (1, -1):
            raise InputError(f"class_axis: give 1 (as in torch) or -1 (the last); got {self.class_axis!r}")

    @property
    def is_plain(self) -> bool:
        """Whether the value is −log p of one class as it stands: no weights, smoothing or factor."""
        return self.weight is None and self.label_smoothing == 0 and self.factor == 1

    def outputs(self, model: nn.Module, batch: Batch) -> Tensor:
        """Logits over the temperature, ``[batch, ..., classes]``."""
        logits, targets = super().outputs(model, batch), split_batch(batch)[1]
        if isinstance(targets, Tensor):
            logits = softmax.classes_last(logits, targets, self.class_axis)
        return logits if self.temperature == 1 else logits / self.temperature

    def targets(self, batch: Batch) -> Tensor:
        """Class numbers, or probabilities with the classes as last dimension."""
        targets = super().targets(batch)
        is_second = self.class_axis == 1 and targets.is_floating_point() and targets.dim() > 2
        return targets.movedim(1, -1) if is_second else targets

    def draws(self, outputs: Tensor) -> tuple[int, ...]:
        """One number for each position."""
        return tuple(outputs.shape[1:-1])

    def sample(self, outputs: Tensor, batch: Batch, uniform: Tensor) -> Tensor:
        """Classes by the softmax; positions that the loss ignores stay ignored, and take no number of their own.

        So draws are the same whichever padding stands before what counts.
        """
        targets = self.targets(batch)
        if uniform.dim() > 1 and not softmax.are_probabilities(outputs, targets):
            number = (targets != self.ignore_index).flatten(1).cumsum(1).sub(1).clamp_min(0)
            uniform = uniform.flatten(1).gather(1, number).reshape(uniform.shape)
        cumulative = outputs.double().softmax(-1).cumsum(-1)
        drawn = (uniform.unsqueeze(-1) >= cumulative).sum(-1).clamp_max(outputs.shape[-1] - 1)
        if softmax.are_probabilities(outputs, targets):
            return drawn
        return torch.where(targets == self.ignore_index, targets, drawn)

    def drawn_slope(self, outputs: Tensor, batch: Batch, uniform: Tensor) -> Tensor:
        """√Q (p − e_ỹ) at drawn classes ỹ, Q as much as the given target counts."""
        drawn = self.sample(outputs, batch, uniform)
        slope = outputs.softmax(-1) - one_hot(drawn, outputs.shape[-1]).to(outputs.dtype)
        return self.mass(outputs, self.targets(batch)).sqrt().unsqueeze(-1) * slope

    def compare(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy by position."""
        found = softmax.values(outputs, targets, self._weight, self.label_smoothing, self.ignore_index)
        return found if self.factor == 1 else self.factor * found

    def mass(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """How much every position counts, Q: the Hessian in its outputs is Q (diag p − ppᵀ). 0 where it is ignored."""
        return self.factor * softmax.masses(outputs, targets, self._weight, self.label_smoothing, self.ignore_index)

    @property
    def _weight(self) -> softmax.ClassWeights:
        return None if self.weight is None else tuple(self.weight)

    def check(self, outputs: Tensor, batch: Batch) -> None:
        """Targets must be whole numbers in 0 … classes − 1, or probabilities.

        Raises
        ------
        InputError
            If they are neither, don't have the outputs' shape but for the classes, or there are more or fewer numbers
            in ``weight`` than classes.
        """
        targets = self.targets(batch)
        classes = outputs.shape[-1]
        if self._weight is not None and len(self._weight) != classes:
            raise InputError(f"CrossEntropy: weight has {len(self._weight)} numbers, and the model {classes} classes")
        if softmax.are_probabilities(outputs, targets):
            return self._check_probabilities(outputs, targets)
        if targets.is_floating_point():
            raise InputError(
                f"CrossEntropy: targets are {targets.dtype}; it needs integer class numbers, or a probability for "
                f"every class in the outputs' shape {tuple(outputs.shape)}"
            )
        if targets.shape != outputs.shape[:-1]:
            raise InputError(
                f"CrossEntropy: outputs {tuple(outputs.shape)} must be targets' shape {tuple(targets.shape)} "
                "with the classes as a last dimension, or as the second, as in torch"
            )
        kept = targets[targets != self.ignore_index]
        if kept.numel() and (kept.min() < 0 or kept.max() >= classes):
            raise InputError(
                f"CrossEntropy: targets range from {int(kept.min())} to {int(kept.max())}, but the model has "
                f"{classes} outputs (classes 0 … {classes - 1})"
            )

    def _check_probabilities(self, outputs: Tensor, targets: Tensor) -> None:
        if targets.shape != outputs.shape:
            raise InputError(
                f"CrossEntropy: probabilities {tuple(targets.shape)} must have the outputs' shape "
                f"{tuple(outputs.shape)}"
            )
        if self.ignore_index >= 0:
            raise InputError("CrossEntropy: ignore_index stands for a class number, and targets are probabilities")
        if targets.numel() and (targets.min() < 0 or targets.max() > 1):
            raise InputError(
                f"CrossEntropy: targets are {targets.dtype} from {float(targets.min()):.3g} to "
                f"{float(targets.max()):.3g}; probabilities of classes are in 0 … 1"
            )
