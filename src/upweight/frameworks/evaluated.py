"""A model in eval mode for a while, as it is copied; its own modes come back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from upweight.errors import InputError


@contextmanager
def evaluated(model: nn.Module) -> Iterator[None]:
    """Within, every module is in eval mode."""
    modes = [(part, part.training) for part in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


def refuse_no_model(model: Any) -> None:
    """Refuse what is no module."""
    if not isinstance(model, nn.Module):
        raise InputError(f"model: give the trained torch.nn.Module; got {type(model).__name__}")
