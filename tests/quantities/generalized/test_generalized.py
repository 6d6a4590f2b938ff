"""Generalised influence against dense linear algebra and against retraining (spec: oracles 13 to 15)."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor, nn

import upweight as uw
from problems import DOUBLE, close, convex, mlp
from upweight.curvature import GGN, Hessian
from upweight.errors import InputError, NegativeCurvatureWarning, NotConvergedWarning, NotStationaryWarning
from upweight.inverse import CG, EKFAC, LSMR, Dense, Neumann
from upweight.quantities.generalized.changes import changed, curvature_after
from upweight.select import Subset

METHODS = ("GIF", "FIF", "PIF", "IF", "SIF")
MEMBERS = [0, 3, 4]
TIGHT = {"tolerance": 1e-12, "max_iterations": 5000}


@cache
def problem() -> Any:
    return mlp()


@cache
def objective() -> uw.Objective:
    return problem().objective()


@cache
def subset() -> Subset:
    generator = torch.Generator().manual_seed(0)
    return Subset(objective().layout, torch.rand(objective().p, generator=generator) < 0.4)


@cache
def system(renormalize: bool = False) -> tuple[Tensor, Tensor]:
    """H′ and g from one whole Hessian and one gradient per example."""
    whole, n, u = objective(), objective().n, len(MEMBERS)
    gradients = torch.cat([rows for _, rows in whole.example_gradients()])
    hessians = Hessian().of(whole)
    lost = hessians.share(MEMBERS).dense()
    penalty = torch.diag(whole.l2)
    if not renormalize:
        return hessians.dense() - lost, gradients[MEMBERS].sum(0) / n
    kept = (hessians.dense() - penalty - lost) * n / (n - u) + penalty
    return kept, (gradients[MEMBERS].sum(0) + u * whole.l2 * whole.params) / (n - u)


def response(method: str, **options: Any) -> Any:
    given = {"curvature": Hessian(), **TIGHT, **options}
    parameters = given.pop("parameters", subset())
    parameters = None if method == "IF" else parameters
    return uw.Influence(objective(), Dense(Hessian())).generalized(
        uw.Removal(MEMBERS), parameters, method=method, **given
    )


@pytest.mark.parametrize("renormalize", [False, True])
def test_each_method_is_its_formula(renormalize: bool) -> None:
    h, g = system(renormalize)
    j, outside = subset().indices, (~subset().mask).nonzero().flatten()
    expected = {
        "GIF": torch.linalg.pinv(h[:, j]) @ g,
        "FIF": torch.linalg.solve(h[j][:, j], g[j]),
        "PIF": torch.linalg.solve(h, g)[j],
    }
    for method, value in expected.items():
        found = response(method, renormalize=renormalize)
        close(found.step[j], value, rtol=1e-7, atol=1e-9)
        assert not found.step[outside].any()
        assert found.converged
    close(response("IF", renormalize=renormalize).step, torch.linalg.solve(h, g), rtol=1e-7, atol=1e-9)


def test_projected_influence_is_that_of_the_schur_complement() -> None:
    h, g = system()
    j, c = subset().indices, (~subset().mask).nonzero().flatten()
    across = h[j][:, c] @ torch.linalg.inv(h[c][:, c])
    schur = h[j][:, j] - across @ h[c][:, j]
    close(response("PIF").step[j], torch.linalg.solve(schur, g[j] - across @ g[c]), rtol=1e-7, atol=1e-9)


def test_each_method_is_best_at_what_it_minimises() -> None:
    found = {method: response(method) for method in ("GIF", "FIF", "PIF")}
    assert all(found["GIF"].least_squares <= other.least_squares for other in found.values())
    assert all(found["FIF"].quadratic <= other.quadratic for other in found.values())
    assert found["FIF"].restricted < 1e-10
    h, g = system()
    columns = h[:, subset().indices]
    assert float((columns.T @ (h @ found["GIF"].step - g)).norm()) < 1e-10
    for each in found.values():
        close(each.least_squares, float((h @ each.step - g).norm() / g.norm()))
        close(each.quadratic, float(0.5 * each.step @ h @ each.step - g @ each.step))


def test_all_agree_where_everything_is_chosen() -> None:
    steps = [response(method, parameters=None).step for method in ("GIF", "FIF", "PIF", "IF")]
    for step in steps[1:]:
        close(step, steps[0], rtol=1e-6, atol=1e-9)


def test_all_agree_where_the_curvature_has_no_entries_between_the_parts() -> None:
    """Two linear maps of the same inputs, of two separate targets: nothing couples them."""
    torch.manual_seed(0)
    x, y = torch.randn(30, 4, dtype=DOUBLE), torch.randn(30, 2, dtype=DOUBLE)
    model = nn.Linear(4, 2, bias=False, dtype=DOUBLE)
    apart = uw.retraining.fit(uw.Objective(model, uw.losses.SquaredError(), (x, y), l2=0.1))
    first = torch.zeros(8, dtype=torch.bool)
    first[:4] = True
    steps = [
        uw.Influence(apart).generalized(uw.Removal([1, 2]), first, method=method, **TIGHT).step
        for method in ("GIF", "FIF", "PIF")
    ]
    close(steps[1], steps[0], rtol=1e-8, atol=1e-11)
    close(steps[2], steps[0], rtol=1e-8, atol=1e-11)


def test_frozen_influence_is_the_derivative_of_retraining_the_part_alone() -> None:
    """θ_J minimises R − ε Σ_U ℓ with the others held; its slope in ε at 0, with H of all examples."""
    base = convex("softmax").objective()
    chosen = Subset(base.layout, torch.arange(base.p) % 3 == 0)
    part = uw.Objective(base.model, base.loss, (convex("softmax").x, convex("softmax").y), l2=0.3, parameters=chosen)
    part = uw.retraining.fit(part, tolerance=1e-12)
    assert part.p == chosen.size

    def fitted(epsilon: float) -> Tensor:
        def value(theta: np.ndarray) -> tuple[float, np.ndarray]:
            point = torch.tensor(theta)
            _, pull = part.engine.function.gradient(point, part.data.take(MEMBERS), torch.ones(3, dtype=DOUBLE))
            loss = part.engine.function.values(point, part.data.take(MEMBERS)).sum()
            risk, slope = part.risks_and_gradients(point[None])
            return float(risk[0] - epsilon * loss), (slope[0] - epsilon * pull).numpy()

        options = {"gtol": 1e-13, "maxiter": 5000}
        return torch.tensor(minimize(value, part.params.numpy(), jac=True, method="BFGS", options=options).x)

    step = 1e-5
    slope = (fitted(step) - fitted(-step)) / (2 * step)
    whole = base.at(chosen.embed(part.params) + base.params * ~chosen.mask)
    operator = Hessian().of(whole.replace(l2=0.3))
    pull = whole.engine.function.gradient(whole.params, whole.data.take(MEMBERS), torch.ones(3, dtype=DOUBLE))[1]
    j = chosen.indices
    close(slope, torch.linalg.solve(operator.dense()[j][:, j], pull[j]), rtol=1e-4, atol=1e-6)
    reduced = uw.Influence(part, Dense(Hessian())).solve(
        torch.cat([rows for _, rows in part.example_gradients(MEMBERS)]).sum(0)[None]
    )
    close(slope, reduced.x[0], rtol=1e-4, atol=1e-6)


def test_a_rank_deficient_system_has_the_shortest_answer() -> None:
    torch.manual_seed(0)
    x = torch.randn(20, 3, dtype=DOUBLE)
    twice = torch.cat([x, x], dim=1)  # two equal copies of each input
    y = torch.randn(20, 1, dtype=DOUBLE)
    plain = uw.Objective(nn.Linear(6, 1, bias=False, dtype=DOUBLE), uw.losses.SquaredError(), (twice, y))
    posed = changed(plain, uw.Removal([0]))
    h = curvature_after(posed, GGN(), 0.0, None, 0).dense()
    mask = torch.tensor([True, True, False, True, False, False])
    with pytest.warns(NotStationaryWarning):  # nothing was trained
        found = uw.Influence(plain, LSMR()).generalized(uw.Removal([0]), mask, method="GIF", **TIGHT)
    close(found.step[mask], torch.linalg.pinv(h[:, mask], rtol=1e-10) @ posed.gradient, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("nu", [0.5, 1.5])
def test_the_neumann_series_comes_to_the_same_whatever_nu(nu: float) -> None:
    damped = {"damping": 0.3, "tolerance": 1e-8}
    expected = response("GIF", **damped)
    found = response("GIF", solver=Neumann(nu), **damped)
    close(found.step, expected.step, rtol=1e-5, atol=1e-7)
    assert expected.products < found.products


def test_second_order_is_that_of_the_paper() -> None:
    whole, (h, g) = Hessian().of(objective()).dense(), system(renormalize=True)
    n, u = objective().n, len(MEMBERS)
    penalty = torch.diag(objective().l2)
    group = Hessian().of(objective()).share(MEMBERS).dense() * n / u + penalty
    q = u / (n - u)
    close(h, whole + q * (whole - group), rtol=1e-9, atol=1e-11)
    first = torch.linalg.solve(whole, g)
    expected = first - q * (first - torch.linalg.solve(whole, group @ first))
    close(response("SIF", parameters=None, renormalize=True).step, expected, rtol=1e-7, atol=1e-9)


def test_a_newton_step_is_exact_for_squared_error() -> None:
    ridge = convex("ridge")
    found = uw.Influence(ridge.objective()).generalized(uw.Removal(MEMBERS), method="IF", **TIGHT)
    retrained = uw.retraining.leave_out(ridge.objective(), [MEMBERS])
    close(found.params(), retrained.params[0], rtol=1e-7, atol=1e-9)


def test_relabelling_and_substitution_pose_the_changed_risk() -> None:
    whole = objective()
    x, y = problem().x, problem().y
    other = (y[MEMBERS] + 1) % 3
    relabelled = y.clone()
    relabelled[MEMBERS] = other
    after = whole.replace(data=(x, relabelled))
    change = uw.Relabelling(MEMBERS, other)
    posed = changed(whole, change)
    close(posed.gradient, whole.gradient() - after.gradient())
    close(curvature_after(posed, GGN(), 0.0, None, 0).dense(), GGN().of(after).dense(), rtol=1e-8, atol=1e-10)
    moved = x.clone()
    moved[MEMBERS] += 0.5
    swapped = changed(whole, uw.Substitution(MEMBERS, (moved[MEMBERS], y[MEMBERS])))
    replaced = whole.replace(data=(moved, y))
    close(swapped.gradient, whole.gradient() - replaced.gradient())
    close(
        curvature_after(swapped, Hessian(), 0.1, None, 0).dense(),
        Hessian().of(replaced).dense() + 0.1 * torch.eye(whole.p, dtype=DOUBLE),
        rtol=1e-8,
        atol=1e-10,
    )


def test_curvature_of_a_sample_is_that_of_all_where_it_holds_all() -> None:
    posed = changed(objective(), uw.Removal(MEMBERS))
    kept = objective().n - len(MEMBERS)
    every, some = (curvature_after(posed, GGN(), 0.0, count, 1).dense() for count in (None, kept))
    close(some, every)
    means = [curvature_after(posed, GGN(), 0.0, 10, seed).dense() for seed in range(200)]
    gap = (torch.stack(means).mean(0) - every).norm() / every.norm()
    assert gap < 0.1


@pytest.mark.parametrize("batch_size", [1, 4, None])
def test_the_batch_size_changes_nothing(batch_size: int | None) -> None:
    parted = problem().objective(batch_size=batch_size)
    found = uw.Influence(parted).generalized(uw.Removal(MEMBERS), subset(), method="GIF", curvature=Hessian(), **TIGHT)
    close(found.step, response("GIF").step, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_a_preconditioner_changes_the_way_and_not_the_answer(method: str) -> None:
    solver = EKFAC(GGN(), damping=0.01).fit(objective())
    plain = response(method, curvature=GGN(), tolerance=1e-10)
    sped = response(method, curvature=GGN(), tolerance=1e-10, preconditioner=solver)
    close(sped.step, plain.step, rtol=1e-5, atol=1e-8)
    if method == "FIF":
        assert sped.products < plain.products


def test_the_model_and_the_objective_are_left_alone() -> None:
    before = {name: value.clone() for name, value in objective().model.state_dict().items()}
    found = response("GIF")
    moved = found.model(0.5)
    for name, value in objective().model.state_dict().items():
        assert torch.equal(value, before[name])
    flat = torch.cat([value.detach().flatten() for value in moved.parameters()])
    close(flat, objective().params + 0.5 * found.step)


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
    with pytest.warns(NegativeCurvatureWarning, match=r"negative in some direction, -.*Take damping > .*, or the GGN"):
        found = influence.generalized(uw.Removal([0]), method="IF", curvature=Hessian(), tolerance=1e-6)
    assert found.smallest_curvature == pytest.approx(lowest, rel=0.5)
    assert found.smallest_curvature >= lowest - 0.01
    assert influence.generalized(uw.Removal([0]), method="IF", damping=1.0, tolerance=1e-6).smallest_curvature > 0


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (uw.Removal([]), {}, r"indices: give at least one .* got \[\]"),
        (uw.Removal(range(30)), {}, "indices: they are all 30 training examples"),
        (uw.Removal([0]), {"method": "HIF"}, "method: one of 'GIF', 'FIF', 'PIF', 'IF', 'SIF'; got 'HIF'"),
        (uw.Removal([0]), {"method": "IF", "parameters": ["0.*"]}, "method: IF answers with all"),
        (uw.Removal([0]), {"parameters": ["3.*"]}, "parameters: '3.\\*' matches none"),
        (uw.Removal([0]), {"parameters": torch.zeros(5, dtype=torch.bool)}, "a mask is .* booleans"),
        (uw.Removal([0]), {"damping": -1.0}, "damping: give a finite number ≥ 0; got -1.0"),
        (uw.Removal([0]), {"examples": 0}, "examples: give a whole number from 1 to 29; got 0"),
        (uw.Removal([0]), {"solver": Neumann(), "method": "FIF"}, "solver: the Neumann series is GIF's"),
        (uw.Removal([0]), {"curvature": "ggn"}, "curvature: .*got 'ggn'"),
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
        **{**TIGHT, "curvature": GGN(), "damping": 0.01, "tolerance": 1e-11},
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


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("make", [mlp, lambda: convex("softmax")], ids=["network", "linear"])
def test_every_example_may_be_relabelled(make: Any, method: str) -> None:
    """Then nothing of the old risk is left but its penalty; IF is a Newton step to the new one."""
    whole = make().objective()
    targets = (make().y + 1) % 3
    found = uw.Influence(whole, Dense(GGN())).generalized(
        uw.Relabelling(range(whole.n), targets), method=method, curvature=GGN(), damping=0.1, tolerance=1e-10
    )
    changed_ = whole.replace(data=(make().x, targets))
    g = whole.gradient() - changed_.gradient()
    after, unit = GGN().of(changed_).dense(), torch.eye(whole.p, dtype=DOUBLE)
    before = GGN().of(whole).dense() + 0.1 * unit
    step = torch.linalg.solve(after + 0.1 * unit, g)
    if method == "SIF":
        first = torch.linalg.solve(before, g)
        step = first + torch.linalg.solve(before, (before - after - 0.1 * unit) @ first)
    close(found.step, step, rtol=1e-6, atol=1e-8)
