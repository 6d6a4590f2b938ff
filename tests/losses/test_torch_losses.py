"""Torch's own losses are taken with their options and reductions: the same risk, the same optimum."""

import pytest
import torch
import torch.nn.functional as F
from scipy.optimize import minimize
from torch import Tensor, nn
from torch.func import functional_call

import upweight as uw
from loss_forms import CASES, LABELS, PLACES, POSITIVE, SEVERAL, C, N, Places, X, flat, linear, network, seeded
from problems import DOUBLE, close, unflatten
from upweight import losses
from upweight.data import as_data
from upweight.errors import InputError
from upweight.losses import torch_losses


def risk(objective: uw.Objective) -> Tensor:
    return torch.tensor(objective.risk(), dtype=DOUBLE)


REDUCTIONS = ["mean", "sum", "none"]


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("name", CASES)
def test_torchs_cross_entropy_is_taken_with_its_options(name, reduction):
    case, model = CASES[name], network()
    theirs = nn.CrossEntropyLoss(**case.options, reduction=reduction)
    objective = uw.Objective(model, theirs, (X, case.targets), batch_size=3)
    expected = theirs(model(X), case.targets)
    close(risk(objective), expected if reduction == "mean" else expected.sum() / N)
    torch.testing.assert_close(
        objective.gradient(), gradient(model, expected if reduction == "mean" else expected.sum() / N)
    )


def gradient(model: nn.Module, value: Tensor) -> Tensor:
    return torch.cat([part.flatten() for part in torch.autograd.grad(value, list(model.parameters()))])


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("name", ["numbers", "numbers, ignored", "numbers, all"])
def test_torchs_mean_over_places_divides_by_those_that_count(name, reduction):
    targets, options = PLACES[name]
    model, theirs = seeded(Places(1)), nn.CrossEntropyLoss(**options, reduction=reduction)
    objective = uw.Objective(model, theirs, (X, targets))
    expected = theirs(model(X), targets)
    close(risk(objective), expected if reduction == "mean" else expected.sum() / N)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("weight", [None, POSITIVE])
def test_torchs_logistic_loss_of_several_outputs_is_their_mean(weight, reduction):
    model, theirs = network(), nn.BCEWithLogitsLoss(pos_weight=weight, reduction=reduction)
    objective = uw.Objective(model, theirs, (X, SEVERAL))
    expected = theirs(model(X), SEVERAL)
    close(risk(objective), expected if reduction == "mean" else expected.sum() / N)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("outputs", [1, C])
def test_torchs_squared_error_of_several_outputs_is_their_mean(outputs, reduction):
    model, theirs, targets = network(outputs), nn.MSELoss(reduction=reduction), SEVERAL[:, :outputs]
    objective = uw.Objective(model, theirs, (X, targets))
    expected = theirs(model(X), targets)
    close(risk(objective), expected if reduction == "mean" else expected.sum() / N)
    close(objective.losses(), ((model(X) - targets) ** 2).mean(1) * (1 if reduction == "mean" else outputs))


def test_torchs_functions_are_its_modules():
    model = network()
    for function, targets in [
        (F.cross_entropy, LABELS),
        (F.mse_loss, SEVERAL),
        (F.binary_cross_entropy_with_logits, SEVERAL),
    ]:
        close(risk(uw.Objective(model, function, (X, targets))), function(model(X), targets))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_at_torchs_weighted_mean_optimum_the_gradient_vanishes(smoothing):
    """Trained with torch's weighted mean and ½λ‖θ‖²; R of the same weights undivided has its minimum elsewhere."""
    weight, l2 = torch.tensor([0.3, 2.0, 5.0, 1.2], dtype=DOUBLE), 0.1
    theirs, model = nn.CrossEntropyLoss(weight=weight, label_smoothing=smoothing), linear()

    def trained(flat_theta):
        theta = torch.from_numpy(flat_theta).requires_grad_()
        value = theirs(functional_call(model, unflatten(model, theta), (X,)), LABELS) + 0.5 * l2 * theta @ theta
        return value.item(), torch.autograd.grad(value, theta)[0].numpy()

    found = minimize(trained, flat(model).numpy(), jac=True, method="BFGS", options={"gtol": 1e-11})
    model.load_state_dict(unflatten(model, torch.from_numpy(found.x)))
    share = weight[LABELS] / weight[LABELS].mean()
    same = [
        uw.Objective(model, theirs, (X, LABELS), l2=l2),
        uw.Objective(
            model,
            losses.CrossEntropy(weight=weight, label_smoothing=smoothing, factor=float(1 / weight[LABELS].mean())),
            (X, LABELS),
            l2=l2,
        ),
    ]
    if not smoothing:
        same.append(uw.Objective(model, losses.CrossEntropy(), (X, LABELS), l2=l2, weights=share))
    for objective in same:
        assert objective.gradient().norm() < 1e-7
        close(objective.risk(), found.fun)
    undivided = uw.Objective(model, losses.CrossEntropy(weight=weight, label_smoothing=smoothing), (X, LABELS), l2=l2)
    assert undivided.gradient().norm() > 1e-3
    removals = [uw.Influence(objective).attribute((X[:2], LABELS[:2])).scores for objective in same]
    close(removals[0], removals[1])
    if not smoothing:  # the queries' loss is unweighted there
        close(removals[0] / share[:2, None], removals[2])


@pytest.mark.parametrize(
    ("theirs", "message"),
    [
        (nn.BCEWithLogitsLoss(weight=torch.ones(N, 1)), "give its weights of examples as Objective"),
        (nn.BCEWithLogitsLoss(pos_weight=torch.ones(C, 1, 1)), "give one number for each output"),
        (nn.CrossEntropyLoss(weight=torch.zeros(C)), "divides by the weight of all targets, which is 0"),
        (nn.CrossEntropyLoss(weight=torch.ones(2)), "weights of 2 classes, and targets go from 0 to 3"),
    ],
)
def test_options_that_have_no_value_for_an_example_are_refused(theirs, message):
    with pytest.raises(InputError, match=message):
        torch_losses.mapped(theirs, as_data((X, LABELS)))
