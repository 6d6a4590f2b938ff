"""`SOURCE`: influence through a training, in segments of constant curvature, with the training length as damping."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from upweight import kinds, scalars
from upweight.attribution import Attribution, Magnitude
from upweight.baselines.tracin import one_for_each, step_metrics
from upweight.checkpoints import objective_at, read_checkpoints
from upweight.errors import InputError
from upweight.inverse import EKFAC, Inverse, as_solver
from upweight.inverse.functions import MatrixFunctions, matrix_functions
from upweight.kept import random_states_kept
from upweight.measurements import as_measurement
from upweight.objective import Objective
from upweight.progress import track
from upweight.quantities import meanings
from upweight.quantities.queries import check_measurement, check_query_targets, query_gradients, query_names
from upweight.recorder import Recording


@dataclass(frozen=True, eq=False)
class Segment:
    """A stretch of training with one curvature and one gradient of each example: those at its checkpoint.

    Attributes
    ----------
    objective
        At the checkpoint.
    length
        η̄K/(1−β): the sum of the rates of its steps, over 1 less the momentum.
    metric
        √v̂ + ε of Adam's steps, ``[p]``; None: steps of SGD.
    inverse
        What knows the curvature by eigenvalues.
    """

    objective: Objective
    length: float
    metric: Tensor | None
    inverse: Inverse

    @cached_property
    def curvature(self) -> MatrixFunctions:
        """Functions of H, or of P^−½ H P^−½."""
        return matrix_functions(as_solver(self.inverse, self.objective), self.metric)

    @cached_property
    def root(self) -> Tensor | float:
        """P^½."""
        return 1.0 if self.metric is None else self.metric.sqrt()

    def filtered(self, vectors: Float[Tensor, "k p"]) -> Float[Tensor, "k p"]:
        """V r(H), r(Λ) = (1 − e^{−tΛ})/Λ: what the steps of the segment do along a training gradient."""
        return self.curvature.apply(self._filter, vectors / self.root) / self.root

    def carried(self, vectors: Float[Tensor, "k p"]) -> Float[Tensor, "k p"]:
        """V e^{−tH}: what is left at the end of the segment of a change at its begin, seen from a query."""
        return self.curvature.apply(lambda values: torch.exp(-self.length * values), vectors / self.root) * self.root

    def _filter(self, values: Tensor) -> Tensor:
        whole = self.length * values
        safe = torch.where(whole == 0, 1.0, whole)
        return self.length * torch.where(whole == 0, 1.0, -torch.expm1(-safe) / safe)


class SOURCE:
    """Approximate unrolled differentiation in segments (Bae et al. 2024, arXiv 2405.12186, eqs. 11 to 15).

    Parameters
    ----------
    objective
        What was minimised. Its model gives the architecture; θ comes from the checkpoints.
    checkpoints
        A `upweight.Recording`, which has rates (momentum in them), steps and metrics too; or the model at the end of
        each of L segments of its training, in order: state dicts, modules or vectors ``[p]``, or rows ``[L, p]``.
        Queries are seen at the last.
    rates, steps
        η̄ and K of each segment: the mean learning rate of its steps, and their number (one number: of all).
    momentum
        β of SGD; a step's effect in the long run is 1/(1−β) of itself. (Adam's first moment is normalised: leave 0.)
    metrics
        √v̂ + ε of each checkpoint, as `upweight.step_metric` reads it, for steps of Adam: H is then taken in this
        metric, P^−½ H P^−½ (appendix C). With ``inverse.Dense`` or, of an objective without l2, ``inverse.Dual``.
    inverse
        What knows the curvature by eigenvalues, fitted at every checkpoint: ``inverse.EKFAC()`` (default), ``KFAC``,
        ``Dual`` or ``Dense``. Its damping isn't used: the training length stands for it.

    Raises
    ------
    InputError
        If a checkpoint is of another model or repeats the one before it, a number is out of its range, or there aren't
        as many as checkpoints.

    Notes
    -----
    With H_l, ∇ℓ_z of segment l's own checkpoint and t_l = η̄_l K_l/(1−β), removal of z changes the measurement m by

        (1/n) Σ_l ∇m_qᵀ e^{−t_L H_L} ··· e^{−t_{l+1} H_{l+1}} r_l(H_l) w_z∇ℓ_z,   r_l(Λ) = (1 − e^{−t_l Λ})/Λ.

    H holds the penalty. The paper averages curvature and gradients over the checkpoints of a segment; here each is a
    segment of its own, which is the finer cut at the same number of fits. Training longer and longer at the last
    checkpoint it becomes influence without damping.
    """

    def __init__(
        self,
        objective: Objective,
        checkpoints: Any,
        rates: float | Sequence[float] | None = None,
        steps: float | Sequence[float] | None = None,
        *,
        momentum: float = 0.0,
        metrics: Sequence[Mapping[str, Tensor]] | None = None,
        inverse: Inverse | None = None,
    ):
        kinds.check(SOURCE.__init__, locals())
        if isinstance(checkpoints, Recording):
            given = (("rates", rates), ("steps", steps), ("metrics", metrics), ("momentum", momentum or None))
            for name, value in given:
                if value is not None:
                    raise InputError(f"{name}: a recording has its own; leave it out")
            sums, metrics = checkpoints.learning_rates(1), checkpoints.metrics
            taken = np.diff([0, *checkpoints.steps])
            checkpoints, steps = checkpoints.checkpoints, taken.tolist()
            rates = [total / count for total, count in zip(sums, taken, strict=True)]
        self.objective = objective
        states = read_checkpoints(objective, checkpoints, "checkpoints")
        self.momentum = scalars.number("momentum", momentum, least=0, below=1)
        every = one_for_each("rates", rates, len(states)), one_for_each("steps", steps, len(states))
        lengths = [rate * count / (1 - self.momentum) for rate, count in zip(*every, strict=True)]
        chosen = EKFAC() if inverse is None else inverse
        each = zip(states, lengths, step_metrics(objective, metrics, len(states)), strict=True)
        self._states = tuple(each)
        self.inverse = chosen

    @property
    def lengths(self) -> list[float]:
        """t of each segment."""
        return [length for _, length, _ in self._states]

    def __repr__(self) -> str:
        shown = ", ".join(f"{length:.3g}" for length in self.lengths)
        return f"SOURCE({self.objective!r}, {len(self._states)} segments of lengths {shown}, {self.inverse!r})"

    @random_states_kept()
    def attribute(
        self,
        queries: Any,
        measurement: Any = None,
        *,
        train: Any = None,
        query_ids: Sequence[Any] | None = None,
    ) -> Attribution:
        """Removal of training examples for each query, ``[queries, train]``.

        Parameters
        ----------
        queries
            Examples in the same form as the training data.
        measurement
            What is explained: one of `upweight.measurements`, its name, or a function; default the loss.
        train
            Positions of the training examples to score (default: all).
        """
        kind = as_measurement(measurement)
        data = self.objective.queries(queries)
        names = query_names(data, query_ids)
        check_measurement(self.objective, data, kind)
        check_query_targets(self.objective, data, kind)
        positions = None if train is None else self.objective.positions(train, "train")
        scores = vectors = None
        for state, length, metric in track(list(reversed(self._states)), "segments"):
            segment = Segment(objective_at(self.objective, state), length, metric, self.inverse)
            if vectors is None:
                vectors = query_gradients(segment.objective, data, kind)
            part = segment.objective.inner(segment.filtered(vectors), positions)
            scores = part if scores is None else scores + part
            vectors = segment.carried(vectors)
        assert scores is not None
        ids = self.objective.ids if positions is None else self.objective.ids[positions.numpy()]
        facts = {
            "n": float(self.objective.n),
            "p": float(self.objective.p),
            "segments": float(len(self._states)),
            "training length": sum(self.lengths),
        }
        sizes = Magnitude(False, f"{len(self._states)} checkpoints stand for the curvature of all steps of training")
        quantity = meanings.source(kind, self.objective.loss)
        return Attribution(scores / self.objective.n, quantity, ids, names, facts=facts, magnitude=sizes)
