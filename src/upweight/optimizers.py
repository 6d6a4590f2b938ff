"""What an optimiser divides gradients by: the metric in which its steps are steepest descent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from upweight.errors import InputError
from upweight.scalars import shown

SQUARES = ("exp_avg_sq", "square_avg")
"""Where an optimiser keeps the mean of squared gradients: Adam and its kin, RMSprop."""


def step_metric(
    optimizer: torch.optim.Optimizer | Mapping[str, Any], model: nn.Module, parameters: Sequence[str] | None = None
) -> dict[str, Tensor]:
    """√v̂ + ε of every parameter: a step of Adam, AdamW, NAdam or RMSprop on a gradient g is −η g/(√v̂ + ε).

    That is steepest descent in the metric diag(√v̂ + ε), so an optimiser-aware inner product of gradients is
    g·g′/(√v̂ + ε) (Xia et al. 2024, LESS, section 3.1, with the example's own share of v left out; momentum delays a
    gradient, and adds up to the same). `upweight.inverse.StepMetric` and ``TracIn(metrics=…)`` take it.

    Parameters
    ----------
    optimizer
        The optimiser that trained the model, or its ``state_dict()``, as saved in a checkpoint.
    model
        The model it trained, whose names are used.
    parameters
        Of a state dict: the names of its parameters in the order in which the optimiser was given them (default: as the
        state dict says, or as the model has those that are trained). Shapes are compared.

    Returns
    -------
    dict
        By parameter name, of the parameter's shape, 1 for SGD; without those that the optimiser doesn't have.

    Raises
    ------
    InputError
        If there is no state: of an optimiser that took no step, or a checkpoint without one; if it is of another model,
        or of a kind that doesn't divide entry by entry.

    Examples
    --------
    >>> model = nn.Linear(2, 1)
    >>> step_metric(torch.optim.SGD(model.parameters(), lr=0.1), model)["bias"]
    tensor([1.], dtype=torch.float64)
    """
    if not isinstance(model, nn.Module):
        raise InputError(f"model: give the torch.nn.Module that was trained; got {type(model).__name__}")
    named = dict(model.named_parameters())
    if isinstance(optimizer, torch.optim.Optimizer):
        by_identity = {id(value): name for name, value in named.items()}
        found = {}
        for group in optimizer.param_groups:
            for value in group["params"]:
                name = by_identity.get(id(value))
                if name is not None:
                    found[name] = denominator(optimizer.state.get(value, {}), group, value, name)
        if not found:
            raise InputError(
                "optimizer: none of its parameters belongs to the model; give the model it trained, not a copy of it"
            )
        return found
    if not isinstance(optimizer, Mapping) or not {"state", "param_groups"} <= optimizer.keys():
        raise InputError(
            f"optimizer: give a torch.optim.Optimizer or its state_dict(), with 'state' and 'param_groups'; got "
            f"{shown(optimizer)}"
        )
    return _of_state(optimizer, named, parameters)


def _of_state(
    state: Mapping[str, Any], named: Mapping[str, Tensor], parameters: Sequence[str] | None
) -> dict[str, Tensor]:
    numbers = [number for group in state["param_groups"] for number in group["params"]]
    names = _names(state, named, parameters, len(numbers))
    at, found = dict(zip(numbers, names, strict=True)), {}
    for group in state["param_groups"]:
        for number in group["params"]:
            name = at[number]
            found[name] = denominator(state["state"].get(number, {}), group, named[name], name)
    return found


def _names(
    state: Mapping[str, Any], named: Mapping[str, Tensor], parameters: Sequence[str] | None, count: int
) -> list[str]:
    """The names of a state dict's parameters, in its order."""
    own = [name for group in state["param_groups"] for name in group.get("param_names", [])]
    trained = [name for name, value in named.items() if value.requires_grad]
    names = list(parameters) if parameters is not None else own or trained
    unknown = [name for name in names if name not in named]
    if unknown:
        raise InputError(f"parameters: {unknown[0]!r} is none of the model's {list(named)[:8]}")
    if len(names) != count:
        raise InputError(
            f"optimizer: its state has {count} parameters and the model {len(names)} that are trained; give "
            "parameters=, their names in the optimiser's order"
        )
    return names


def denominator(state: Mapping[str, Any], group: Mapping[str, Any], value: Tensor, name: str) -> Tensor:
    """√v̂ + ε of one parameter, in float64; ones where the optimiser divides by nothing.

    Raises
    ------
    InputError
        If the optimiser divides, and has no state of the parameter, or one of another shape.
    """
    refuse_unknown(group)
    if "eps" not in group:  # SGD and its kin
        return torch.ones_like(value, dtype=torch.float64)
    largest = state.get("max_exp_avg_sq") if group.get("amsgrad") else None
    squares = largest if largest is not None else next((state[key] for key in SQUARES if key in state), None)
    if squares is None:
        raise InputError(
            f"optimizer: it has no state of {name!r}, from which the size of its steps is read; give it after "
            "training, or a checkpoint with the optimiser's state (optimizer.state_dict(); of a Trainer optimizer.pt)"
        )
    if squares.shape != value.shape:
        raise InputError(
            f"optimizer: its state of {name!r} has shape {tuple(squares.shape)}, and the model's {tuple(value.shape)}; "
            "give parameters=, the names in the optimiser's order"
        )
    correction = 1 - group["betas"][1] ** float(state["step"]) if "betas" in group else 1.0
    return (squares.detach().double() / correction).sqrt() + group["eps"]


def refuse_unknown(group: Mapping[str, Any]) -> None:
    """Refuse an optimiser, by one of its groups, that divides by something else.

    Raises
    ------
    InputError
        Says which are known.
    """
    if group.get("rho") is not None or "lr_decay" in group:
        which = "Adadelta and Adagrad scale steps by what they have met since the beginning"
    elif ("betas" in group and "eps" not in group) or not isinstance(group.get("eps", 0.0), int | float):
        which = "it takes steps (of signs, or by rows and columns) that divide by no mean of squares"
    else:
        return
    raise InputError(f"optimizer: {which}; only Adam, AdamW, NAdam, RAdam, RMSprop and SGD are known here")
