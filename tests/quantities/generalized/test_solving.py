"""However generalised influence is solved for, the answer is one; what was left unsolved is said."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn

import upweight as uw
from generalized import MEMBERS, METHODS, TIGHT, objective, problem, response, subset
from problems import DOUBLE, close
from upweight.curvature import GGN, Hessian
from upweight.errors import NegativeCurvatureWarning, NotConvergedWarning
from upweight.inverse import CG, EKFAC, Dense, Neumann
from upweight.quantities.generalized import Equations


@pytest.mark.parametrize("nu", [0.5, 1.5])
def test_the_neumann_series_comes_to_the_same_whatever_nu(nu: float) -> None:
    damped = {"damping": 0.3, "tolerance": 1e-8}
    expected = response("GIF", **damped)
    found = response("GIF", solver=Neumann(nu), **damped)
    close(found.step, expected.step, rtol=1e-5, atol=1e-7)
    assert expected.products < found.products


@pytest.mark.parametrize("batch_size", [1, 4, None])
def test_the_batch_size_changes_nothing(batch_size: int | None) -> None:
    parted = problem().objective(batch_size=batch_size)
    found = uw.Influence(parted).generalized(
        uw.Removal(MEMBERS), subset(), equations=Equations(curvature=Hessian(), **TIGHT)
    )
    close(found.step, response("GIF").step, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_a_preconditioner_changes_the_way_and_not_the_answer(method: str) -> None:
    solver = EKFAC(GGN(), damping=0.01).fit(objective())
    plain = response(method, curvature=GGN(), tolerance=1e-10)
    sped = response(method, curvature=GGN(), tolerance=1e-10, preconditioner=solver)
    close(sped.step, plain.step, rtol=1e-5, atol=1e-8)
    if method == "FIF":
        assert sped.products < plain.products


def test_an_unfinished_solve_is_said() -> None:
    with pytest.warns(NotConvergedWarning, match=r"GIF: relative residual .* iterations, 1e-12 was asked for"):
        found = response("GIF", max_iterations=2)
    assert not found.converged
    assert "not reached" in repr(found)


def test_negative_curvature_is_said_with_its_figure_and_the_mend() -> None:
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(3, 4, dtype=DOUBLE), nn.Tanh(), nn.Linear(4, 2, dtype=DOUBLE))
    data = (torch.randn(20, 3, dtype=DOUBLE), torch.randint(0, 2, (20,)))
    untrained = uw.Objective(model, uw.losses.CrossEntropy(), data)
    lowest = float(torch.linalg.eigvalsh(Hessian().of(untrained).dense())[0])
    assert lowest < -0.01
    influence = uw.Influence(untrained)
    given = Equations(curvature=Hessian(), tolerance=1e-6)
    with pytest.warns(NegativeCurvatureWarning, match=r"negative in some direction, -.*Take damping > .*, or the GGN"):
        found = influence.generalized(uw.Removal([0]), method="IF", equations=given)
    assert found.smallest_curvature == pytest.approx(lowest, rel=0.5)
    assert found.smallest_curvature >= lowest - 0.01
    damped = Equations(damping=1.0, tolerance=1e-6)
    assert influence.generalized(uw.Removal([0]), method="IF", equations=damped).smallest_curvature > 0


def test_a_preconditioner_may_be_any_solver() -> None:
    solver = CG(GGN(), damping=0.1, tolerance=1e-13).fit(objective())
    plain = response("FIF", curvature=GGN(), tolerance=1e-10)
    close(
        response("FIF", curvature=GGN(), tolerance=1e-9, preconditioner=solver).step, plain.step, rtol=1e-4, atol=1e-7
    )


@pytest.mark.parametrize("method", ["FIF", "PIF", "IF", "SIF"])
def test_a_positive_system_goes_by_conjugate_gradients_to_the_same_answer(method: str) -> None:
    """A loss that isn't known to be convex goes by LSMR: the same answer, with more products."""

    class Unknown(uw.losses.CrossEntropy):
        is_convex = False

    quick = response(method, curvature=GGN(), damping=0.01, tolerance=1e-11)
    other = objective().replace(loss=Unknown())
    slow = uw.Influence(other, Dense(GGN())).generalized(
        uw.Removal(MEMBERS),
        None if method == "IF" else subset(),
        method=method,
        equations=Equations(**{**TIGHT, "curvature": GGN(), "damping": 0.01, "tolerance": 1e-11}),
    )
    close(quick.step, slow.step, rtol=1e-6, atol=1e-9)
    assert quick.products < 0.7 * slow.products
    assert quick.smallest_curvature == pytest.approx(float(objective().l2.min()) + 0.01)
    assert slow.smallest_curvature >= quick.smallest_curvature - 1e-9


@pytest.mark.parametrize("method", METHODS)
def test_the_history_ends_where_the_solve_did(method: str) -> None:
    for curvature, damping in ((Hessian(), 0.0), (GGN(), 0.1)):
        found = response(method, curvature=curvature, damping=damping, tolerance=1e-9)
        assert found.history[0] == pytest.approx(1.0)
        assert found.history[-1] <= 1e-9
        assert found.iterations == len(found.history) - 1 > 1
    series = response("GIF", damping=0.3, tolerance=1e-6, solver=Neumann(1.5))
    assert series.history[0] == 1
    assert series.history[-1] <= 1e-6
    assert all(later < earlier for earlier, later in pairwise(series.history))


@pytest.mark.parametrize("parameters", ["part", "everything"])
def test_no_more_is_done_than_was_asked_for(parameters: str) -> None:
    """The last iteration is the first that reached the tolerance of GIF's own, normal, equations."""
    chosen = subset() if parameters == "part" else None
    found = response("GIF", parameters=chosen, curvature=GGN(), damping=1e-3, tolerance=1e-3)
    assert found.converged
    assert found.history[-1] <= 1e-3 < found.history[-2]
    with pytest.warns(NotConvergedWarning):
        cut_off = response("GIF", parameters=chosen, curvature=GGN(), damping=1e-3, max_iterations=2)
    assert cut_off.iterations == 2
    assert cut_off.products <= 2 * 2 + 5  # Hᵀg twice, H x, Hᵀr and the residuals that are reported
