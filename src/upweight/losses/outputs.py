"""The output tensor of a model, whatever it returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from torch import Tensor, nn

from upweight.errors import InputError


def call(model: nn.Module, inputs: Any) -> Tensor:
    """The model's output tensor: of what isn't one, its ``logits``, else its first tensor with a dimension.

    Parameters
    ----------
    model
        Called as it is, in the mode that it is in.
    inputs
        A mapping goes to it by name, a tuple or list in order, anything else as its one argument.

    Raises
    ------
    InputError
        If there is none.
    """
    if isinstance(inputs, Mapping):
        outputs = model(**inputs)
    elif isinstance(inputs, tuple | list):
        outputs = model(*inputs)
    else:
        outputs = model(inputs)
    found = first_tensor(outputs)
    if found is None:
        raise InputError(
            f"model: it returned {type(outputs).__name__}, in which there is no tensor of outputs; return one, or a "
            "tuple, dict or dataclass with one, under 'logits' where there are several"
        )
    return found


def first_tensor(outputs: Any) -> Tensor | None:
    """The tensor itself; else ``logits``, else the first that has a dimension (a reduced loss has none)."""
    if isinstance(outputs, Tensor):
        return outputs
    named = outputs.get("logits") if isinstance(outputs, Mapping) else getattr(outputs, "logits", None)
    parts: list[Any] = [named]
    if isinstance(outputs, Mapping):
        parts += outputs.values()
    elif isinstance(outputs, tuple | list):
        parts += outputs
    elif is_dataclass(outputs):
        parts += [getattr(outputs, part.name) for part in fields(outputs)]
    for part in parts:
        found = None if part is None else first_tensor(part)
        if found is not None and found.dim():
            return found
    return None
