"""Which inverse serves an objective when the user doesn't say, by counted work (`upweight.inverse.costs`)."""

from __future__ import annotations

import torch

from upweight.curvature import GGN, Curvature, EmpiricalFisher, Fisher, Hessian, RowCurvature
from upweight.curvature.rows import trace_share
from upweight.errors import UpweightWarning, warn
from upweight.inverse import CG, EKFAC, Dense, Dual, Inverse, MeanEigenvalue
from upweight.inverse.costs import Counts
from upweight.inverse.dense import may_be_singular
from upweight.inverse.dual import DEFAULT_ROWS, fitting, has_spectrum, used_rows
from upweight.inverse.dual_costs import dual_stages
from upweight.losses import CrossEntropy, Loss
from upweight.objective import Objective

DENSE_UP_TO = 4000
"""p up to which the whole matrix is cheaper than iterating: 128 MB and a second in float64."""
SINGULAR_DAMPING = 1e-3
"""Multiple of the mean eigenvalue that damps a matrix that may be singular, where it isn't factorised."""
DEFAULT_MEMORY = 2**31
SECONDS_OF_WORK = 2e11
"""Operations that no machine minds."""
SEPARABLE = 10
"""p over the multiplications of a pair, above which gradients are products of two short vectors: one position each."""
FAR_FROM_FITTED = 0.3
"""Mean Gini impurity 1 − Σp² of the predictions, over its largest value, from which the penalty harms EK-FAC.

Measured .04 and .06 on networks that it helps, .5 and more on those that it harms."""
PREDICTIONS_LOOKED_AT = 256
LEAST_SHARE = 0.6
"""Share of the trace of the GGN that kept rows must carry; where examples are still far from fitted, none stand out."""
DUAL_OVER_PASSES = 400
"""Work of the dual, in forward and backward passes over the training data, up to which it is preferred to EK-FAC."""


def choose(counts: Counts) -> tuple[Inverse, str]:
    """An inverse and the reason for it in words."""
    objective = counts.objective
    if objective.is_linear:
        reason = "outputs are linear in θ, so the Hessian of a convex loss is exact and needs no damping"
        if objective.p <= DENSE_UP_TO:
            return Dense(
                Hessian(), damping=0.0, singular="pseudo"
            ), f"{reason}; p={objective.p:,} ≤ {DENSE_UP_TO:,}: factorised"
        if not may_be_singular(objective):
            return CG(Hessian(), damping=0.0), f"{reason}; p={objective.p:,}: conjugate gradients"
        reason = (
            "outputs are linear in θ, and without l2 the Hessian of a softmax is singular: damped by "
            f"{SINGULAR_DAMPING:g} of its mean eigenvalue; p={objective.p:,}: conjugate gradients"
        )
        warn(f"inverse: {reason}. Give l2 > 0 or an inverse of your own", UpweightWarning)
        return CG(Hessian(), damping=MeanEigenvalue(SINGULAR_DAMPING)), reason
    if not objective.engine.function.factored:
        return _without_factors(objective)
    curvature, why = row_curvature(objective)
    rows = used_rows(counts, curvature, DEFAULT_ROWS)
    against = _against_rows(counts, curvature, rows)
    if not against:
        exact = "exact" if not isinstance(curvature, GGN) else f"the {rows:,} rows that carry most of its trace"
        reason = f"{why}; {exact}, inverted in the space of its rows ({objective.p:,} parameters)"
        return Dual(curvature, damping="auto", rows=rows, memory=counts.memory), reason
    factor = Fisher() if isinstance(objective.loss, Loss) and objective.loss.is_likelihood else EmpiricalFisher()
    unsure = impurity(objective)
    if unsure < FAR_FROM_FITTED:
        return EKFAC(factor, damping="auto"), f"{why}; {against}: EK-FAC"
    reason = (
        f"{why}; {against}: EK-FAC; without the penalty, as predictions are far from sure ({unsure:.0%}): scores rank "
        "well, their sizes say little"
    )
    return EKFAC(factor, damping="auto", penalized=False), reason


def _against_rows(counts: Counts, curvature: RowCurvature, rows: int) -> str:
    """Why the curvature is not to be inverted in the space of its rows; "" if it is."""
    objective = counts.objective
    if not isinstance(curvature, GGN) and counts.pair * SEPARABLE > objective.p:
        return "rows of one draw each say little of gradients summed over many positions"
    fit = fitting(counts.memory, len(objective.l2.unique()), objective.dtype)
    if rows > fit or (rows < DEFAULT_ROWS // 2 and rows < objective.n):
        return f"only {fit:,} rows' inner products fit {counts.memory / 2**30:.2g} GiB"
    allowed = max(DUAL_OVER_PASSES * counts.pass_flops, SECONDS_OF_WORK)
    if sum(stage.flops for stage in dual_stages(counts, rows, spectral=has_spectrum(curvature))) > allowed:
        return f"the rows' inner products would cost too much at p={objective.p:,}"
    if isinstance(curvature, GGN):
        share = trace_share(objective, rows)
        if share < LEAST_SHARE:
            return f"the {rows:,} largest rows carry only {share:.0%} of the trace"
    return ""


def impurity(objective: Objective) -> float:
    """How unsure a classifier is of its training data: the mean of 1 − Σp² over that of equal probabilities.

    Of at most `PREDICTIONS_LOOKED_AT` examples, spread evenly; 0 where the loss knows no probabilities.
    """
    if not isinstance(objective.loss, CrossEntropy):
        return 0.0
    chosen = torch.linspace(0, objective.n - 1, min(PREDICTIONS_LOOKED_AT, objective.n)).long()
    gini, places = 0.0, 0
    for part in chosen.split(objective.engine.pass_rows):
        batch = objective.data.take(part)
        outputs = objective.outputs(batch)
        p = outputs.softmax(-1)
        kept = objective.loss.mass(outputs, objective.loss.targets(batch)) > 0
        gini += float((1 - (p**2).sum(-1))[kept].sum())
        places += int(kept.sum())
    classes = p.shape[-1]
    return gini / max(places, 1) / (1 - 1 / classes) if classes > 1 else 0.0


def _without_factors(objective: Objective) -> tuple[Inverse, str]:
    curvature: Curvature = GGN() if objective.engine.function.split else Hessian()
    reason = f"no factors can be read off this model: the {curvature.name}, damped by a tenth of its mean eigenvalue"
    if objective.p <= DENSE_UP_TO:
        return Dense(
            curvature, damping=MeanEigenvalue(0.1)
        ), f"{reason}; p={objective.p:,} ≤ {DENSE_UP_TO:,}: factorised"
    return CG(curvature, damping=MeanEigenvalue(0.1)), f"{reason}; p={objective.p:,}: conjugate gradients"


def row_curvature(objective: Objective) -> tuple[RowCurvature, str]:
    """Rows that serve best: the GGN's where an example has few outputs, else sampled ones, else its own gradient's."""
    loss = objective.loss
    if not isinstance(loss, Loss):
        return EmpiricalFisher(), "your own loss has no outputs to split at: the empirical Fisher"
    outputs = objective.outputs(objective.data.take([0]))
    if outputs.numel() <= 64:
        return GGN(), "a non-convex model: the GGN"
    if loss.is_likelihood:
        return Fisher(
            samples=1
        ), f"{outputs.numel():,} outputs an example: the Fisher matrix by one sampled target each"
    return EmpiricalFisher(), f"{outputs.numel():,} outputs an example: the empirical Fisher"
