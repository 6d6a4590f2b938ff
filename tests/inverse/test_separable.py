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
    assert solver._separable(0) is not None
