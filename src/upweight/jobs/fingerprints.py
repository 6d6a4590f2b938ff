"""What a store's scores belong to, in a few letters each: the trained model, the data, the queries, names."""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from upweight.data import ArrayData, Data
from upweight.inverse import Inverse, Solver
from upweight.objective import Objective
from upweight.problem import Problem
from upweight.retraining.fingerprint import UnknownContentError, fingerprint

SAMPLED = 256
"""Examples of a data set that isn't held in memory, spread over it, that stand for all."""
LENGTH = 16


def versions() -> dict[str, str]:
    """Of what computes scores."""
    return {"upweight": version("upweight"), "torch": torch.__version__}


def of_objective(objective: Objective) -> dict[str, str]:
    """Model, loss, training data and their names."""
    problem = objective.problem
    return {
        "model": of_model(problem),
        "loss": of_code(problem.loss),
        "data": _digest(of_data(problem.data), problem.weights),
        "ids": of_names(problem.ids),
    }


def of_model(problem: Problem) -> str:
    """θ and the penalty, all that is held fixed, and the code of the model's classes."""
    model = problem.model
    classes = sorted({of_code(type(module)) for module in model.modules()})
    held = [item for name, value in sorted(model.state_dict().items()) for item in (name, value)]
    return _digest(*classes, *problem.layout.names, problem.params, problem.l2, *held)


def of_code(value: Any) -> str:
    """A function, a class or an object by its code and values; by its class's name where they can't be told."""
    try:
        return fingerprint(value)
    except UnknownContentError:
        kind = value if isinstance(value, type) else type(value)
        return f"{kind.__module__}.{kind.__qualname__}"


def of_inverse(inverse: Inverse | Solver) -> str:
    """An inverse by its settings; one that is fitted by its name and damping."""
    if isinstance(inverse, Inverse):
        return repr(inverse)
    return f"{getattr(inverse, 'name', type(inverse).__name__)}, damping={inverse.damping!r}"


def of_data(data: Data) -> str:
    """Arrays by their content; other data sets by their length and examples spread over them."""
    if isinstance(data, ArrayData):
        return _digest(*_leaves(data.arrays))
    spread = np.unique(np.linspace(0, len(data) - 1, min(SAMPLED, len(data))).round().astype(int))
    leaves = [leaf for position in spread.tolist() for leaf in _leaves(data.take([position]))]
    return _digest(str(len(data)), *leaves)


def of_names(names: np.ndarray) -> str:
    """Names in their order."""
    return _digest(repr(names.tolist())) if names.dtype.kind == "O" else _digest(str(names.dtype), names)


def _leaves(batch: Any) -> list[Any]:
    leaves, form = pytree.tree_flatten(batch)
    return [str(form), *(leaf if isinstance(leaf, Tensor | np.ndarray) else repr(leaf) for leaf in leaves)]


def _digest(*parts: Any) -> str:
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, Tensor):
            digest.update(f"{part.dtype}{tuple(part.shape)}".encode())
            digest.update(part.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        elif isinstance(part, np.ndarray):
            digest.update(f"{part.dtype}{part.shape}".encode())
            digest.update(part.tobytes())
        else:
            digest.update(repr(part).encode())
        digest.update(b"\0")
    return digest.hexdigest()[:LENGTH]
