"""Gradients in an eigenbasis cost the multiplications that they are said to."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import upweight as uw
from upweight.curvature.eigenbasis import Basis

EXAMPLES = 6


@pytest.mark.parametrize("positions", [1, 3, 25, 40])
@pytest.mark.parametrize("sides", ["both", "left", "right"])
def test_the_cost_is_that_of_torch_s_own_count(positions: int, sides: str) -> None:
    """Below, between and above the layers' widths, where the cheaper order of rotation and sum changes."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 32), nn.Tanh(), nn.Linear(32, 5))
    data = (torch.randn(EXAMPLES, positions, 20), torch.randint(0, 5, (EXAMPLES, positions)))
    objective = uw.Objective(model, uw.losses.CrossEntropy(), data)
    for block in objective.engine.function.each(objective.params, objective.data.take(range(EXAMPLES))).blocks:
        left = torch.eye(block.shape.rows) if sides != "right" else None
        right = torch.eye(block.shape.columns) if sides != "left" else None
        basis = Basis(block.shape, left, right)
        with FlopCounterMode(display=False) as counter:
            basis.term(block)
        summed = positions * block.shape.rows * block.shape.columns  # which `cost` leaves out
        counted = counter.get_total_flops() / 2 / EXAMPLES
        assert basis.cost(block) in (counted, counted - summed)
