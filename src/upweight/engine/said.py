"""What a pass by derivatives refuses, or says: gradients that aren't finite or all zero, parameters without factors."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from upweight.checks.overflow import overflow
from upweight.checks.values import first_bad
from upweight.engine.engine import Engine
from upweight.engine.stationarity import Moments
from upweight.errors import InputError, SlowPathWarning, UpweightWarning, warn
from upweight.problem import Problem

NAMED = 4
"""Slow parameters that a warning names."""


def say_if_flat(problem: Problem, moments: Moments) -> None:
    """Warn where no example's loss has a gradient: every score is 0 then."""
    if moments.squares > 0 or not bool(problem.weights.any()):
        return
    warn(
        f"loss: the gradients of all {problem.n} training examples are 0 at θ, so every score is 0. Either each "
        "example is fitted exactly, or the loss doesn't change with θ: look for rounding, comparisons and "
        "thresholds in the loss and the model, and for outputs that no parameter moves",
        UpweightWarning,
    )


def refuse_bad_gradients(engine: Engine) -> None:
    """One pass over the training data, whose gradients must be finite."""
    for index, grads in engine.gradients():
        refuse_bad(index, grads, engine.problem)


def refuse_bad(index: Int[Tensor, " k"], gradients: Float[Tensor, "k width"], problem: Problem) -> None:
    """Refuse gradients of the training examples at these positions, or projections of them, that aren't finite."""
    finite = torch.isfinite(gradients).all(1)
    if not finite.all():
        position = first_bad(index, finite)
        raise InputError(
            f"gradients: NaN or infinite for training example {position}, though its loss is finite; "
            + (
                overflow(problem, problem.data.take([position])).removeprefix("; ")
                or "look for a root, a norm or a logarithm at zero in the model, or leave the example out"
            )
        )


def say_what_is_slow(engine: Engine) -> None:
    """Warn of parameters that have no factors, with their share of θ.

    Raises
    ------
    InputError
        If they have none because the model runs in 16 bits, and leaves their range.
    """
    problem, plan = engine.problem, engine.function.plan
    if not plan.slow:
        return
    beyond = overflow(problem, problem.probe())
    if beyond:
        raise InputError(f"gradients: NaN or infinite for the first examples that were looked at{beyond}")
    sizes = dict(zip(problem.layout.names, problem.layout.sizes, strict=True))
    share = sum(sizes[name] for name in plan.slow) / problem.p
    named = "; ".join(f"{name}: {reason}" for name, reason in list(plan.slow.items())[:NAMED])
    more = f"; and {len(plan.slow) - NAMED} more" if len(plan.slow) > NAMED else ""
    warn(
        f"per-example gradients: {len(plan.slow)} parameters, {share:.1%} of θ, have no factors and are "
        f"differentiated without them in the same pass ({named}{more}); correct, but slower",
        SlowPathWarning,
    )
