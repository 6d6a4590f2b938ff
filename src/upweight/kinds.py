"""What arguments are by their annotations: each kind is told in one place, before a function works.

A function says ``kinds.check(its_name, locals())`` first, a dataclass ``kinds.check_fields(self)``. Annotations that
aren't among the kinds here (``Any``, arrays in any form, whole numbers with bounds) are for the function to look at.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cache
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from upweight.arrays import as_tensor, dense
from upweight.errors import InputError
from upweight.scalars import finite, plain, shown

Test = Callable[[Any], bool]


@dataclass(frozen=True)
class Kind:
    """What a value must be, and how to come by one."""

    test: Test
    words: str


def _of_class(name: str) -> Test:
    """An instance of one of this package's classes, by its name: rooms further down can't be imported here."""
    return lambda value: any(
        kind.__name__ == name and kind.__module__.startswith("upweight.") for kind in type(value).__mro__
    )


def _able(*methods: str) -> Test:
    return lambda value: not isinstance(value, type) and all(hasattr(value, method) for method in methods)


def _is_finite(value: Any) -> bool:
    given = plain(value)
    return isinstance(given, Real) and not isinstance(given, bool) and finite(given)


def _is_damping(value: Any) -> bool:
    if isinstance(value, str):
        return value in ("auto", "calibrated", "training length")
    rules = _of_class("MeanEigenvalue"), _of_class("MeanLeverage"), _of_class("TrainingLength")
    return (_is_finite(value) and plain(value) >= 0) or any(rule(value) for rule in rules)


def _is_list(value: Any) -> bool:
    """A list in a wide sense: arrays, ranges and columns too, but no text, no mapping."""
    if isinstance(value, str | bytes | Mapping | type) or not isinstance(value, Iterable):
        return False
    return not isinstance(value, np.ndarray | Tensor) or value.ndim > 0


KINDS = {
    "Objective": Kind(
        _of_class("Objective"), "upweight.Objective(model, loss, data), or upweight.from_estimator(estimator, X, y)"
    ),
    "Trained": Kind(
        _of_class("Objective"), "upweight.Objective(model, loss, data), or upweight.from_estimator(estimator, X, y)"
    ),
    "Influence": Kind(_of_class("Influence"), "upweight.Influence(objective)"),
    "Attributor": Kind(_of_class("Attributor"), "upweight.Influence(objective)"),
    "OwnEffects": Kind(_of_class("OwnEffects"), "what tasks.label_effects gives"),
    "LabelErrors": Kind(_of_class("LabelErrors"), "what tasks.label_errors gives"),
    "TargetErrors": Kind(_of_class("TargetErrors"), "what tasks.target_errors gives"),
    "Attribution": Kind(_of_class("Attribution"), "what influence.attribute(queries) gives"),
    "Quantity": Kind(_of_class("Quantity"), "upweight.Quantity(name, words, unit, positive)"),
    "Recipe": Kind(_of_class("Recipe"), "retraining.Recipe(epochs, batch_size, lr)"),
    "GroundTruth": Kind(_of_class("GroundTruth"), "what evaluation.ground_truth gives"),
    "Training": Kind(_of_class("Training"), "evaluation.Training(train)"),
    "Layout": Kind(_of_class("Layout"), "objective.layout"),
    "DatasetInfo": Kind(_of_class("DatasetInfo"), "datasets.info(name)"),
    "Aim": Kind(_of_class("Aim"), "tasks.Aim(targets=[…])"),
    "LeverChoice": Kind(_of_class("LeverChoice"), "tasks.LeverChoice(count=…)"),
    "Climb": Kind(_of_class("Climb"), "tasks.Climb(iterations=…)"),
    "Box": Kind(_of_class("Box"), "tasks.Box(radius)"),
    "Resources": Kind(_of_class("Resources"), "tasks.Resources(folder=…)"),
    "Rounds": Kind(_of_class("Rounds"), "tasks.Rounds(steps=…, search=True)"),
    "Equations": Kind(_of_class("Equations"), "tasks.Equations(damping=…)"),
    "GroupFeatures": Kind(_of_class("GroupFeatures"), "tasks.GroupFeatures(positions=[…])"),
    "Recording": Kind(_of_class("Recording"), "upweight.Recording.open(folder)"),
    "Rows": Kind(_of_class("Rows"), "curvature.GGN().rows(objective)"),
    "Curvature": Kind(
        _able("of"), "curvature.Hessian(), GGN(), Fisher() or EmpiricalFisher() (a damping goes by name, damping=…)"
    ),
    "RowCurvature": Kind(
        _able("of", "rows"), "curvature.GGN(), Fisher() or EmpiricalFisher() (a damping goes by name, damping=…)"
    ),
    "Hessian": Kind(_of_class("Hessian"), "curvature.Hessian()"),
    "GGN": Kind(_of_class("GGN"), "curvature.GGN()"),
    "Damping": Kind(
        lambda value: _is_damping(value),
        "a finite number ≥ 0, 'auto', inverse.MeanEigenvalue(multiple), inverse.MeanLeverage(share) or "
        "inverse.TrainingLength(rate, steps)",
    ),
    "Operator": Kind(_able("apply", "size"), "a matrix: curvature.GGN().of(objective) or curvature.Matrix(tensor)"),
    "Inverse": Kind(_able("fit"), "one of upweight.inverse, such as inverse.CG()"),
    "Solver": Kind(_able("solve", "with_damping"), "a fitted inverse, such as inverse.CG().fit(objective)"),
    "Executor": Kind(_able("run", "workers"), "one of upweight.executors, such as Processes(4)"),
    "Neumann": Kind(_of_class("Neumann"), "inverse.Neumann()"),
    "nn.Module": Kind(lambda value: isinstance(value, nn.Module), "a torch.nn.Module"),
    "Tensor": Kind(lambda value: isinstance(value, Tensor), "a tensor"),
    "str": Kind(lambda value: isinstance(value, str), "text"),
    "bool": Kind(lambda value: isinstance(value, bool | np.bool_), "True or False"),
    "float": Kind(_is_finite, "a finite number"),
    "Mapping": Kind(lambda value: isinstance(value, Mapping), "a dict"),
    "dict": Kind(lambda value: isinstance(value, dict), "a dict"),
    "Sequence": Kind(_is_list, "a list"),
    "Callable": Kind(callable, "a function"),
    "Train": Kind(
        lambda value: callable(value) and not isinstance(value, type), "a function (indices, seed) -> trained model"
    ),
    "Retrain": Kind(
        lambda value: callable(value) and not isinstance(value, type), "a function (objective) -> trained objective"
    ),
    "None": Kind(lambda value: value is None, "None"),
    "pd.DataFrame": Kind(_able("columns", "iloc"), "a pandas.DataFrame"),
    "matplotlib.figure.Figure": Kind(_able("savefig"), "a matplotlib Figure"),
    "os.PathLike": Kind(lambda value: isinstance(value, os.PathLike), "a path"),
}
"""By the annotation, without what stands in its brackets."""


def check(function: Any, given: Mapping[str, Any]) -> None:
    """Refuse arguments that are of another kind than the function's annotations say.

    Raises
    ------
    InputError
        Names the first, what it must be, and what it is.
    """
    for name, kinds in _of_function(function):
        _check(name, given[name], kinds)


def check_fields(settings: Any) -> None:
    """The same of a dataclass's fields, for its ``__post_init__``."""
    for name, kinds in _of_fields(type(settings)):  # type: ignore[arg-type]
        _check(name, getattr(settings, name), kinds)


def numbers(name: str, value: Any) -> Tensor:
    """Finite numbers, in whatever they come, as a tensor; a list of Python's floats keeps their precision.

    Raises
    ------
    InputError
        If they can't be one, are complex, or hold NaN or infinity.
    """
    try:
        found = as_tensor(_doubles(value), name)
    except InputError as error:
        if error.__cause__ is None:  # an array, but without all of its numbers
            raise
        raise InputError(f"{name}: give numbers; got {shown(value)}") from error
    if found.is_complex():
        raise InputError(f"{name}: give real numbers; got {shown(value)}")
    if not torch.isfinite(found).all():
        raise InputError(f"{name}: NaN or infinite values; give finite numbers")
    return found


def _doubles(value: Any) -> Any:
    """A list of Python's floats as NumPy reads it, in double precision, which torch would halve; else as it is."""
    if not isinstance(value, list | tuple):
        return value
    try:
        found = np.asarray(value)
    except (TypeError, ValueError, RuntimeError):
        return value
    return found if found.dtype == np.float64 and not any(isinstance(each, Tensor) for each in value) else value


def whole_numbers(name: str, value: Any) -> Tensor:
    """Whole numbers, in whatever they come, as a tensor of int64; 2.0 is one, True is none.

    Raises
    ------
    InputError
        If they can't be one, or one of them is a fraction: 1.7 would be 1.
    """
    found = numbers(name, value)
    if found.dtype == torch.bool:
        raise InputError(f"{name}: give whole numbers; got {shown(value)}")
    fractions = found[found != found.round()] if found.is_floating_point() else found.new_empty(0)
    if fractions.numel():
        raise InputError(f"{name}: give whole numbers; got {float(fractions[0]):g}")
    return found.long()


def _check(name: str, value: Any, kinds: tuple[Kind, ...]) -> None:
    if not any(kind.test(value) for kind in kinds):
        words = ", or ".join(dict.fromkeys(kind.words for kind in sorted(kinds, key=lambda kind: kind.words == "None")))
        raise InputError(f"{name}: give {words}; got {shown(value)}")
    if isinstance(value, Tensor):
        dense(value, name)


@cache
def _of_function(function: Any) -> tuple[tuple[str, tuple[Kind, ...]], ...]:
    annotations = {name: kind for name, kind in function.__annotations__.items() if name != "return"}
    return tuple(_known(annotations))


@cache
def _of_fields(kind: type) -> tuple[tuple[str, tuple[Kind, ...]], ...]:
    return tuple(_known({each.name: each.type for each in fields(kind)}))


def _known(annotations: Mapping[str, Any]) -> Iterator[tuple[str, tuple[Kind, ...]]]:
    for name, annotation in annotations.items():
        parts = [_kind(part) for part in _parts(str(annotation))]
        if all(parts):
            yield name, tuple(part for part in parts if part is not None)


def _parts(annotation: str) -> list[str]:
    """The alternatives of an annotation; bars inside brackets belong to one of them."""
    bare = annotation
    whole = re.findall(r"\w+\[Tensor, [\"'][^\"']*[\"']\]|(?<!\[)\btuple\[[^\[\]]*\]", annotation)
    for number, part in enumerate(whole):
        bare = bare.replace(part, f"whole_{number}")
    while "[" in bare:
        bare, done = re.subn(r"\[[^\[\]]*\]", "", bare)
        if not done:
            break
    names = [part.strip() for part in bare.split("|")]
    return [whole[int(name.removeprefix("whole_"))] if name.startswith("whole_") else name for name in names]


def _kind(part: str) -> Kind | None:
    if part.startswith("tuple["):
        return _tuple(part)
    return _tensor(part) if "[Tensor," in part else KINDS.get(part)


def _tuple(annotation: str) -> Kind | None:
    """So many values of such kinds; a list is taken too."""
    parts = [_kind(part.strip()) for part in annotation[len("tuple[") : -1].split(",")]
    kinds = [part for part in parts if part is not None]
    if len(kinds) < len(parts):
        return None

    def is_one(value: Any) -> bool:
        if not _is_list(value) or not hasattr(value, "__len__") or len(value) != len(kinds):
            return False
        return all(kind.test(part) for kind, part in zip(kinds, value, strict=True))

    return Kind(is_one, f"({', '.join(kind.words for kind in kinds)})")


def _tensor(annotation: str) -> Kind | None:
    """A tensor of the numbers and dimensions that its annotation names."""
    found = re.fullmatch(r"(Float|Int|Bool|Shaped)\[Tensor, [\"']([^\"']*)[\"']\]", annotation)
    if found is None:
        return None
    sort, axes = found[1], found[2].split()
    any_shape = any("*" in axis or "..." in axis for axis in axes)

    def is_one(value: Any) -> bool:
        if not isinstance(value, Tensor) or not (any_shape or value.dim() == len(axes)):
            return False
        whole = not (value.is_floating_point() or value.is_complex())
        return {"Float": value.is_floating_point(), "Int": whole, "Bool": whole, "Shaped": True}[sort]

    words = {"Float": "numbers", "Int": "whole numbers", "Bool": "booleans", "Shaped": "numbers"}[sort]
    return Kind(is_one, f"a tensor of {words} [{', '.join(axes)}]")
