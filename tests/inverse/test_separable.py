"""1/(Λ+δ) as a sum of outer products gives the scores of the whole to the precision's root, or says that it can't."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import upweight as uw
from problems import DOUBLE, close
from upweight.curvature import EmpiricalFisher
from upweight.gradients.terms import Outer
from upweight.inverse import EKFAC, KFAC
from upweight.inverse.separable import pair_scores, separable
from upweight.linalg.ranks import rank_agreement


def spectrum(rows: int, columns: int, rate: float = 0.7) -> Tensor:
    """Falling eigenvalues of two sides, and noise as Λ has it."""
    left, right = (rate ** torch.arange(d, dtype=DOUBLE) for d in (rows, columns))
    return torch.outer(left, right) * torch.rand(rows, columns, dtype=DOUBLE)


def gradients(moments: Tensor, count: int, dtype: torch.dtype) -> Outer:
    sides = [side.sqrt() * torch.randn(count, len(side), dtype=DOUBLE) for side in (moments.sum(1), moments.sum(0))]
    return Outer(*(side[:, None].to(dtype) for side in sides))


@pytest.mark.parametrize("shape", [(80, 200), (200, 80)])
@pytest.mark.parametrize("damping", [1e-3, 1.0])
def test_scores_agree_to_the_root_of_the_precision(shape: tuple[int, int], damping: float) -> None:
    moments = spectrum(*shape)
    inverse = (1 / (moments + damping)).float()
    sides = separable(inverse, moments.float())
    assert sides is not None
    assert len(sides[0]) * 2 * sum(shape) < shape[0] * shape[1]
    queries, train = (gradients(moments, count, torch.float32) for count in (20, 30))
    scores = pair_scores(queries, sides)(train)
    expected = train.inner(queries.materialize() * inverse)
    assert ((scores - expected).norm(dim=1) < 5e-4 * expected.norm(dim=1)).all()


def test_what_gains_nothing_is_left_alone() -> None:
    moments = spectrum(80, 200)
    slow = spectrum(80, 200, 0.9)
    assert separable(1 / (slow + 1e-3), slow) is None  # more terms than pay
    assert separable(torch.rand(80, 200) + 0.1, moments.float()) is None  # no structure
    assert separable(torch.ones(80, 200), torch.zeros(80, 200)) is None  # nothing known of the gradients
    constant = separable(torch.ones(80, 200), moments.float())
    assert constant is not None
    assert len(constant[0]) == 1


@pytest.mark.parametrize(
    "inverse",
    [
        EKFAC(EmpiricalFisher(), damping=1e-2),
        KFAC(EmpiricalFisher(), damping=1e-2, approximation="expand", damping_rule="eigenvalue"),
    ],
)
def test_scorers_use_it_in_wide_layers(inverse: EKFAC | KFAC) -> None:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(120, 60), nn.Tanh(), nn.Linear(60, 3))
    x, y = torch.randn(90, 120) * 0.9 ** torch.arange(120), torch.arange(90) % 3
    objective = uw.Objective(model, uw.losses.CrossEntropy(), (x, y))
    solver = inverse.fit(objective)
    train = objective.engine.function.each(objective.params, (x, y))
    scores = solver.scorer(train.take(slice(0, 10)))(train)
    expected = solver.solve(train.materialize()[:10]).x @ train.materialize().T
    assert ((scores - expected).norm(dim=1) < 2e-4 * expected.norm(dim=1)).all()
    again = solver.scorer(train.take(slice(3, 4)))(train.take(slice(5, 70)))
    close(again, scores[3:4, 5:70], rtol=1e-4, atol=1e-5 * float(scores.abs().max()))
    assert solver._scores.sides(0, train.blocks[0], None) is not None


@pytest.mark.parametrize("tolerance", [0.3, 0.03, 1e-3])
def test_fewer_terms_are_off_by_the_tolerance_at_most(tolerance: float) -> None:
    moments = spectrum(80, 200, 0.8)
    inverse = 1 / (moments + 1e-2)
    sides = separable(inverse, moments, tolerance)
    assert sides is not None
    weights = moments.sum(1).sqrt()[:, None] * moments.sum(0).sqrt()
    found = torch.einsum("kr,kc->rc", *sides)
    assert float(((found - inverse) * weights).norm()) <= 1.2 * tolerance * float((inverse * weights).norm())


@pytest.mark.filterwarnings("ignore::upweight.errors.NotStationaryWarning")
def test_long_work_is_scored_by_few_terms_that_keep_the_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("upweight.inverse.eigen_scores.EXACT_WORK", 1e3)
    torch.manual_seed(2)
    model = nn.Sequential(nn.Linear(120, 60), nn.Tanh(), nn.Linear(60, 3))
    train = torch.randn(90, 120) * 0.97 ** torch.arange(120), torch.arange(90) % 3
    objective = uw.Objective(model, uw.losses.CrossEntropy(), train)
    queries = (train[0][:12] + 0.1, train[1][:12])
    exact = uw.Influence(objective, EKFAC(EmpiricalFisher(), damping=1e-3, tolerance=0)).attribute(queries)
    found = uw.Influence(objective, EKFAC(EmpiricalFisher(), damping=1e-3)).attribute(queries)
    assert "pairs by at most " in str(found.report)
    assert "on 12 × 90 pairs" in str(found.report)
    assert "terms" not in str(exact.report)
    assert rank_agreement(found.scores, exact.scores) >= 0.99
    distance = (found.scores - exact.scores).norm() / exact.scores.norm()
    assert 1e-4 < float(distance) < 0.1


@pytest.mark.filterwarnings("ignore::upweight.errors.NotStationaryWarning")
@pytest.mark.parametrize("sequences", [False, True])
def test_queries_of_low_rank_say_what_is_kept_of_them(sequences: bool) -> None:
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(9, 7), nn.Tanh(), nn.Linear(7, 3)).double()
    shape = (30, 4, 9) if sequences else (30, 9)
    x, y = torch.randn(shape, dtype=DOUBLE), torch.randint(3, shape[:-1])
    objective = uw.Objective(model, uw.losses.CrossEntropy(), (x, y))
    queries = (x[:5] + 0.1, y[:5])

    def scores(**settings: int) -> uw.Attribution:
        return uw.Influence(objective, EKFAC(EmpiricalFisher(), damping=1e-2, **settings)).attribute(queries)

    exact, whole, cut = scores(), scores(query_rank=7), scores(query_rank=2)
    close(whole.scores, exact.scores)
    assert "queries of rank 2 (≥ " in str(cut.report)
    assert 1e-6 < float((cut.scores - exact.scores).norm() / exact.scores.norm()) < 0.7
    with pytest.raises(uw.InputError, match=r"query_rank: 8 is above what any layer has, 7 in '0.weight'"):
        scores(query_rank=8)
