"""Cross-entropy of logits in all the forms that torch knows: −Σ_c q_c log p_c, and where the classes lie.

Every form is ℓ = Σ_c q_c (lse f − f_c) for coefficients q of the target: w_y at the class y, w_c t_c for probabilities
t, and with label smoothing α (1 − α) of these and α w_c/C everywhere. So its Hessian in the logits is
Q(diag p − ppᵀ), Q = Σ_c q_c: the *mass* of a place is all that curvature needs to know.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from upweight.data import sent
from upweight.errors import InputError

ClassWeights = tuple[float, ...] | None


def are_probabilities(outputs: Tensor, targets: Tensor) -> bool:
    """Whether targets are a probability for every class rather than class numbers."""
    return targets.is_floating_point() and targets.dim() == outputs.dim() and targets.dim() > 1


def classes_last(outputs: Tensor, targets: Tensor, class_axis: int | None) -> Tensor:
    """Logits with the classes as last dimension, ``[batch, ..., classes]``.

    They are found by shape, as the dimension that class numbers don't have: the last, or the second, as torch's
    ``cross_entropy`` has it.

    Raises
    ------
    InputError
        If both fit and ``class_axis`` doesn't say which.
    """
    if outputs.dim() < 3 or class_axis == -1:
        return outputs
    if class_axis == 1:
        return outputs.movedim(1, -1)
    last = targets.shape == outputs.shape[:-1]
    second = targets.shape == (*outputs.shape[:1], *outputs.shape[2:])
    if are_probabilities(outputs, targets) or (last and second):
        reason = "targets of the same shape" if not last else f"targets {tuple(targets.shape)}"
        raise InputError(
            f"CrossEntropy: in outputs {tuple(outputs.shape)} with {reason} the classes may be the second dimension or "
            "the last; say which: CrossEntropy(class_axis=1), as in torch, or CrossEntropy(class_axis=-1)"
        )
    return outputs.movedim(1, -1) if second else outputs


def values(
    outputs: Tensor, targets: Tensor, weight: ClassWeights, smoothing: float, ignored: int
) -> Float[Tensor, " ..."]:
    """The loss of every place, 0 where it is ignored; the classes are the last dimension."""
    log_p = F.log_softmax(outputs, dim=-1)
    w = None if weight is None else _weights(weight, outputs)
    if are_probabilities(outputs, targets):
        q = _smoothed(targets.to(outputs.dtype), smoothing)
        return -(log_p * (q if w is None else q * w)).sum(-1)
    kept = targets != ignored
    index = torch.where(kept, targets, 0)
    found = -log_p.gather(-1, index.unsqueeze(-1)).squeeze(-1)
    if w is not None:
        found = found * w[index]
    if smoothing:
        everywhere = -(log_p if w is None else log_p * w).sum(-1)
        found = (1 - smoothing) * found + smoothing / outputs.shape[-1] * everywhere
    return found * kept


def masses(
    outputs: Tensor, targets: Tensor, weight: ClassWeights, smoothing: float, ignored: int
) -> Float[Tensor, " ..."]:
    """Q = Σ_c q_c of every place, 0 where it is ignored."""
    w = None if weight is None else _weights(weight, outputs)
    if are_probabilities(outputs, targets):
        q = _smoothed(targets.to(outputs.dtype), smoothing)
        return (q if w is None else q * w).sum(-1)
    kept = targets != ignored
    if w is None:
        return kept.to(outputs.dtype)
    found = w[torch.where(kept, targets, 0)]
    return ((1 - smoothing) * found + smoothing * w.mean()) * kept


def _smoothed(probabilities: Tensor, smoothing: float) -> Tensor:
    classes = probabilities.shape[-1]
    return (1 - smoothing) * probabilities + smoothing / classes if smoothing else probabilities


def _weights(weight: tuple[float, ...], outputs: Tensor) -> Tensor:
    return sent(torch.tensor(weight, dtype=outputs.dtype), outputs.device)
