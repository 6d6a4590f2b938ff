"""Options of losses that are none, or don't fit the outputs, are refused by name."""

import pytest

import upweight as uw
from loss_forms import LABELS, PROBABILITIES, SEVERAL, X, linear
from upweight import losses
from upweight.errors import InputError


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
