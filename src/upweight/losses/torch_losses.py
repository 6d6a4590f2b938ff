"""torch's own losses as those of this package, with all their options.

``reduction='mean'`` is read as the mean over the training data as one batch: every value is multiplied by n/D, where D
is what torch divides by, so that R without penalty is torch's loss of the training data, and l2 means what it meant
there. D is

- ``CrossEntropyLoss``: Σ w_y over all places that aren't ignored (without weights their number); for probabilities the
  number of examples;
- ``BCEWithLogitsLoss``, ``MSELoss``: the number of all targets: an example's value is the mean over its outputs.

(Training by mini-batches divides by each batch's own D. With class weights or ignored places those differ from batch to
batch, and R is what they have in common.)

``reduction='sum'`` and ``'none'`` have sums over an example's outputs as its values. R divides their sum by n, so the
l2 of a model trained with ``'sum'`` is its penalty's λ/n.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from upweight.data import Data
from upweight.errors import InputError
from upweight.losses.base import Loss
from upweight.losses.batches import split_batch
from upweight.losses.cross_entropy import CrossEntropy
from upweight.losses.margins import BinaryLogistic
from upweight.losses.squared_error import SquaredError

FUNCTIONS: dict[Any, type[nn.Module]] = {
    F.cross_entropy: nn.CrossEntropyLoss,
    F.binary_cross_entropy_with_logits: nn.BCEWithLogitsLoss,
    F.mse_loss: nn.MSELoss,
}
TYPES = (nn.CrossEntropyLoss, nn.BCEWithLogitsLoss, nn.MSELoss)


def known(loss: Any) -> bool:
    """Whether it is a loss of torch that one of ours stands for; a subclass may compute something else."""
    return type(loss) in TYPES or any(loss is function for function in FUNCTIONS)


def mapped(loss: Any, data: Data | None) -> Loss:
    """Our loss for torch's.

    Parameters
    ----------
    data
        The training data, over which torch's mean is taken.

    Raises
    ------
    InputError
        If an option says something of single examples, or a mean is asked for without data.
    """
    module = loss if isinstance(loss, nn.Module) else FUNCTIONS[loss]()
    factor = 1.0
    if module.reduction == "mean":
        if data is None:
            raise InputError(f"loss: {type(module).__name__} takes a mean; give its training data")
        factor = len(data) / _divisor(module, data)
    if isinstance(module, nn.CrossEntropyLoss):
        weight, smoothing = module.weight, module.label_smoothing
        return CrossEntropy(module.ignore_index, weight=weight, label_smoothing=smoothing, factor=factor)
    if isinstance(module, nn.BCEWithLogitsLoss):
        return BinaryLogistic(_pos_weight(module), factor=factor)
    return SquaredError(factor)


def _divisor(module: nn.Module, data: Data) -> float:
    """What torch's mean over the data divides by; one pass over their targets."""
    total = 0.0
    weight = module.weight if isinstance(module, nn.CrossEntropyLoss) else None
    for _, batch in data.batches(None, None):
        targets = split_batch(batch)[1]
        if not isinstance(module, nn.CrossEntropyLoss):
            total += targets.numel()
        elif targets.is_floating_point():
            total += len(targets)
        else:
            kept = targets[targets != module.ignore_index]
            total += kept.numel() if weight is None else _sum(weight, kept)
    if not total:
        raise InputError(f"loss: {type(module).__name__} divides by the weight of all targets, which is 0")
    return total


def _sum(weight: Tensor, classes: Tensor) -> float:
    if classes.numel() and not 0 <= int(classes.min()) <= int(classes.max()) < len(weight):
        raise InputError(
            f"loss: CrossEntropyLoss has weights of {len(weight)} classes, and targets go from {int(classes.min())} to "
            f"{int(classes.max())}"
        )
    counts = torch.bincount(classes.flatten().cpu(), minlength=len(weight))
    return float((counts * weight.detach().cpu().double()).sum())


def _pos_weight(module: nn.BCEWithLogitsLoss) -> Tensor | None:
    if module.weight is not None:
        raise InputError(
            "loss: BCEWithLogitsLoss(weight=…) weighs the places of a batch; give its weights of examples as "
            "Objective(…, weights=…) and the loss without"
        )
    if module.pos_weight is not None and module.pos_weight.dim() > 1:
        raise InputError(
            f"loss: BCEWithLogitsLoss(pos_weight) has shape {tuple(module.pos_weight.shape)}; give one number for each "
            "output, or a function (model, batch) -> one value per example"
        )
    return module.pos_weight


def refusal(module: nn.Module) -> str:
    """Why a module is no loss here, with the mend."""
    name = type(module).__name__
    if isinstance(module, nn.NLLLoss):
        return (
            "loss: NLLLoss takes log-probabilities; give nn.CrossEntropyLoss with the same options, which on them has "
            "the same values"
        )
    return (
        f"loss: {name} compares outputs with targets and has already reduced them; of torch's, CrossEntropyLoss, "
        "BCEWithLogitsLoss and MSELoss are taken as they are. Give one of upweight.losses, or a function (model, "
        f"batch) -> one value per example, made of {name}(reduction='none')"
    )
