"""Baselines without curvature: what influence must beat to be worth its cost."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from upweight import kinds
from upweight.attribution import Attribution, Quantity
from upweight.baselines.bm25 import bm25
from upweight.baselines.products import gradient_products, units
from upweight.baselines.representations import representations
from upweight.data import Batch, tensors
from upweight.kept import random_states_kept
from upweight.losses import split_batch
from upweight.measurements import Loss
from upweight.objective import Objective
from upweight.quantities import meanings


@random_states_kept()
def euclidean_distance(objective: Objective, queries: Any) -> Attribution:
    """−‖x_train − x_query‖ of the flattened inputs, ``[queries, train]``.

    Parameters
    ----------
    objective
        The model with its training data, of which only the inputs are read, all of a batch's tensors side by side.
    queries
        Examples in the form of the training data.
    """
    kinds.check(euclidean_distance, locals())
    data = objective.queries(queries)
    wanted = torch.cat([_inputs(batch) for _, batch in data.batches(None, objective.engine.rows)])
    parts = [_nearness(wanted, _inputs(batch)) for _, batch in objective.batches()]
    meaning = meanings.similarity("euclidean distance", "negative distance of the inputs", "units of the input")
    return _result(objective, torch.cat(parts, dim=1), meaning)


@random_states_kept()
def gradient_dot(objective: Objective, queries: Any) -> Attribution:
    """∇L_q · ∇ℓ_z, ``[queries, train]``: influence with H = I.

    Parameters
    ----------
    objective
        The trained model with its training data; gradients are of its loss without the penalty, an example's times its
        weight.
    queries
        Examples in the form of the training data.
    """
    kinds.check(gradient_dot, locals())
    scores = gradient_products(objective, objective.queries(queries), Loss(), None)
    meaning = meanings.similarity("gradient dot product", "inner product of the loss gradients", "loss² per θ²")
    return _result(objective, scores, meaning)


@random_states_kept()
def gradient_cosine(objective: Objective, queries: Any) -> Attribution:
    """Cosine of ∇L_q and ∇ℓ_z, ``[queries, train]``; 0 where a gradient vanishes.

    Parameters
    ----------
    objective, queries
        As for `gradient_dot`.
    """
    kinds.check(gradient_cosine, locals())
    scores = gradient_products(objective, objective.queries(queries), Loss(), None, cosine=True)
    meaning = meanings.similarity("gradient cosine", "cosine of the loss gradients", "−1 to 1")
    return _result(objective, scores, meaning)


@random_states_kept()
def representation_dot(objective: Objective, queries: Any, *, layer: str | None = None) -> Attribution:
    """h_q · h_z of what a layer sees, ``[queries, train]``.

    Parameters
    ----------
    objective
        The trained model with its training data.
    queries
        Examples in the form of the training data.
    layer
        The module whose input is compared, by its name in ``model.named_modules()``; default the last ``nn.Linear``,
        so that h is the last hidden layer. Positions of a sequence are averaged.
    """
    kinds.check(representation_dot, locals())
    query, train = _represented(objective, queries, layer)
    meaning = meanings.similarity(
        "representation dot product", "inner product of the representations", "square of the representation's unit"
    )
    return _result(objective, query @ train.T, meaning)


@random_states_kept()
def representation_cosine(objective: Objective, queries: Any, *, layer: str | None = None) -> Attribution:
    """Cosine of h_q and h_z, ``[queries, train]``; 0 where one vanishes.

    Parameters
    ----------
    objective, queries, layer
        As for `representation_dot`.
    """
    kinds.check(representation_cosine, locals())
    query, train = _represented(objective, queries, layer)
    meaning = meanings.similarity("representation cosine", "cosine of the representations", "−1 to 1")
    return _result(objective, units(query) @ units(train).T, meaning)


@random_states_kept()
def representation_distance(objective: Objective, queries: Any, *, layer: str | None = None) -> Attribution:
    """−‖h_q − h_z‖, ``[queries, train]``.

    Parameters
    ----------
    objective, queries, layer
        As for `representation_dot`.
    """
    kinds.check(representation_distance, locals())
    query, train = _represented(objective, queries, layer)
    meaning = meanings.similarity(
        "representation distance", "negative distance of the representations", "units of the representation"
    )
    return _result(objective, _nearness(query, train), meaning)


def _represented(objective: Objective, queries: Any, layer: str | None) -> tuple[Tensor, Tensor]:
    query, train = representations(objective, layer, objective.queries(queries), objective.data)
    return query, train


def _nearness(first: Float[Tensor, "queries d"], second: Float[Tensor, "train d"]) -> Float[Tensor, "queries train"]:
    """Negative distances, without matrix products: their rounding hides small distances and depends on the batch."""
    return -torch.cdist(first, second, compute_mode="donot_use_mm_for_euclid_dist")


def _inputs(batch: Batch) -> Tensor:
    inputs = tensors(split_batch(batch)[0])
    return torch.cat([leaf.reshape(leaf.shape[0], -1).to(torch.get_default_dtype()) for leaf in inputs], dim=1)


def _result(objective: Objective, scores: Tensor, meaning: Quantity) -> Attribution:
    return Attribution(scores, meaning, objective.ids, np.arange(len(scores)))


__all__ = [
    "bm25",
    "euclidean_distance",
    "gradient_cosine",
    "gradient_dot",
    "representation_cosine",
    "representation_distance",
    "representation_dot",
]
