"""What a loss that is already reduced was made of: the last comparison of torch's that a call ended in."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from upweight.data import Batch, Data, cast
from upweight.errors import InputError
from upweight.losses.torch_losses import FUNCTIONS

COMPARED = 4
"""Examples on which a training's own loss and the one it is read as are compared."""


def some(data: Data, model: nn.Module, dtype: torch.dtype) -> Batch:
    """The first of the training data as a batch for the model."""
    batch = data.take(range(min(len(data), COMPARED)))
    return cast(batch, dtype, next(model.parameters()).device)


@dataclass(frozen=True)
class Comparison:
    """One call of ``F.cross_entropy``, ``F.binary_cross_entropy_with_logits`` or ``F.mse_loss``.

    Attributes
    ----------
    function, arguments
        What was called, and on what, by name.
    value
        What it gave.
    """

    function: Callable[..., Any]
    arguments: dict[str, Any]
    value: Tensor

    def module(self) -> nn.Module:
        """The loss as torch's module with its options."""
        kind = FUNCTIONS[self.function]
        names = [name for name in inspect.signature(kind).parameters if name in self.arguments]
        unknown = {"size_average", "reduce"}
        return kind(**{name: self.arguments[name] for name in names if name not in unknown})


@dataclass
class Watching(TorchFunctionMode):
    """Within, comparisons are written down; where ``unreduced``, the last dimension of sums and means is left out."""

    unreduced: bool = False
    seen: list[Comparison] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call it, and write it down."""
        kwargs = {} if kwargs is None else kwargs
        if func not in FUNCTIONS:
            return func(*args, **kwargs)
        bound = inspect.signature(func).bind(*args, **kwargs)
        bound.apply_defaults()
        value = func(*args, **kwargs)
        if self.unreduced:
            kept = func(**{**bound.arguments, "reduction": "none"})
            self.seen.append(Comparison(func, dict(bound.arguments), kept))
        else:
            self.seen.append(Comparison(func, dict(bound.arguments), value))
        return value


def ended_in(loss: Any, seen: list[Comparison]) -> Comparison | None:
    """The comparison whose value the loss is; None where it is more, or another."""
    if not isinstance(loss, Tensor) or loss.dim():
        return None
    found = [each for each in seen if each.value.dim() == 0 and bool(torch.isclose(each.value, loss, rtol=1e-6))]
    return found[-1] if found else None


def refused(what: str) -> InputError:
    """Why a reduced loss can't be split by example, with the mend."""
    return InputError(
        f"loss: {what} can't be split by example: it gives one number for a batch, and isn't one of "
        f"{', '.join(F_NAMES)} of the model's outputs; give loss=, one of upweight.losses or of torch's, or a function "
        "(model, batch) -> one value per example"
    )


F_NAMES = tuple(function.__name__ for function in (F.cross_entropy, F.binary_cross_entropy_with_logits, F.mse_loss))
