"""What an index was made of, as short words that a store keeps: another model or other data are told by them."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from upweight.data import ArrayData, Data
from upweight.objective import Objective

LOOKED_AT = 64
"""Examples of a data set that isn't held in memory that are read to tell it from another."""


def _bytes(value: Tensor) -> Any:
    return value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()


def digest(values: Any) -> str:
    """Sixteen hexadecimal digits of nested tensors, arrays and plain values."""
    found = hashlib.sha256()
    leaves, form = pytree.tree_flatten(values)
    found.update(str(form).encode())
    for leaf in leaves:
        if isinstance(leaf, np.ndarray):
            leaf = torch.from_numpy(leaf) if leaf.dtype.kind in "biuf" else leaf.tolist()
        if isinstance(leaf, Tensor):
            found.update(f"{leaf.dtype} {tuple(leaf.shape)}".encode())
            found.update(_bytes(leaf))
        else:
            found.update(repr(leaf).encode(errors="backslashreplace"))
    return found.hexdigest()[:16]


def of_data(data: Data) -> str:
    """All of arrays in memory; `LOOKED_AT` examples, evenly spread, of any other data set, with their number."""
    if isinstance(data, ArrayData):
        return digest(data.arrays)
    spread = torch.linspace(0, len(data) - 1, min(len(data), LOOKED_AT)).long().unique()
    return digest([len(data), data.take(spread)])


def of_model(objective: Objective) -> dict[str, Any]:
    """The model, its parameters θ, what was minimised, and the precision: what every part of an index shares."""
    state = dict(sorted(objective.model.state_dict().items()))
    loss = repr(objective.loss)
    return {
        "model": f"{type(objective.model).__name__} {digest([list(state), list(state.values()), objective.params])}",
        "parameters": f"{objective.p} in {digest([list(objective.layout.names), list(objective.layout.shapes)])}",
        "loss": type(objective.loss).__name__ if " at 0x" in loss else loss,
        "l2": digest(objective.l2),
        "precision": str(objective.dtype).removeprefix("torch."),
    }
