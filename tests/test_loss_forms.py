"""Every form of cross-entropy and of the logistic loss against torch's own and plain differentiation, in float64.

Values, gradients, the Hessian, the GGN, the Fisher matrix of many draws and the exact one; for models of linear
outputs, networks, and places (sequences, images).
"""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from scipy.optimize import minimize
from torch import Tensor, nn
from torch.func import functional_call, hessian, jacrev

import upweight as uw
from problems import DOUBLE, close, unflatten
from upweight import losses
from upweight.data import as_data
from upweight.errors import InputError
from upweight.gradients import FactoredFunction, LinearFunction
from upweight.losses import torch_losses

N, D, C = 7, 3, 4
WEIGHT = torch.tensor([0.3, 2.0, 0.0, 1.2], dtype=DOUBLE)
GENERATOR = torch.Generator().manual_seed(3)
X = torch.randn(N, D, generator=GENERATOR, dtype=DOUBLE)
LABELS = torch.tensor([0, 1, 3, 2, 1, 0, 3])
PROBABILITIES = torch.rand(N, C, generator=GENERATOR, dtype=DOUBLE).softmax(-1)
IGNORED = torch.tensor([0, 1, -100, 2, 1, 0, 3])


class Places(nn.Module):
    """Classes of 2 × 3 places of each example, as the last dimension or the second."""

    def __init__(self, axis: int):
        super().__init__()
        self.axis, self.layer = axis, nn.Linear(D, 2 * 3 * C)

    def forward(self, x: Tensor) -> Tensor:
        out = torch.tanh(self.layer(x)).reshape(-1, 2, 3, C)
        return out if self.axis == -1 else out.movedim(-1, 1)


def seeded(model: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(1)
    for value in model.parameters():
        value.data = 0.5 * torch.randn(value.shape, generator=generator)
    return model.to(DOUBLE).eval()


def linear(outputs: int = C) -> nn.Module:
    return seeded(nn.Linear(D, outputs))


def network(outputs: int = C) -> nn.Module:
    return seeded(nn.Sequential(nn.Linear(D, 3), nn.Tanh(), nn.Linear(3, outputs)))


@dataclass(frozen=True)
class Case:
    ours: Any
    options: dict[str, Any]
    targets: Tensor

    def torchs(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """One value an example, by torch's own function of that example alone."""
        return torch.stack(
            [
                F.cross_entropy(o[None], t[None], reduction="sum", **self.options)
                for o, t in zip(outputs, targets, strict=True)
            ]
        )


WEIGHTED = {"weight": WEIGHT}
SMOOTH = {"label_smoothing": 0.2}
CASES = {
    "plain": Case(losses.CrossEntropy(), {}, LABELS),
    "weight": Case(losses.CrossEntropy(weight=WEIGHT), WEIGHTED, LABELS),
    "smoothing": Case(losses.CrossEntropy(label_smoothing=0.2), SMOOTH, LABELS),
    "ignored": Case(losses.CrossEntropy(), {}, IGNORED),
    "another ignored": Case(losses.CrossEntropy(ignore_index=1), {"ignore_index": 1}, LABELS),
    "all": Case(
        losses.CrossEntropy(1, weight=WEIGHT.tolist(), label_smoothing=0.1),
        {"ignore_index": 1, "weight": WEIGHT, "label_smoothing": 0.1},
        LABELS,
    ),
    "probabilities": Case(losses.CrossEntropy(), {}, PROBABILITIES),
    "probabilities, weight": Case(losses.CrossEntropy(weight=WEIGHT), WEIGHTED, PROBABILITIES),
    "probabilities, smoothing": Case(
        losses.CrossEntropy(weight=WEIGHT, label_smoothing=0.2), {**WEIGHTED, **SMOOTH}, PROBABILITIES
    ),
    "probabilities that don't sum to 1": Case(losses.CrossEntropy(), {}, PROBABILITIES.sqrt()),
}


def plain_losses(model: nn.Module, compare: Any, targets: Tensor) -> Any:
    return lambda theta: compare(functional_call(model, unflatten(model, theta), (X,)), targets)


def plain_ggn(model: nn.Module, compare: Any, targets: Tensor) -> Tensor:
    """(1/n) Σ Jᵀ ∇²ℓ J from the whole Jacobian and torch's Hessian in each example's outputs."""

    def outputs(theta: Tensor) -> Tensor:
        return functional_call(model, unflatten(model, theta), (X,))

    theta = flat(model)
    jacobian, at = jacrev(outputs)(theta), outputs(theta)
    total = torch.zeros(len(theta), len(theta), dtype=DOUBLE)
    for z, y, j in zip(at, targets, jacobian, strict=True):
        middle = hessian(lambda v, z=z, y=y: compare(v.reshape(z.shape)[None], y[None])[0])(z.flatten())
        rows = j.reshape(-1, len(theta))
        total += rows.T @ middle @ rows
    return total / len(X)


def flat(model: nn.Module) -> Tensor:
    return torch.cat([value.detach().flatten() for value in model.parameters()])


def agrees(model: nn.Module, ours: Any, compare: Any, targets: Tensor, *, fisher: bool = True) -> uw.Objective:
    """Values, gradients, Hessian, GGN, Fisher matrices: all by their definitions."""
    objective = uw.Objective(model, ours, (X, targets), batch_size=4)
    theta, values = flat(model), plain_losses(model, compare, targets)
    close(objective.losses(), values(theta))
    gradients = torch.cat([g for _, g in objective.example_gradients()])
    close(gradients, jacrev(values)(theta))
    close(uw.curvature.Hessian().of(objective).dense(), hessian(lambda t: values(t).mean())(theta))
    expected = plain_ggn(model, compare, targets)
    close(uw.curvature.GGN().of(objective).dense(), expected)
    rows = uw.curvature.Fisher(samples=None).of(objective) if fisher else None
    if rows is not None:
        close(rows.dense(), expected, rtol=1e-7, atol=1e-9)
        sampled = uw.curvature.Fisher(samples=300).of(objective.replace(batch_size=None)).dense()
        assert (sampled - expected).norm() < 0.15 * expected.norm()
    return objective


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("model", "kind"), [(linear, LinearFunction), (network, FactoredFunction)])
def test_every_form_of_cross_entropy_has_torchs_derivatives(name, model, kind):
    case = CASES[name]
    objective = agrees(model(), case.ours, case.torchs, case.targets)
    assert isinstance(objective.engine.function, kind)


PLACES = {
    "numbers": (torch.arange(N * 6).reshape(N, 2, 3) * 7 % C, {}),
    "numbers, ignored": (torch.where(torch.arange(N * 6) % 5 == 0, -100, torch.arange(N * 6) % C).reshape(N, 2, 3), {}),
    "numbers, all": (torch.arange(N * 6).reshape(N, 2, 3) * 7 % C, {**WEIGHTED, **SMOOTH, "ignore_index": 3}),
    "probabilities": (torch.rand(N, 2, 3, C, generator=GENERATOR, dtype=DOUBLE).softmax(-1), WEIGHTED),
}


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


BINARY = (X[:, 0] > 0).long()
SEVERAL = (torch.rand(N, C, generator=GENERATOR) > 0.4).double()
POSITIVE = torch.tensor([0.5, 3.0, 1.0, 2.0], dtype=DOUBLE)


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


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: losses.CrossEntropy(weight=[1.0, -1.0]), "weight: give a finite number ≥ 0; got -1.0"),
        (lambda: losses.CrossEntropy(weight=2.0), "weight: give a number for each class"),
        (lambda: losses.CrossEntropy(label_smoothing=1.5), "label_smoothing: give a finite number"),
        (lambda: losses.CrossEntropy(class_axis=2), "class_axis: give 1"),
        (lambda: losses.CrossEntropy(factor=0), "factor: give a finite number > 0"),
        (lambda: losses.BinaryLogistic(pos_weight="a"), "pos_weight: give a number"),
    ],
)
def test_options_that_are_none_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


@pytest.mark.parametrize(
    ("loss", "targets", "message"),
    [
        (losses.CrossEntropy(weight=[1.0, 2.0]), LABELS, "weight has 2 numbers, and the model 4 classes"),
        (losses.CrossEntropy(), PROBABILITIES * 3, "probabilities of classes are in 0 … 1"),
        (losses.CrossEntropy(), PROBABILITIES[:, :2], "must have the outputs' shape"),
        (losses.CrossEntropy(ignore_index=0), PROBABILITIES, "ignore_index stands for a class number"),
        (losses.BinaryLogistic([1.0, 2.0]), SEVERAL, "pos_weight has 2 numbers"),
    ],
)
def test_options_that_do_not_fit_the_outputs_are_refused(loss, targets, message):
    with pytest.raises(InputError, match=message):
        uw.Objective(linear(), loss, (X, targets))


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


@pytest.mark.parametrize("bias", [0.0, 0.3])
def test_a_temperature_reaches_a_bias_that_is_still_zero(bias):
    model = linear()
    nn.init.constant_(model.bias, bias)
    case = Case(None, {}, LABELS)
    agrees(model, losses.CrossEntropy(temperature=2.0), lambda o, t: case.torchs(o / 2, t), LABELS)
