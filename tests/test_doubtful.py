"""What is defined but doubtful is said with its figure; what has no inverse is refused with its curvature."""

import re

import pytest
import torch
from torch import nn

import upweight as uw
from problems import DOUBLE, close, mlp
from spoiled import CE, softmax
from upweight.errors import (
    DivergedError,
    NegativeCurvatureError,
    NotConvergedWarning,
    NotStationaryWarning,
    SlowPathWarning,
    UpweightWarning,
)

pytestmark = pytest.mark.usefixtures("unchecked")


def test_theta_away_from_an_optimum_is_said_with_its_figure():
    objective = mlp().objective().at(mlp().theta + 1)
    with pytest.warns(NotStationaryWarning, match=r"‖∇R‖ = \d\.\d+e[+-]\d+, \d.* × the sampling noise") as record:
        attribution = uw.Influence(objective, uw.inverse.Dense(uw.curvature.GGN())).attribute(mlp().queries)
    assert len(record) == 1
    figure = float(re.search(r"‖∇R‖ = (\S+),", str(record[0].message)).group(1))
    assert figure == pytest.approx(attribution.facts["gradient_norm"], rel=0.01)
    assert attribution.facts["gradient_over_noise"] > 1


def test_a_solver_that_stops_early_says_so_wherever_it_is_used():
    problem = softmax()
    stopped = uw.Influence(problem.objective(), uw.inverse.CG(max_iterations=2))
    one = (problem.query_x[:1], problem.query_y[:1])
    for call in (
        lambda: stopped.attribute(one),
        lambda: stopped.self_influence(train=[0]),
        lambda: stopped.self_influence(train=[0], leverage_corrected=True),
        lambda: stopped.parameters([0]),
        lambda: stopped.group([0], one),
        lambda: stopped.perturbation(0, one),
        lambda: stopped.relabel([0], [1], one),
    ):
        with pytest.warns(
            NotConvergedWarning, match=r"relative residual ≤ \d\.\de-?\+?\d+ in 2 iterations .*not reached"
        ):
            call()


@pytest.mark.parametrize("inverse", [uw.inverse.Dense(), uw.inverse.CG()], ids=["dense", "CG"])
def test_an_indefinite_hessian_is_refused_with_its_curvature_and_the_mend(inverse):
    problem = mlp()
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)).to(DOUBLE)
    objective = uw.Objective(model, CE, (problem.x, problem.y))
    matrix = uw.curvature.Hessian().of(objective).dense()
    smallest = float(torch.linalg.eigvalsh(matrix)[0])
    assert smallest < -1e-3
    vectors = torch.randn(3, objective.p, dtype=DOUBLE)
    with pytest.raises(NegativeCurvatureError, match=r"-\d.*(?s:.*)damping > \d") as error:
        inverse.fit(objective).solve(vectors)
    if isinstance(inverse, uw.inverse.Dense):
        assert f"{smallest:.3e}" in str(error.value)
    enough = type(inverse)(damping=-1.5 * smallest).fit(objective).solve(vectors).x
    shifted = matrix - 1.5 * smallest * torch.eye(objective.p, dtype=DOUBLE)
    close(enough, torch.linalg.solve(shifted, vectors.T).T, rtol=1e-6, atol=1e-7)


def test_a_diverging_series_is_refused():
    problem = softmax()
    with pytest.raises(DivergedError, match=r"LiSSA diverged .*larger scale"):
        uw.Influence(problem.objective(), uw.inverse.LiSSA(scale=0.01, depth=200)).attribute(problem.queries)


def test_unpenalised_softmax_has_no_inverse_and_is_said_or_refused():
    """Adding a constant to all logits changes nothing: H is singular."""
    unpenalised = softmax().objective(l2=0.0)
    with pytest.warns(UpweightWarning, match=r"singular to rounding along 4 of 12 directions .*l2 > 0"):
        _ = uw.Influence(unpenalised).solver
    with pytest.raises(NegativeCurvatureError, match=r"larger damping or l2 > 0, .*singular='pseudo'"):
        _ = uw.Influence(unpenalised, uw.inverse.Dense()).solver


def test_a_slow_path_is_said():
    class Branching(torch.nn.Module):
        """Its scale has no rule, and its branch on the data can't be vectorised."""

        def __init__(self):
            super().__init__()
            self.linear, self.slope = torch.nn.Linear(3, 3, dtype=torch.float64), torch.nn.PReLU(dtype=torch.float64)

        def forward(self, x):
            out = self.slope(self.linear(x))
            return out * (1.0 if out.sum().item() > -1e9 else 2.0)

    problem = softmax()
    with pytest.warns(SlowPathWarning) as said:
        objective = uw.Objective(Branching(), uw.losses.CrossEntropy(), (problem.x, problem.y), l2=0.1)
    texts = " ".join(str(warning.message) for warning in said)
    assert "slope.weight: no rule" in texts
    assert "one example at a time" in texts
    rows = []
    for i in range(problem.n):
        value = uw.losses.CrossEntropy()(objective.model, (problem.x[i : i + 1], problem.y[i : i + 1])).sum()
        rows.append(torch.cat([g.flatten() for g in torch.autograd.grad(value, list(objective.model.parameters()))]))
    close(objective.engine.function.each(objective.params, (problem.x, problem.y)).materialize(), torch.stack(rows))
