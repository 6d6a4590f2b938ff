"""Generalised influence of a few members on a part of a small network, and its system as dense matrices."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

import upweight as uw
from problems import mlp
from upweight.curvature import Hessian
from upweight.inverse import Dense
from upweight.quantities.generalized import Equations
from upweight.select import Subset

METHODS = ("GIF", "FIF", "PIF", "IF", "SIF")
MEMBERS = [0, 3, 4]
TIGHT = {"tolerance": 1e-12, "max_iterations": 5000}


@cache
def problem() -> Any:
    return mlp()


@cache
def objective() -> uw.Objective:
    return problem().objective()


@cache
def subset() -> Subset:
    generator = torch.Generator().manual_seed(0)
    return Subset(objective().layout, torch.rand(objective().p, generator=generator) < 0.4)


@cache
def system(renormalize: bool = False) -> tuple[Tensor, Tensor]:
    """H′ and g from one whole Hessian and one gradient per example."""
    whole, n, u = objective(), objective().n, len(MEMBERS)
    gradients = torch.cat([rows for _, rows in whole.example_gradients()])
    hessians = Hessian().of(whole)
    lost = hessians.share(MEMBERS).dense()
    penalty = torch.diag(whole.l2)
    if not renormalize:
        return hessians.dense() - lost, gradients[MEMBERS].sum(0) / n
    kept = (hessians.dense() - penalty - lost) * n / (n - u) + penalty
    return kept, (gradients[MEMBERS].sum(0) + u * whole.l2 * whole.params) / (n - u)


def response(method: str, **options: Any) -> Any:
    """By Hessian and tightly, unless the equations' ``options`` say otherwise."""
    parameters = options.pop("parameters", subset())
    parameters = None if method == "IF" else parameters
    renormalize = options.pop("renormalize", False)
    equations = Equations(**{"curvature": Hessian(), **TIGHT, **options})
    return uw.Influence(objective(), Dense(Hessian())).generalized(
        uw.Removal(MEMBERS), parameters, method=method, equations=equations, renormalize=renormalize
    )
