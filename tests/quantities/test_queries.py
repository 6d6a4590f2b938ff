"""How many numbers a query's gradient takes, by which blocks of queries are made to fit."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import upweight as uw
from problems import convex
from upweight.gradients import AutogradFunction
from upweight.quantities.queries import numbers


@pytest.mark.parametrize(
    ("positions", "expected"),
    [
        ((), 32 + 21 + 5 + 33),  # the two sides of each layer's outer product
        ((3,), 32 * 21 + 5 * 33),  # of several positions the sum may have to be formed
        ((40,), 32 * 21 + 5 * 33),
    ],
)
def test_both_sides_count_and_of_several_positions_the_whole(positions: tuple[int, ...], expected: int) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 32), nn.Tanh(), nn.Linear(32, 5))
    data = (torch.randn(6, *positions, 20), torch.randint(0, 5, (6, *positions)))
    objective = uw.Objective(model, uw.losses.CrossEntropy(), data)
    assert numbers(objective, objective.engine.function, objective.data) == expected


def test_a_linear_model_takes_features_and_outputs_and_what_has_no_factors_all_its_parameters() -> None:
    objective = convex("softmax").objective()
    assert objective.is_linear
    assert numbers(objective, objective.engine.function, objective.data) == 3 + 4
    plain = AutogradFunction(objective.model, objective.loss, objective.layout)
    assert numbers(objective, plain, objective.data) == objective.p
