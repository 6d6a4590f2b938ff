"""Losses of the margin y·f: logistic and hinges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from upweight import scalars
from upweight.data import Batch
from upweight.errors import InputError
from upweight.losses.base import Loss, class_weights, one_hot
from upweight.losses.batches import split_batch


def signs(outputs: Tensor, targets: Tensor) -> Tensor:
    """Targets as ±1 in the shape of the outputs; class numbers become one against the rest.

    Parameters
    ----------
    outputs
        Of the model: ``[batch]`` or ``[batch, 1]``, or ``[batch, outputs]``.
    targets
        {0, 1} or {−1, 1}, as many as outputs; or class numbers ``[batch]`` where there are several outputs an example.

    Returns
    -------
    In the outputs' precision: the targets' shape, and for class numbers ``[batch, outputs]``.
    """
    if outputs.dim() > targets.dim() and outputs.shape[-1] > 1:
        return 2 * one_hot(targets, outputs.shape[-1]).to(outputs.dtype) - 1
    return torch.where(targets > 0, 1, -1).to(outputs.dtype)


def margins(outputs: Tensor, targets: Tensor) -> Tensor:
    """Y · f: output times the target's sign, positive where the model is right; shape of the signs.

    Parameters
    ----------
    outputs, targets
        As for `signs`.
    """
    wanted = signs(outputs, targets)
    return wanted * outputs.reshape(wanted.shape)


class OneAgainstRest(Loss):
    """Losses of the margin y·f with y = ±1; targets in {0, 1} or {−1, 1}, class numbers of several outputs."""

    is_convex = True

    def check(self, outputs: Tensor, batch: Batch) -> None:
        """Targets must be {0, 1} or {−1, 1}; with several outputs, class numbers.

        Raises
        ------
        InputError
            If they are others, or not as many as outputs; says which were found.
        """
        targets = split_batch(batch)[1]
        name = type(self).__name__
        if outputs.dim() > targets.dim() and outputs.shape[-1] > 1:
            if targets.is_floating_point() or targets.min() < 0 or targets.max() >= outputs.shape[-1]:
                raise InputError(f"{name}: with {outputs.shape[-1]} outputs targets must be class numbers below that")
            return
        if outputs.numel() != targets.numel():
            raise InputError(f"{name}: outputs {tuple(outputs.shape)} against targets {tuple(targets.shape)}")
        values = set(targets.unique().tolist())
        if not (values <= {0, 1} or values <= {-1, 1}):
            raise InputError(f"{name}: targets must be in {{0, 1}} or {{-1, 1}}; got {sorted(values)[:6]}")


@dataclass(frozen=True)
class BinaryLogistic(OneAgainstRest):
    """log(1 + exp(−y f)), y = ±1; several outputs: one against the rest, summed.

    With targets of the outputs' shape every output has a label of its own (several labels an example).

    Parameters
    ----------
    pos_weight
        What a positive target counts, as in torch: one number, or one for each output.
    factor
        What every value is multiplied by.

    Notes
    -----
    torch's ``reduction='mean'`` divides by the number of targets, whatever ``pos_weight``: ``factor = 1 / outputs``
    gives its R, and so does ``nn.BCEWithLogitsLoss(…)`` itself as the loss.

    Targets for a Fisher matrix are drawn from the
    model and count as much as the given target does, so that its mean is the GGN.
    """

    pos_weight: float | Sequence[float] | Tensor | None = None
    factor: float = 1.0
    unit = "nats"
    is_likelihood = True

    def __post_init__(self) -> None:
        scalars.number("factor", self.factor, above=0)
        given = self.pos_weight.tolist() if isinstance(self.pos_weight, Tensor) else self.pos_weight
        one = given is not None and not isinstance(given, Sequence)
        object.__setattr__(self, "pos_weight", class_weights("pos_weight", [given] if one else given))

    @property
    def is_plain(self) -> bool:
        """Whether the value is −log p of the label as it stands."""
        return self.pos_weight is None and self.factor == 1

    def sample(self, outputs: Tensor, batch: Batch, uniform: Tensor) -> Tensor:
        """1 with probability σ(f), else the other label that the targets use."""
        targets = self.targets(batch)
        self.refuse_several(outputs, targets)
        positive = (uniform < outputs.double().sigmoid()).reshape(targets.shape)
        low = -1 if bool((targets < 0).any()) else 0
        return torch.where(positive, 1, low).to(targets.dtype)

    def drawn_slope(self, outputs: Tensor, batch: Batch, uniform: Tensor) -> Tensor:
        """√Q (σ(f) − ỹ) at drawn ỹ in {0, 1}, Q as much as the given target counts."""
        targets = self.targets(batch)
        drawn = (self.sample(outputs, batch, uniform) > 0).reshape(outputs.shape).to(outputs.dtype)
        return self.mass(outputs, targets).sqrt().reshape(outputs.shape) * (outputs.sigmoid() - drawn)

    def refuse_several(self, outputs: Tensor, targets: Tensor) -> None:
        """One against the rest is not the likelihood of a class.

        Raises
        ------
        InputError
            If there are more outputs than targets: class numbers, one against the rest.
        """
        if outputs.numel() != targets.numel():
            raise InputError(
                "curvature: with several outputs an example, BinaryLogistic (one against the rest) has no targets to "
                "draw; use curvature.GGN() or curvature.EmpiricalFisher()"
            )

    def compare(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """−log σ of the margin; softplus would be cut off at 20, and its curvature with it."""
        found = -F.logsigmoid(margins(outputs, targets))
        return found if self.is_plain else self.mass(outputs, targets) * found

    def mass(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """How much every output counts, Q: the second derivative is Q σ(f) σ(−f)."""
        wanted = signs(outputs, targets)
        if self.pos_weight is None:
            return torch.full_like(wanted, self.factor)
        weights = torch.tensor(self.pos_weight, dtype=outputs.dtype, device=outputs.device)
        return self.factor * torch.where(wanted > 0, weights, 1.0)

    def check(self, outputs: Tensor, batch: Batch) -> None:
        """As for every loss of margins; and a weight for each output.

        Raises
        ------
        InputError
            As for those, or if ``pos_weight`` has several numbers, and not one for each output.
        """
        super().check(outputs, batch)
        if self.pos_weight is None:
            return
        shape, given = signs(outputs, self.targets(batch)).shape, len(tuple(self.pos_weight))  # type: ignore[arg-type]
        if given != 1 and (len(shape) < 2 or shape[-1] != given):
            raise InputError(
                f"BinaryLogistic: pos_weight has {given} numbers, and outputs are {tuple(outputs.shape)}; give one, or "
                "one for each output"
            )


class Hinge(OneAgainstRest):
    """max(0, 1 − y f). Its second derivative is zero wherever it exists, so H = λI (see SmoothHinge)."""

    def compare(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Hinge of the margin."""
        return F.relu(1 - margins(outputs, targets))


class SquaredHinge(OneAgainstRest):
    """max(0, 1 − y f)²: the default loss of scikit-learn's LinearSVC."""

    def compare(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Squared hinge of the margin."""
        return F.relu(1 - margins(outputs, targets)) ** 2


@dataclass(frozen=True)
class SmoothHinge(OneAgainstRest):
    """t·log(1 + exp((1 − y f)/t)), the hinge as t → 0 (Koh & Liang 2017, section 4.3)."""

    t: float = 0.001

    def __post_init__(self) -> None:
        scalars.number("t (for t = 0 use Hinge())", self.t, above=0)

    def compare(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """−t log σ((y f − 1)/t), which is the softplus without its cut-off at 20."""
        return -self.t * F.logsigmoid((margins(outputs, targets) - 1) / self.t)
