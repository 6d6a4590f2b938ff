"""Models that say what they were trained on: next tokens, or a loss of their own, beside the loss that is given."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from upweight.data import Batch, Data, batch_length, tensors
from upweight.errors import InputError, UpweightWarning, warn
from upweight.gradients.substituted import called
from upweight.losses import AnyLoss, CausalLM, CrossEntropy

AGREEMENT = 0.01
"""Relative difference of two losses that rounding in half precision may leave."""


LOOKED_AT = 16
"""Examples whose labels are compared with their inputs."""


def _spread(data: Data, pair: Batch) -> Batch:
    """Some examples from all over the data; the first two where these can't be one batch."""
    try:
        return data.take(torch.linspace(0, len(data) - 1, min(len(data), LOOKED_AT)).long().unique())
    except Exception:  # of unequal length, say, which the user's own batches bring together
        return pair


def refuse_another_loss(loss: AnyLoss, model: nn.Module, data: Data, pair: Batch) -> None:
    """Refuse labels that the model was trained to give one place later, and warn of another loss than the model's own.

    Raises
    ------
    InputError
        If labels under `CrossEntropy` are the very tokens at their places, or the model's own loss is that of the
        tokens after them; the mend is `CausalLM`.
    """
    if not isinstance(loss, CrossEntropy):
        return
    batch = _spread(data, pair)
    mend = (
        "a causal language model was trained on the token after each place: give losses.CausalLM(), which shifts them"
    )
    causal = isinstance(loss, CausalLM)
    if not causal and _are_inputs(loss, batch):
        raise InputError(
            f"loss: the labels are the input tokens at their own places; {mend}. If the same tokens are really to be "
            "given back, give losses.Function(function) of one value per example"
        )
    loss = replace(loss, factor=1.0)  # of the mean, which it doesn't change
    if not loss.is_plain or loss.temperature != 1:
        return
    own = _own_loss(model, batch)
    if own is None:
        return
    if any(_agree(own, value) for value in _means(loss, model, batch)):
        return
    ours = next(_means(loss, model, batch))
    figures = f"on {batch_length(batch)} training examples the model's own loss is {own:.4g}, and the loss given"
    if not causal and loss.targets(batch).dim() == 2:
        shifted = CausalLM(loss.ignore_index)
        if any(_agree(own, value) for value in _means(shifted, model, batch)):
            raise InputError(f"loss: {figures} has a mean of {ours:.4g}; {mend}")
    warn(
        f"loss: {figures} has a mean of {ours:.4g}: scores explain the loss given. If the model was trained on its "
        "own, give a function (model, batch) -> one value per example that computes it",
        UpweightWarning,
    )


def _are_inputs(loss: CrossEntropy, batch: Batch) -> bool:
    """Whether the labels, where they count, are an input of the model."""
    labels = loss.targets(batch)
    if labels.dim() != 2 or labels.shape[1] < 2 or labels.is_floating_point():
        return False
    kept = labels != loss.ignore_index
    if not bool(kept.any()):
        return False
    inputs = (leaf for leaf in tensors(loss.inputs(batch)) if not leaf.is_floating_point())
    return any(leaf.shape == labels.shape and bool((leaf == labels)[kept].all()) for leaf in inputs)


def _own_loss(model: nn.Module, batch: Batch) -> float | None:
    """The loss that the model gives when it is given ``labels``, if it gives one."""
    if not isinstance(batch, Mapping) or "labels" not in batch:
        return None

    def own(module: nn.Module, given: Any) -> Tensor:
        outputs = module(**given)
        found = outputs.get("loss") if isinstance(outputs, Mapping) else getattr(outputs, "loss", None)
        return found if isinstance(found, Tensor) else torch.empty(0)

    try:
        found = called(model, own, batch)
    except Exception:  # a model may take no labels, or take them for something else
        return None
    return float(found) if found.numel() == 1 and bool(torch.isfinite(found).all()) else None


def _means(loss: CrossEntropy, model: nn.Module, batch: Batch) -> Iterator[float]:
    """The mean of the loss over all places that count, and over examples."""
    values = called(model, loss, batch)
    outputs = called(model, loss.outputs, batch)
    total = float(loss.mass(outputs, loss.targets(batch)).sum())
    yield float(values.sum()) / max(total, 1e-30)
    yield float(values.mean())


def _agree(first: float, second: float) -> bool:
    return abs(first - second) <= AGREEMENT * max(abs(first), abs(second)) + 1e-6
