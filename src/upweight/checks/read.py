"""A problem from what a user gives: read, refused where it can't be right, and looked at by a pass over the data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, get_args

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

from upweight import scalars
from upweight.checks.arguments import (
    class_names,
    example_ids,
    example_weights,
    refuse_bad_loss,
    refuse_meta,
    refuse_precision,
    refuse_training_mode,
    shown_columns,
)
from upweight.checks.forms import refuse_all_pairs, refuse_probabilities, refuse_squeezed
from upweight.checks.own_loss import refuse_another_loss
from upweight.checks.per_example import Sizes, refuse_cut_off
from upweight.checks.recognised import recognised
from upweight.checks.values import refuse_bad_values
from upweight.data import Batch, as_data, loaded, of_one_shape
from upweight.errors import InputError
from upweight.forward import HALVES, Forward, half_of
from upweight.kept import copied, snapshot, widened
from upweight.losses import Function, as_loss
from upweight.parameters import Selection, select
from upweight.penalty import penalties
from upweight.problem import Given, Problem
from upweight.select.subset import Subset
from upweight.wrappers import unprefixed, unwrapped


@dataclass(frozen=True)
class Arguments:
    """Those of `upweight.Objective`."""

    model: nn.Module
    loss: Any
    data: Any
    l2: float | Mapping[str, float] = 0.0
    parameters: Selection | Subset = None
    weights: Any = None
    ids: Sequence[Any] | np.ndarray | None = None
    class_names: Sequence[str] | None = None
    batch_size: int | None = None
    num_workers: int = 0
    collate: Callable[[list[Any]], Batch] | None = None
    forward: Forward = "float32"
    columns: Any = field(default_factory=dict)
    notes: Sequence[str] = ()

    @property
    def plain(self) -> Arguments:
        """The same without wrappers around the model, and with what a ``DataLoader`` reads in its place."""
        given = self
        if isinstance(given.model, nn.Module) and unwrapped(given.model) is not given.model:
            given = replace(
                given,
                model=unwrapped(given.model),
                parameters=unprefixed(given.parameters, given.model),
                l2=unprefixed(given.l2, given.model),
            )
        if not isinstance(given.data, DataLoader):
            return given
        read = loaded(given.data)
        return replace(
            given,
            data=read.dataset,
            weights=read.weights if given.weights is None else given.weights,
            batch_size=read.batch_size if given.batch_size is None else given.batch_size,
            num_workers=given.num_workers or read.num_workers,
            collate=given.collate or read.collate,
            notes=(*given.notes, *read.notes),
        )


def refuse_model(model: Any) -> None:
    """Refuse what is no trained model in a state that can be differentiated."""
    if not isinstance(model, nn.Module):
        raise InputError(
            f"model: got {type(model).__name__}; give a torch.nn.Module (for scikit-learn estimators use "
            "upweight.from_estimator)"
        )
    refuse_meta(model)
    if torch.is_inference_mode_enabled():
        raise InputError("model: nothing can be differentiated under torch.inference_mode(); leave it for this")
    refuse_training_mode(model)


def problem_of(given: Arguments, *, is_own: bool = False) -> Problem:
    """The problem; ``is_own`` says that the model is a problem's already, and needn't be copied.

    Raises
    ------
    InputError
        If an argument can't be right; names it with its value and the mend.
    """
    given = given.plain
    batch_size = None if given.batch_size is None else scalars.whole("batch_size", given.batch_size)
    num_workers = scalars.whole("num_workers", given.num_workers, 0)
    if given.collate is not None:
        scalars.function("collate", given.collate, "from a list of examples to a batch")
    scalars.one_of("forward", given.forward, get_args(Forward))
    refuse_model(given.model)
    model, parameters, l2 = given.model, given.parameters, given.l2
    if isinstance(parameters, Subset):
        model = _taken(given, is_own=is_own)
        model, parameters, l2 = parameters.restricted(model, l2)
        layout = select(model, parameters)
    else:
        layout = select(model, parameters)  # told by identity, so before the model is copied
        model = _taken(given, is_own=is_own)
    refuse_precision(model, layout, given.forward)
    params = layout.flatten(dict(model.named_parameters())).detach().clone()
    params = params.float() if half_of(model) is not None or params.dtype in HALVES else params
    read = of_one_shape(as_data(given.data, num_workers=num_workers, collate=given.collate))
    data = read.to(params.dtype, params.device)
    return Problem(
        model=model,
        layout=layout,
        params=params,
        loss=as_loss(given.loss, data),
        data=data,
        l2=penalties(l2, layout, params, model),
        weights=example_weights(given.weights, len(data), params),
        ids=example_ids(given.ids, len(data)),
        class_names=class_names(given.class_names),
        batch_size=batch_size,
        num_workers=num_workers,
        collate=given.collate,
        given=Given(l2, given.weights is not None, given.ids is not None),
        forward=given.forward,
        columns=shown_columns(given.columns, len(data)),
        notes=tuple(scalars.text("notes: one of them", note) for note in _listed(given.notes)),
    )


def _listed(notes: Any) -> Sequence[str]:
    if isinstance(notes, str) or not isinstance(notes, Sequence):
        raise InputError(f"notes: give a list of sentences; got {scalars.shown(notes)}")
    return notes


def _taken(given: Arguments, *, is_own: bool) -> nn.Module:
    """The model, as a copy that is the problem's own, in the precision in which it is to run."""
    model = given.model if is_own else snapshot(given.model)
    if given.forward == "own":
        return model
    return widened(copied(model) if is_own and half_of(model) is not None else model)


def validated(problem: Problem, loss: Any, sizes: Sizes) -> Problem:
    """The problem, once its model has run over its data and nothing was to be refused.

    A ``loss`` that was given as a function and is a known one in other words is that one from here on.
    """
    model, pair = problem.model, problem.data.take(list(range(min(problem.n, 2))))
    refuse_bad_loss(problem.loss, model, pair)
    refuse_squeezed(problem.loss, model, pair)
    refuse_all_pairs(problem.loss, model, pair)
    refuse_probabilities(problem.loss, model, pair)
    refuse_another_loss(problem.loss, model, problem.data, pair)
    refuse_cut_off("loss", model, problem.loss, problem.layout, problem.params, pair)
    like = None
    if isinstance(problem.loss, Function) and problem.loss is not loss:
        like = recognised(problem.loss, model, problem.data)
    same = refuse_bad_values(problem, sizes, like)
    if same and like is not None:
        refuse_another_loss(like, model, problem.data, pair)
    return problem.with_loss(like) if same and like is not None else problem
