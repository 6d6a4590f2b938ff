"""What is said of one label or margin where a loss has weights, smoothing, or probabilities for targets."""

from typing import Any

import pytest
import torch
from torch import Tensor

import upweight as uw
from loss_forms import CASES, LABELS, WEIGHT, X, linear, network
from problems import close
from upweight import losses
from upweight.errors import InputError


@pytest.mark.parametrize("name", ["weight", "smoothing", "probabilities"])
def test_measurements_of_one_label_say_what_they_need(name):
    case, model = CASES[name], network()
    objective = uw.Objective(model, case.ours, (X, case.targets), l2=0.1)
    log_p = model(X).log_softmax(-1)
    close(measured(objective, uw.measurements.LogProbability(2)), log_p[:, 2])
    if name == "probabilities":
        for measurement in (uw.measurements.Margin(), uw.measurements.LogProbability()):
            with pytest.raises(InputError, match="targets are probabilities, of which none is the label"):
                measured(objective, measurement)
        return
    own = log_p.gather(1, LABELS[:, None])[:, 0]
    close(measured(objective, uw.measurements.LogProbability()), own)
    close(measured(objective, uw.measurements.Margin()), own - torch.log1p(-own.exp()))


def measured(objective: uw.Objective, measurement: Any) -> Tensor:
    batch = objective.data.take(range(objective.n))
    return objective.engine.bind(measurement.bind(objective.loss)).values(objective.params, batch)


def test_methods_of_one_margin_know_weights_and_refuse_smoothing():
    from upweight.tasks.own_effects import margin_derivatives, margin_loss

    outputs = linear()(X).detach()
    loss = losses.CrossEntropy(weight=WEIGHT, factor=1.5)
    margins, slope, curvature = margin_derivatives(margin_loss(loss, outputs), outputs, (X, LABELS))
    scale = 1.5 * WEIGHT[LABELS]
    close(slope, -scale * torch.sigmoid(-margins))
    close(curvature, scale * torch.sigmoid(margins) * torch.sigmoid(-margins))
    with pytest.raises(InputError, match="with label smoothing is not a function of one margin"):
        margin_loss(losses.CrossEntropy(label_smoothing=0.1), outputs)
    objective = uw.Objective(linear(), loss, (X, LABELS), l2=0.1)
    with pytest.raises(InputError, match="TRAK's margin is that of −log p alone"):
        uw.TRAK(objective, measurement="margin").attribute((X[:1], LABELS[:1]))
