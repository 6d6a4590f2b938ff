"""What the parameters of a regression are called."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

from upweight.errors import InputError
from upweight.estimators import examples
from upweight.parameters import Layout


def given(names: Sequence[str], p: int) -> tuple[str, ...]:
    """The user's own.

    Raises
    ------
    InputError
        If they aren't one for each parameter, or two are alike.
    """
    if isinstance(names, str) or len(names) != p:
        got = repr(names) if isinstance(names, str) else len(names)
        raise InputError(f"names: give {p}, one for each parameter in the order of θ; got {got}")
    found = tuple(str(name) for name in names)
    twice = [name for name in found if found.count(name) > 1]
    if twice:
        raise InputError(f"names: must differ; {twice[0]!r} stands {found.count(twice[0])} times")
    return found


def of_layout(layout: Layout) -> tuple[str, ...]:
    """The model's names with positions, without dimensions of one: ``weight[3]``, ``bias``."""
    found: list[str] = []
    for name, shape in zip(layout.names, layout.shapes, strict=True):
        sizes = [size for size in shape if size > 1]
        places = [", ".join(map(str, place)) for place in product(*map(range, sizes))]
        found += [f"{name}[{place}]" if place else name for place in places]
    return tuple(found)


def of_estimator(estimator: Any, X: Any, p: int) -> tuple[str, ...]:
    """The columns of X as the last step sees them (``x0``, ``x1`` … where they have no names), and the intercept."""
    step = examples.last_step(estimator)
    has_intercept = bool(step.fit_intercept)
    width = p - has_intercept
    found = _columns(estimator, step, X)
    columns = [f"x{j}" for j in range(width)] if found is None or len(found) != width else found
    if not has_intercept:
        return tuple(columns)
    return (*columns, "intercept" if "intercept" not in columns else "(intercept)")


def _columns(estimator: Any, step: Any, X: Any) -> list[str] | None:
    from sklearn.pipeline import Pipeline

    names = getattr(step, "feature_names_in_", None)
    if names is None and isinstance(estimator, Pipeline) and len(estimator.steps) > 1:
        try:
            names = estimator[:-1].get_feature_names_out()
        except (AttributeError, ValueError):  # a step that can't say what it makes
            return None
    if names is None:
        names = getattr(X, "columns", None) if estimator is step else None
    return None if names is None else [str(name) for name in names]
