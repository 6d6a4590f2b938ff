"""How a training was read, in sentences: the ``notes`` of an objective."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import nn

from upweight.forward import half_of, words
from upweight.losses import CausalLM, CrossEntropy


def said_of_loss(loss: Any, total: float | None, n: int) -> str:
    """What R is a mean of."""
    name = type(loss).__name__
    if total is None or not isinstance(loss, CrossEntropy):
        return f"the loss is {name}, the mean over {n:,} examples"
    what = "next tokens" if isinstance(loss, CausalLM) else "labels"
    counted = f"{what} that count, {total:,.0f}" if loss.weight is None else f"{what} by class weight, {total:,.6g}"
    smoothed = f", smoothed by {loss.label_smoothing:g}" if loss.label_smoothing else ""
    return (
        f"the loss is {name}{smoothed}, the mean over all {counted} of {n:,} examples. Batches of another number "
        "of them divided by their own: R is what they have in common"
    )


def said_of_parameters(model: nn.Module, *, is_adapted: bool) -> Iterable[str]:
    """Which parameters θ is, and that nothing is random."""
    if is_adapted:
        half = half_of(model)
        yield "θ is the adapters; the base is held fixed" + (f", in {words(half)}" if half else "")
    if any(isinstance(part, nn.modules.dropout._DropoutNd) and part.p > 0 for part in model.modules()):
        yield "dropout is off: scores explain the loss that the model has in eval mode"


def said_of_rows(columns: Mapping[str, Sequence[Any]], unlabelled: list[int]) -> Iterable[str]:
    """What of the rows isn't learnt from."""
    if unlabelled:
        yield f"no label of {len(unlabelled)} examples counts, the first at {unlabelled[0]}: they taught nothing"
    if columns:
        yield f"shown alone, and no part of the loss: {', '.join(columns)}"
