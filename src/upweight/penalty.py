"""The penalty ½Σλ_kθ_k²: λ of each entry of θ, and what an optimiser's weight decay amounts to."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from upweight import scalars
from upweight.errors import InputError
from upweight.optimizers import denominator
from upweight.parameters import Layout
from upweight.wrappers import unwrapped, unwrapped_optimizer


def l2_of(optimizer: Any, model: nn.Module) -> dict[str, float]:
    """λ of ½λ‖θ‖² for each parameter, from the optimiser that trained the model: the l2 of an `Objective`.

    Where weight decay is added to the gradient (SGD, Adam, NAdam, RMSprop, Adagrad …) it is λ itself: the minimum of
    the mean loss + ½λ‖θ‖² is where such training ends, if its loss was a mean over examples. (Of a sum over the
    examples of a batch it is λ over that number; give it yourself.)

    Decoupled decay (AdamW; Loshchilov & Hutter 2019) is no penalty: θ is multiplied by 1 − ηλ beside steps
    −η m̂/(√v̂ + ε), whose size doesn't depend on the gradient's. Training ends where m̂/(√v̂ + ε) = −λθ, that is where
    the mean gradient m̂ = −λ(√v̂ + ε)θ, as under a penalty of λ(√v̂_k + ε) for each entry. √v̂, the size of a batch's
    gradient, is small at the end of training: on digits (batches of 64) a decay of 0.1 is a penalty of 1e-4 to 5e-4,
    and with 0.1 itself as l2 θ would seem 150 standard errors from an optimum. Here the entries of a parameter share
    one λ, that pulls θ along itself as the true one does, Σ λ(√v̂_k + ε)θ_k² / Σ θ_k².

    Parameters
    ----------
    optimizer
        A ``torch.optim.Optimizer`` as it stands at the end of training: AdamW's v̂ is in its state. What accelerate and
        Lightning put around it is seen through.
    model
        The model it trained, whose names are used; without the prefixes of wrappers (compiled, parallel).

    Returns
    -------
    dict
        λ by parameter name, for ``Objective(…, l2=…)``; 0 where a parameter has no decay or isn't the optimiser's.

    Raises
    ------
    InputError
        If the optimiser is none of torch's that are known here, maximises, or has not taken a step that AdamW's v̂ is
        read from.

    Examples
    --------
    >>> model = nn.Linear(2, 1)
    >>> l2_of(torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.01), model)
    {'weight': 0.01, 'bias': 0.01}
    """
    optimizer, model = unwrapped_optimizer(optimizer), unwrapped(model)
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise InputError(f"optimizer: give the torch.optim.Optimizer that trained the model; got {optimizer!r}")
    if not isinstance(model, nn.Module):
        raise InputError(f"model: give the torch.nn.Module that was trained; got {type(model).__name__}")
    names = {id(value): name for name, value in model.named_parameters()}
    found = dict.fromkeys(names.values(), 0.0)
    known = 0
    for group in optimizer.param_groups:
        if group.get("maximize"):
            raise InputError("optimizer: it maximises; an objective is minimised. Give l2 yourself")
        for value in group["params"]:
            name = names.get(id(value))
            if name is not None:
                known += 1
                found[name] = _strength(optimizer, group, value, name)
    if not known:
        raise InputError(
            "optimizer: none of its parameters belongs to the model; give the model it trained, not a copy of it"
        )
    return found


COUPLED = (
    torch.optim.Adadelta,
    torch.optim.Adagrad,
    torch.optim.Adamax,
    torch.optim.ASGD,
    torch.optim.RMSprop,
    torch.optim.SGD,
)
"""Weight decay is a part of the gradient."""
EITHER = (torch.optim.Adam, torch.optim.NAdam, torch.optim.RAdam)
"""Weight decay is a part of the gradient, or decoupled where a group says so; AdamW is an Adam that always does."""
WITHOUT = (torch.optim.LBFGS, torch.optim.Rprop, torch.optim.SparseAdam)
"""There is none."""


def _strength(optimizer: Any, group: Mapping[str, Any], value: Tensor, name: str) -> float:
    """λ of one parameter."""
    decay = float(group.get("weight_decay", 0.0))
    if isinstance(optimizer, WITHOUT) or decay == 0:
        return 0.0
    if isinstance(optimizer, COUPLED):
        return decay
    if not isinstance(optimizer, EITHER):
        raise InputError(
            f"optimizer: what the weight decay {decay:g} of {type(optimizer).__name__} amounts to isn't known here; "
            "give l2 yourself, by name, e.g. l2={'weight': 0.01}"
        )
    return decay * _rate(optimizer.state[value], group, value, name) if _is_decoupled(optimizer, group) else decay


def _is_decoupled(optimizer: Any, group: Mapping[str, Any]) -> bool:
    return isinstance(optimizer, torch.optim.AdamW) or bool(group.get("decoupled_weight_decay", False))


def _rate(state: Mapping[str, Any], group: Mapping[str, Any], value: Tensor, name: str) -> float:
    """√v̂ + ε, what a step divides the mean gradient by, averaged over entries by θ²."""
    rate, weight = denominator(state, group, value, name), value.detach().double() ** 2
    total = float(weight.sum())
    return float((rate * weight).sum()) / total if total > 0 else float(rate.mean())


def penalties(l2: float | Mapping[str, float], layout: Layout, params: Tensor, model: nn.Module) -> Float[Tensor, " p"]:
    """λ of each entry of θ; what is said of parameters that are held fixed adds nothing."""
    if isinstance(l2, str):
        raise InputError(
            f"l2: got {l2!r}; give λ ≥ 0, λ by name, or what an optimiser's weight decay amounts to, "
            "uw.l2_of(optimizer, model)"
        )
    rules = l2 if isinstance(l2, Mapping) else {"*": l2}
    values = dict.fromkeys(layout.names, 0.0)
    for pattern, value in rules.items():
        if not isinstance(pattern, str):
            raise InputError(f"l2: names and patterns of parameters are text, {list(layout.names)}; got {pattern!r}")
        strength = scalars.number("l2" if rules is not l2 else f"l2[{pattern!r}]", value, least=0)
        matched = fnmatch.filter(layout.names, pattern)
        if not matched and not fnmatch.filter((name for name, _ in model.named_parameters()), pattern):
            raise InputError(f"l2: {pattern!r} matches none of the parameters {list(layout.names)}")
        values.update(dict.fromkeys(matched, strength))
    return torch.cat(
        [params.new_full((size,), values[name]) for name, size in zip(layout.names, layout.sizes, strict=True)]
    )
