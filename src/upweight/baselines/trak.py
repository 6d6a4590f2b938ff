"""`TRAK`: a kernel machine on projected gradients of the model's output, averaged over several trained models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from upweight import kinds, measurements, scalars
from upweight.attribution import Attribution, Magnitude, Quantity
from upweight.baselines.projection import Kind, Projection, projected
from upweight.checkpoints import objective_at, read_checkpoints
from upweight.curvature import Matrix
from upweight.data import Data
from upweight.engine.said import refuse_bad
from upweight.errors import InputError
from upweight.gradients import ExampleFunction
from upweight.gradients.denormals import flushed
from upweight.inverse import Dense, MeanEigenvalue, Solver, warned
from upweight.inverse.damping import resolve
from upweight.kept import random_states_kept
from upweight.losses import BinaryLogistic, CrossEntropy
from upweight.measurements import Measurement, as_measurement
from upweight.objective import Objective
from upweight.progress import track
from upweight.quantities import meanings
from upweight.quantities.queries import (
    check_measurement,
    check_query_targets,
    numbers,
    query_names,
    refuse_infinite,
)
from upweight.retraining.expanded import Expansion
from upweight.solve_report import SolveReport, joined

DAMPING = MeanEigenvalue(1.0)
"""By agreement with retraining: far better than none for every dimension and number of models tried."""
ROWS = 2048
"""Rows of features that are held in float64 at a time."""
COLUMNS = 256
"""Columns of the kernel that are made at a time."""


@dataclass(frozen=True)
class _Member:
    """One model: its objective, output function and projection, training examples' features, the kernel's inverse."""

    objective: Objective
    measurement: Measurement
    projection: Projection
    features: Float[Tensor, "train k"]
    solver: Solver

    @property
    def function(self) -> ExampleFunction:
        """The output function with its derivatives."""
        return _derivatives(self.objective, self.measurement)

    def queries(self, data: Data, measurement: Measurement) -> Float[Tensor, "queries k"]:
        """Projected gradients of the queries' measurement."""
        function = self.function
        if measurement != self.measurement:
            function = self.objective.engine.bind(measurement.bind(self.objective.loss))
        found = _features(self.objective, function, data, self.projection)
        refuse_infinite(found)
        return found.double()

    def kernel(
        self, solved: Float[Tensor, "queries k"], positions: Tensor | slice
    ) -> Float[Tensor, "queries positions"]:
        """Products of solved query features with training features, in float64."""
        return torch.cat([solved @ part.double().T for part in self.features[positions].split(ROWS)], dim=1)


class TRAK:
    """Tracing with the randomly projected after-kernel (Park et al. 2023, section 3).

    Parameters
    ----------
    objective
        What was minimised, with its trained model.
    models
        Models trained from other seeds (or on other subsets), to average over: a list of state dicts, modules or
        vectors ``[p]``, or rows ``[k, p]``; or `upweight.expansion`, which makes them. Default: the objective's own
        model alone; if given, only these.
    dimension
        k, to which the p numbers of a gradient are projected; where k ≥ p gradients are kept as they are. Features
        take models · n · k numbers, and making them 4 · models · n · p additions at most, far fewer for wide linear
        layers (k · models · n · p multiplications with a dense projection).
    seed
        Of the projections; every model has its own.
    damping
        Ridge δ of the kernel (1/n)Σφφᵀ + δI, absolute or a multiple of its mean eigenvalue tr/k (default: 1, which
        does not depend on the scale of f). The paper's is 0, which needs n well above k.
    projection
        ``sparse`` (four random signs for every parameter), ``rademacher`` (signs everywhere) or ``gaussian``.
    measurement
        The output function f: ``margin``, for cross-entropy and logistic losses of one label per example; ``loss``
        for any other.

    Raises
    ------
    InputError
        If a model is another's, a setting is out of range, or the loss has no margin.

    Notes
    -----
    With φ = Pᵀ∇f and Q = −∂ℓ/∂f, which is 1 − p of the given label for the margin and −1 for the loss,

        score(q, z) = mean_m[Q_z] · mean_m[(1/n) φ_qᵀ((1/n)ΦᵀΦ + δI)⁻¹φ_z],

    the product of two means over models, as in the paper. As there, a positive score says that training on z
    raises the query's margin. Weights of examples multiply Q and the terms of ΦᵀΦ. The kernel is summed and solved
    in float64.
    """

    def __init__(
        self,
        objective: Objective,
        models: Any = None,
        *,
        dimension: int = 2048,
        seed: int = 0,
        damping: float | MeanEigenvalue = DAMPING,
        projection: Kind = "sparse",
        measurement: Any = "margin",
    ):
        kinds.check(TRAK.__init__, locals())
        self.at = models if isinstance(models, Expansion) else None
        if self.at is not None:
            made = self.at.objectives(objective)
            objective, models = made[0], [member.model for member in made]
        self.objective = objective
        self.states = None if models is None else read_checkpoints(objective, models, "models")
        self.projection = Projection(objective.p, dimension, (seed,), projection)
        resolve(damping, Matrix(torch.ones(1, 1)))  # refused now rather than after the projection
        self.damping = damping
        self.measurement = _output_function(objective, measurement)
        if damping == 0 and min(dimension, objective.p) > objective.n:
            raise InputError(
                f"damping: without it the kernel of n={objective.n} examples is singular in "
                f"{min(dimension, objective.p)} dimensions; give a smaller dimension or damping > 0"
            )

    def __repr__(self) -> str:
        count = 1 if self.states is None else len(self.states)
        return f"TRAK({self.objective!r}, models={count}, {self.projection}, damping={self.damping})"

    @random_states_kept()
    def attribute(
        self,
        queries: Any,
        measurement: Any = None,
        *,
        train: Any = None,
        keep: int | None = None,
        query_ids: Sequence[Any] | None = None,
    ) -> Attribution:
        """Scores of training examples for each query, ``[queries, train]``.

        Parameters
        ----------
        queries
            Examples in the same form as the training data.
        measurement
            What is explained about a query (default: the output function f): one of `upweight.measurements`, its
            name, or a function.
        train
            Positions of the training examples to score (default: all).
        keep
            Soft-threshold each query's scores so that at most so many are not zero (the paper's S(·, λ), with λ the
            size of the largest score left out).
        """
        kind = self.measurement if measurement is None else as_measurement(measurement)
        data = self.objective.queries(queries)
        names = query_names(data, query_ids)
        check_measurement(self.objective, data, kind)
        check_query_targets(self.objective, data, kind)
        positions = None if train is None else self.objective.positions(train, "train")
        rows = slice(None) if positions is None else positions
        kernels, reports = [], []
        for member in self._members:
            solution = warned(member.solver.solve(member.queries(data, kind)))
            kernels.append(member.kernel(solution.x, rows))
            reports.append(solution.report)
        scores = self._scores(kernels, rows)
        if keep is not None:
            scores = soft_threshold(scores, keep)
        return self._result(scores, meanings.trak(kind, self.objective.loss), positions, names, joined(reports))

    @random_states_kept()
    def self_influence(self, *, train: Any = None) -> Attribution:
        """What training on an example does to its own f, ``[train]``."""
        positions = None if train is None else self.objective.positions(train, "train")
        rows = slice(None) if positions is None else positions
        kernels, reports = [], []
        for member in self._members:
            parts = []
            for part in member.features[rows].split(ROWS):
                solution = warned(member.solver.solve(part.double()))
                parts.append((solution.x * part).sum(1))
                reports.append(solution.report)
            kernels.append(torch.cat(parts))
        scores = self._scores(kernels, rows)
        meaning = meanings.trak_self(self.measurement, self.objective.loss)
        return self._result(scores, meaning, positions, np.array([]), joined(reports))

    @cached_property
    def _members(self) -> list[_Member]:
        if self.states is None:
            objectives = [self.objective]
        else:
            objectives = [objective_at(self.objective, state) for state in self.states]
        return [self._member(each, number) for number, each in enumerate(track(objectives, "projecting gradients"))]

    def _member(self, objective: Objective, number: int) -> _Member:
        own = Projection(objective.p, self.projection.dimension, (*self.projection.seed, number), self.projection.kind)
        features = _features(objective, _derivatives(objective, self.measurement), objective.data, own)
        refuse_bad(torch.arange(objective.n), features, objective.problem)
        kernel = Matrix(mean_square(features, objective.weights))
        return _Member(objective, self.measurement, own, features, Dense(damping=self.damping).fit(kernel))

    @cached_property
    def _pull(self) -> Float[Tensor, " train"]:
        """w_z times the mean of Q = −∂ℓ/∂f over models, in float64."""
        weights = self.objective.weights.double()
        if isinstance(self.measurement, measurements.Loss):
            return -weights
        total = torch.zeros_like(weights)
        for member in self._members:
            objective = member.objective
            margins = [member.function.values(objective.params, batch) for _, batch in objective.batches()]
            total += torch.sigmoid(-torch.cat(margins).double())
        return weights * total / len(self._members)

    def _scores(self, kernels: list[Tensor], rows: Tensor | slice) -> Tensor:
        """mean_m[Q_z] · mean_m[kernel], with the kernel's 1/n."""
        return torch.stack(kernels).mean(0) / self.objective.n * self._pull[rows]

    def _result(
        self,
        scores: Tensor,
        quantity: Quantity,
        positions: Tensor | None,
        names: np.ndarray,
        report: SolveReport,
    ) -> Attribution:
        ids = self.objective.ids if positions is None else self.objective.ids[positions.numpy()]
        facts = {
            "n": float(self.objective.n),
            "p": float(self.objective.p),
            "models": float(len(self._members)),
            "dimension": float(min(self.projection.dimension, self.objective.p)),
        }
        damping = sum(member.solver.damping for member in self._members) / len(self._members)
        words = f"inner products of gradients projected to {int(facts['dimension']):,} numbers stand for the curvature"
        sizes = Magnitude(False, words)
        found = Attribution(scores.to(self.objective.dtype), quantity, ids, names, damping, report, facts, sizes)
        return found if self.at is None else self.at.told(found)


def _derivatives(objective: Objective, measurement: Measurement) -> ExampleFunction:
    """An output function of the model with its derivatives, which the objective's engine keeps."""
    engine = objective.engine
    return engine.kept(f"TRAK's {measurement.name}", lambda: engine.bind(measurement.bind(objective.loss)))


def _features(
    objective: Objective, function: ExampleFunction, data: Data, projection: Projection
) -> Float[Tensor, "examples k"]:
    """Projected gradients of a function of examples, in passes as large as what each example takes allows."""
    engine = objective.engine
    each = numbers(objective, function, data) if projection.takes_factors else objective.p
    with flushed():
        return projected(function, objective.params, data, min(engine.block_rows(each), engine.pass_rows), projection)


def mean_square(features: Float[Tensor, "n k"], weights: Float[Tensor, " n"]) -> Float[Tensor, "k k"]:
    """(1/n) Σ w_i φ_i φ_iᵀ, summed in float64: the lower half, column block by column block, and its mirror image."""
    k = features.shape[1]
    total = torch.zeros(k, k, dtype=torch.float64, device=features.device)
    for rows, weight in zip(features.split(ROWS), weights.split(ROWS), strict=True):
        wide = rows.double()
        weighted = wide * weight.double()[:, None] / len(features)
        for start in range(0, k, COLUMNS):
            total[start:, start : start + COLUMNS].addmm_(wide[:, start:].T, weighted[:, start : start + COLUMNS])
    return total.tril_().add_(total.tril(-1).T)


def soft_threshold(scores: Float[Tensor, "queries train"], keep: int) -> Float[Tensor, "queries train"]:
    """sign(τ)·max(|τ| − λ, 0), λ being each row's largest |τ| after the first ``keep``.

    Raises
    ------
    InputError
        If ``keep`` isn't a whole number of at least 1.
    """
    scalars.whole("keep", keep)
    if keep >= scores.shape[1]:
        return scores
    sizes = scores.abs()
    limit = sizes.topk(keep + 1, dim=1).values[:, -1:]
    return scores.sign() * (sizes - limit).clamp_min(0)


def _output_function(objective: Objective, measurement: Any) -> Measurement:
    """The measurement, if the loss is known as a function of it."""
    kind = as_measurement(measurement)
    if isinstance(kind, measurements.Loss):
        return kind
    if not isinstance(kind, measurements.Margin):
        raise InputError(f"measurement: TRAK's output function is 'margin' or 'loss'; got {measurement!r}")
    loss, single = objective.loss, objective.data.take([0])
    if isinstance(loss, CrossEntropy):
        labels = loss.targets(single).numel()
    elif isinstance(loss, BinaryLogistic):
        labels = objective.outputs(single).numel()
    else:
        labels = 0
    if labels == 1 and isinstance(loss, CrossEntropy | BinaryLogistic) and not loss.is_plain:
        raise InputError(
            f"measurement: TRAK's margin is that of −log p alone, and {type(loss).__name__} has class weights, "
            "smoothing or a factor; give measurement='loss'"
        )
    if labels != 1:
        reason = f"this has {labels} per example" if labels else f"not for {type(loss).__name__}"
        raise InputError(
            "measurement: the margin log p/(1 − p) determines cross-entropy and logistic losses of one label per "
            f"example; {reason}. Give measurement='loss'"
        )
    return kind
