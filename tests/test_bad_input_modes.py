"""Models that are random, or mix their examples, are refused; what training mode doesn't change is taken."""

import pytest
import torch.nn.functional as F
from torch import nn

import upweight as uw
from problems import DOUBLE
from spoiled import CE, softmax
from upweight.errors import (
    InputError,
)

pytestmark = pytest.mark.usefixtures("unchecked")


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(3, 3, num_layers=2, dropout=0.5)

    def forward(self, x):
        return self.rnn(x[None])[0][0]


class FunctionalDropout(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x):
        return F.dropout(self.layer(x), 0.5, training=self.training)


class Standardising(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x):
        return self.layer(x - x.mean(0) if len(x) > 1 else x)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([nn.Linear(3, 3), nn.Dropout(0.1)], r"model: dropout '1' \(p=0.1\) is in training mode.*model.eval\(\)"),
        ([nn.Linear(3, 3), nn.AlphaDropout(0.1)], "model: dropout '1'"),
        ([nn.Linear(3, 3), nn.BatchNorm1d(3)], "model: batch-norm '1' is in training mode, .*model.eval"),
        ([Recurrent()], r"model: '0.rnn' has dropout 0.5 in training mode; call model.eval\(\)"),
        ([FunctionalDropout()], r"loss: .*random.*model.eval\(\)"),
    ],
)
def test_a_model_that_is_random_in_training_mode_is_refused_there_and_taken_in_eval_mode(layers, message):
    model = nn.Sequential(*layers).to(DOUBLE)
    data = (softmax().x, softmax().y)
    with pytest.raises(InputError, match=message):
        uw.Objective(model.train(), CE, data)
    assert uw.Objective(model.eval(), CE, data).n == 24
    assert not model.training


def test_examples_that_depend_on_their_batch_are_refused():
    with pytest.raises(InputError, match=r"loss: .*depends on the other examples"):
        uw.Objective(Standardising().to(DOUBLE), CE, (softmax().x, softmax().y))


def test_training_mode_is_taken_where_it_changes_nothing():
    model = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.0), nn.LayerNorm(3)).to(DOUBLE).train()
    objective = uw.Objective(model, CE, (softmax().x, softmax().y))
    objective.gradient()
    assert all(module.training for module in model.modules())
