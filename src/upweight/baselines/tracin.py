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
from upweight.recorder import Recording


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
        checkpoints that is the learning rate · v/B; a factor common to all changes no ranking. As rows ``[k, n]``,
        one for every training example (`upweight.Recording.example_rates`).
    metrics
        √v̂ + ε of each checkpoint, as `upweight.step_metric` reads it of the optimiser's state: inner products are then
        g·g′/(√v̂ + ε), as steps of Adam are (Xia et al. 2024, LESS); default: steps of SGD.

    Raises
    ------
    InputError
        If a checkpoint is of another model or repeats the one before it, or a learning rate isn't a number > 0 (≥ 0 of
        an example); if there aren't as many metrics as checkpoints, or one lacks a parameter.

    Notes
    -----
    Score = Σ_k η_k ∇m_q(θ_k) · w_z∇ℓ_z(θ_k): to first order the sum of the decreases of the query's measurement m
    by gradient steps on z. Momentum, weight decay and the curvature along a step are left out.
    """

    def __init__(
        self,
        objective: Objective,
        checkpoints: Any,
        learning_rates: float | Sequence[float] | Tensor,
        *,
        metrics: Sequence[Mapping[str, Tensor]] | None = None,
    ):
        kinds.check(TracIn.__init__, locals())
        self.objective = objective
        self.checkpoints = read_checkpoints(objective, checkpoints, "checkpoints")
        self.learning_rates = _rates(learning_rates, len(self.checkpoints), objective.n)
        self.metrics = step_metrics(objective, metrics, len(self.checkpoints))

    @classmethod
    def from_recording(cls, objective: Objective, recording: Recording, *, by_example: bool = False) -> TracIn:
        """Through a training that an `upweight.Recorder` wrote down: its checkpoints, rates and metrics.

        Parameters
        ----------
        objective
            Of the same model and training data.
        by_example
            Whether an example's steps are those that it was in, as the order says, and not as many for all.

        Raises
        ------
        InputError
            As the class; if the optimiser divided by what wasn't kept, or ``by_example`` asks for an order that wasn't.

        Examples
        --------
        ::

            tracin = uw.TracIn.from_recording(uw.from_trainer(trainer), uw.Recording.open("run"))
        """
        kinds.check(TracIn.from_recording, locals())
        scalars.flag("by_example", by_example)
        found, metrics = recording.learning_rates(objective.n), recording.metrics
        moved = [place for place, rate in enumerate(found) if rate > 0]  # a warm-up begins with steps of none
        if not moved:
            raise InputError("recording: all of its learning rates are 0; nothing was trained in it")
        checkpoints = recording.checkpoints
        rates: Any = recording.example_rates(objective.n)[moved] if by_example else [found[place] for place in moved]
        chosen = None if metrics is None else [metrics[place] for place in moved]
        return cls(objective, [checkpoints[place] for place in moved], rates, metrics=chosen)

    def __repr__(self) -> str:
        rates = [
            rate if isinstance(rate, float) else f"{float(rate.mean()):.3g} on average" for rate in self.learning_rates
        ]
        return f"TracIn({self.objective!r}, {len(self.checkpoints)} checkpoints, η={rates})"

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
        return self._result(self._sum(products, positions), meaning, positions, names)

    @random_states_kept()
    def self_influence(self, *, train: Any = None) -> Attribution:
        """Σ_k η_k w_z‖∇ℓ_z(θ_k)‖², ``[train]``: the ranking of Pruthi et al. (2020, section 4.1) for label errors."""
        positions = None if train is None else self.objective.positions(train, "train")
        scores = self._sum(lambda objective, metric: squared_norms(objective, positions, metric), positions)
        return self._result(scores, meanings.tracin_self(self.objective.loss), positions, np.array([]))

    def _sum(self, of: Callable[[Objective, Tensor | None], Tensor], positions: Tensor | None) -> Tensor:
        """Σ_k η_k of a quantity of these training examples; one checkpoint is held as a model at a time."""
        rates = [
            rate
            if isinstance(rate, float)
            else rate.to(self.objective.params)[slice(None) if positions is None else positions]
            for rate in self.learning_rates
        ]
        each = list(zip(self.checkpoints, rates, self.metrics, strict=True))
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


def one_for_each(
    name: str, given: float | Sequence[float] | None, count: int, *, or_else: str = ""
) -> tuple[float, ...]:
    """A number > 0 for each of so many checkpoints; ``or_else``: what might have been given instead.

    Raises
    ------
    InputError
        If it is something else.
    """
    if isinstance(given, bool) or given is None:
        raise InputError(f"{name}: one number > 0, or one for each checkpoint{or_else}; got {given!r}")
    try:
        rates = torch.as_tensor(given, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        rates = torch.tensor([math.nan])
    rates = rates.expand(count) if rates.dim() == 0 else rates
    if rates.shape != (count,) or not torch.isfinite(rates).all() or (rates <= 0).any():
        raise InputError(
            f"{name}: one number > 0, or one for each of the {count} checkpoints{or_else}; got {scalars.shown(given)}"
        )
    return tuple(rates.tolist())


def _rates(given: Any, count: int, n: int) -> tuple[float | Tensor, ...]:
    """η of each checkpoint, a number or one for each of n examples."""
    if isinstance(given, Tensor | np.ndarray) and given.ndim == 2:
        rows = torch.as_tensor(given, dtype=torch.float64)
        if rows.shape == (count, n) and bool((torch.isfinite(rows) & (rows >= 0)).all() and rows.any()):
            return tuple(rows.unbind())
    return one_for_each("learning_rates", given, count, or_else=f", or rows [{count}, {n}] ≥ 0 for each example")
