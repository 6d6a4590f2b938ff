"""What a change of the data poses: a gradient, and the curvature after and before it, from samples of examples."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import upweight as uw
from generalized import MEMBERS, objective, problem
from problems import DOUBLE, close
from upweight.curvature import GGN, Hessian, ObjectiveCurvature
from upweight.quantities.generalized.changes import changed, curvature_after


def test_curvature_may_be_estimated_from_a_choice_of_all_examples_after_the_change() -> None:
    """Relabelled examples are drawn like those that stay, and the mean over draws is the whole."""
    changed_ = uw.Relabelling(list(range(10)), [1] * 10)
    posed = changed(objective(), changed_)
    whole = curvature_after(posed, GGN(), 0.1, None, 0).dense()
    draws = [curvature_after(posed, GGN(), 0.1, 12, seed) for seed in range(300)]
    assert all(len(each.stays) + len(each.comes) == 12 for each in draws)
    assert {len(each.comes) for each in draws} > {2, 4}
    matrices = torch.stack([each.dense() for each in draws])
    errors = (matrices.mean(0) - whole).abs() / (matrices.std(0) / len(draws) ** 0.5).clamp_min(1e-9)
    assert float(errors.max()) < 6


@pytest.mark.parametrize(
    "change", [uw.Removal(range(15)), uw.Relabelling(list(range(10)), [1] * 10)], ids=["removal", "relabelling"]
)
def test_curvature_before_the_change_is_estimated_from_the_same_examples(change: Any) -> None:
    """The mean over draws is the whole, and what stays cancels in the difference that SIF takes."""
    posed = changed(objective(), change)
    unit = torch.eye(objective().p, dtype=torch.float64)
    whole = GGN().of(objective()).dense() + 0.1 * unit
    close(curvature_after(posed, GGN(), 0.1, None, 0).before(unit), whole, rtol=1e-9, atol=1e-11)
    draws = [curvature_after(posed, GGN(), 0.1, 12, seed) for seed in range(300)]
    matrices = torch.stack([each.before(unit) for each in draws])
    errors = (matrices.mean(0) - whole).abs() / (matrices.std(0) / len(draws) ** 0.5).clamp_min(1e-9)
    assert float(errors.max()) < 6
    one = draws[0]
    alone = ObjectiveCurvature(objective(), "GGN", one.goes, 15 / len(one.goes) / objective().n, penalized=False)
    if isinstance(change, uw.Removal):
        assert len(one.goes) == 12
        close(one.before(unit) - one.dense(), alone.dense(), rtol=1e-7, atol=1e-10)
    else:
        assert one.goes.tolist() == posed.positions[one.comes].tolist()


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
