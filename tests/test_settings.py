"""Settings of inverses are refused when they are made rather than when they are used."""

from collections.abc import Callable
from typing import Any

import pytest

import upweight as uw
from upweight import curvature, inverse

pytestmark = pytest.mark.usefixtures("unchecked")

WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "a damping in the curvature's place": (lambda: inverse.CG("auto"), r"curvature: give .*damping=….* got 'auto'"),
    "a number there": (lambda: inverse.EKFAC(0.1), r"curvature: give .*damping=….* got 0\.1"),
    "a class": (lambda: inverse.CG(curvature.GGN), r"curvature: .*the class GGN, which is not yet an instance"),
    "one without rows": (lambda: inverse.EKFAC(curvature.Hessian()), r"curvature: give .*GGN\(\).* got Hessian"),
    "and again": (lambda: inverse.Dual(curvature.Hessian()), r"curvature: give .*GGN\(\).* got Hessian"),
    "a rank that is none": (lambda: inverse.Nystrom(curvature.GGN()), r"rank: .*got GGN"),
    "of nothing": (lambda: inverse.Arnoldi(0), r"rank: .*0"),
    "fewer iterations than the rank": (lambda: inverse.Arnoldi(5, iterations=3), r"iterations: .*3"),
    "a negative damping": (lambda: inverse.Dense(damping=-1.0), r"damping: give a finite number ≥ 0.* got -1"),
    "a word that is none": (lambda: inverse.KFAC(damping="much"), r"damping: give .*'auto'.* got 'much'"),
    "no damping": (lambda: inverse.LiSSA(damping=None), r"damping: .*got None"),
    "its rule's class": (lambda: inverse.CG(damping=inverse.MeanEigenvalue), r"damping: .*class MeanEigenvalue"),
    "an unknown way": (lambda: inverse.KFAC(approximation="other"), r"approximation: one of 'expand'.* got 'other'"),
    "memory": (lambda: inverse.Dual(memory=-1), r"memory, in bytes: "),
    "a preconditioner's class": (lambda: inverse.CG(preconditioner=inverse.KFAC), r"preconditioner: .*class KFAC"),
    "a budget": (lambda: uw.Budget(kept=-1), r"kept, in bytes: "),
}


@pytest.mark.parametrize("name", WRONG)
def test_they_are_refused_when_they_are_made(name: str) -> None:
    make, words = WRONG[name]
    with pytest.raises(uw.InputError, match=words):
        make()


def test_what_a_budget_allows_goes_by_name() -> None:
    with pytest.raises(TypeError, match="positional argument"):
        uw.Budget(10)  # type: ignore[misc]
