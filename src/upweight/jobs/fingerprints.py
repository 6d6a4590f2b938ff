"""What a store's scores belong to, in a few letters each: the trained model, the data, the queries, names."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
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

SAMPLED = 4096
"""Examples of a larger data set that isn't held in memory, spread over it, that stand for all."""
PLAIN = (bool, int, float, complex, str, bytes, torch.dtype, torch.Size, type(None))
"""What settings of a module are made of."""
TORCHS = frozenset(vars(torch.nn.Module())) | {"training"}
"""What every module has."""
LENGTH = 16


def versions() -> dict[str, str]:
    """Of what computes scores."""
    return {"upweight": version("upweight"), "torch": torch.__version__}


def of_objective(objective: Objective) -> dict[str, str]:
    """Model, loss, training data and their names."""
    problem = objective.problem
    return {
        "model": of_model(problem),
        "l2": of_penalty(problem),
        "loss": of_code(problem.loss),
        "data": digest(of_data(problem.data), problem.weights),
        "ids": of_names(problem.ids),
    }


def of_model(problem: Problem) -> str:
    """θ, all that is held fixed, the code of the model's classes, and their settings: slopes, factors, functions."""
    model = problem.model
    classes = sorted({of_code(type(module)) for module in model.modules()})
    settings = [(name, *_settings(module)) for name, module in model.named_modules()]
    held = [item for name, value in sorted(model.state_dict().items()) for item in (name, value)]
    return digest(*classes, *settings, *problem.layout.names, problem.params, *held)


def of_penalty(problem: Problem) -> str:
    """λ itself where it is one."""
    low, high = (float(value) for value in problem.l2.aminmax())
    return f"{low:.6g}" if low == high else f"{low:.6g} to {high:.6g}, {digest(problem.l2)}"


def _settings(module: torch.nn.Module) -> Iterator[tuple[str, str]]:
    """Plain attributes of a module by name, and functions; what passes leave there (tensors, caches) isn't one."""
    for name, value in sorted(vars(module).items()):
        if name in TORCHS or isinstance(value, torch.nn.Module):
            continue
        if _is_plain(value):
            yield name, repr(value)
        elif callable(value):
            yield name, of_code(value)


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple | set | frozenset):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(map(_is_plain, value)) and all(map(_is_plain, value.values()))
    return isinstance(value, PLAIN)


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


def of_data(data: Data, most: int = SAMPLED) -> str:
    """Arrays by their content; other data sets by their length and at most so many examples spread over them."""
    if isinstance(data, ArrayData):
        return digest(*_leaves(data.arrays))
    spread = np.unique(np.linspace(0, len(data) - 1, min(most, len(data))).round().astype(int))
    leaves = [leaf for position in spread.tolist() for leaf in _leaves(data.take([position]))]
    return digest(str(len(data)), *leaves)


def of_names(names: np.ndarray) -> str:
    """Names in their order."""
    return digest(repr(names.tolist())) if names.dtype.kind == "O" else digest(str(names.dtype), names)


def _leaves(batch: Any) -> list[Any]:
    leaves, form = pytree.tree_flatten(batch)
    return [str(form), *(leaf if isinstance(leaf, Tensor | np.ndarray) else repr(leaf) for leaf in leaves)]


def digest(*parts: Any) -> str:
    """Tensors and arrays by kind, shape and content, anything else as it is written, in a few letters."""
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
