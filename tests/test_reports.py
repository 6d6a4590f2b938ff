"""Every result of solves says what they did, in figures, whichever way its numbers were made."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import upweight as uw
from problems import convex, mlp
from upweight import curvature, inverse
from upweight.solve_report import SolveReport, joined

GGN = curvature.GGN()
HARD = inverse.CG(GGN, damping=1e-3, tolerance=1e-9, max_iterations=2)
RESULTS: dict[str, Callable[[uw.Influence, Any], uw.Attribution]] = {
    "removal": lambda influence, queries: influence.attribute(queries),
    "leverage": lambda influence, queries: influence.attribute(queries, leverage_corrected=True),
    "itself": lambda influence, _: influence.self_influence(),
    "itself by leverage": lambda influence, _: influence.self_influence(leverage_corrected=True),
    "groups": lambda influence, queries: influence.group([[0, 1], [2]], queries),
    "groups, second": lambda influence, queries: influence.group([[0, 1], [2]], queries, order="second"),
    "groups by Newton": lambda influence, queries: influence.group([[0, 1], [2]], queries, order="newton"),
    "relabelled": lambda influence, queries: influence.relabel([0], [1], queries),
}


@pytest.mark.parametrize("name", RESULTS)
def test_it_holds_the_residual_of_the_worst_solve(name: str) -> None:
    problem = mlp()
    influence = uw.Influence(problem.objective(batch_size=4), inverse.CG(GGN, damping=0.1))
    report = RESULTS[name](influence, problem.queries).report
    assert isinstance(report, SolveReport)
    assert 0 < report.residual <= 1.01e-10
    assert report.converged
    assert report.iterations > 1


@pytest.mark.filterwarnings("ignore::upweight.errors.NotConvergedWarning")
@pytest.mark.parametrize("name", [name for name in RESULTS if name != "groups by Newton"])
def test_and_says_when_one_of_them_stopped_early(name: str) -> None:
    problem = mlp()
    report = RESULTS[name](uw.Influence(problem.objective(batch_size=4), HARD), problem.queries).report
    assert isinstance(report, SolveReport)
    assert not report.converged
    assert report.residual > 1e-9
    assert "helps" in report.stopped


def one(residuals: list[float], iterations: int, stopped: str = "", curvature: float = 1.0) -> SolveReport:
    history = tuple(float(k) for k in range(iterations))
    return SolveReport("CG", 0.1, iterations, torch.tensor(residuals), 1e-3, curvature, None, history, stopped)


def test_several_are_joined_to_the_worst_of_each() -> None:
    found = joined([one([1e-4, 2e-4], 3), one([5e-2], 9, "limit", 0.5), one([1e-5], 2)])
    assert found.residual == pytest.approx(5e-2)
    assert len(found.residuals) == 4
    assert (found.iterations, found.smallest_curvature, found.stopped) == (9, 0.5, "limit")
    assert len(found.history) == 9
    assert not found.converged


def test_saved_and_read_it_is_the_same_but_for_single_residuals(tmp_path: Path) -> None:
    problem = convex("softmax")
    found = uw.Influence(problem.objective(), inverse.CG(damping=0.1)).attribute(problem.queries)
    again = uw.Attribution.load(found.save(tmp_path / "scores"))
    assert isinstance(found.report, SolveReport)
    assert isinstance(again.report, SolveReport)
    assert again.report.to_dict() == found.report.to_dict()
    assert str(again.report) == str(found.report)
    assert repr(again) == repr(found)


def test_an_ensemble_and_trak_have_one_too() -> None:
    problem = mlp()
    objective, states = problem.objective(), [problem.model, mlp().objective(l2=0.1).model]
    for found in (
        uw.Ensemble(objective, states[:1], inverse.Dense(GGN, damping=0.1)).attribute(problem.queries),
        uw.TRAK(objective, damping=0.1).attribute(problem.queries),
    ):
        assert isinstance(found.report, SolveReport)
        assert found.report.residual < 1e-6
