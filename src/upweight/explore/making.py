"""From a trained objective to what a page shows of it beside scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from upweight import index, tasks
from upweight.attribution import Quantity
from upweight.errors import InputError
from upweight.explore import examples as shown
from upweight.explore.coloured import Readable, coloured
from upweight.explore.display import Display, Origin
from upweight.explore.examples import Examples
from upweight.explore.pictures import thumbnails
from upweight.explore.view import wrong_first
from upweight.influence import Influence
from upweight.losses import SquaredError
from upweight.names import LINE
from upweight.objective import Objective
from upweight.predictions import FittedValues, Predictions, fitted_values, named, predictions
from upweight.report.numbers import decimals, in_decimals
from upweight.store.backend import Backend, Local, Remote
from upweight.stored import Stored
from upweight.tasks import LabelErrors, TargetErrors

DIMENSION = 256
"""Numbers of a row in which neighbours are looked for."""
INDEX = "index"
"""The folder of a store that holds them."""


@dataclass(frozen=True, eq=False)
class Given:
    """What is known of the examples from outside.

    Attributes
    ----------
    title, noun
        What it is about, and what an example is called.
    class_names
        Of classification: names by class number (default: the numbers).
    images, query_images
        In the forms of `upweight.plots.pixels`.
    own, query_own
        The user's columns.
    lines, query_lines
        Of a table's rows: where they begin in their file.
    origin
        The file that the data come from, which `upweight clean` reads again; None where a program has them.
    read
        How tokens are read and scored, where they are to be coloured.
    errors
        Of labels or numbers, where they have been looked for; the queries are then the most suspicious themselves.
    """

    title: str
    noun: str = "example"
    class_names: Sequence[str] | None = None
    images: Any = None
    query_images: Any = None
    own: Mapping[str, np.ndarray] = field(default_factory=dict)
    query_own: Mapping[str, np.ndarray] = field(default_factory=dict)
    lines: np.ndarray | None = None
    query_lines: np.ndarray | None = None
    origin: Origin | None = None
    read: Readable | None = None
    errors: LabelErrors | TargetErrors | None = None


def made(
    place: Backend,
    objective: Objective,
    queries: Any,
    given: Given,
    *,
    query_ids: np.ndarray,
    said: Callable[[str], None] = lambda words: None,
    lost: Callable[[str], None] = lambda words: None,
) -> Display:
    """What a page shows of a finished job's examples, kept in its store, with the index of their gradients beside it.

    Parameters
    ----------
    place
        The job's store.
    objective, queries
        As they were attributed; ``query_ids`` are the queries' ids, ``[queries]``.
    given
        What else is known of them.
    said
        Is told what is being done.
    lost
        Is told what can't be shown, and why.

    Raises
    ------
    InputError
        If tokens are asked for, and can't be scored.
    upweight.files.NotWrittenError
        If the store can't be written to.
    """
    influence = Influence(objective) if given.errors is None else given.errors.influence
    said(f"asking the model about {objective.n:,} training examples")
    train, suspicion = _training(influence, given, lost)
    asked = _predicted(objective, queries, given.class_names, lost)
    for facts, lines in ((train, given.lines), (asked, given.query_lines)):
        if lines is not None:
            facts[LINE] = lines
    if given.errors is not None:
        asked[shown.OF] = given.errors.order[: len(query_ids)]
    said("placing them on a map by their gradients")
    try:
        rows = gradients(place, objective)
        train |= dict(zip((shown.X, shown.Y), _plane(rows).T, strict=True))
    except InputError as error:
        lost(f"no map and no nearest examples: {error}")
    unit = getattr(objective.loss, "unit", "loss")
    pictures = pictured(given.images, "training images", lost), pictured(given.query_images, "query images", lost)
    answers, tokens = Examples(query_ids, asked, dict(given.query_own), pictures[1]), None
    if given.read is not None and given.read.asks_of(stored := Stored.open(place)):
        said("scoring tokens")
        tokens = coloured(stored, queries, wrong_first(answers), given.read, lost)
    display = Display(
        given.title, given.noun, None if given.class_names is None else tuple(map(str, given.class_names)), unit,
        suspicion, given.origin,
        Examples(np.asarray(objective.ids), train, dict(given.own), pictures[0]),
        answers, tokens,
    )  # fmt: skip
    display.keep(place)
    return display


def index_place(place: Backend) -> Backend | None:
    """Where a store has the rows of its examples' gradients; None where it can have none."""
    if isinstance(place, Local):
        return Local(place.path / INDEX)
    return Remote(f"{place.url.rstrip('/')}/{INDEX}", place.options) if isinstance(place, Remote) else None


def gradients(place: Backend, objective: Objective) -> Float[Tensor, "train k"]:
    """Rows of gradients, made where they aren't there yet.

    Raises
    ------
    InputError
        If the loss has no gradients by example, or the store has no room for them.
    """
    where = index_place(place)
    if where is None:
        raise InputError(f"store: {place} holds no folder for rows of gradients; give a folder or a URL")
    return index.build(objective, where, index.Sparse(DIMENSION)).rows()


def _plane(rows: Float[Tensor, "train k"]) -> Float[np.ndarray, "train 2"]:
    """The first two principal components of the rows, each scaled to length 1.

    Gradients of a trained model differ in length by orders of magnitude: as they are, a few of them would be the map.
    """
    unit = rows / rows.norm(dim=1, keepdim=True).clamp_min(torch.finfo(rows.dtype).tiny)
    centred = unit - unit.mean(0)
    values, vectors = torch.linalg.eigh((centred.T @ centred).double())
    two = vectors[:, values.argsort(descending=True)[:2]]
    if two.shape[1] < 2:
        two = torch.cat([two, torch.zeros_like(two)], dim=1)
    signs = torch.sign(two.gather(0, two.abs().argmax(0, keepdim=True)))
    return (centred.double() @ (two * torch.where(signs == 0, 1.0, signs))).float().numpy()


def _training(influence: Influence, given: Given, lost: Callable[[str], None]) -> tuple[dict[str, np.ndarray], str]:
    objective = influence.objective
    facts = _predicted(objective, None, given.class_names, lost)
    errors, suspicion = given.errors, ""
    if errors is None:
        try:
            errors = (
                tasks.target_errors(influence)
                if shown.VALUE in facts
                else tasks.label_errors(influence, class_names=given.class_names)
            )
        except InputError as error:
            lost(f"no labels are suggested: {error}")
    if errors is not None:
        quantity: Quantity = errors.attribution.quantity
        suspicion = f"{quantity.words} [{quantity.unit}]: {quantity.positive}"
        facts[shown.SUSPICION] = errors.attribution.scores.double().cpu().numpy()
        if isinstance(errors, LabelErrors):
            facts[shown.SUGGESTED] = _texts(errors.predictions.predicted, given.class_names)
        else:
            digits = decimals(facts[shown.VALUE])
            facts[shown.SUGGESTED] = np.round(errors.suggested.double().cpu().numpy(), digits)
    facts[shown.SELF] = influence.self_influence().scores.double().cpu().numpy()
    return facts, suspicion


def _predicted(
    objective: Objective, data: Any, names: Sequence[str] | None, lost: Callable[[str], None]
) -> dict[str, np.ndarray]:
    if isinstance(objective.loss, SquaredError):
        try:
            return _numbers(fitted_values(objective, data))
        except InputError:  # several targets an example
            pass
    try:
        said: Predictions = predictions(objective, data)
    except InputError as error:
        lost(f"no predictions: {error}")
        losses = objective.losses() if data is None else objective.losses(data)
        return {shown.LOSS: losses.double().cpu().numpy()}
    return {
        shown.LABEL: _texts(said.given, names),
        shown.PREDICTION: _texts(said.predicted, names),
        shown.WRONG: said.wrong.cpu().numpy(),
        shown.LOSS: said.losses.double().cpu().numpy(),
    }


def _numbers(said: FittedValues) -> dict[str, np.ndarray]:
    found = {
        shown.PREDICTION: said.predicted, shown.RESIDUAL: said.residuals, shown.LOSS: said.losses,
    }  # fmt: skip
    numbers = {name: values.double().cpu().numpy() for name, values in found.items()}
    return {shown.VALUE: in_decimals(said.given.cpu().numpy()), **numbers}


def _texts(classes: Tensor, names: Sequence[str] | None) -> np.ndarray:
    return np.array([str(each) for each in named(classes, names).tolist()], dtype=str)


def pictured(images: Any, what: str, lost: Callable[[str], None]) -> list[bytes] | None:
    """Images as files that a page shows; ``lost`` is told how many are none."""
    if images is None:
        return None
    found, unshown = thumbnails(images)
    if unshown:
        why = "they are no images, can't be read, or hold NaN or infinity"
        lost(f"{unshown:,} of {len(found):,} {what} can't be shown: {why}")
    return found
