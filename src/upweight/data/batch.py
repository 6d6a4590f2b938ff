"""A batch: what a dataset yields after collation, any nesting of tensors, the examples along their first dimension."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from upweight.errors import InputError

Batch = Any


def sent(tensor: Tensor, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """The tensor on a device (in a precision), without waiting for it: what is sent is copied before the call returns.

    What comes from a device must be waited for.
    """
    return tensor.to(device=device, dtype=dtype, non_blocking=device.type == "cuda")


def cast(batch: Batch, dtype: torch.dtype, device: torch.device) -> Batch:
    """Move the tensors of a batch to ``device``, floating-point ones also to ``dtype``."""

    def move(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        return sent(leaf, device, dtype if leaf.is_floating_point() else None)

    return pytree.tree_map(move, batch)


def plain(batch: Batch) -> Batch:
    """The batch with lists as tuples and mappings as dicts: one form, whoever collated it."""
    if isinstance(batch, Mapping):
        return {key: plain(value) for key, value in batch.items()}
    if isinstance(batch, tuple | list):
        parts = [plain(value) for value in batch]
        return type(batch)(*parts) if hasattr(batch, "_fields") else tuple(parts)
    return batch


def tensors(batch: Batch) -> list[Tensor]:
    """The tensor leaves of a batch."""
    return [leaf for leaf in pytree.tree_leaves(batch) if isinstance(leaf, Tensor)]


def batch_length(batch: Batch) -> int:
    """Number of examples in a batch, from the first dimension of its first tensor."""
    leaves = tensors(batch)
    if not leaves or leaves[0].dim() == 0:
        raise InputError("data: a batch holds no tensor with a first dimension to count examples along")
    return leaves[0].shape[0]


def join(first: Batch, second: Batch) -> Batch:
    """Two batches of the same structure as one."""
    return pytree.tree_map(lambda a, b: torch.cat([a, b]) if isinstance(a, Tensor) else a, first, second)
