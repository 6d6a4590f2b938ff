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
from upweight.gradients.substituted import called
from upweight.losses import BinaryLogistic, CausalLM, CrossEntropy, Function, Loss, SquaredError, with_targets
from upweight.losses.outputs import first_tensor

SPREAD = 32
"""Training examples on which both are compared."""
DRAWS = 8
"""Random outputs and targets on which both are compared."""
FAR = (2.0, 2.0, 30.0, 1000.0)
"""Sizes of these outputs, in turn."""
CLASSES = 256
"""Classes up to which each is a target once."""
AGREEMENT = {torch.float32: 1e-4, torch.float64: 1e-8}
"""Relative difference that rounding may leave between values of both."""


def recognised(function: Function, model: nn.Module, data: Data) -> Loss | None:
    """The loss of this package that the function computes, or None.

    Parameters
    ----------
    function
        Of ``(model, batch)``; it may call the model, each time on the same, and read nothing else of it.
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
    """A function's values, and what the model returned; None where calls of it differ, or more is read of it."""
    seen: list[_Watched] = []

    def through(module: nn.Module, given: Batch) -> Any:
        seen.append(_Watched(module))
        return function(seen[-1], given)

    try:
        values = called(model, through, batch)
    except Exception:  # what else it reads of the model
        return called(model, function, batch), None
    return values, seen[-1].returned if seen[-1].calls and seen[-1].is_same else None


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
    """Random outputs, near and far, with other targets too, and with anything in place of what else a batch holds.

    A function may look at what training examples never show: padding, a far target, a class that none of them has, a
    weight that is 1 for all of them.
    """
    generator = torch.Generator().manual_seed(0)
    targets = _targets(batch)
    for draw in range(DRAWS):
        given = batch if targets is None else with_targets(batch, _other(targets, outputs, draw, generator))
        size = FAR[draw % len(FAR)]
        yield size * _normal(outputs, generator), _strange(given, generator) if draw % 2 else given
    classes = outputs.shape[-1]
    if targets is None or targets.is_floating_point() or outputs.dim() != 2 or targets.dim() != 1:
        return
    if not 2 <= classes <= CLASSES:
        return
    every = torch.arange(classes, device=targets.device).to(targets.dtype)
    rows = torch.arange(classes) % len(outputs)
    repeated = pytree.tree_map(lambda leaf: leaf[rows.to(leaf.device)] if isinstance(leaf, Tensor) else leaf, batch)
    yield 2 * _normal(outputs[rows.to(outputs.device)], generator), with_targets(repeated, every)


def _normal(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(like.shape, generator=generator, dtype=like.dtype).to(like.device)


def _other(targets: Tensor, outputs: Tensor, draw: int, generator: torch.Generator) -> Tensor:
    """Targets of the same form: numbers near and far, or any of the classes that the outputs may have."""
    if draw == 0:
        return targets
    axes = [axis for axis in (-1, 1) if outputs.dim() > 1 and _without(outputs.shape, axis) == targets.shape]
    classes = min((outputs.shape[axis] for axis in axes), default=1)
    if classes > 1 and not targets.is_floating_point():
        drawn = torch.randint(0, classes, targets.shape, generator=generator).to(targets)
        return torch.where(targets < 0, targets, drawn)  # what no class is stays what it is
    known = targets.unique()
    if len(known) <= 2 or not targets.is_floating_point():  # signs, say, which stay such
        return known[torch.randint(0, len(known), targets.shape, generator=generator).to(known.device)]
    within = bool(((targets >= 0) & (targets <= 1)).all())  # and so do shares
    shares = torch.rand(targets.shape, generator=generator, dtype=targets.dtype).to(targets.device)
    return shares.round() if within else FAR[draw % len(FAR)] * _normal(targets, generator)


def _without(shape: torch.Size, axis: int) -> torch.Size:
    sizes = list(shape)
    del sizes[axis]
    return torch.Size(sizes)


def _strange(batch: Batch, generator: torch.Generator) -> Batch:
    """The batch with random numbers in place of all but its targets."""
    targets = _targets(batch)
    whole = {id(targets)} if targets is not None else set()

    def drawn(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor) or id(leaf) in whole:
            return leaf
        if leaf.is_floating_point():
            return 3 * _normal(leaf, generator)
        most = max(int(leaf.max()), 1) if leaf.numel() else 1
        return torch.randint(0, most + 1, leaf.shape, generator=generator).to(leaf)

    return pytree.tree_map(drawn, batch)


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
        self.calls, self.returned, self.is_same = 0, None, True

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        returned = self.model(*args, **kwargs)
        if self.calls:
            first, other = first_tensor(self.returned), first_tensor(returned)
            self.is_same = self.is_same and first is not None and other is not None and torch.equal(first, other)
        else:
            self.returned = returned
        self.calls += 1
        return returned


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
