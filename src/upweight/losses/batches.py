"""Inputs and targets of a batch, by the conventions of `upweight.losses`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from upweight.data import Batch
from upweight.errors import InputError

TARGET_KEYS = ("labels", "label", "targets", "target", "y")


def split_batch(batch: Batch) -> tuple[Any, Tensor]:
    """Inputs and targets of a batch by the conventions of this module; whole-number targets are int64.

    Raises
    ------
    InputError
        If the batch is neither a pair nor a dict with its targets under a known name.
    """
    if isinstance(batch, Mapping):
        key = next((key for key in TARGET_KEYS if key in batch), None)
        if key is None:
            raise InputError(f"data: a dict batch needs its targets under one of {TARGET_KEYS}; it has {list(batch)}")
        return {name: value for name, value in batch.items() if name != key}, widened(batch[key])
    if isinstance(batch, tuple | list) and len(batch) >= 2:
        return (batch[0] if len(batch) == 2 else tuple(batch[:-1])), widened(batch[-1])
    raise InputError(
        f"data: this loss needs batches (inputs, targets) or dicts; got {type(batch).__name__}. "
        "For other forms give your own loss: a function (model, batch) -> one value per example"
    )


def widened(targets: Any) -> Any:
    """Whole numbers of any kind as int64, the only kind that indexes and that holds −100."""
    if not isinstance(targets, Tensor) or targets.is_floating_point() or targets.is_complex():
        return targets
    return targets.long()


def with_targets(batch: Batch, targets: Tensor) -> Batch:
    """The same batch with other targets."""
    if isinstance(batch, Mapping):
        key = next(key for key in TARGET_KEYS if key in batch)
        return {**batch, key: targets}
    return (*batch[:-1], targets)
