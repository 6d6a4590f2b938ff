"""Whether outputs are linear in θ is asked where it shows."""

import pytest
import torch
from torch import nn

import upweight as uw
from problems import DOUBLE, close


@pytest.mark.parametrize("bias", [0.0, 0.7])
def test_a_temperature_reaches_a_bias_that_is_still_zero(bias):
    """At zero it shows nothing of being divided: what is linear is asked at another θ too."""
    model = nn.Linear(3, 3).to(DOUBLE)
    nn.init.constant_(model.bias, bias)
    x, y = torch.randn(8, 3, dtype=DOUBLE), torch.arange(8) % 3
    objective = uw.Objective(model, uw.losses.CrossEntropy(temperature=2.0), (x, y))
    found = torch.cat([block for _, block in objective.example_gradients()])
    for i in range(8):
        loss = nn.functional.cross_entropy(model(x[i : i + 1]) / 2, y[i : i + 1])
        expected = torch.cat([grad.flatten() for grad in torch.autograd.grad(loss, list(model.parameters()))])
        close(found[i], expected, rtol=1e-9, atol=1e-12)
