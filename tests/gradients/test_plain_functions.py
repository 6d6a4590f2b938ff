"""A function that nothing is known of: looped over where it can't be vectorised, and without a GGN."""

import warnings

import pytest
import torch.nn.functional as F
from torch import nn

from gradients.functions import CE, N, classes, network, normal
from problems import DOUBLE, close
from upweight import losses
from upweight.errors import SlowPathWarning
from upweight.gradients import AutogradFunction
from upweight.parameters import select


def ask_item(model, batch):
    outputs = model(batch[0])
    scale = 1.0 if outputs.abs().sum().item() > 0 else 0.0
    return scale * F.cross_entropy(outputs, batch[1], reduction="none")


def branch(model, batch):
    outputs = model(batch[0])
    if (outputs > 1e6).any():
        outputs = outputs / 2
    return F.cross_entropy(outputs, batch[1], reduction="none")


@pytest.mark.parametrize("loss", [ask_item, branch])
def test_what_cannot_be_vectorised_is_looped_over_with_a_warning(loss):
    model = network(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).to(DOUBLE)
    batch, layout = (normal(N, 3), classes(N)), select(model, None)
    params = layout.flatten(dict(model.named_parameters())).detach()
    expected = AutogradFunction(model, CE(), layout).each(params, batch).materialize()
    function = AutogradFunction(model, losses.as_loss(loss), layout)
    with pytest.warns(SlowPathWarning, match=f"one example at a time, {N} passes per batch"):
        first = function.each(params, batch).materialize()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # said once
        again = function.each(params, batch).materialize()
    close(first, expected)
    close(again, expected)
    assert not first.requires_grad
    close(function.each(params, batch).inner(expected), expected @ expected.T)
