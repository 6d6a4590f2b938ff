"""In which precision a model's forward pass runs: float32, or the model's own where that has 16 bits.

In its own precision the model's copy keeps its 16 bits. θ stays float32 and is rounded to them where the model is
called; inputs are cast to the model's precision, outputs to float32. So the loss, the factors of gradients and all that
is made of them are float32, and the layers' products, forward and backward, are the model's own.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from upweight.errors import InputError
from upweight.kept import parts

Forward = Literal["float32", "own"]
HALVES = (torch.bfloat16, torch.float16)
"""Precisions of 16 bits."""


def half_of(model: nn.Module) -> torch.dtype | None:
    """The precision that most of a model's numbers have, if that has 16 bits."""
    values = {id(value): value for part in parts(model) for value in part._parameters.values() if value is not None}
    counts = Counter[torch.dtype]()
    for value in values.values():
        if value.is_floating_point():
            counts[value.dtype] += value.numel()
    most = max(counts, key=lambda dtype: counts[dtype], default=torch.float32)
    return most if most in HALVES else None


def words(dtype: torch.dtype) -> str:
    """A precision's name."""
    return str(dtype).removeprefix("torch.")


def coarsest(dtypes: Iterable[torch.dtype]) -> torch.dtype | None:
    """The precision of 16 bits that says least, if there is one of them."""
    found = set(dtypes)
    return next((dtype for dtype in HALVES if dtype in found), None)


def widest(value: Any) -> Any:
    """Tensors of 16 bits in float32, anything else as it is."""
    return value.float() if isinstance(value, Tensor) and value.dtype in HALVES else value


def refuse_half(model: nn.Module, name: str, what: str, mend: str = "") -> None:
    """Refuse what 16 bits are too coarse for.

    Raises
    ------
    InputError
        If the model's forward pass runs in its own 16 bits.
    """
    half = half_of(model)
    if half is not None:
        raise InputError(
            f"{name}: {what}, and the model's forward pass runs in {words(half)}; give "
            f"objective.replace(forward='float32'){mend}"
        )


@contextmanager
def called_in(model: nn.Module, dtype: torch.dtype) -> Iterator[None]:
    """Within, the model takes floating-point inputs of any precision, and its outputs are float32."""

    def inwards(value: Any) -> Any:
        return value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value

    def before(part: nn.Module, inputs: Any, named: Any) -> Any:
        return pytree.tree_map(inwards, inputs), pytree.tree_map(inwards, named)

    handles = [
        model.register_forward_pre_hook(before, with_kwargs=True, prepend=True),
        model.register_forward_hook(lambda part, inputs, outputs: _outwards(outputs)),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _outwards(outputs: Any) -> Any:
    """Whatever a model returns, in float32 where it has 16 bits."""
    found = pytree.tree_map(widest, outputs)
    if not is_dataclass(found) or isinstance(found, type):
        return found
    found = copy.copy(found)
    for part in fields(found):  # of a class that torch doesn't look into
        object.__setattr__(found, part.name, pytree.tree_map(widest, getattr(found, part.name)))
    return found
