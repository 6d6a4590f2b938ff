"""Baselines without curvature: what influence must beat to be worth its cost."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from upweight.attribution import Attribution, Quantity
from upweight.data import Batch, tensors
from upweight.influence import quantities
from upweight.losses import split_batch
from upweight.objective import Objective


def euclidean_distance(objective: Objective, queries: Any) -> Attribution:
    """−‖x_train − x_query‖ of the flattened inputs, ``[queries, train]``."""
    data = objective.queries(queries)
    wanted = torch.cat([_inputs(batch) for _, batch in data.batches(None, objective.batch_size)])
    parts = [-torch.cdist(wanted, _inputs(batch)) for _, batch in objective.batches()]
    meaning = quantities.similarity("euclidean distance", "negative distance of the inputs", "units of the input")
    return _result(objective, torch.cat(parts, dim=1), meaning)


def gradient_dot(objective: Objective, queries: Any) -> Attribution:
    """∇L_q · ∇ℓ_z, ``[queries, train]``: influence with H = I."""
    scores = objective.inner(_query_gradients(objective, queries))
    meaning = quantities.similarity("gradient dot product", "inner product of the loss gradients", "loss² per θ²")
    return _result(objective, scores, meaning)


def gradient_cosine(objective: Objective, queries: Any) -> Attribution:
    """Cosine of ∇L_q and ∇ℓ_z, ``[queries, train]``; 0 where a gradient vanishes."""
    gradients = _query_gradients(objective, queries)
    tiny = torch.finfo(objective.dtype).tiny
    units = gradients / gradients.norm(dim=1, keepdim=True).clamp_min(tiny)
    norms = torch.cat([grads.norm(dim=1) for _, grads in objective.example_gradients()])
    meaning = quantities.similarity("gradient cosine", "cosine of the loss gradients", "−1 to 1")
    return _result(objective, objective.inner(units) / norms.clamp_min(tiny), meaning)


def _query_gradients(objective: Objective, queries: Any) -> Tensor:
    data = objective.queries(queries)
    batches = data.batches(None, objective.batch_size or 64)
    return torch.cat([objective.function.materialize(objective.params, batch) for _, batch in batches])


def _inputs(batch: Batch) -> Tensor:
    inputs = tensors(split_batch(batch)[0])
    return torch.cat([leaf.reshape(leaf.shape[0], -1).to(torch.get_default_dtype()) for leaf in inputs], dim=1)


def _result(objective: Objective, scores: Tensor, meaning: Quantity) -> Attribution:
    return Attribution(scores, meaning, objective.ids, np.arange(len(scores)))


__all__ = ["euclidean_distance", "gradient_cosine", "gradient_dot"]
