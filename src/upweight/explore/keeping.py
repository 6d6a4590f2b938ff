"""A finished task's result as a store that the page opens."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from upweight import kinds, scalars
from upweight.attribution import Attribution
from upweight.errors import InputError
from upweight.explore import examples as shown
from upweight.explore.coloured import PLAIN, to_bytes
from upweight.explore.display import Display
from upweight.explore.examples import Examples
from upweight.explore.making import Given, made, pictured
from upweight.jobs.begun import refuse_foreign
from upweight.jobs.written import written
from upweight.store import columns as stored_columns
from upweight.store.backend import Backend, Place, backend
from upweight.store.description import described
from upweight.tasks import Explanation, LabelErrors, TargetErrors

MOST = 100
"""Suspicious examples that are asked about one by one."""
Result = LabelErrors | TargetErrors | Explanation | Attribution


def keep(
    result: Result,
    store: Place,
    *,
    title: str = "",
    images: Any = None,
    query_images: Any = None,
    columns: Any = None,
    query_columns: Any = None,
    told: Callable[[str], None] = print,
) -> Backend:
    """Keep what a task has found as a store, which ``upweight explore STORE`` opens.

    Of label errors the 100 most suspicious examples are the queries: what speaks for and against their labels is
    scored here, beside the map and the nearest of all. An explanation keeps its queries, their words coloured where
    tokens were scored; an attribution its scores.

    Parameters
    ----------
    result
        What `tasks.label_errors`, `tasks.target_errors` or `tasks.explain` gave, or an `Attribution`.
    store
        A folder, which need not be there yet, or a URL.
    title
        Of the page (default: what the result is).
    images, query_images
        Of the training examples and the queries, in the forms of `plots.pixels`, or paths of image files.
    columns, query_columns
        What is shown beside them: a data frame, or values by name, one for each example (default: what the result
        or its objective knows).
    told
        Is told in words what can't be shown.

    Returns
    -------
    Backend
        The store.

    Raises
    ------
    InputError
        If the store holds something already, or what is given isn't one value for each example.
    upweight.files.NotWrittenError
        If the store can't be written to.

    Examples
    --------
    ::

        errors = uw.tasks.label_errors(objective)
        keep(errors, "errors.explore", images=images)  # upweight explore errors.explore
    """
    kinds.check(keep, locals())
    place = backend(store)
    if described(place, missing=None) is not None:
        raise InputError(f"store: {place} holds a job already; give another place")
    refuse_foreign(place)
    own, asked = _columns("columns", columns), _columns("query_columns", query_columns)
    if isinstance(result, LabelErrors | TargetErrors):
        for name, given in (("query_images", query_images), ("query_columns", query_columns)):
            if given is not None:
                raise InputError(f"{name}: the queries are the training examples themselves; leave it out")
        _errors(result, place, title, images, own, told)
        return place
    explained = result if isinstance(result, Explanation) else None
    found = explained.attribution if explained is not None else result
    if not isinstance(found, Attribution):
        raise InputError(
            f"result: got {type(result).__name__}; give what tasks.label_errors, tasks.target_errors or tasks.explain "
            "gave, or an Attribution"
        )
    train, queries = len(found.ids), len(found.query_ids) if found.scores.dim() > 1 else 0
    if explained is not None:
        own = own or {str(name): values for name, values in explained.columns.items()}
        asked = asked or {str(name): values for name, values in explained.query_columns.items()}
        if explained.predicted:
            asked = {"said": explained.predicted, **asked}
    held = {name: _column(f"columns[{name!r}]", values, train) for name, values in own.items()}
    label = {shown.LABEL: held.pop(shown.LABEL).astype(str)} if shown.LABEL in held else {}
    answers = {name: _column(f"query_columns[{name!r}]", values, queries) for name, values in asked.items()}
    small = pictured(_counted("images", images, train), "training images", told)
    large = pictured(_counted("query_images", query_images, queries), "query images", told)
    written(found, place, {})
    Display(
        title or found.quantity.name, "example", None, found.quantity.unit, "", None,
        Examples(found.ids, label, held, small), Examples(found.query_ids[:queries], {}, answers, large),
        _tokens(explained, queries),
    ).keep(place)  # fmt: skip
    return place


def _errors(
    errors: LabelErrors | TargetErrors,
    place: Backend,
    title: str,
    images: Any,
    own: Mapping[str, Sequence[Any]],
    told: Callable[[str], None],
) -> None:
    objective, chosen = errors.influence.objective, errors.order[:MOST]
    known: dict[str, Any] = dict(own) or {str(name): values for name, values in objective.columns.items()}
    held = {name: _column(f"columns[{name!r}]", values, objective.n) for name, values in known.items()}
    pictures = _counted("images", images, objective.n)
    names = np.asarray(objective.ids)[chosen]
    queries = objective.data.take(chosen.tolist())
    errors.influence.attribute(queries, query_ids=names.tolist(), store=place, columns={})
    given = Given(
        title or "Label errors",
        class_names=errors.class_names,
        images=pictures,
        query_images=None if pictures is None else [pictures[at] for at in chosen.tolist()],
        own=held,
        query_own={name: values[chosen] for name, values in held.items()},
        errors=errors,
    )
    made(place, objective, queries, given, query_ids=names, lost=told)


def _tokens(found: Explanation | None, queries: int) -> list[bytes] | None:
    if found is None or not found.tokens:
        return None
    return [to_bytes(each) for each in found.tokens] + [PLAIN] * (queries - len(found.tokens))


def _columns(name: str, given: Any) -> dict[str, Sequence[Any]]:
    if given is None:
        return {}
    if not hasattr(given, "items"):
        raise InputError(f"{name}: give a data frame, or values by name; got {scalars.shown(given)}")
    return {str(key): values for key, values in given.items()}


def _column(name: str, values: Any, count: int) -> np.ndarray:
    """As a store keeps it: what is of several kinds as text."""
    try:
        return stored_columns.checked(name, list(values), count)
    except InputError:
        texts = ["" if value is None else str(value) for value in values]
        return stored_columns.checked(name, texts, count)


def _counted(name: str, images: Any, count: int) -> Any:
    if images is not None and len(images) != count:
        raise InputError(f"{name}: got {len(images)}; give one for each of the {count:,} examples")
    return images
