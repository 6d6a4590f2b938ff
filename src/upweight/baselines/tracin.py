"""`TracIn`: what the steps taken on an example did to a query's loss, summed over checkpoints of the training."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from upweight import kinds, scalars
from upweight.attribution import Attribution, Magnitude, Quantity
from upweight.baselines.products import gradient_products, squared_norms
from upweight.checkpoints import objective_at, read_checkpoints
from upweight.errors import InputError
from upweight.inverse.step_metric import vector
from upweight.kept import random_states_kept
from upweight.measurements import as_measurement
from upweight.objective import Objective
from upweight.progress import track
from upweight.quantities import meanings
from upweight.quantities.queries import check_measurement, check_query_targets, query_names


class TracIn:
    """Training examples' steps traced through checkpoints (Pruthi et al. 2020, TracInCP).

    Parameters
    ----------
    objective
        What was minimised. Its model gives the architecture; θ comes from the checkpoints.
    checkpoints
        The model at k times of its training: a list of state dicts, modules or vectors ``[p]``, or rows ``[k, p]``.
        State dicts and modules bring their buffers (running means of batch-norm …); vectors use the model's own.
    learning_rates
        η_k of each checkpoint, or one for all: what the gradient of one example's loss is multiplied by in the steps
        that the checkpoint stands for. With means over batches of B and v visits of each example between
        checkpoints that is the learning rate · v/B; a factor common to all changes no ranking.
    metrics
        √v̂ + ε of each checkpoint, as `upweight.step_metric` reads it of the optimiser's state: inner products are then
        g·g′/(√v̂ + ε), as steps of Adam are (Xia et al. 2024, LESS); default: steps of SGD.

    Raises
    ------
    InputError
        If a checkpoint is of another model or repeats the one before it, or a learning rate isn't a number > 0; if
        there aren't as many metrics as checkpoints, or one lacks a parameter.

    Notes
    -----
    Score = Σ_k η_k ∇m_q(θ_k) · w_z∇ℓ_z(θ_k): to first order the sum of the decreases of the query's measurement m
    by gradient steps on z. Momentum, weight decay and the curvature along a step are left out.
    """

    def __init__(
        self,
        objective: Objective,
        checkpoints: Any,
        learning_rates: float | Sequence[float],
        *,
        metrics: Sequence[Mapping[str, Tensor]] | None = None,
    ):
        kinds.check(TracIn.__init__, locals())
        self.objective = objective
        self.checkpoints = read_checkpoints(objective, checkpoints, "checkpoints")
        self.learning_rates = one_for_each("learning_rates", learning_rates, len(self.checkpoints))
        self.metrics = step_metrics(objective, metrics, len(self.checkpoints))

    def __repr__(self) -> str:
        return f"TracIn({self.objective!r}, {len(self.checkpoints)} checkpoints, η={self.learning_rates})"

    @random_states_kept()
    def attribute(
        self,
        queries: Any,
        measurement: Any = None,
        *,
        train: Any = None,
        normalize: bool = False,
        query_ids: Sequence[Any] | None = None,
    ) -> Attribution:
        """Scores of training examples for each query, ``[queries, train]``.

        Parameters
        ----------
        queries
            Examples in the same form as the training data.
        measurement
            What is explained: one of `upweight.measurements`, its name, or a function; default the loss.
        train
            Positions of the training examples to score (default: all).
        normalize
            Cosines in place of inner products, Σ_k η_k cos(∇m_q, ∇ℓ_z), so that examples with large gradients don't
            lead everywhere (Akyürek et al. 2022).
        """
        scalars.flag("normalize", normalize)
        kind = as_measurement(measurement)
        data = self.objective.queries(queries)
        names = query_names(data, query_ids)
        check_measurement(self.objective, data, kind)
        check_query_targets(self.objective, data, kind)
        positions = None if train is None else self.objective.positions(train, "train")

        def products(objective: Objective, metric: Tensor | None) -> Tensor:
            return gradient_products(objective, data, kind, positions, cosine=normalize, metric=metric)

        meaning = meanings.tracin(kind, self.objective.loss, normalize=normalize)
        return self._result(self._sum(products), meaning, positions, names)

    @random_states_kept()
    def self_influence(self, *, train: Any = None) -> Attribution:
        """Σ_k η_k w_z‖∇ℓ_z(θ_k)‖², ``[train]``: the ranking of Pruthi et al. (2020, section 4.1) for label errors."""
        positions = None if train is None else self.objective.positions(train, "train")
        scores = self._sum(lambda objective, metric: squared_norms(objective, positions, metric))
        return self._result(scores, meanings.tracin_self(self.objective.loss), positions, np.array([]))

    def _sum(self, of: Callable[[Objective, Tensor | None], Tensor]) -> Tensor:
        """Σ_k η_k of a quantity; one checkpoint is held as a model at a time."""
        each = list(zip(self.checkpoints, self.learning_rates, self.metrics, strict=True))
        parts = (
            rate * of(objective_at(self.objective, state), metric) for state, rate, metric in track(each, "checkpoints")
        )
        total = next(parts)
        for part in parts:
            total += part
        return total

    def _result(self, scores: Tensor, quantity: Quantity, positions: Tensor | None, names: np.ndarray) -> Attribution:
        ids = self.objective.ids if positions is None else self.objective.ids[positions.numpy()]
        facts = {
            "n": float(self.objective.n),
            "p": float(self.objective.p),
            "checkpoints": float(len(self.checkpoints)),
        }
        count = len(self.checkpoints)
        sizes = Magnitude(False, f"{count} checkpoint{'s stand' if count > 1 else ' stands'} for all steps of training")
        return Attribution(scores, quantity, ids, names, facts=facts, magnitude=sizes)


def step_metrics(
    objective: Objective, given: Sequence[Mapping[str, Tensor]] | None, count: int
) -> tuple[Tensor | None, ...]:
    """√v̂ + ε of each checkpoint as a vector, where there is one."""
    if given is None:
        return (None,) * count
    if len(given) != count:
        raise InputError(f"metrics: one for each of the {count} checkpoints; got {len(given)}")
    return tuple(vector(metric, objective) for metric in given)


def one_for_each(name: str, given: float | Sequence[float] | None, count: int) -> tuple[float, ...]:
    """A number > 0 for each of so many checkpoints.

    Raises
    ------
    InputError
        If it is something else.
    """
    if isinstance(given, bool) or given is None:
        raise InputError(f"{name}: one number > 0, or one for each checkpoint; got {given!r}")
    try:
        rates = torch.as_tensor(given, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        rates = torch.tensor([math.nan])
    rates = rates.expand(count) if rates.dim() == 0 else rates
    if rates.shape != (count,) or not torch.isfinite(rates).all() or (rates <= 0).any():
        raise InputError(f"{name}: one number > 0, or one for each of the {count} checkpoints; got {given!r}")
    return tuple(rates.tolist())
