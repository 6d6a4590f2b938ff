"""Losses by example: their formulas, their split into outputs and loss of outputs, their refusals."""

from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import upweight as uw
from problems import DOUBLE, close
from upweight import losses
from upweight.errors import InputError

OUTPUT = torch.linspace(-4, 6, 41, dtype=DOUBLE)[:, None]
CLASSES = torch.randn(7, 3, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
LABELS = torch.tensor([0, 1, 2, 2, 1, 0, 1])
IDENTITY = nn.Identity()


def margin(labels):
    return (2 * labels - 1)[:, None] * OUTPUT


@pytest.mark.parametrize("coding", [(0, 1), (-1, 1)])
@pytest.mark.parametrize(
    ("loss", "formula"),
    [
        (losses.BinaryLogistic(), lambda m: torch.log1p(torch.exp(-m))),
        (losses.Hinge(), lambda m: (1 - m).clamp_min(0)),
        (losses.SquaredHinge(), lambda m: (1 - m).clamp_min(0) ** 2),
        (losses.SmoothHinge(0.1), lambda m: 0.1 * torch.log1p(torch.exp((1 - m) / 0.1))),
    ],
)
def test_binary_losses_are_functions_of_the_margin(loss, formula, coding):
    for side in (0, 1):
        targets = torch.full((len(OUTPUT),), coding[side])
        sign = 1 if side else -1
        close(loss(IDENTITY, (OUTPUT, targets)), formula(sign * OUTPUT[:, 0]))
        close(loss(IDENTITY, (OUTPUT[:, 0], targets)), formula(sign * OUTPUT[:, 0]))


def test_binary_losses_of_several_outputs_sum_one_against_the_rest():
    signs = 2 * F.one_hot(LABELS, 3) - 1
    close(losses.BinaryLogistic()(IDENTITY, (CLASSES, LABELS)), -F.logsigmoid(signs * CLASSES).sum(1))


def test_a_temperature_divides_the_outputs():
    model = nn.Linear(3, 4, dtype=DOUBLE)
    batch = (CLASSES, LABELS)
    close(
        losses.CrossEntropy(temperature=2.5)(model, batch),
        F.cross_entropy(model(CLASSES) / 2.5, LABELS, reduction="none"),
    )
    close(losses.CrossEntropy(temperature=2.5).outputs(model, batch), model(CLASSES) / 2.5)


@pytest.mark.parametrize("temperature", [0, -1.0, float("nan"), float("inf")])
def test_a_temperature_that_is_none_is_refused(temperature):
    with pytest.raises(InputError, match="temperature: give a finite number > 0; got"):
        losses.CrossEntropy(temperature=temperature)


def test_cross_entropy_is_that_of_torch_and_sums_over_positions_that_count():
    close(
        losses.CrossEntropy()(IDENTITY, (CLASSES, LABELS)),
        F.cross_entropy(CLASSES, LABELS, reduction="none"),
    )
    outputs = torch.randn(4, 5, 3, dtype=DOUBLE)
    targets = torch.randint(0, 3, (4, 5))
    targets[0, 2:], targets[3] = -100, -100
    expected = F.cross_entropy(outputs.mT, targets, reduction="none").sum(1)
    close(losses.CrossEntropy()(IDENTITY, (outputs, targets)), expected)
    assert expected[3] == 0
    close(
        losses.CrossEntropy(ignore_index=7)(IDENTITY, (outputs, torch.where(targets < 0, 7, targets))),
        expected,
    )


@pytest.mark.parametrize("factor", [0.5, 1.0])
def test_squared_error_sums_over_outputs(factor):
    targets = torch.randn(7, 3, dtype=DOUBLE)
    loss = losses.SquaredError(factor)
    close(loss(IDENTITY, (CLASSES, targets)), factor * ((CLASSES - targets) ** 2).sum(1))
    # A model with one output gives [batch, 1]; its targets are [batch]: no broadcasting to [batch, batch].
    close(loss(IDENTITY, (CLASSES[:, :1], targets[:, 0])), factor * (CLASSES[:, 0] - targets[:, 0]) ** 2)


@pytest.mark.parametrize("t", [0.001, 0.1, 1.0])
def test_the_smooth_hinge_lies_within_t_log_2_above_the_hinge(t):
    targets = torch.ones(len(OUTPUT), dtype=torch.long)
    gap = losses.SmoothHinge(t)(IDENTITY, (OUTPUT, targets)) - losses.Hinge()(IDENTITY, (OUTPUT, targets))
    assert (gap >= -1e-15).all()
    assert (gap <= t * 0.6931471805599454 + 1e-15).all()
    assert gap.max() == pytest.approx(t * 0.6931471805599453)  # reached at the kink, y·f = 1


@pytest.mark.parametrize("t", [0.01, 0.5])
def test_the_second_derivative_of_the_smooth_hinge_is_sigma_times_one_minus_sigma_over_t(t):
    f = OUTPUT.clone().requires_grad_()
    value = losses.SmoothHinge(t).of_outputs(f, (None, torch.ones(len(f), dtype=torch.long))).sum()
    (slope,) = torch.autograd.grad(value, f, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.sum(), f)
    sigma = torch.sigmoid((1 - OUTPUT) / t)
    close(slope, -sigma)
    close(curvature, sigma * (1 - sigma) / t)


def test_the_smooth_hinge_becomes_the_hinge_as_t_goes_to_zero():
    targets = torch.zeros(len(OUTPUT), dtype=torch.long)
    hinge = losses.Hinge()(IDENTITY, (OUTPUT, targets))
    gaps = [(losses.SmoothHinge(t)(IDENTITY, (OUTPUT, targets)) - hinge).abs().max() for t in (1.0, 0.1, 1e-2, 1e-10)]
    assert all(later < earlier for earlier, later in pairwise(gaps))
    assert gaps[-1] < 1e-9


@pytest.mark.parametrize(
    ("loss", "batch"),
    [
        (losses.CrossEntropy(), (CLASSES, LABELS)),
        (losses.BinaryLogistic(), (CLASSES, LABELS)),
        (losses.SmoothHinge(), (CLASSES[:, :1], LABELS > 0)),
        (losses.SquaredError(), (CLASSES, CLASSES.flip(0))),
    ],
)
def test_the_split_composes_to_the_loss(loss, batch):
    model = nn.Linear(3, 3).double() if batch[0].shape[1] == 3 else nn.Linear(1, 1).double()
    close(loss(model, batch), loss.of_outputs(loss.outputs(model, batch), batch))
    close(loss.outputs(model, batch), model(batch[0]))


class TwoInputs(nn.Module):
    def forward(self, a, b):
        return SimpleNamespace(logits=a - b)


@pytest.mark.parametrize(
    "batch",
    [
        (CLASSES, CLASSES.flip(0), LABELS),
        [CLASSES, CLASSES.flip(0), LABELS],
        {"a": CLASSES, "b": CLASSES.flip(0), "labels": LABELS},
        {"y": LABELS, "b": CLASSES.flip(0), "a": CLASSES},
    ],
)
def test_batches_are_tuples_or_dicts_and_outputs_may_be_under_logits(batch):
    expected = F.cross_entropy(CLASSES - CLASSES.flip(0), LABELS, reduction="none")
    close(losses.CrossEntropy()(TwoInputs(), batch), expected)
    inputs, targets = losses.split_batch(losses.with_targets(batch, LABELS.flip(0)))
    assert torch.equal(targets, LABELS.flip(0))
    assert len(inputs) == 2


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (losses.CrossEntropy, r"CrossEntropy is a class; give an instance, CrossEntropy\(\)"),
        (nn.CrossEntropyLoss(), "CrossEntropyLoss takes a mean; give its training data"),
        (nn.L1Loss(), "L1Loss compares outputs with targets and has already reduced them"),
        (nn.NLLLoss(), "NLLLoss takes log-probabilities; give nn.CrossEntropyLoss"),
        ("mse", "'mse' is neither one of upweight.losses nor a function"),
    ],
)
def test_what_is_no_loss_is_refused(loss, message):
    with pytest.raises(InputError, match=message):
        losses.as_loss(loss)


@pytest.mark.parametrize("t", [0.0, -1.0])
def test_the_temperature_must_be_positive(t):
    with pytest.raises(InputError, match=r"t \(for t = 0 use Hinge\(\)\): give a finite number > 0"):
        losses.SmoothHinge(t)


@pytest.mark.parametrize(
    ("loss", "outputs", "targets", "message"),
    [
        (losses.CrossEntropy(), CLASSES, LABELS + 1, "range from 1 to 3, but the model has 3 outputs"),
        (losses.CrossEntropy(), CLASSES, LABELS - 1, "range from -1 to 1"),
        (losses.CrossEntropy(), CLASSES, LABELS.double(), "needs integer class numbers"),
        (losses.CrossEntropy(), CLASSES, LABELS[:, None], "classes as a last dimension"),
        (losses.BinaryLogistic(), CLASSES[:, :1], LABELS, r"must be in \{0, 1\} or \{-1, 1\}"),
        (losses.BinaryLogistic(), CLASSES, LABELS + 1, "class numbers below that"),
        (losses.SmoothHinge(), CLASSES[:, :1], torch.zeros(3), "outputs .* against targets"),
        (losses.SquaredError(), CLASSES, torch.zeros(7), "outputs .* against targets"),
    ],
)
def test_targets_a_loss_is_not_defined_for_are_refused(loss, outputs, targets, message):
    with pytest.raises(InputError, match=f"{type(loss).__name__}: .*{message}"):
        loss.check(outputs, (None, targets))


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({"a": CLASSES}, "needs its targets under one of"),
        (CLASSES, "give your own loss"),
        ((CLASSES,), "give your own loss"),
    ],
)
def test_batches_without_targets_are_refused(batch, message):
    with pytest.raises(InputError, match=message):
        losses.split_batch(batch)


class Halves:
    """A user's loss with both halves: squared errors of the first output, in the user's own words."""

    unit = "squared degrees"
    is_convex = True

    def outputs(self, model: nn.Module, batch: Any) -> Tensor:
        return model(batch["x"])[:, :1]

    def of_outputs(self, outputs: Tensor, batch: Any) -> Tensor:
        return 0.5 * (outputs[:, 0] - batch["degrees"]) ** 2


class Called(Halves):
    def __call__(self, model: nn.Module, batch: Any) -> Tensor:
        return self.of_outputs(self.outputs(model, batch), batch)


@pytest.mark.parametrize("made", [Halves, Called])
@pytest.mark.filterwarnings("ignore::upweight.errors.NotStationaryWarning")
def test_a_users_loss_in_two_halves_has_a_ggn(made: Any) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    x, y = torch.randn(9, 3, dtype=torch.float64), torch.randn(9, dtype=torch.float64)
    data, queries = {"x": x, "degrees": y}, {"x": x[:2], "degrees": y[:2]}
    one = uw.Objective(nn.Sequential(model, First()), uw.losses.SquaredError(), (x, y), l2=0.1)
    own = uw.Objective(model, made(), data, l2=0.1)
    assert isinstance(own.loss, uw.losses.OfParts)
    for inverse in (uw.inverse.Dense(uw.curvature.GGN(), damping=0.1), None):
        found, expected = uw.Influence(own, inverse), uw.Influence(one, inverse)
        close(found.attribute(queries).scores, expected.attribute((x[:2], y[:2])).scores)
        assert "squared degrees" in found.attribute(queries).quantity.unit
    with pytest.raises(uw.InputError, match=r"loss: on the first 2 training examples it raised KeyError"):
        uw.Objective(model, made(), {"x": x, "kelvin": y})


@pytest.mark.parametrize(
    "parts", [3, None, Halves, SimpleNamespace(outputs=print), SimpleNamespace(outputs=1, of_outputs=2)]
)
def test_what_lacks_a_half_is_no_loss_of_parts(parts: Any) -> None:
    with pytest.raises(InputError, match=r"parts: give an object with the methods outputs\(model, batch\) and .*; got"):
        losses.OfParts(parts)
    if not callable(parts):
        with pytest.raises(InputError, match=r"loss: .* nor an object with the methods"):
            losses.as_loss(parts)


class First(nn.Module):
    def forward(self, z: Tensor) -> Tensor:
        return z[:, :1]
