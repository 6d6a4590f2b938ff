"""What is refused once the model has run over the training data: losses that aren't finite, or not an example's own."""

from __future__ import annotations

import torch
from torch import Tensor

from upweight.checks.embeddings import beyond
from upweight.checks.forms import SHOWN, checked
from upweight.checks.overflow import overflow
from upweight.checks.per_example import Sizes, batch_statistics, refuse_dependence, refuse_shape
from upweight.checks.recognised import agree
from upweight.data import Batch
from upweight.errors import InputError
from upweight.gradients.substituted import called
from upweight.losses import Function, Loss, all_ignored
from upweight.problem import Problem


def refuse_bad_values(problem: Problem, sizes: Sizes, like: Loss | None = None) -> bool:
    """One pass over the training data, whose losses must be finite, whose targets the loss's; then each its own.

    Returns whether a loss that the objective's function is ``like`` has all its values.
    """
    found, same, is_empty = [], like is not None, True
    for index, batch in problem.data.batches(None, sizes.rows):
        values, agrees = _losses(problem, index, batch, like if same else None)
        found.append(values)
        same = same and agrees
        is_empty = is_empty and bool(all_ignored(problem.loss, batch).all())
        finite = torch.isfinite(found[-1])
        if not finite.all():
            raise InputError(
                f"loss: NaN or infinite for {int((~finite).sum())} training examples of a batch, first at "
                f"position {first_bad(index, finite)}; look for NaN inputs or an overflowing model{_eager(problem)}"
                f"{overflow(problem, problem.data.take([first_bad(index, finite)]))}"
            )
    if is_empty:
        ignored = getattr(problem.loss, "ignore_index", None)
        raise InputError(
            f"data: every target is {ignored}, which the loss ignores, so nothing was learnt from; give labels, or "
            "another ignore_index"
        )
    refuse_dependence("loss", problem.model, problem.loss, problem.data, torch.cat(found), sizes, problem.ids)
    return same


def _losses(problem: Problem, index: Tensor, batch: Batch, like: Loss | None) -> tuple[Tensor, bool]:
    try:
        if like is not None and isinstance(problem.loss, Function):
            values, same = agree(like, problem.loss, problem.model, batch)
        else:
            values, same = checked(problem.loss, problem.model, batch).detach(), False
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"model: on training examples {int(index[0])} … {int(index[-1])}, a batch of {len(index)}, it raised "
            f"{type(error).__name__}: {str(error)[:SHOWN]}{_unknown(problem, batch)}"
            f"{batch_statistics(problem.model)}"
        ) from error
    refuse_shape("loss", values, len(index))
    return values.detach(), same


def _unknown(problem: Problem, batch: Batch) -> str:
    said = beyond(problem.loss, problem.model, batch)
    return said and f": {said}"


def _eager(problem: Problem) -> str:
    """A word on Hugging Face's eager attention, whose softmax is in float32: in float64 its masks are NaN there."""
    way = getattr(getattr(problem.model, "config", None), "_attn_implementation", "")
    if way != "eager" or problem.dtype != torch.float64:
        return ""
    return ", or give attn_implementation='sdpa', as eager attention masks wrongly in float64"


def refuse_bad_targets(problem: Problem, batch: Batch) -> None:
    """Refuse targets that the loss isn't defined for."""
    if isinstance(problem.loss, Loss):
        problem.loss.check(called(problem.model, problem.loss.outputs, batch), batch)


def first_bad(index: Tensor, finite: Tensor) -> int:
    """The first position of those that aren't finite."""
    return int(index[(~finite).nonzero()[0, 0].cpu()])
