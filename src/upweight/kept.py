"""What isn't ours stays as it was: a model's modules after a forward pass, and global random states after a call."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from contextlib import contextmanager
from operator import is_
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from upweight.errors import InputError

WRAPPED = "_inner"
"""Attribute under which a model holds another that isn't a submodule (`upweight.select.subset.Restricted`)."""


def parts(model: nn.Module) -> list[nn.Module]:
    """All modules of a model, and those of the model that it stands for, if any."""
    hidden = getattr(model, WRAPPED, ())
    inner = hidden if isinstance(hidden, tuple) else ()
    return [*model.modules(), *(part for other in inner if isinstance(other, nn.Module) for part in other.modules())]


@contextmanager
def modules_kept(modules: list[nn.Module]) -> Iterator[None]:
    """Put back whatever attributes, parameters, buffers, submodules and hooks are bound to others meanwhile.

    What a forward pass stores on its modules (a weight made of others, a cache, the last output) would else hold a
    graph, or substituted parameters.
    """
    before = [(part, *_bound(part)) for part in modules if not isinstance(part, torch.jit.ScriptModule)]
    try:
        yield
    finally:
        for part, own, held in before:
            _restore(part.__dict__, own)
            for name, entries in held.items():
                _restore(own[name], entries)


def _bound(part: nn.Module) -> tuple[dict[str, Any], dict[str, dict[Any, Any]]]:
    own = dict(part.__dict__)
    return own, {name: dict(value) for name, value in own.items() if isinstance(value, dict)}


def _restore(now: dict[Any, Any], before: dict[Any, Any]) -> None:
    if len(now) == len(before) and all(map(is_, now.values(), before.values())):  # of every module, at every batch
        return
    now.clear()
    now.update(before)


def snapshot(model: nn.Module) -> nn.Module:
    """A copy of a user's model, in the mode it is in and without gradients, which nobody else changes.

    Raises
    ------
    InputError
        If it can't be copied.
    """
    try:
        copy = copied(model)
    except Exception as error:  # whatever an attribute of the model says: locks, handles, generators
        raise InputError(
            f"model: it is copied, so that training it on changes nothing, and it can't be: {type(error).__name__}: "
            f"{str(error)[:200]}; give a model that copy.deepcopy takes (no open files, locks or lambdas of a process)"
        ) from error
    for value in copy.parameters():
        value.grad = None
    return copy


def copied(model: nn.Module) -> nn.Module:
    """A deep copy, also where a module holds a tensor made of others (old weight norms, pruning), which torch can't."""
    made = [
        value
        for part in parts(model)
        for value in vars(part).values()
        if isinstance(value, Tensor) and not value.is_leaf
    ]
    return copy.deepcopy(model, {id(value): value.detach().clone() for value in made})


def widened(model: nn.Module) -> nn.Module:
    """The model itself with parameters and buffers of 16 bits in float32, in which curvature can be inverted.

    Every number stays what it is; the model computes more exactly than it did.
    """
    values = (value for part in parts(model) for value in part.parameters(recurse=False))
    found = {value.dtype for value in values if value.is_floating_point()}
    if found & {torch.bfloat16, torch.float16} and torch.float64 not in found:
        model.float()
    return model


def fresh_buffers(model: nn.Module) -> dict[str, Tensor]:
    """Copies of a model's buffers under all their names, which a pass may write into."""
    copies: dict[int, Tensor] = {}
    found = {}
    for name, value in model.named_buffers(remove_duplicate=False):
        if id(value) not in copies:
            copies[id(value)] = value.clone()
        found[name] = copies[id(value)]
    return found


@contextmanager
def random_states_kept() -> Iterator[None]:
    """Leave the global random states of torch, NumPy and Python as they were, whatever a model or data set draws.

    A pass over a ``DataLoader`` draws one number itself.
    """
    ours = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002
    devices = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    try:
        yield
    finally:
        torch.set_rng_state(ours[0])
        np.random.set_state(ours[1])  # noqa: NPY002
        random.setstate(ours[2])
        if devices is not None:
            torch.cuda.set_rng_state_all(devices)
