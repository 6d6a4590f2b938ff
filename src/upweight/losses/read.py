"""Losses as people give them."""

from __future__ import annotations

from typing import Any

from torch import nn

from upweight.data import Data
from upweight.errors import InputError
from upweight.losses import torch_losses
from upweight.losses.base import AnyLoss, Function, Loss, Split
from upweight.losses.of_parts import OfParts, has_both


def as_loss(loss: Any, data: Data | None = None) -> AnyLoss:
    """Read a loss of this module, one of torch's, a user's function, or a user's object with both halves of a loss.

    Parameters
    ----------
    data
        What torch's means are taken over: their divisor is counted there.

    Raises
    ------
    InputError
        If it is a class, one of torch's losses that has no form per example, or nothing of the kind.
    """
    if isinstance(loss, Loss | Function):
        return loss
    if isinstance(loss, type) and issubclass(loss, Loss):
        raise InputError(f"loss: {loss.__name__} is a class; give an instance, {loss.__name__}()")
    if torch_losses.known(loss):
        return torch_losses.mapped(loss, data)
    if isinstance(loss, nn.Module):
        raise InputError(torch_losses.refusal(loss))
    if isinstance(loss, Split) and has_both(loss):
        return OfParts(loss)
    if callable(loss):
        return Function(loss)
    raise InputError(
        f"loss: {loss!r} is neither one of upweight.losses nor a function (model, batch) -> [batch], nor an "
        "object with the methods outputs(model, batch) and of_outputs(outputs, batch)"
    )


def as_split(loss: AnyLoss) -> Loss:
    """The loss, if it says what the model's outputs are.

    Raises
    ------
    InputError
        If it is a user's function of the whole.
    """
    if not isinstance(loss, Loss):
        raise InputError(
            f"loss: {loss!r} doesn't say what the model's outputs are; this needs one of upweight.losses, or a "
            "subclass of upweight.losses.Loss with compare(outputs, targets)"
        )
    return loss
