"""What is chosen when the user doesn't say, and what a plan promises before anything runs."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

import upweight as uw
from problems import convex, mlp
from upweight.curvature import GGN, EmpiricalFisher, Fisher, Hessian
from upweight.errors import InputError, UpweightWarning
from upweight.inverse import (
    CG,
    EKFAC,
    KFAC,
    LSMR,
    Arnoldi,
    DataInf,
    Dense,
    Diagonal,
    Dual,
    Identity,
    Inverse,
    LiSSA,
    Nystrom,
)
from upweight.inverse.advice import lsmr_limit
from upweight.inverse.costs import Counts, iterative_stages
from upweight.inverse.dual_costs import dual_stages
from upweight.inverse.layer_costs import ekfac_stages
from upweight.planning.choice import impurity

pytestmark = pytest.mark.filterwarnings("ignore::upweight.errors.NotStationaryWarning")  # untrained models


def objective(width: int = 32, n: int = 200, outputs: int = 5, loss: object = None) -> uw.Objective:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, width), nn.Tanh(), nn.Linear(width, outputs)).eval()
    batch = (torch.randn(n, 20), torch.randint(0, outputs, (n,)))
    return uw.Objective(model, loss or uw.losses.CrossEntropy(), batch, l2=0.01)


def test_small_linear_models_are_factorised_and_large_ones_iterated() -> None:
    assert isinstance(uw.Influence(convex("softmax").objective()).inverse, Dense)
    torch.manual_seed(0)
    data = (torch.randn(30, 500), torch.arange(30) % 10)
    wide = uw.Objective(nn.Linear(500, 10), uw.losses.CrossEntropy(), data, l2=0.1)
    assert isinstance(uw.Influence(wide).inverse, CG)


def test_networks_are_inverted_in_the_space_of_rows_whose_kind_depends_on_the_outputs() -> None:
    few = uw.Influence(objective())
    assert isinstance(few.inverse, Dual)
    assert "GGN" in few.choice
    many = uw.Influence(objective(outputs=100))
    assert "sampled target" in many.choice
    own = uw.Influence(objective(loss=lambda model, batch: model(batch[0])[:, 0] ** 2))
    assert "empirical Fisher" in own.choice


def test_a_memory_too_small_for_rows_leads_to_layers() -> None:
    chosen = uw.Influence(objective(n=2000), memory=2**16)
    assert isinstance(chosen.inverse, EKFAC)
    assert torch.isfinite(chosen.attribute((torch.randn(2, 20), torch.tensor([0, 1]))).scores).all()


@pytest.mark.parametrize(("scale", "unsure"), [(1.0, True), (1000.0, False)])
def test_the_penalty_is_left_out_where_predictions_are_far_from_sure(scale: float, unsure: bool) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 32), nn.Tanh(), nn.Linear(32, 5)).eval()
    with torch.no_grad():
        model[2].weight *= scale
    batch = (torch.randn(2000, 20), torch.randint(0, 5, (2000,)))
    chosen = uw.Influence(uw.Objective(model, uw.losses.CrossEntropy(), batch, l2=0.01), memory=2**16)
    assert isinstance(chosen.inverse, EKFAC)
    assert chosen.inverse.penalized is not unsure
    assert ("without the penalty" in chosen.choice) is unsure


def test_impurity_is_one_for_equal_probabilities_and_counts_no_ignored_position() -> None:
    model = nn.Linear(3, 4)
    with torch.no_grad():
        model.weight.zero_()
        model.bias.zero_()
    x, y = torch.randn(6, 5, 3), torch.full((6, 5), 1)
    assert impurity(uw.Objective(model, uw.losses.CrossEntropy(), (x, y))) == pytest.approx(1.0)
    with torch.no_grad():
        model.weight[0, 0] = 1e4
    x[:, :3, 0], x[:, 3:, 0], y[:, 3:] = 1.0, 0.0, -100
    assert impurity(uw.Objective(model, uw.losses.CrossEntropy(), (x, y))) == pytest.approx(0.0, abs=1e-6)
    assert impurity(convex("ridge").objective()) == 0


@pytest.mark.parametrize("inverse", [None, Dual(rows=50), EKFAC(damping=0.1), CG(damping=0.1), Dense(damping=0.1)])
def test_a_plan_lists_stages_with_costs_and_runs_nothing(inverse, monkeypatch) -> None:
    influence = uw.Influence(objective(), inverse)
    monkeypatch.setattr("upweight.influence.as_solver", lambda *_: pytest.fail("a solver was fitted"))
    plan = influence.plan(queries=10)
    assert plan.flops > 0
    assert plan.seconds > 0
    assert plan.peak_bytes > 0
    text = str(plan)
    assert "GFLOP" in text
    assert all(stage.name in text for stage in plan.stages)
    assert max(map(len, text.splitlines())) <= 100


def test_the_plan_of_a_fitted_solver_is_that_of_its_settings() -> None:
    given = objective()
    for inverse in (
        Dual(damping=0.1, rows=50),
        EKFAC(damping=0.1),
        KFAC(damping=0.1),
        Dense(damping=0.1, curvature=GGN()),
        Nystrom(7, damping=0.1),
        Arnoldi(7, damping=0.1, residuals=False),
        Diagonal(damping=0.1),
        DataInf(Fisher(samples=3), damping=0.1),
        Identity(),
    ):
        fitted = uw.Influence(given, inverse.fit(given)).plan(10)
        assert fitted.stages == uw.Influence(given, inverse).plan(10).stages
        assert hasattr(fitted.inverse, "solve")


@pytest.mark.parametrize(
    ("inverse", "assumed", "most"),
    [
        (CG(max_iterations=400), 30, 400),
        (CG(max_iterations=7), 7, 7),
        (LSMR(), 200, 2 * lsmr_limit(837, 1e-5)),
        (LSMR(max_iterations=9), 18, 18),
        (LiSSA(batch_size=20), 50_000 / 10, 50_000 / 10),
        (LiSSA(batch_size=None), 5000, 50_000),
        (LiSSA(batch_size=50, depth=80, repeats=3), 60, 60),
    ],
)
def test_iterations_are_planned_as_assumed_and_at_their_limit(inverse: object, assumed: float, most: float) -> None:
    """In products with all 200 examples."""
    plan = uw.Influence(objective(), inverse).plan(10)
    one = 10 * 4 / 3 * 6.0 * 837 * 200
    fixed = sum(stage.flops for stage in plan.stages if stage.name in ("queries", "scores"))
    assert plan.flops - fixed == pytest.approx(assumed * one)
    assert plan.most_flops - fixed == pytest.approx(most * one)
    assert 0 < plan.seconds <= plan.most_seconds
    assert ("at most" in str(plan)) == bool(plan.most)
    assert "assumed" in plan.reason or "depth 80 × 3 repeats" in plan.reason


def test_what_does_not_iterate_is_planned_by_what_it_makes() -> None:
    """Not by products for each query; 200 examples and 837 parameters."""
    given = objective()
    one = 4 / 3 * 6.0 * 837 * 200

    def stages(inverse: Inverse) -> dict[str, float]:
        return {stage.name: stage.flops for stage in uw.Influence(given, inverse).plan(10).stages}

    for inverse, products in ((Nystrom(7, damping=0.1), 7), (Arnoldi(7, damping=0.1), 14)):
        found = stages(inverse)
        small = 4 * products**2 * 837 + 25 * products**3
        assert found[f"eigenvectors, by {products} products"] == pytest.approx(products * one + small)
        assert found["residuals"] == pytest.approx(10 * one)
    assert "residuals" not in stages(Nystrom(7, damping=0.1, residuals=False))
    assert list(stages(Identity())) == ["queries", "scores"]
    assert list(stages(Diagonal())) == ["second moments", "queries", "scores"]
    rows = [stages(DataInf(kind))["pass over the rows"] for kind in (EmpiricalFisher(), Fisher(samples=3), GGN())]
    assert rows == pytest.approx([rows[0], 3 * rows[0], 5 * rows[0]])


def test_the_matrix_of_a_network_is_planned_as_it_is_made() -> None:
    given = objective()
    names = [uw.Influence(given, Dense(kind, damping=0.1)).plan(10).stages[0].name for kind in (GGN(), Hessian())]
    assert names == ["matrix, by rows", "matrix, by 837 products"]
    spectrum = uw.Influence(given, Dense(GGN(), damping=0.1, method="eigen")).plan(10).stages[1]
    assert (spectrum.name, spectrum.flops) == ("eigenvectors", 25 * 837**3)


@pytest.mark.parametrize("inverse", [LSMR(GGN(), damping=1.0), Dense(GGN(), damping=1.0)])
def test_long_work_is_announced_once_with_its_figure_and_the_quicker_way(inverse, monkeypatch) -> None:
    monkeypatch.setattr("upweight.planning.long.LEAST_WORK", 0)
    monkeypatch.setattr("upweight.planning.long.LONG", 0)
    monkeypatch.setattr("upweight.planning.long.product_speed", lambda _: 1e3)
    influence = uw.Influence(objective(n=50), inverse)
    queries = (torch.randn(1, 20), torch.tensor([1]))
    with pytest.warns(UpweightWarning, match=r"about .* of work ahead \(\d.* operations, .*influence.plan\(\)") as said:
        first = influence.attribute(queries)
    assert len(said) == 1
    assert ("at the limit of iterations" in str(said[0].message)) == isinstance(inverse, LSMR)
    torch.testing.assert_close(influence.attribute(queries).scores, first.scores)


def test_short_work_is_not_even_timed(monkeypatch) -> None:
    monkeypatch.setattr("upweight.planning.long.product_speed", lambda _: pytest.fail("timed"))
    influence = uw.Influence(objective(n=50), Dense(GGN(), damping=1.0))
    assert influence.attribute((torch.randn(1, 20), torch.tensor([1]))).scores.isfinite().all()


def test_a_linear_layer_of_many_classes_is_iterated() -> None:
    data = (torch.randn(30, 8), torch.arange(30))
    wide = uw.Objective(nn.Linear(8, 600), uw.losses.CrossEntropy(), data, l2=0.1)
    influence = uw.Influence(wide)
    assert isinstance(influence.inverse, CG)
    assert influence.plan(2).most_seconds < 60


def test_costs_grow_as_the_work_does() -> None:
    counts = Counts(objective(), 10, 2**31)
    small, large = dual_stages(counts, 50), dual_stages(counts, 100)
    gram = [next(stage.flops for stage in stages if stage.name == "Gram matrix") for stages in (small, large)]
    assert gram[1] == pytest.approx(4 * gram[0])
    more = Counts(objective(n=400), 10, 2**31)
    assert more.pass_flops == pytest.approx(2 * counts.pass_flops)


def test_each_stage_is_counted_as_the_work_is_done() -> None:
    """By hand, of two layers with biases: 21 → 32 and 33 → 5, for 200 examples, 10 queries and 50 rows in float32."""
    n, q, rows, p = 200, 10, 50, 21 * 32 + 33 * 5
    sides, counts = [(32, 21), (5, 33)], Counts(objective(), q, 2**31)
    a_pass = 6.0 * p * n
    pair = 32 + 21 + 5 + 33
    assert (counts.pass_flops, counts.pair, sorted(counts.sides)) == (a_pass, pair, sorted(sides))

    dual = {stage.name: stage for stage in dual_stages(counts, rows)}
    pairs = 2.0 * (q * n + q * rows + rows * n) * pair + 2.0 * q * rows * n
    assert dual["queries"].flops == pytest.approx(a_pass * q / n + 2 * q * rows**2)
    solver = 2 * rows**2 + rows * pair  # Gram matrix, Cholesky factor, the rows' factors
    assert dual["queries"].bytes == pytest.approx(4 * (solver + q * pair + q * rows + 3 * q * rows))
    assert dual["scores"].flops == pytest.approx(a_pass + min(pairs, 2.0 * q * p * (2 * rows + n)))
    batch = 3 * rows * n + q * n + n * pair
    assert dual["scores"].bytes == pytest.approx(4 * (solver + q * (n + rows + pair) + batch))

    ekfac = {stage.name: stage for stage in ekfac_stages(counts)}
    squares = sum(r**2 + c**2 for r, c in sides)
    rotated = sum(2 * r * c * (r + c) for r, c in sides)
    to_outputs = 2 / 3 * a_pass  # forward, and backward to the layers' outputs
    assert ekfac["Kronecker factors"].flops == pytest.approx(to_outputs + 1.25 * n * squares)
    assert ekfac["eigenvectors"].flops == pytest.approx(25 * sum(r**3 + c**3 for r, c in sides))
    assert ekfac["second moments"].flops == pytest.approx(to_outputs + 2 * n * (squares + p))
    assert ekfac["queries"].flops == pytest.approx(to_outputs * q / n + q * (2 * squares + 2 * p + rotated))
    assert ekfac["scores"].flops == pytest.approx(to_outputs + 2 * q * n * p + 2 * n * p)
    few = {stage.name: stage for stage in ekfac_stages(replace(counts, queries=10**6), 0.02)}
    assert few["scores"].flops == pytest.approx(to_outputs + 2 * 10**6 * n * 8 * pair)

    iterative = {stage.name: stage for stage in iterative_stages(counts, 30)}
    assert iterative["queries"].flops == pytest.approx(a_pass * q / n)
    assert iterative["queries"].bytes == 4 * q * p
    assert iterative["30 products"].flops == pytest.approx(30 * q * 4 / 3 * a_pass)
    assert iterative["scores"].flops == pytest.approx(a_pass + 2 * q * n * p)


def test_bad_input_is_refused() -> None:
    with pytest.raises(InputError, match="memory, in bytes: give a whole number"):
        uw.Influence(mlp().objective(), memory=0)
    with pytest.raises(InputError, match="queries: give a whole number of at least 1"):
        uw.Influence(mlp().objective()).plan(0)


def test_an_ensemble_is_the_mean_of_its_members(unchecked: None) -> None:
    problem = mlp()
    base = problem.objective()
    moved = [base.params + 0.01 * k for k in (1, 2)]
    ensemble = uw.Ensemble(base, moved, Dual(damping=0.1, rows=None))
    found = ensemble.attribute(problem.queries)
    each = [
        uw.Influence(base.at(theta), Dual(damping=0.1, rows=None)).attribute(problem.queries).scores for theta in moved
    ]
    torch.testing.assert_close(found.scores, (each[0] + each[1]) / 2)
    assert found.facts["models"] == 2
    with pytest.raises(InputError, match="fitted to one model already"):
        uw.Ensemble(base, moved, Dual(damping=0.1).fit(base))  # type: ignore[arg-type]
