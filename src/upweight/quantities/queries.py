"""Queries read for an attribution: their names, and the gradients of what is measured, in blocks that fit memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from upweight.checks.embeddings import beyond
from upweight.checks.overflow import overflow
from upweight.checks.per_example import refuse_cut_off, refuse_dependence, refuse_shape
from upweight.checks.values import refuse_bad_targets
from upweight.data import Data
from upweight.errors import InputError, UpweightWarning, warn
from upweight.gradients import Block, ExampleFunction, Gradients
from upweight.gradients.blocks import concatenated
from upweight.gradients.substituted import called
from upweight.gradients.terms import Outer
from upweight.losses import CausalLM, all_ignored
from upweight.measurements import Measurement, OfOutputs
from upweight.names import distinct
from upweight.objective import Objective


def query_names(data: Data, query_ids: Sequence[Any] | None) -> np.ndarray:
    """The names given, one per query, or positions."""
    return np.arange(len(data)) if query_ids is None else distinct("query_ids", query_ids, len(data), "query")


def check_query_targets(objective: Objective, data: Data, measurement: Measurement) -> None:
    """Refuse queries whose targets the loss isn't defined for, where the measurement reads them.

    Raises
    ------
    InputError
        If the loss ignores every target of every query: nothing would be measured, and all scores be 0.

    Warns
    -----
    UpweightWarning
        If it does so for some of them.
    """
    function, ignored = measurement.bind(objective.loss), getattr(objective.loss, "ignore_index", None)
    by_target = ignored is not None and (function is objective.loss or isinstance(function, OfOutputs))
    if not (measurement.reads_targets or by_target):
        return
    unmeasured = []
    for index, batch in data.batches(None, objective.engine.rows):
        if measurement.reads_targets:
            with _beyond_told(objective, data):
                refuse_bad_targets(objective.problem, batch)
        if by_target:
            nothing = all_ignored(objective.loss, batch)
            unmeasured += index[nothing.to(index.device)].tolist()
    if unmeasured:
        words = (
            f"queries: {len(unmeasured)} of {len(data)} (first at position {unmeasured[0]}) have no target but "
            f"{ignored}, which the loss ignores{_too_short(objective)}: nothing is measured of them, and their scores "
            "are 0; give them targets"
        )
        if len(unmeasured) == len(data):
            raise InputError(words)
        warn(words, UpweightWarning)


def _too_short(objective: Objective) -> str:
    is_next = isinstance(objective.loss, CausalLM)
    return ", as texts of one token or none have, which have no next one" if is_next else ""


def check_measurement(objective: Objective, data: Data, measurement: Measurement) -> None:
    """Refuse a measurement of the user's own that isn't what a loss must be too.

    Raises
    ------
    InputError
        If it isn't one value per query, finite, a function of θ for autograd, and the same whatever the other queries.
    """
    function = measurement.bind(objective.loss)
    if function is objective.loss or isinstance(function, OfOutputs):
        return
    name, found = f"measurement {measurement.name!r}" if measurement.name != "measurement" else "measurement", []
    for index, batch in data.batches(None, objective.engine.rows):
        try:
            values = called(objective.model, function, batch, objective.layout.unflatten(objective.params))
        except InputError:
            raise
        except Exception as error:  # a user's own function may raise whatever it likes
            said = f"{type(error).__name__}: {error}"
            raise InputError(
                f"{name}: on queries {int(index[0])} … {int(index[-1])} it raised {said}; call it yourself on the "
                "model and such a batch"
            ) from error
        refuse_shape(name, values, len(index), "queries")
        finite = torch.isfinite(values)
        if not finite.all():
            bad = int(index[(~finite).nonzero()[0, 0].cpu()])
            raise InputError(f"{name}: the value of query {bad} is NaN or infinite; look for NaN inputs")
        found.append(values.detach())
    first = data.take(list(range(min(len(data), 2))))
    refuse_cut_off(name, objective.model, function, objective.layout, objective.params, first)
    values, ids = torch.cat(found), range(len(data))
    refuse_dependence(name, objective.model, function, data, values, objective.engine.sizes, ids, "query")


def query_gradients(objective: Objective, data: Data, kind: Measurement) -> Float[Tensor, "queries p"]:
    """The gradient of each query's measurement, without the regulariser."""
    check_query_targets(objective, data, kind)
    return torch.cat(list(query_gradient_blocks(objective, data, kind)))


def query_gradient_blocks(
    objective: Objective, data: Data, measurement: Measurement
) -> Iterator[Float[Tensor, "block p"]]:
    """Gradients of the queries' measurement, without the regulariser, in order.

    Raises
    ------
    InputError
        If a gradient isn't finite.
    """
    function = objective.engine.bind(measurement.bind(objective.loss))
    rows = objective.engine.block_rows(objective.p)
    for block in torch.arange(len(data)).split(objective.engine.queries(objective.p)):
        with _beyond_told(objective, data):
            parts = [function.each(objective.params, batch).materialize() for _, batch in data.batches(block, rows)]
        gradients = torch.cat(parts)
        refuse_infinite(gradients, int(block[0]), partial(_overflow, objective, data, measurement))
        yield gradients


@contextmanager
def _beyond_told(objective: Objective, data: Data) -> Iterator[None]:
    """Within, tokens that the model's embedding doesn't know are refused with the first query that has some."""
    try:
        yield
    except IndexError as error:
        for index, batch in data.batches(None, 1):
            said = beyond(objective.loss, objective.model, batch)
            if said:
                raise InputError(f"queries: query {int(index[0])} has what the model doesn't know: {said}") from error
        raise


def _overflow(objective: Objective, data: Data, measurement: Measurement, query: int) -> str:
    return overflow(objective.problem, data.take([query]), measurement.bind(objective.loss))


def refuse_infinite(
    gradients: Float[Tensor, "block width"], first: int = 0, more: Callable[[int], str] = lambda query: ""
) -> None:
    """Refuse query gradients that aren't finite.

    ``first`` is the position of the first row; ``more``: what is to be said of a query's.
    """
    finite = torch.isfinite(gradients).all(1)
    if not finite.all():
        bad = first + int((~finite).nonzero()[0, 0])
        raise InputError(
            f"queries: the gradient of query {bad} is NaN or infinite; check its input and label{more(bad)}"
        )


def query_factor_blocks(
    objective: Objective, function: ExampleFunction, data: Data, measurement: Measurement
) -> Iterator[Gradients]:
    """Gradients of a function of the queries as factors, in order.

    Raises
    ------
    InputError
        If a gradient isn't finite.
    """
    each = numbers(objective, function, data)
    rows = min(objective.engine.block_rows(each), objective.engine.pass_rows)
    for block in torch.arange(len(data)).split(objective.engine.queries(each)):
        with _beyond_told(objective, data):
            found = concatenated([function.each(objective.params, batch) for _, batch in data.batches(block, rows)])
        refuse_infinite(found.norms()[:, None], int(block[0]), partial(_overflow, objective, data, measurement))
        yield found


def numbers(objective: Objective, function: ExampleFunction, data: Data) -> int:
    """Numbers that an example's gradient takes in inner products."""
    with _beyond_told(objective, data):
        return sum(_numbers_of(block) for block in function.each(objective.params, data.take([0])).blocks)


def _numbers_of(block: Block) -> int:
    """With several positions the gradient may have to be formed."""
    held = sum(term.numbers for term in block.terms)
    several = any(isinstance(term, Outer) and term.left.shape[1] > 1 for term in block.terms)
    return max(held, block.shape.rows * block.shape.columns) if several else held
