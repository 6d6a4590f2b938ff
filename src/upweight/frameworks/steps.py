"""A training step that gives one number for a batch, as values of its examples."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from upweight.data import Batch, batch_length
from upweight.errors import InputError
from upweight.frameworks.reduced import Comparison, Watching, ended_in, refused


def stepped(module: Any, batch: Batch) -> Tensor | None:
    """What ``training_step`` gives as the loss of a batch, without anything logged."""
    for name in ("log", "log_dict"):
        object.__setattr__(module, name, _silent)  # put back by whoever keeps the module
    wanted = list(inspect.signature(module.training_step).parameters)
    given = module.training_step(batch, *([0] * min(len(wanted) - 1, 1)))
    found = given.get("loss") if isinstance(given, Mapping) else given
    return found if isinstance(found, Tensor) else None


def _silent(*given: Any, **named: Any) -> None:
    """In place of what logs."""


def compared_in(module: Any, batch: Batch) -> tuple[Comparison, int, Tensor]:
    """The comparison of torch's that a step ends in, which of them it is, and the loss.

    Raises
    ------
    InputError
        If the step ends in anything else.
    """
    watching = Watching()
    with watching, torch.no_grad():
        loss = stepped(module, batch)
    found = None if loss is None else ended_in(loss, watching.seen)
    if found is None or loss is None:
        raise refused("what training_step returns")
    return found, next(k for k, each in enumerate(watching.seen) if each is found), loss


@dataclass(frozen=True)
class ByExample:
    """The loss of each example of a training step: its comparison not reduced, summed over an example's places.

    Attributes
    ----------
    function, number
        Which comparison it is.
    factor
        What sums are multiplied by, so that their mean is the step's mean over all data.
    """

    function: Callable[..., Any]
    number: int
    factor: float = 1.0

    def __call__(self, module: nn.Module, batch: Batch) -> Tensor:
        """The values, ``[batch]``."""
        watching, count = Watching(unreduced=True), batch_length(batch)
        with watching:
            stepped(module, batch)
        values = watching.seen[self.number].value if len(watching.seen) > self.number else torch.empty(0)
        if values.dim() == 0 or not values.numel() or values.numel() % count:
            raise InputError(
                f"loss: training_step compares {tuple(values.shape)} places for {count} examples, which aren't as many "
                "for each; give loss=, a function (model, batch) -> one value per example"
            )
        return self.factor * values.reshape(count, -1).sum(1)

    def divisor(self, module: nn.Module, batch: Batch) -> float:
        """What the step's mean of a batch divides by; 0 for a sum."""
        watching = Watching()
        with watching, torch.no_grad():
            stepped(module, batch)
        given = watching.seen[self.number].arguments
        if given.get("reduction", "mean") != "mean":
            return 0.0
        target, weight = given["target"], given.get("weight")
        if self.function is not F.cross_entropy:
            return float(given["input"].numel())
        if target.is_floating_point():
            return float(len(target))
        kept = target[target != given.get("ignore_index", -100)]
        return float(kept.numel() if weight is None else weight[kept].sum())
