"""`from_trainer`: what a `Trainer` of transformers has trained as an `Objective`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from upweight import scalars
from upweight.data import ArrayData, Batch
from upweight.engine import Budget
from upweight.errors import InputError
from upweight.forward import Forward, half_of
from upweight.frameworks import tasks
from upweight.frameworks.collation import TEXT
from upweight.frameworks.evaluated import evaluated, refuse_no_model
from upweight.frameworks.examples import Examples, read_examples
from upweight.frameworks.reduced import Comparison, Watching, ended_in, refused, some
from upweight.frameworks.tokens import refuse_other_tokenizer
from upweight.frameworks.transformers import objective_of
from upweight.kept import random_states_kept
from upweight.losses import CrossEntropy, as_loss
from upweight.objective import Objective
from upweight.penalty import l2_of
from upweight.wrappers import unprefixed, unwrapped

AGREEMENT, AGREEMENT_OF_HALF = 1e-4, 1e-2
"""Relative difference between a trainer's loss of a batch and ours that rounding may leave, in 32 and in 16 bits."""
NEEDED = ("model", "train_dataset", "data_collator", "args", "compute_loss")

Count = Callable[[Batch], float]


@random_states_kept()
def from_trainer(
    trainer: Any,
    *,
    task: str | None = None,
    loss: Any = None,
    text: str = TEXT,
    l2: float | Mapping[str, float] | None = None,
    parameters: Any = None,
    weights: Any = None,
    ids: Sequence[Any] | np.ndarray | None = None,
    class_names: Sequence[str] | None = None,
    batch_size: int | None = None,
    forward: Forward | None = None,
    budget: Budget | None = None,
    validate: bool = True,
) -> Objective:
    """The objective that a `transformers.Trainer` has trained its model on.

    Model, training data, collator, tokenizer, label smoothing and weight decay are the trainer's, the rest as in
    `from_transformers`. An accumulated batch is divided by its number of labels that count (``num_items_in_batch``),
    and so is R by that of all data. (Where a model's loss doesn't divide by it, `Trainer` adds up the means of an
    accumulated batch's parts: R is the mean, beside which the decay counts as many times less.) On a few examples the
    trainer's ``compute_loss`` is compared with it: one that was overridden, or a ``compute_loss_func``, is read where
    it is a comparison of torch's (a weighted cross-entropy, say), and refused where it can't be split by example.

    Parameters
    ----------
    trainer
        After training, or with its optimiser's state loaded where that had a decoupled weight decay. It is left as it
        is.
    loss
        Another than the trainer's, which is then not compared.
    text
        The name under which texts are shown, where rows hold tokens alone.
    l2
        λ by itself (default: what the weight decay of ``trainer.optimizer`` amounts to, `upweight.l2_of`).
    task, parameters, weights, ids, class_names, batch_size, forward, budget, validate
        As for `from_transformers`.

    Raises
    ------
    InputError
        As `from_transformers`; if the loss can't be split by example; or if the decay was decoupled and there is no
        state of the optimiser to read it from.

    Examples
    --------
    ::

        objective = uw.from_trainer(trainer)
        attribution = uw.Influence(objective).attribute(["a text to explain"])
        attribution.top(5).to_pandas(objective.columns)
    """
    missing = [name for name in NEEDED if not hasattr(trainer, name)]
    if missing:
        raise InputError(f"trainer: give a transformers.Trainer; got {scalars.shown(trainer)}, without {missing[0]!r}")
    whole, model = trainer.model, unwrapped(trainer.model)
    refuse_no_model(model)
    found, tokenizer = tasks.task_of(model, task), _tokenizer(trainer)
    scalars.text("text", text)
    if trainer.train_dataset is None:
        raise InputError("trainer: it has no train_dataset; give the Trainer that trained the model")
    refuse_other_tokenizer(model, tokenizer)
    examples = read_examples(
        *(model, trainer.train_dataset, tokenizer),
        **{"task": found, "text": text, "max_length": None, "collate": trainer.data_collator},
        every_column=not getattr(trainer.args, "remove_unused_columns", True),
    )
    smoother, count, times = getattr(trainer, "label_smoother", None), None, 1
    if loss is None:
        smoothing = 0.0 if smoother is None else float(smoother.epsilon)
        usual = tasks.loss_of(found, examples.collation.kind, smoothing)
        loss, count, times = _trainers(trainer, model, examples, usual)
    optimizer = getattr(trainer, "optimizer", None)
    if l2 is None:
        _refuse_no_optimizer(trainer, optimizer, model)
    return objective_of(
        *(model, examples, loss),
        count=count,
        times=times,
        optimizer=optimizer,
        l2=unprefixed(l2, whole),
        parameters=unprefixed(parameters, whole),
        forward=forward,
        class_names=class_names,
        weights=weights,
        batch_size=batch_size,
        ids=ids,
        num_workers=0,
        budget=budget,
        validate=validate,
    )


def _tokenizer(trainer: Any) -> Any:
    """What the trainer makes tokens with; its older name is looked for where the newer isn't there."""
    found = getattr(trainer, "processing_class", None)
    return trainer.__dict__.get("tokenizer") if found is None else found


def _refuse_no_optimizer(trainer: Any, optimizer: Any, model: nn.Module) -> None:
    """Refuse a decay of which nothing says what it amounts to."""
    decay = float(getattr(trainer.args, "weight_decay", 0.0))
    if decay == 0 and optimizer is None:
        return
    mend = (
        "call this after trainer.train(), or load the state that a checkpoint has beside its weights "
        "(trainer.create_optimizer(); trainer.optimizer.load_state_dict(torch.load('checkpoint-…/optimizer.pt'))), or "
        "give l2"
    )
    if optimizer is None:
        raise InputError(f"trainer: it has a weight decay of {decay:g} and no optimiser that says what it did; {mend}")
    try:
        l2_of(optimizer, model)
    except InputError as error:
        raise InputError(f"trainer: {error}. To have it, {mend}") from error


def _trainers(trainer: Any, model: nn.Module, examples: Examples, loss: Any) -> tuple[Any, Count | None, int]:
    """The task's loss, where the trainer's has its values, else what the trainer's is seen to be made of.

    And what it divides by, where that isn't the number of labels that the loss looks at (of models whose loss it
    doesn't know, `Trainer` counts first tokens too); and how many times the mean it steps along.
    """
    batch = some(examples.data, model, torch.get_default_dtype())
    counting = _counting(trainer, model)
    items = 0.0 if counting is None else counting(batch)
    with evaluated(model), torch.no_grad():
        theirs, seen = _computed(trainer, model, batch, items)
        if theirs is None:
            return loss, None, 1
        again, _ = _computed(trainer, model, batch, 2 * items)
        times = _times(trainer, items) if items and again is not None and torch.equal(theirs, again) else 1
        comparison = ended_in(theirs, seen) if _is_overridden(trainer) else None
        if comparison is not None:
            other = tasks.shifted(comparison.module(), examples.collation.task)
            if _agree(theirs, _mean(other, model, batch), model):
                return other, None, times
        if _agree(theirs, _mean(loss, model, batch), model):
            return loss, None, times
        is_counted = items and isinstance(loss, CrossEntropy)
        if is_counted and _agree(theirs, float(loss(model, batch).sum()) / items, model):
            return loss, counting, times
    if _is_overridden(trainer):
        raise refused("the trainer's compute_loss")
    return loss, None, times  # a model's own, with further terms: `Objective` says so


def _times(trainer: Any, items: float) -> int:
    """How many means of a batch's parts `Trainer` adds up where a loss doesn't divide by what it is told to."""
    said = getattr(trainer, "loss_is_scaled_for_ga", None)
    divides = getattr(trainer, "model_accepts_loss_kwargs", False) and items
    divides = divides or getattr(trainer, "compute_loss_func", None) is not None
    steps = int(getattr(trainer.args, "gradient_accumulation_steps", 1))
    return steps if (divides if said is None else said) else 1


def _is_overridden(trainer: Any) -> bool:
    """Whether somebody wrote a loss of their own."""
    if getattr(trainer, "compute_loss_func", None) is not None:
        return True
    return not type(trainer).compute_loss.__module__.startswith("transformers.")


def _counting(trainer: Any, model: nn.Module) -> Count | None:
    """The trainer's own count of what a batch is divided by."""
    count = getattr(trainer, "_get_num_items_in_batch", None)
    if not callable(count):
        return None

    def items(batch: Batch) -> float:
        found = count([batch], next(model.parameters()).device)
        return 0.0 if found is None else float(found)

    return items


def _computed(trainer: Any, model: nn.Module, batch: Batch, items: float) -> tuple[Tensor | None, list[Comparison]]:
    """The trainer's loss of a batch, as if that were all it accumulated, and the comparisons on the way."""
    watching = Watching()
    try:
        with watching:
            found = trainer.compute_loss(model, dict(batch), num_items_in_batch=items or None)
    except Exception as error:  # whatever it needs of a training that runs
        if _is_overridden(trainer):
            raise refused(f"the trainer's compute_loss, which raised {type(error).__name__}: {error},") from error
        return None, []
    return (found.detach() if isinstance(found, Tensor) and found.dim() == 0 else None), watching.seen


def _mean(loss: Any, model: nn.Module, batch: Batch) -> float:
    """A loss of ours, or of torch, of a batch: its mean over what counts."""
    read = as_loss(loss, ArrayData(batch))
    values = read(model, batch)
    if isinstance(read, CrossEntropy):
        outputs = read.outputs(model, batch)
        return float(values.sum()) / max(float(read.mass(outputs, read.targets(batch)).sum()), 1e-30)
    return float(values.mean())


def _agree(theirs: Tensor, ours: float, model: nn.Module) -> bool:
    near = AGREEMENT if half_of(model) is None else AGREEMENT_OF_HALF
    return abs(float(theirs) - ours) <= near * max(abs(float(theirs)), abs(ours)) + 1e-6
