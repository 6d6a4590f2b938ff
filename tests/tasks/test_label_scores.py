"""Which inverse labels are scored by."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import problems
import upweight as uw
from upweight.tasks import label_scores
from upweight.tasks.label_scores import influence_for_labels


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> uw.Objective:
    """A small network for which EK-FAC would be the automatic choice."""
    monkeypatch.setattr("upweight.influence.choose", lambda counts: (uw.inverse.EKFAC(), "so told"))
    torch.manual_seed(0)
    x, y = torch.randn(60, 4, dtype=torch.float64), torch.arange(60) % 3
    net = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    return problems.minimised(uw.Objective(net, uw.losses.CrossEntropy(), (x, y), l2=0.01))


def test_rows_are_preferred_to_kronecker_factors(network: uw.Objective) -> None:
    assert isinstance(influence_for_labels(network).inverse, uw.inverse.Dual)


def test_but_not_at_any_price(network: uw.Objective, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_scores, "AFFORDABLE_ROWS", 1.0)
    assert isinstance(influence_for_labels(network).inverse, uw.inverse.EKFAC)


def test_linear_models_keep_their_exact_inverse() -> None:
    objective = problems.convex("softmax").objective()
    assert isinstance(influence_for_labels(objective).inverse, uw.inverse.Dense)
