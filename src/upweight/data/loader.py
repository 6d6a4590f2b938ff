"""A ``DataLoader`` as what it reads: its dataset, how it collates, and what of it is no part of an objective."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    WeightedRandomSampler,
    default_collate,
)

from upweight.data.batch import Batch
from upweight.errors import InputError


@dataclass(frozen=True)
class Loaded:
    """What a ``DataLoader`` reads.

    Attributes
    ----------
    dataset
        Its examples; of a loader that draws from some of them alone, those.
    collate
        Its function from a list of examples to a batch; None for torch's own.
    batch_size, num_workers
        As it has them.
    weights
        How often each example is drawn, with mean 1, where a sampler weighs them.
    notes
        What of it is left aside, in words.
    """

    dataset: Any
    collate: Callable[[list[Any]], Batch] | None
    batch_size: int | None
    num_workers: int
    weights: Tensor | None
    notes: tuple[str, ...]


def loaded(loader: DataLoader[Any], name: str = "data") -> Loaded:
    """What a loader reads: every example of its dataset, whatever the order.

    Raises
    ------
    InputError
        If its dataset yields whole batches, so that examples have no positions.
    """
    if isinstance(loader.dataset, IterableDataset):
        raise InputError(
            f"{name}: the DataLoader's {type(loader.dataset).__name__} is iterable without length or positions; every "
            "example needs a position to be scored by. Give a map-style dataset, e.g. list(dataset)"
        )
    if loader.batch_sampler is None:
        raise InputError(
            f"{name}: the DataLoader has batch_size=None, so its dataset yields whole batches; give a dataset of "
            "single examples"
        )
    dataset: Any = loader.dataset
    weights, notes = None, []
    sampler = loader.sampler if type(loader.batch_sampler) is BatchSampler else loader.batch_sampler
    if isinstance(sampler, SubsetRandomSampler):
        chosen = sorted(int(i) for i in sampler.indices)
        notes.append(f"the loader draws from {len(chosen):,} of {len(dataset):,} examples, which are taken, in order")
        dataset = Subset(dataset, chosen)
    elif isinstance(sampler, WeightedRandomSampler):
        weights = torch.as_tensor(sampler.weights, dtype=torch.float64)
        weights = weights / weights.mean()
        notes.append("the loader draws examples by weight, which is how much each counts (weights=)")
    elif not isinstance(sampler, SequentialSampler):
        notes.append(_order(sampler))
    if loader.drop_last:
        size = loader.batch_size
        rest = "" if size is None else f", {len(dataset) % size} of {len(dataset):,} an epoch"
        notes.append(f"drop_last leaves examples out of epochs{rest}; all are taken as trained on")
    collate = None if loader.collate_fn is default_collate else loader.collate_fn
    return Loaded(dataset, collate, loader.batch_size, loader.num_workers, weights, tuple(notes))


def _order(sampler: Any) -> str:
    kind = type(sampler).__name__
    if isinstance(sampler, RandomSampler | DistributedSampler):
        return f"the order of examples ({kind}) isn't recorded and is no part of the objective: all count alike"
    return f"{kind} is taken to go through all examples equally often; give weights= if it doesn't"
