"""Damping from the spectrum: the effective dimension, its estimate, and what follows from them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from scipy.optimize import brentq

import upweight as uw
from problems import close, convex, mlp
from upweight.curvature import GGN
from upweight.errors import InputError
from upweight.inverse import CG, Dual, MeanLeverage, effective
from upweight.inverse.effective import damping_at
from upweight.linalg.traces import Spectrum

DOUBLE = torch.float64


def matrix(size: int = 60) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    basis, _ = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=DOUBLE))
    return basis * torch.logspace(-6, 1, size, dtype=DOUBLE) @ basis.T


def test_the_chosen_damping_has_the_mean_leverage_asked_for() -> None:
    problem = mlp()
    objective = problem.objective(l2=0.001)
    values = torch.linalg.eigvalsh(problem.ggn() - problem.l2 * torch.eye(objective.p, dtype=DOUBLE)).clamp_min(0)

    def leverage(shift: float) -> float:
        return float((values / (values + shift)).sum()) / problem.n

    for share in (0.05, 0.2):
        expected = brentq(lambda shift: leverage(shift) - share, 1e-9, 1e3) - 0.001  # noqa: B023
        solver = Dual(GGN(), damping=MeanLeverage(share), rows=None).fit(objective)
        assert solver.damping == pytest.approx(expected, rel=0.3)


def test_auto_is_one_number_for_every_solver_of_a_matrix() -> None:
    objective = mlp().objective()
    dual = Dual(GGN(), damping="auto", rows=None).fit(objective)
    cg = CG(GGN(), damping="auto").fit(objective)
    assert cg.damping == pytest.approx(dual.damping, rel=0.25)
    assert dual.with_damping("auto").damping == dual.damping


def test_auto_scales_with_the_loss() -> None:
    spectrum = Spectrum(torch.linalg.eigvalsh(matrix()), torch.ones(60, dtype=DOUBLE))
    ten = Spectrum(10 * spectrum.values, spectrum.weights)
    close(damping_at(ten, 100, 0.0), 10 * damping_at(spectrum, 100, 0.0), rtol=1e-3)


def test_a_penalty_that_damps_enough_leaves_nothing_to_add() -> None:
    assert damping_at(Spectrum(torch.ones(3), torch.ones(3)), 100, penalty=1e6) == 0


def test_biases_without_a_penalty_are_damped_by_a_trifle_of_it() -> None:
    """What rows alone leave open is inverted; where all is penalised nothing is added."""
    problem = mlp()
    objective = problem.objective(l2={"*.weight": 10.0})
    solver = Dual(GGN(), damping="auto").fit(objective)
    assert solver.damping == pytest.approx(0.01 * float(objective.l2.mean()))
    residual = solver.solve(problem.query_gradients()).report.residuals.max()
    assert residual < 1e-9


def test_what_cannot_be_chosen_is_refused(unchecked: None) -> None:
    operator = uw.curvature.Matrix(torch.eye(3, dtype=DOUBLE))
    with pytest.raises(InputError, match="needs an objective"):
        CG(damping="auto").fit(operator)
    with pytest.raises(InputError, match="share: give a finite number > 0 and ≤ 1"):
        CG(GGN(), damping=MeanLeverage(2.0)).fit(convex("softmax").objective())
    with pytest.raises(InputError, match="damping: give a finite number ≥ 0, 'auto'"):
        CG(GGN(), damping="best").fit(convex("softmax").objective())  # type: ignore[arg-type]


def test_estimating_ends_once_the_damping_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """By fewer products it is the same but for what is allowed."""
    objective = mlp().objective(l2=0.001)
    products: list[int] = []
    kind = type(CG(GGN(), damping=1.0).fit(objective).operator)
    apply = kind.apply

    def counted(operator: Any, vectors: torch.Tensor) -> torch.Tensor:
        products.append(len(vectors))
        return apply(operator, vectors)

    monkeypatch.setattr(kind, "apply", counted)
    found = {}
    for known in (effective.KNOWN, 0.0):
        monkeypatch.setattr(effective, "KNOWN", known)
        products.clear()
        found[known] = (CG(GGN(), damping="auto").fit(objective).damping, len(products))
    (few, cheap), (exact, dear) = found.values()
    assert cheap < dear / 2
    assert 0 <= few - exact <= 0.03 * (0.001 + few)
