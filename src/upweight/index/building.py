"""Building an index shard by shard: a committed block each, so that a rerun goes on where the last one ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from upweight.curvature import GGN, EmpiricalFisher, Fisher, RowCurvature
from upweight.curvature.rows import LARGEST_OUTPUT, outputs_of
from upweight.engine.said import refuse_bad
from upweight.errors import InputError
from upweight.gradients.denormals import flushed
from upweight.index import codec, factors, facts, flat
from upweight.index.examples import Examples
from upweight.index.fitted import Fitted, fit, restore
from upweight.index.projections import LowRank, Projection, said
from upweight.index.stored import DESCRIPTION, PROJECTOR, Description, Part, Stored, part_name, refuse_other_place
from upweight.losses import Loss
from upweight.objective import Objective
from upweight.progress import track
from upweight.store.tensors import pack

CURVATURES: dict[str, type[Any]] = {kind.__name__: kind for kind in (GGN, Fisher, EmpiricalFisher)}
ROWS_PER_NUMBER, FEWEST_ROWS = 4, 2500
"""Rows of the GGN for each number of a row of the index, or so many."""


@dataclass(frozen=True)
class Settings:
    """How an index is made."""

    projection: Projection
    dtype: codec.Dtype
    curvature: RowCurvature
    shard: int


def chosen_curvature(objective: Objective) -> RowCurvature:
    """The GGN where the loss has one of few outputs, which agrees best with retraining; else the empirical Fisher."""
    if isinstance(objective.loss, Loss) and objective.loss.is_convex:
        outputs = outputs_of(objective, objective.data.take([0]))
        if outputs.shape[-1] <= LARGEST_OUTPUT and outputs.numel() <= LARGEST_OUTPUT:
            return GGN()
    return EmpiricalFisher()


def curvature_said(curvature: RowCurvature) -> dict[str, Any]:
    """Curvature as a description has it.

    Raises
    ------
    InputError
        If it is one of the user's own, which no other process could make again.
    """
    kind = type(curvature).__name__
    if CURVATURES.get(kind) is not type(curvature):
        raise InputError(f"curvature: give one of curvature.{', '.join(CURVATURES)}; got {curvature!r}")
    return {"kind": kind, **asdict(curvature)}  # type: ignore[call-overload]


def read_curvature(described: Mapping[str, Any]) -> RowCurvature:
    """Curvature from a description."""
    given = dict(described)
    try:
        return CURVATURES[given.pop("kind")](**given)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"store: the index's curvature can't be {dict(described)!r} ({error})") from error


def begun(stored: Stored, objective: Objective, settings: Settings, *, resume: bool) -> tuple[Description, Fitted]:
    """The description of the index and its projector: those that are there, compared, or new ones.

    Raises
    ------
    InputError
        If what is there is of another model or other settings: says which, and both values.
    """
    if stored.blocks.mark(DESCRIPTION) is None:
        refuse_other_place(stored.backend)
    elif not resume:
        raise InputError(f"store: there is an index in {stored.backend} already; give resume=True, or another store")
    else:
        description = stored.description()
        refuse_other(description, objective, stored)
        _refuse_settings(description, settings, stored)
        if stored.blocks.fault(PROJECTOR) is not None:
            _commit_projector(stored, fit(settings.projection, objective))
        mark = stored.blocks.mark(PROJECTOR)
        if mark is None or mark.sha256 != description.projector:
            raise InputError(
                f"store: the projector of the index in {stored.backend} was damaged, and can't be made again to the "
                "last digit here; bring back a copy of its block, or build into another store"
            )
        return description, fitted_of(stored, description, objective)
    made = fit(settings.projection, objective)
    if not isinstance(settings.projection, LowRank):
        flat.refuse_wide(made.width)
    checksum = _commit_projector(stored, made)
    description = Description(
        said(settings.projection),
        settings.dtype,
        settings.shard,
        facts.of_model(objective),
        curvature_said(settings.curvature),
        made.projector.widths,
        made.projector.shapes,
        made.lossless,
        objective.p,
        checksum,
    )
    stored.blocks.commit(DESCRIPTION, description.sealed())
    return description, fitted_of(stored, description, objective)


def _commit_projector(stored: Stored, fitted: Fitted) -> str:
    numbers = {"scale": fitted.scale, "penalty": fitted.penalty, "inside": fitted.inside, "outside": fitted.outside}
    own = {f"own.{name}": value for name, value in fitted.projector.tensors().items()}
    return stored.blocks.commit(PROJECTOR, pack(numbers | own)).sha256


def fitted_of(stored: Stored, description: Description, objective: Objective) -> Fitted:
    """The projector of an index."""
    kept = stored.tensors(PROJECTOR)
    own = {name.removeprefix("own."): value.clone() for name, value in kept.items() if name.startswith("own.")}
    projector = restore(description.settings, own, objective)
    like = objective.params
    scale, penalty = kept["scale"].to(like), kept["penalty"].to(like)
    return Fitted(projector, scale, penalty, kept["inside"], kept["outside"], description.lossless)


def refuse_other(description: Description, objective: Objective, stored: Stored) -> None:
    """Refuse a model, loss or penalty that isn't the index's.

    Raises
    ------
    InputError
        Says which, and both values.
    """
    own = facts.of_model(objective)
    for name, there in description.facts.items():
        given = own.get(name, "nothing")
        if given != there:
            raise InputError(
                f"store: the index in {stored.backend} is of another {name}: {there} there, {given} given; give the "
                "objective it was built with, or another store"
            )


def _refuse_settings(description: Description, settings: Settings, stored: Stored) -> None:
    pairs: dict[str, tuple[Any, Any]] = {
        "projection": (description.projection, said(settings.projection)),
        "dtype": (description.dtype, settings.dtype),
        "shard": (description.shard, settings.shard),
        "curvature": (description.curvature, curvature_said(settings.curvature)),
    }
    for name, (there, given) in pairs.items():
        if there != given:
            raise InputError(
                f"{name}: the index in {stored.backend} has {there}, and {given} was given; give what it has, or "
                "another store"
            )


def add_part(
    stored: Stored,
    description: Description,
    fitted: Fitted,
    objective: Objective,
    curvature: RowCurvature,
    number: int,
    ids: Any,
    columns: Any,
) -> None:
    """Make, or go on making, one part of the index: its rows, and what of the curvature isn't in them."""
    parts = stored.parts()
    before = parts[:number]
    part = _part(stored, description, objective, before, ids, columns)
    if number < len(parts):
        _refuse_other_part(parts[number], part, stored)
        part = parts[number]
    else:
        stored.blocks.commit(part_name(number), part.sealed())
    _fill(stored, description, fitted, objective, part)
    name = curvature_name(number)
    if not isinstance(curvature, EmpiricalFisher) and stored.blocks.fault(name) is not None:
        stored.blocks.commit(name, pack(_curvature(description, fitted, objective, curvature)))


def _part(
    stored: Stored, description: Description, objective: Objective, before: list[Part], ids: Any, columns: Any
) -> Part:
    n, first = objective.n, sum(len(part.shards(description.shard)) for part in before)
    if ids is None:
        counted = np.arange(n) + sum(part.n for part in before)
        ids = objective.ids if objective.problem.given.ids else counted
    examples = Examples.given(ids, columns, n)
    if before:
        _refuse_unlike(before, examples, stored)
    stationarity = None
    if description.lossless:
        found = objective.stationarity()
        stationarity = found.words if found.is_notable else ""
    return Part(examples, facts.of_data(objective.data), first, stationarity)


def _refuse_unlike(before: list[Part], examples: Examples, stored: Stored) -> None:
    """Refuse names that are there already, and other columns."""
    there = Examples.joined([*(part.examples for part in before)])
    if there.columns.keys() != examples.columns.keys():
        raise InputError(
            f"columns: the index in {stored.backend} has {sorted(there.columns)}, and {sorted(examples.columns)} were "
            "given; give the same for new examples"
        )
    twice = set(there.ids.tolist()) & set(examples.ids.tolist())
    if twice:
        raise InputError(
            f"ids: {len(twice):,} examples are in {stored.backend} already, {sorted(twice, key=str)[0]!r} among them; "
            "append new ones only"
        )
    Examples.joined([there, examples])


def _refuse_other_part(there: Part, given: Part, stored: Stored) -> None:
    if there.n != given.n:
        raise InputError(
            f"store: {stored.backend} has an index of {there.n:,} examples, and the objective has {given.n:,}; give "
            "the same data, or append() what is new"
        )
    apart = np.flatnonzero(there.examples.ids != given.examples.ids)
    if len(apart):
        k = int(apart[0])
        raise InputError(
            f"ids: example {k} is {given.examples.ids.tolist()[k]!r}, but {there.examples.ids.tolist()[k]!r} in "
            f"{stored.backend}; give the same examples in the same order, or another store"
        )
    if there.data != given.data:
        raise InputError(
            f"store: the index in {stored.backend} is of other data: {there.data} there, {given.data} given; give the "
            "same examples in the same order, or another store"
        )
    for name in sorted({*there.examples.columns, *given.examples.columns}):
        one, other = there.examples.columns.get(name), given.examples.columns.get(name)
        if one is None or other is None or not np.array_equal(one, other):
            raise InputError(f"columns: {name!r} isn't as in {stored.backend}; give the same, or another store")


def _fill(stored: Stored, description: Description, fitted: Fitted, objective: Objective, part: Part) -> None:
    """Rows of the shards that aren't there, or are damaged; each depends on its own examples alone."""
    there = stored.blocks.whole("rows-")
    shards = [shard for shard in part.shards(description.shard) if shard[0] not in there]
    rows = objective.engine.rows_beside(description.width)
    with flushed():
        for name, begin, end in track(shards, "projecting gradients", len(shards)):
            positions, parts = torch.arange(begin, end), []
            for _, batch in objective.data.batches(positions, rows):
                parts.append(fitted.of(objective.engine.function.each(objective.params, batch)))
            found = torch.cat(parts)
            refuse_bad(positions, found, objective.problem)
            weights = objective.weights[begin:end]
            content = codec.encode(found.cpu(), description.widths, description.dtype, {"weights": weights})
            stored.blocks.commit(name, content, facts={"begin": begin, "end": end})


def curvature_name(number: int) -> str:
    """The block of what a part's curvature is made of."""
    return f"curvature-{number:04d}"


def _curvature(
    description: Description, fitted: Fitted, objective: Objective, curvature: RowCurvature
) -> Mapping[str, Tensor]:
    settings = description.settings
    if isinstance(settings, LowRank):
        found, weights = factors.curvature_rows(fitted, curvature.rows(objective, settings.rows), settings.rows)
        return {"rows": found, "weights": weights}
    most = max(ROWS_PER_NUMBER * description.width, FEWEST_ROWS)
    total = flat.curvature_sum(fitted, curvature.rows(objective, most))
    return {"sum": total if description.dtype == "float64" else total.float()}
