"""What an objective refuses, or says, once its model has run: losses and gradients that aren't finite, slow parts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from upweight.data import Batch
from upweight.forms import SHOWN
from upweight.gradients import FactoredFunction
from upweight.losses import Function, Loss, all_ignored
from upweight.messages import InputError, SlowPathWarning, UpweightWarning, warn
from upweight.per_example import batch_statistics, refuse_dependence, refuse_shape
from upweight.recognised import agree

if TYPE_CHECKING:
    from upweight.objective import Objective
    from upweight.stationarity import Moments

NAMED = 4
"""Slow parameters that a warning names."""


def refuse_bad_values(objective: Objective, like: Loss | None = None) -> bool:
    """One pass over the training data, whose losses must be finite, whose targets the loss's; then each its own.

    Returns whether a loss that the objective's function is ``like`` has all its values.
    """
    found, same, is_empty = [], like is not None, True
    for index, batch in objective.batches():
        values, agrees = _losses(objective, index, batch, like if same else None)
        found.append(values)
        same = same and agrees
        is_empty = is_empty and bool(all_ignored(objective.loss, batch).all())
        finite = torch.isfinite(found[-1])
        if not finite.all():
            raise InputError(
                f"loss: NaN or infinite for {int((~finite).sum())} training examples of a batch, first at "
                f"position {_first(index, finite)}; look for NaN inputs or an overflowing model"
            )
    if is_empty:
        ignored = getattr(objective.loss, "ignore_index", None)
        raise InputError(
            f"data: every target is {ignored}, which the loss ignores, so nothing was learnt from; give labels, or "
            "another ignore_index"
        )
    refuse_dependence(
        "loss", objective.model, objective.loss, objective.data, torch.cat(found), objective.batch_size, objective.ids
    )
    return same


def _losses(objective: Objective, index: Tensor, batch: Batch, like: Loss | None) -> tuple[Tensor, bool]:
    try:
        if like is not None and isinstance(objective.loss, Function):
            values, same = agree(like, objective.loss, objective.model, batch)
        else:
            values, same = objective.checked_losses(batch).detach(), False
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"model: on training examples {int(index[0])} … {int(index[-1])}, a batch of {len(index)}, it raised "
            f"{type(error).__name__}: {str(error)[:SHOWN]}{batch_statistics(objective.model)}"
        ) from error
    refuse_shape("loss", values, len(index))
    return values.detach(), same


def say_if_flat(objective: Objective, moments: Moments) -> None:
    """Warn where no example's loss has a gradient: every score is 0 then."""
    if moments.squares > 0 or not bool(objective.weights.any()):
        return
    warn(
        f"loss: the gradients of all {objective.n} training examples are 0 at θ, so every score is 0. Either each "
        "example is fitted exactly, or the loss doesn't change with θ: look for rounding, comparisons and "
        "thresholds in the loss and the model, and for outputs that no parameter moves",
        UpweightWarning,
    )


def refuse_bad_gradients(objective: Objective) -> None:
    """One pass over the training data, whose gradients must be finite."""
    for index, grads in objective.example_gradients():
        finite = torch.isfinite(grads).all(1)
        if not finite.all():
            raise InputError(
                f"gradients: NaN or infinite for training example {_first(index, finite)}, though its loss is finite; "
                "look for a root, a norm or a logarithm at zero in the model, or leave the example out"
            )


def _first(index: Tensor, finite: Tensor) -> int:
    return int(index[(~finite).nonzero()[0, 0].cpu()])


def say_what_is_slow(objective: Objective) -> None:
    """Warn of parameters that have no factors, with their share of θ."""
    plan = objective.function.plan if isinstance(objective.function, FactoredFunction) else None
    if plan is None or not plan.slow:
        return
    sizes = dict(zip(objective.layout.names, objective.layout.sizes, strict=True))
    share = sum(sizes[name] for name in plan.slow) / objective.p
    named = "; ".join(f"{name}: {reason}" for name, reason in list(plan.slow.items())[:NAMED])
    more = f"; and {len(plan.slow) - NAMED} more" if len(plan.slow) > NAMED else ""
    warn(
        f"per-example gradients: {len(plan.slow)} parameters, {share:.1%} of θ, have no factors and are "
        f"differentiated without them in the same pass ({named}{more}); correct, but slower",
        SlowPathWarning,
    )
