"""Generalised influence against dense linear algebra and against retraining (spec: oracles 13 to 15)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor, nn

import upweight as uw
from generalized import MEMBERS, METHODS, TIGHT, objective, response, subset, system
from problems import DOUBLE, close, convex, mlp
from upweight.curvature import GGN, Hessian
from upweight.errors import NotStationaryWarning
from upweight.inverse import LSMR, Dense
from upweight.quantities.generalized import Equations
from upweight.quantities.generalized.changes import changed, curvature_after
from upweight.select import Subset


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
        uw.Influence(apart).generalized(uw.Removal([1, 2]), first, method=method, equations=Equations(**TIGHT)).step
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
        found = uw.Influence(plain, LSMR()).generalized(uw.Removal([0]), mask, equations=Equations(**TIGHT))
    close(found.step[mask], torch.linalg.pinv(h[:, mask], rtol=1e-10) @ posed.gradient, rtol=1e-7, atol=1e-10)


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
    found = uw.Influence(ridge.objective()).generalized(uw.Removal(MEMBERS), method="IF", equations=Equations(**TIGHT))
    retrained = uw.retraining.leave_out(ridge.objective(), [MEMBERS])
    close(found.params(), retrained.params[0], rtol=1e-7, atol=1e-9)


def test_the_model_and_the_objective_are_left_alone() -> None:
    before = {name: value.clone() for name, value in objective().model.state_dict().items()}
    found = response("GIF")
    moved = found.model(0.5)
    for name, value in objective().model.state_dict().items():
        assert torch.equal(value, before[name])
    flat = torch.cat([value.detach().flatten() for value in moved.parameters()])
    close(flat, objective().params + 0.5 * found.step)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("make", [mlp, lambda: convex("softmax")], ids=["network", "linear"])
def test_every_example_may_be_relabelled(make: Any, method: str) -> None:
    """Then nothing of the old risk is left but its penalty; IF is a Newton step to the new one."""
    whole = make().objective()
    targets = (make().y + 1) % 3
    found = uw.Influence(whole, Dense(GGN())).generalized(
        uw.Relabelling(range(whole.n), targets),
        method=method,
        equations=Equations(curvature=GGN(), damping=0.1, tolerance=1e-10),
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
