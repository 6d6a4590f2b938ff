"""The same model at other times of its training, or trained from other seeds: read, checked and made an objective."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from upweight import scalars
from upweight.arrays import as_tensor, dense
from upweight.errors import InputError
from upweight.kept import copied
from upweight.objective import Objective
from upweight.wrappers import own_names, unwrapped

State = dict[str, Tensor]
"""Parameters and buffers by name; what is absent is as in the objective's model."""


def read_checkpoints(objective: Objective, checkpoints: Any, name: str) -> list[State]:
    """Checkpoints as copies of their named tensors.

    Parameters
    ----------
    checkpoints
        A list of modules, state dicts, or vectors θ ``[p]``; or rows ``[k, p]``. A state dict may leave out
        buffers and parameters that are not in θ; those of the objective's model are then used.

    Raises
    ------
    InputError
        If there are none, one is of another model, isn't finite, or repeats the one before it.
    """
    if isinstance(checkpoints, nn.Module | Mapping | str) or not isinstance(
        checkpoints, Sequence | Tensor | np.ndarray
    ):
        raise InputError(f"{name}: give a list, one entry a model; got {type(checkpoints).__name__}")
    if getattr(checkpoints, "ndim", 1) == 0:
        raise InputError(f"{name}: give a list, one entry a model; got {scalars.shown(checkpoints)}")
    if not len(checkpoints):
        raise InputError(f"{name}: the list is empty; give at least one")
    states = [_state(objective, given, f"{name}[{k}]") for k, given in enumerate(checkpoints)]
    for k in range(1, len(states)):
        before, state = states[k - 1], states[k]
        if before.keys() == state.keys() and all(torch.equal(before[key], state[key]) for key in state):
            raise InputError(
                f"{name}[{k}]: it holds the same numbers as {name}[{k - 1}]. A model's state_dict() is a view that "
                "training goes on to change: keep copy.deepcopy(model.state_dict())"
            )
    return states


def objective_at(objective: Objective, state: State) -> Objective:
    """The objective with a copy of its model in this state."""
    model = copied(objective.model)
    model.load_state_dict(state, strict=False)
    return objective.replace(model=model)


def _state(objective: Objective, given: Any, name: str) -> State:
    if isinstance(given, nn.Module):
        given = unwrapped(given).state_dict()
    if isinstance(given, Mapping):
        known = any(key in given for key in objective.layout.names)
        return _checked(objective, given if known else own_names(given), name)
    try:
        vector = as_tensor(given, name)
    except InputError as error:
        if error.__cause__ is None:  # an array, but without all of its numbers
            raise
        raise InputError(
            f"{name}: {type(given).__name__} is neither a module, a state dict nor a vector of parameters"
        ) from error
    if vector.shape != (objective.p,):
        raise InputError(f"{name}: a vector of parameters has shape ({objective.p},); got {tuple(vector.shape)}")
    return _checked(objective, objective.layout.unflatten(vector), name)


def _checked(objective: Objective, given: Mapping[str, Any], name: str) -> State:
    own = {key: value for key, value in objective.model.state_dict().items() if isinstance(value, Tensor)}
    missing = [key for key in objective.layout.names if key not in given]
    unknown = [key for key, value in given.items() if isinstance(value, Tensor) and key not in own]
    if missing or unknown or not all(isinstance(key, str) for key in given):
        raise InputError(
            f"{name}: it belongs to another model: it lacks {missing[:4]} and has {(unknown or list(given))[:4]}, "
            f"where this objective's model has {list(own)[:8]}. Give model.state_dict()"
        )
    state = {
        key: dense(value, f"{name}[{key!r}]").detach().clone()
        for key, value in given.items()
        if isinstance(value, Tensor)
    }
    for key, value in state.items():
        if value.is_complex() and not own[key].is_complex():
            raise InputError(f"{name}: {key!r} is {value.dtype}; give real numbers")
        if value.shape != own[key].shape:
            raise InputError(
                f"{name}: it belongs to another model: {key!r} has shape {tuple(value.shape)}, here it has "
                f"{tuple(own[key].shape)}"
            )
        if not torch.isfinite(value).all():
            raise InputError(f"{name}: {key!r} holds NaN or infinite values")
    return state
