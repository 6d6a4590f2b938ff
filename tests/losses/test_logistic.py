"""The logistic loss of one and several outputs, with weights of positives, against torch's own."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from loss_forms import LABELS, POSITIVE, SEVERAL, C, N, X, agrees, linear, network
from problems import DOUBLE, close
from upweight import losses

BINARY = (X[:, 0] > 0).long()


def logistic(pos_weight: Tensor | None) -> Any:
    def compare(outputs: Tensor, targets: Tensor) -> Tensor:
        targets = targets.to(outputs.dtype).reshape(outputs.shape)
        found = F.binary_cross_entropy_with_logits(outputs, targets, pos_weight=pos_weight, reduction="none")
        return found.reshape(len(outputs), -1).sum(1)

    return compare


@pytest.mark.parametrize("model", [linear, network])
@pytest.mark.parametrize(
    ("weight", "targets"),
    [(2.5, BINARY), (torch.tensor([2.5]), BINARY), (None, SEVERAL), (POSITIVE, SEVERAL), (0.7, SEVERAL)],
)
def test_logistic_losses_with_weights_of_positives_have_torchs_derivatives(model, weight, targets):
    expected = None if weight is None else torch.as_tensor(weight, dtype=DOUBLE)
    outputs = targets.shape[1] if targets.dim() == 2 else 1
    agrees(model(outputs), losses.BinaryLogistic(weight), logistic(expected), targets)


def test_weights_of_positives_weigh_one_against_the_rest():
    outputs = torch.randn(N, C, dtype=DOUBLE)
    expected = logistic(POSITIVE)(outputs, F.one_hot(LABELS, C))
    close(losses.BinaryLogistic(POSITIVE)(nn.Identity(), (outputs, LABELS)), expected)
