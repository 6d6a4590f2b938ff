"""What is explained about a query: formulas, signs of help, units, refusals."""

import pytest
import torch
from torch import nn

import upweight as uw
from problems import DOUBLE, close, convex
from upweight import losses, measurements
from upweight.errors import InputError

OUTPUTS = torch.randn(6, 4, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
LABELS = torch.tensor([0, 1, 2, 3, 3, 1])
IDENTITY = nn.Identity()


def value(measurement, batch, loss=None):
    return measurement.bind(loss or losses.CrossEntropy())(IDENTITY, batch)


def test_the_margin_is_the_logit_of_the_probability_of_the_label():
    p = OUTPUTS.softmax(1).gather(1, LABELS[:, None])[:, 0]
    close(value(measurements.Margin(), (OUTPUTS, LABELS)), torch.log(p / (1 - p)))


def test_the_margin_of_one_output_is_the_output_times_the_sign():
    labels = LABELS % 2
    got = value(measurements.Margin(), (OUTPUTS[:, :1], labels), losses.BinaryLogistic())
    close(got, (2 * labels - 1) * OUTPUTS[:, 0])


@pytest.mark.parametrize("target", [None, 2])
def test_log_probability_is_that_of_the_softmax(target):
    wanted = LABELS if target is None else torch.full_like(LABELS, target)
    expected = OUTPUTS.log_softmax(1).gather(1, wanted[:, None])[:, 0]
    close(value(measurements.LogProbability(target), (OUTPUTS, LABELS)), expected)


@pytest.mark.parametrize("target", [None, 0, 1])
def test_log_probability_of_one_output_is_logistic(target):
    labels = LABELS % 2
    got = value(measurements.LogProbability(target), (OUTPUTS[:, :1], labels), losses.BinaryLogistic())
    sign = 2 * (labels if target is None else torch.full_like(labels, target)) - 1
    close(got, torch.sigmoid(sign * OUTPUTS[:, 0]).log())


@pytest.mark.parametrize("measurement", [measurements.Margin(), measurements.LogProbability()])
def test_positions_the_loss_ignores_contribute_nothing(measurement):
    outputs, labels = OUTPUTS.reshape(2, 3, 4), LABELS.reshape(2, 3).clone()
    single = value(measurement, (OUTPUTS, LABELS)).reshape(2, 3)
    close(value(measurement, (outputs, labels)), single.sum(1))
    labels[0, 1:] = -100
    close(value(measurement, (outputs, labels)), torch.stack([single[0, 0], single[1].sum()]))


@pytest.mark.parametrize(
    ("given", "kind", "sign"),
    [
        (None, measurements.Loss, -1),
        ("loss", measurements.Loss, -1),
        ("margin", measurements.Margin, 1),
        (measurements.Margin, measurements.Margin, 1),
        ("log-probability", measurements.LogProbability, 1),
        (lambda model, batch: batch[0].sum(1), measurements.Function, 0),
    ],
)
def test_measurements_are_read_from_names_classes_and_functions(given, kind, sign):
    read = measurements.as_measurement(given)
    assert type(read) is kind
    assert read.helpful_sign == sign


def test_scores_are_linear_in_the_measurement():
    problem = convex("softmax")
    influence = uw.Influence(problem.objective())

    def attribute(measurement):
        return influence.attribute(problem.queries, measurement=measurement).scores

    margin, log_probability = (
        kind.bind(losses.CrossEntropy()) for kind in (measurements.Margin(), measurements.LogProbability())
    )
    mixed = attribute(lambda model, batch: 2 * margin(model, batch) - 3 * log_probability(model, batch))
    close(mixed, 2 * attribute("margin") - 3 * attribute("log-probability"))
    close(attribute("loss"), -attribute("log-probability"))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("measurement", ["accuracy", 3])
def test_what_is_no_measurement_is_refused(measurement):
    with pytest.raises(InputError, match=rf"measurement: {measurement!r} is not one of .*margin"):
        measurements.as_measurement(measurement)


@pytest.mark.parametrize("measurement", [measurements.Margin(), measurements.LogProbability()])
def test_a_measurement_of_outputs_needs_a_loss_with_outputs(measurement):
    with pytest.raises(InputError, match=r"needs a loss with outputs.*measurements.Function"):
        measurement.bind(losses.Function(lambda model, batch: batch[0]))


def test_a_class_that_the_model_does_not_have_is_refused():
    with pytest.raises(InputError, match="target 4 is not one of 4 classes"):
        value(measurements.LogProbability(4), (OUTPUTS, LABELS))
