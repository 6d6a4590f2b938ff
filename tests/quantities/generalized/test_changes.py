"""Curvature after and before a change of the data, from samples of the examples."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch

import upweight as uw
from problems import close, mlp
from upweight.curvature import GGN, ObjectiveCurvature
from upweight.quantities.generalized.changes import changed, curvature_after


@cache
def objective() -> uw.Objective:
    return mlp().objective()


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
