"""Every form of cross-entropy against torch's own and plain differentiation, in float64.

Values, gradients, the Hessian, the GGN, the Fisher matrix of many draws and the exact one; for models of linear
outputs, networks, and places (sequences, images).
"""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from loss_forms import CASES, LABELS, PLACES, C, Case, N, Places, agrees, linear, network, seeded
from problems import DOUBLE, close
from upweight import losses
from upweight.errors import InputError
from upweight.gradients import FactoredFunction, LinearFunction


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("model", "kind"), [(linear, LinearFunction), (network, FactoredFunction)])
def test_every_form_of_cross_entropy_has_torchs_derivatives(name, model, kind):
    case = CASES[name]
    objective = agrees(model(), case.ours, case.torchs, case.targets)
    assert isinstance(objective.engine.function, kind)


@pytest.mark.parametrize("name", PLACES)
@pytest.mark.parametrize("axis", [1, -1])
def test_classes_are_found_by_shape_as_torch_has_them_or_last(name, axis):
    targets, options = PLACES[name]
    model, soft = seeded(Places(axis)), targets.is_floating_point()
    given = targets.movedim(-1, 1) if soft and axis == 1 else targets
    ours = losses.CrossEntropy(**options, class_axis=axis if soft else None)

    def torchs(outputs: Tensor, labels: Tensor) -> Tensor:
        if axis == -1:
            outputs = outputs.movedim(-1, 1)
            labels = labels.movedim(-1, 1) if soft else labels
        return Case(None, options, targets).torchs(outputs, labels)

    objective = agrees(model, ours, torchs, given)
    assert objective.outputs().shape == (N, 2, 3, C)
    if not soft:
        agrees(model, losses.CrossEntropy(**options, class_axis=axis), torchs, given, fisher=False)


@pytest.mark.parametrize("shape", [(5, 3, 3, 3), (5, 3, 3)])
def test_shapes_that_leave_the_class_axis_open_are_refused(shape):
    outputs, targets = torch.randn(shape, dtype=DOUBLE), torch.randint(0, 3, (5, *shape[2:]))
    identity = nn.Identity()
    with pytest.raises(InputError, match=r"say which: CrossEntropy\(class_axis=1\), as in torch"):
        losses.CrossEntropy()(identity, (outputs, targets))
    expected = F.cross_entropy(outputs, targets, reduction="none").reshape(5, -1).sum(1)
    close(losses.CrossEntropy(class_axis=1)(identity, (outputs, targets)), expected)
    expected = F.cross_entropy(outputs.movedim(-1, 1), targets, reduction="none").reshape(5, -1).sum(1)
    close(losses.CrossEntropy(class_axis=-1)(identity, (outputs, targets)), expected)


def test_probabilities_of_places_need_the_class_axis():
    outputs = torch.randn(2, 3, 4, dtype=DOUBLE)
    with pytest.raises(InputError, match="say which"):
        losses.CrossEntropy()(nn.Identity(), (outputs, outputs.softmax(1)))


@pytest.mark.parametrize("bias", [0.0, 0.3])
def test_a_temperature_reaches_a_bias_that_is_still_zero(bias):
    model = linear()
    nn.init.constant_(model.bias, bias)
    case = Case(None, {}, LABELS)
    agrees(model, losses.CrossEntropy(temperature=2.0), lambda o, t: case.torchs(o / 2, t), LABELS)
