"""Functions that are a loss of this package in other words, so that the same loss has the same curvature.

A function ``(model, batch) -> [batch]`` says only values; the curvature that suits it best needs the outputs. Here a
function is run on a stand-in for the model that returns given outputs. If at random outputs and targets its values are
those of a loss of this package times one factor, and on real examples too, it is that loss.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from upweight.data import Batch, Data, batch_length
from upweight.gradients.autograd import called
from upweight.losses import BinaryLogistic, CausalLM, CrossEntropy, Function, Loss, SquaredError, with_targets
from upweight.losses.outputs import first_tensor

SPREAD = 32
"""Training examples on which both are compared."""
DRAWS = 4
"""Random outputs and targets on which both are compared."""
CLASSES = 256
"""Classes up to which each is a target once."""
AGREEMENT = {torch.float32: 1e-4, torch.float64: 1e-8}
"""Relative difference that rounding may leave between values of both."""


def recognised(function: Function, model: nn.Module, data: Data) -> Loss | None:
    """The loss of this package that the function computes, or None.

    Parameters
    ----------
    function
        Of ``(model, batch)``; it may call the model once and read nothing else of it.
    data
        Training data: a spread of up to `SPREAD` examples is run, with the model as it is.
    """
    spread = torch.linspace(0, len(data) - 1, min(len(data), SPREAD)).long().unique()
    batch = data.take(spread)
    with torch.no_grad():
        try:
            return _found(function, model, batch)
        except Exception:  # whatever it needs of the model or the batch, the stand-in doesn't have it
            return None


def _found(function: Function, model: nn.Module, batch: Batch) -> Loss | None:
    values, returned = watched(function, model, batch)
    outputs = first_tensor(returned)
    if outputs is None or not outputs.is_floating_point() or len(outputs) != batch_length(batch):
        return None
    given = [(outputs, batch), *_drawn(outputs, batch)]
    ours = [function(_Stand(returned, z), other) for z, other in given]
    if not _close(ours[0], values) or not _close(called(model, function, batch), values):
        return None
    for loss in CANDIDATES:
        factor = _factor(loss, given, ours)
        if factor is None:
            continue
        scaled = replace(loss, factor=loss.factor * factor)
        return scaled if _close(called(model, scaled, batch), values) else None
    return None


def agree(loss: Loss, function: Function, model: nn.Module, batch: Batch) -> tuple[Tensor, bool]:
    """The function's values of a batch, and whether the loss has the same, for one run of the model."""
    values, returned = watched(function, model, batch)
    outputs = first_tensor(returned)
    if outputs is None or not isinstance(values, Tensor):
        return values, False
    with torch.no_grad():
        try:
            return values, _close(_value(loss, outputs, batch), values)
        except Exception:  # its targets aren't of this loss
            return values, False


def watched(function: Function, model: nn.Module, batch: Batch) -> tuple[Any, Any]:
    """A function's values, and what the model returned; None where it was not called once, or more is read of it."""
    seen: list[_Watched] = []

    def through(module: nn.Module, given: Batch) -> Any:
        seen.append(_Watched(module))
        return function(seen[-1], given)

    try:
        values = called(model, through, batch)
    except Exception:  # what else it reads of the model
        return called(model, function, batch), None
    return values, seen[-1].returned if seen[-1].calls == 1 else None


CANDIDATES: tuple[Any, ...] = (
    CrossEntropy(),
    CausalLM(),
    CausalLM(reduction="mean"),
    CrossEntropy(class_axis=1),
    CrossEntropy(class_axis=-1),
    BinaryLogistic(),
    SquaredError(1.0),
)


def _factor(loss: Any, given: list[tuple[Tensor, Batch]], values: list[Tensor]) -> float | None:
    """What the loss is to be multiplied by to have these values; None if that isn't one number > 0."""
    try:
        mine = torch.cat([_value(loss, z, batch) for z, batch in given])
    except Exception:  # these outputs and targets aren't of this loss
        return None
    theirs = torch.cat(values)
    if mine.shape != theirs.shape or not bool((torch.isfinite(mine) & torch.isfinite(theirs)).all()):
        return None
    size = float(mine @ mine)
    factor = float(mine @ theirs) / size if size > 0 else 0.0
    if factor <= 0 or not _close(factor * mine, theirs):
        return None
    return 1.0 if abs(factor - 1) < AGREEMENT.get(mine.dtype, 1e-4) else factor


def _value(loss: Any, outputs: Tensor, batch: Batch) -> Tensor:
    """The loss of outputs as a model returns them."""
    constant = _Stand(outputs, outputs)
    found = loss.outputs(constant, batch)
    loss.check(found, batch)
    return loss.of_outputs(found, batch)


def _drawn(outputs: Tensor, batch: Batch) -> Iterator[tuple[Tensor, Batch]]:
    """Random outputs, some with other targets: of classes, each once where they are few."""
    generator = torch.Generator().manual_seed(0)

    def normal(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=generator, dtype=like.dtype).to(like.device) * 2

    for _ in range(DRAWS):
        yield normal(outputs), batch
    targets = _targets(batch)
    if targets is None or targets.is_floating_point() or outputs.dim() < 2 or targets.dim() != 1:
        return
    classes = outputs.shape[-1]
    if not 2 <= classes <= CLASSES:
        return
    every = torch.arange(classes, device=targets.device).to(targets.dtype)
    rows = torch.arange(classes) % len(outputs)
    repeated = pytree.tree_map(lambda leaf: leaf[rows.to(leaf.device)] if isinstance(leaf, Tensor) else leaf, batch)
    yield normal(outputs[rows.to(outputs.device)]), with_targets(repeated, every)


def _targets(batch: Batch) -> Tensor | None:
    try:
        return CrossEntropy().targets(batch)
    except Exception:
        return None


def _close(first: Tensor, second: Tensor) -> bool:
    if first.shape != second.shape:
        return False
    tolerance = AGREEMENT.get(second.dtype, 1e-4)
    scale = float(second.abs().max()) if second.numel() else 0.0
    return bool(((first - second).abs() <= tolerance * (second.abs() + 0.01 * scale)).all())


class _Watched(nn.Module):
    """The model, its calls counted and what it returned kept; of the rest its parameters alone can be read."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model
        self.calls, self.returned = 0, None

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        self.returned = self.model(*args, **kwargs)
        return self.returned


class _Stand(nn.Module):
    """A model that returns what the other did, with other outputs in it."""

    def __init__(self, returned: Any, outputs: Tensor):
        super().__init__()
        self.returned, self.outputs = returned, outputs

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return _with_outputs(self.returned, self.outputs)


def _with_outputs(returned: Any, outputs: Tensor) -> Any:
    """The same structure with these as its output tensor."""
    if isinstance(returned, Tensor):
        return outputs
    own = first_tensor(returned)
    if isinstance(returned, tuple | list):
        parts = [outputs if part is own else part for part in returned]
        return type(returned)(*parts) if hasattr(returned, "_fields") else type(returned)(parts)
    changed = copy.copy(returned)
    if isinstance(returned, Mapping):
        key = next(key for key, value in returned.items() if value is own)
        changed[key] = outputs
        return changed
    name = next(name for name, value in vars(returned).items() if value is own)
    object.__setattr__(changed, name, outputs)
    return changed
