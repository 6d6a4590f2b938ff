"""What iterates says how far it is, and ends: at its tolerance, at a limit of its own, or where nothing is gained."""

from __future__ import annotations

import io
import math
import re
from typing import Any

import pytest
import torch
from rich.console import Console
from rich.progress import Progress
from torch import nn

import upweight as uw
from problems import DOUBLE, close, mlp
from upweight import progress
from upweight.curvature import GGN, Matrix
from upweight.errors import NegativeCurvatureError, NotConvergedWarning
from upweight.inverse import CG, LSMR, Dense, LiSSA, Neumann
from upweight.inverse.advice import against_slowness, lsmr_limit
from upweight.inverse.lissa import DEEPEST, WINDOW


class Counted(Matrix):
    """A matrix that counts its products."""

    products = 0

    def apply(self, vectors: torch.Tensor) -> torch.Tensor:
        Counted.products += 1
        return super().apply(vectors)


def graded(p: int, smallest: float) -> Counted:
    Counted.products = 0
    return Counted(torch.diag(torch.logspace(math.log10(smallest), 0, p, dtype=DOUBLE)))


def test_the_limit_of_least_squares_follows_parameters_and_tolerance() -> None:
    assert lsmr_limit(12, 1e-13) == 4 * 12 + 50
    assert lsmr_limit(10_000, 1e-5) == math.ceil(100 * math.log(1e5))
    assert lsmr_limit(10_000, 1e-10) == 2000
    assert lsmr_limit(10**9, 1e-5) == 2000


def test_least_squares_too_far_from_their_tolerance_stop_and_say_so() -> None:
    matrix, vectors = graded(1500, 1e-9), torch.ones(2, 1500, dtype=DOUBLE)
    report = LSMR().fit(matrix).solve(vectors).report
    assert not report.converged
    found = re.search(
        r"at the pace of the last 300 iterations it would take ([\d,]+) more; a larger damping", str(report)
    )
    assert found
    assert int(found[1].replace(",", "")) > 4 * lsmr_limit(1500, 1e-10)
    assert report.iterations < lsmr_limit(1500, 1e-10) / 2
    assert Counted.products <= 2 * report.iterations + 4


def test_least_squares_go_to_a_limit_that_is_given() -> None:
    report = LSMR(max_iterations=40).fit(graded(1500, 1e-9)).solve(torch.ones(1, 1500, dtype=DOUBLE)).report
    assert report.iterations == 40
    assert "the limit of 40 iterations; a larger damping helps" in str(report)


def test_a_singular_system_outside_its_range_is_no_failure_of_the_iteration() -> None:
    matrix = Matrix(torch.diag(torch.tensor([1.0, 2.0, 0.0], dtype=DOUBLE)))
    report = LSMR().fit(matrix).solve(torch.ones(1, 3, dtype=DOUBLE)).report
    assert report.stopped == ""
    assert not report.converged


@pytest.mark.filterwarnings("ignore::upweight.errors.NotStationaryWarning")
def test_the_user_is_warned_with_what_helps() -> None:
    problem = mlp()
    influence = uw.Influence(problem.objective(), LSMR(GGN(), max_iterations=2))
    with pytest.warns(NotConvergedWarning, match=r"not reached; the limit of 2 iterations; a larger damping or"):
        influence.attribute((problem.query_x[:1], problem.query_y[:1]))


def test_lissa_of_all_examples_is_made_once() -> None:
    matrix, vectors = graded(5, 0.3), torch.ones(1, 5, dtype=DOUBLE)
    one, many = (LiSSA(batch_size=None, repeats=k, depth=60, scale=2.0).fit(matrix).solve(vectors) for k in (1, 8))
    assert Counted.products == 2 * 61
    assert many.repeats is not None
    assert len(many.repeats) == 8
    assert float(many.report.standard_error.max()) == 0
    close(one.x, many.x)


def test_lissa_ends_where_it_gains_nothing_unless_its_depth_was_given() -> None:
    matrix, vectors = graded(2, 1e-7), torch.ones(1, 2, dtype=DOUBLE)
    chosen = LiSSA(batch_size=None, scale=2.0).fit(matrix).solve(vectors).report
    assert chosen.iterations <= 2 * WINDOW
    assert not chosen.converged
    assert f"no gain in {WINDOW} steps; a larger damping helps" in str(chosen)
    given = LiSSA(batch_size=None, scale=2.0, depth=3 * WINDOW).fit(matrix).solve(vectors).report
    assert (given.iterations, given.converged) == (3 * WINDOW, True)


def test_lissa_that_is_exact_to_rounding_has_not_failed() -> None:
    report = LiSSA(batch_size=None, scale=2.0).fit(graded(3, 0.5)).solve(torch.ones(1, 3, dtype=DOUBLE)).report
    assert report.converged
    assert report.iterations < 2 * WINDOW


def noisy(l2: float, repeats: int = 10, **options: Any) -> Any:
    torch.manual_seed(0)
    data = (torch.randn(20, 3, dtype=DOUBLE), torch.randn(20, dtype=DOUBLE))
    objective = uw.Objective(nn.Linear(3, 1).double(), uw.losses.SquaredError(), data, l2=l2)
    return LiSSA(batch_size=5, repeats=repeats, **options).fit(objective)


def test_all_steps_of_lissa_together_are_bounded_and_what_is_missing_is_said() -> None:
    solver = noisy(1e-7)
    assert solver.settings.depth * 10 == DEEPEST
    share = (1 - 1e-7 / solver.settings.scale) ** (solver.settings.depth + 1)
    assert solver.missing == pytest.approx(share)
    assert noisy(1e-7, depth=10).missing == 0
    assert noisy(0.5).missing == 0
    assert noisy(0.5).settings.depth < DEEPEST // 10
    assert "of the flattest direction 100% is missing at the limit of 5,000 steps" in solver._stopped(5000, 0.5)


def test_conjugate_gradients_advise_what_helps_there() -> None:
    vectors = torch.ones(1, 3, dtype=DOUBLE)
    near = Matrix(torch.diag(torch.tensor([2.0, 1.0, -0.5], dtype=DOUBLE)))
    with pytest.raises(NegativeCurvatureError, match=r"Use damping > 0.\d+ \(a lower bound\) or inverse.LSMR\(\)"):
        CG().fit(near).solve(vectors)
    far = Matrix(torch.diag(torch.tensor([2.0, 1.0, -1e-6], dtype=DOUBLE)))
    with pytest.raises(NegativeCurvatureError) as refused:
        CG().fit(far).solve(vectors)
    assert "LSMR" not in str(refused.value)
    assert "GGN" not in str(refused.value)


@pytest.mark.parametrize(
    ("damping", "preconditioned", "said"),
    [
        (0.1, False, "a larger damping or inverse.CG(curvature.GGN(), damping=0.1, preconditioner=inverse.Dual())"),
        (0.1, True, "a larger damping"),
    ],
)
def test_slow_iterations_are_told_of_rows_where_there_are_some(damping: float, preconditioned: bool, said: str) -> None:
    operator = GGN().of(mlp().objective())
    assert against_slowness(operator, damping, preconditioned=preconditioned) == said
    assert against_slowness(Matrix(torch.eye(2)), 0.1) == "a larger damping"


@pytest.fixture
def bars(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, float | None]]:
    """What stands beside the bars that are drawn, and their totals."""
    said: list[tuple[str, float | None]] = []

    class Watched(Progress):
        def update(self, task_id: Any, *, description: Any = None, **options: Any) -> None:
            super().update(task_id, description=description, **options)
            if description is not None:
                said.append((description, self.tasks[0].total))

    monkeypatch.setattr(progress, "Console", lambda stderr: Console(file=io.StringIO(), force_terminal=True))
    monkeypatch.setattr(progress, "Progress", Watched)
    return said


def test_every_long_loop_shows_its_residual_and_its_total(bars: list[tuple[str, float | None]]) -> None:
    matrix, vectors = graded(12, 0.1), torch.ones(1, 12, dtype=DOUBLE)
    CG(max_iterations=70).fit(matrix).solve(vectors)
    assert bars[0] == ("CG, residual 1.0e+00 to 8e-11", 70)
    assert float(bars[5][0].split()[2]) < 1
    bars.clear()
    LSMR(max_iterations=80).fit(matrix).solve(vectors)
    assert bars[0] == ("LSMR, residual 1.0e+00 to 1e-10", 80)
    bars.clear()
    noisy(0.5, repeats=2, depth=100).solve(torch.ones(1, 4, dtype=DOUBLE))
    assert bars[0] == ("LiSSA steps of all repeats, residual 1.0e+00 to 1e-02", 200)
    assert len(bars) == 200
    bars.clear()
    Neumann(2.0).solve(matrix.apply, matrix.apply, vectors, 1e-3, 90)
    assert bars[0][0].startswith("Neumann series, residual")
    assert bars[0][1] == 90


def test_columns_and_rows_of_a_dense_matrix_show_how_far_they_are(bars: list[tuple[str, float | None]]) -> None:
    problem = mlp()
    Dense(damping=1.0).fit(problem.objective())
    assert ("columns of the Hessian, 256 at a time", 1) in bars
    bars.clear()
    Dense(GGN(), damping=1.0).fit(problem.objective(batch_size=5))
    assert bars[0] == ("rows of the GGN", math.ceil(problem.n / 5))
