"""A model may give one number an example, ``[batch]``: it is explained as the same one that gives ``[batch, 1]``."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import upweight as uw
from problems import DOUBLE, close


class Scalar(nn.Module):
    """With a parameter without a rule, which goes its own way."""

    def __init__(self, *, bare: bool):
        super().__init__()
        self.first, self.kink, self.last, self.bare = nn.Linear(3, 4), nn.PReLU(), nn.Linear(4, 1), bare

    def forward(self, x: Tensor) -> Tensor:
        out = self.last(self.kink(self.first(x)))
        return out[:, 0] if self.bare else out


def objectives(loss: Any) -> list[uw.Objective]:
    torch.manual_seed(0)
    x, y = torch.randn(20, 3, dtype=DOUBLE), (torch.arange(20) % 2).to(DOUBLE)
    models = [Scalar(bare=bare).to(DOUBLE) for bare in (False, True)]
    models[1].load_state_dict(models[0].state_dict())
    return [uw.Objective(model, loss, (x, y), l2=0.1) for model in models]


@pytest.mark.filterwarnings("ignore::upweight.errors.SlowPathWarning")
@pytest.mark.filterwarnings("ignore::upweight.errors.NotStationaryWarning")
@pytest.mark.parametrize("loss", [uw.losses.SquaredError(), uw.losses.BinaryLogistic()], ids=["squared", "logistic"])
@pytest.mark.parametrize(
    "inverse",
    [
        None,
        uw.inverse.Dual(damping=0.1),
        uw.inverse.EKFAC(uw.curvature.GGN(), damping=0.1),
        uw.inverse.KFAC(damping=0.1),
        uw.inverse.Dense(uw.curvature.GGN(), damping=0.1),
    ],
    ids=["default", "dual", "EK-FAC", "K-FAC", "dense"],
)
def test_scores_are_those_of_a_column(loss: Any, inverse: Any) -> None:
    scores = []
    for objective in objectives(loss):
        influence, batch = uw.Influence(objective, inverse), objective.data.take(range(3))
        scores += [influence.attribute(batch).scores, influence.self_influence().scores]
    close(scores[0], scores[2])
    close(scores[1], scores[3])


@pytest.mark.filterwarnings("ignore::upweight.errors.SlowPathWarning")
def test_responses_of_the_outputs_are_those_of_a_column() -> None:
    found = [uw.retraining.pbrf(each, [0, 3], damping=0.5).params for each in objectives(uw.losses.SquaredError())]
    close(*found, rtol=1e-6, atol=1e-8)


@pytest.mark.filterwarnings("ignore::upweight.errors.SlowPathWarning")
def test_rows_that_cannot_be_vectorised_take_bare_outputs() -> None:
    rows = []
    for objective in objectives(uw.losses.SquaredError()):
        function, batch = objective.engine.function, objective.data.take(range(4))
        function._vmap_works = False
        rows.append(function.each(objective.params, batch, torch.ones_like).materialize())
    close(*rows)
