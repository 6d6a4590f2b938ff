"""What can't be asked of generalised influence is refused with the mend."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

import upweight as uw
from generalized import objective
from problems import convex
from upweight.curvature import GGN, Hessian
from upweight.errors import InputError
from upweight.inverse import EKFAC, Dense, Neumann
from upweight.quantities.generalized import Equations, generalized

pytestmark = pytest.mark.usefixtures("unchecked")


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (uw.Removal([]), {}, r"indices: give at least one .* got \[\]"),
        (uw.Removal(range(30)), {}, "indices: they are all 30 training examples"),
        (uw.Removal([0]), {"method": "HIF"}, "method: one of 'GIF', 'FIF', 'PIF', 'IF', 'SIF'; got 'HIF'"),
        (uw.Removal([0]), {"method": "IF", "parameters": ["0.*"]}, "method: IF answers with all"),
        (uw.Removal([0]), {"parameters": ["3.*"]}, "parameters: '3.\\*' matches none"),
        (uw.Removal([0]), {"parameters": torch.zeros(5, dtype=torch.bool)}, "a mask is .* booleans"),
        (uw.Removal([0]), {"parameters": [math.nan]}, "parameters: give names or shell patterns; got nan among them"),
        (uw.Removal([0]), {"further": torch.zeros(3)}, "further: give 31 numbers, one for each entry of θ; got 3"),
        (uw.Relabelling([0, 1], [1]), {}, "targets: need one for each of the 2 indices; got 1"),
        (uw.Relabelling([0], [7]), {}, "targets range from 7 to 7"),
        (uw.Relabelling([0], [1]), {"renormalize": True}, "renormalize: belongs to a removal"),
        ([0, 1], {}, "change: give Removal, Relabelling or Substitution; got list"),
    ],
)
def test_what_cannot_be_asked_is_refused_with_the_mend(change: Any, options: dict[str, Any], message: str) -> None:
    influence = uw.Influence(objective())
    with pytest.raises(InputError, match=message):
        influence.generalized(change, options.pop("parameters", None), **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"curvature": 3}, r"curvature: give curvature.Hessian\(\), or curvature.GGN\(\), or None; got 3"),
        ({"curvature": GGN}, "curvature: .*the class GGN, which is not yet an instance"),
        ({"damping": math.nan}, "damping: give a finite number; got nan"),
        ({"damping": -1.0}, "damping: give a finite number ≥ 0; got -1.0"),
        ({"examples": 0}, "examples: give a whole number of at least 1; got 0"),
        ({"examples": 2.5}, "examples: give a whole number of at least 1; got 2.5"),
        ({"preconditioner": 3}, r"preconditioner: give a fitted inverse, .*, or None; got 3"),
        ({"preconditioner": EKFAC()}, "preconditioner: give a fitted inverse, .* got a EKFAC"),
        ({"solver": "neumann"}, r"solver: give inverse.Neumann\(\), or None; got 'neumann'"),
        ({"tolerance": -1}, "tolerance: give a finite number > 0 and < 1; got -1"),
        ({"tolerance": "1e-6"}, "tolerance: give a finite number, or None; got '1e-6'"),
        ({"max_iterations": 0}, "max_iterations: give a whole number of at least 1; got 0"),
    ],
)
def test_equations_are_refused_when_they_are_made(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Equations(**options)


def test_equations_go_by_name_and_do_not_change() -> None:
    with pytest.raises(TypeError, match="positional argument"):
        Equations(GGN())  # type: ignore[misc]
    with pytest.raises(AttributeError, match="cannot assign"):
        Equations().damping = 1.0  # type: ignore[misc]


UNFIT: dict[str, tuple[dict[str, Any], str]] = {
    "another method's solver": (
        {"method": "FIF", "equations": Equations(solver=Neumann())},
        "solver: the Neumann series is GIF's; FIF goes by LSMR",
    ),
    "too many examples": (
        {"equations": Equations(examples=30)},
        "examples: give a whole number from 1 to 29; got 30",
    ),
    "no equations": ({"equations": None}, r"equations: give tasks.Equations\(damping=…\); got None"),
    "a dict": ({"equations": {"damping": 1.0}}, "equations: give tasks.Equations"),
    "a seed": ({"seed": 1.7}, "seed: give a whole number from 0 .* got 1.7"),
    "a flag": ({"renormalize": "no"}, "renormalize: give True or False; got 'no'"),
    "an unknown method": ({"method": "HIF"}, "method: one of 'GIF'"),
    "parameters": ({"parameters": [math.nan]}, "parameters: give names"),
    "a part by IF": ({"method": "IF", "parameters": ["0.*"]}, "method: IF answers with all"),
}


def counted(calls: list[Any], monkeypatch: pytest.MonkeyPatch, whole: uw.Objective) -> None:
    """Notes every call of the objective's model and of any copy."""
    forward = type(whole.model).forward
    monkeypatch.setattr(type(whole.model), "forward", lambda self, *given: calls.append(self) or forward(self, *given))


@pytest.mark.parametrize("name", UNFIT)
@pytest.mark.parametrize("of_influence", [False, True], ids=["function", "method"])
def test_what_does_not_fit_is_refused_before_any_pass(
    name: str, of_influence: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    (options, message), calls = UNFIT[name], []
    whole = objective().replace(l2=0.1)  # nothing is known of it yet
    call: Callable[..., Any] = (
        uw.Influence(whole).generalized if of_influence else lambda *a, **b: generalized(whole, *a, **b)
    )
    counted(calls, monkeypatch, whole)
    with pytest.raises(InputError, match=message):
        call(uw.Removal([0]), **{"parameters": uw.select.highest_output(0.5), **options})
    assert not calls
    generalized(whole, uw.Removal([0]), equations=Equations(damping=0.1, tolerance=0.1))
    assert calls


@pytest.mark.parametrize("is_larger", [False, True])
def test_an_inverse_of_another_size_is_refused_before_any_pass(
    is_larger: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = convex("ridge").objective(), objective().replace(l2=0.1)
    other, whole = reversed(pair) if is_larger else pair
    assert (other.p > whole.p) == is_larger
    given, calls = Equations(preconditioner=Dense(Hessian()).fit(other)), []
    counted(calls, monkeypatch, whole)
    message = f"preconditioner: give an inverse fitted to this objective, of {whole.p} parameters; got one of {other.p}"
    with pytest.raises(InputError, match=message):
        generalized(whole, uw.Removal([0]), equations=given)
    assert not calls


def test_a_curvature_that_the_loss_does_not_have_is_refused_before_any_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    def own(model: Any, batch: Any) -> torch.Tensor:
        return (model(batch[0]) ** 2).sum(1) + model(batch[0])[:, 0].cos()

    whole, calls = objective().replace(loss=own, validate=True).replace(l2=0.1), []
    counted(calls, monkeypatch, whole)
    with pytest.raises(InputError, match=r"curvature: the GGN needs a loss with the split .* use curvature.Hessian"):
        generalized(whole, uw.Removal([0]), equations=Equations(curvature=GGN()))
    assert not calls
    assert Equations().curvature_of(whole) == Hessian()
    assert Equations().curvature_of(objective()) == GGN()
