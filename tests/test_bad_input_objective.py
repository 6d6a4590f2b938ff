"""Bad input of an objective is refused before work starts, by the argument's name, what was given and the mend."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

import upweight as uw
from problems import DOUBLE
from spoiled import CE, Examples, softmax, spoiled
from upweight.errors import (
    InputError,
)

pytestmark = pytest.mark.usefixtures("unchecked")


class Stream(IterableDataset):
    def __iter__(self):
        yield from Examples(softmax().x, softmax().y)


def nan_loss(model, batch):
    values = F.cross_entropy(model(batch[0]), batch[1], reduction="none")
    return torch.where(batch[0][:, 0] == softmax().x[5, 0], math.nan, values)


def reduced(model, batch):
    return F.cross_entropy(model(batch[0]), batch[1])


def of_pairs(model, batch):
    return (model(batch[0])[:, :1] - batch[1]) ** 2


def with_(**options):
    return lambda: softmax().objective(**options)


def frozen_model():
    model = nn.Linear(3, 3).to(DOUBLE)
    model.requires_grad_(False)
    return uw.Objective(model, uw.losses.CrossEntropy(), (softmax().x, softmax().y))


def nan_model():
    model = nn.Linear(3, 3).to(DOUBLE)
    nn.init.constant_(model.bias, math.nan)
    return uw.Objective(model, uw.losses.CrossEntropy(), (softmax().x, softmax().y))


def in_inference_mode():
    with torch.inference_mode():
        return softmax().objective()


REFUSED = {
    "NaN input": (
        lambda: softmax().objective(data=(spoiled(math.nan), softmax().y)),
        "data: array 0 has NaN or infinite values in 1 examples, first at position 7; drop or fill",
    ),
    "infinite input": (
        lambda: softmax().objective(data=(spoiled(math.inf), softmax().y)),
        "data: array 0 has NaN or infinite values in 1 examples, first at position 7",
    ),
    "NaN input in a dataset": (
        lambda: softmax().objective(data=Examples(spoiled(math.nan), softmax().y), batch_size=3),
        "loss: NaN or infinite .* first at position 7",
    ),
    "NaN loss": (with_(loss=nan_loss, batch_size=4), "loss: NaN or infinite .* first at position 5"),
    "NaN parameters": (nan_model, "model: parameter 'bias' holds NaN or infinite values; give a trained model"),
    "labels out of range": (
        lambda: softmax().objective(data=(softmax().x, softmax().y + 1)),
        "CrossEntropy: targets range from . to 3, but the model has 3 outputs",
    ),
    "float labels": (
        lambda: softmax().objective(data=(softmax().x, softmax().y.double())),
        "CrossEntropy: targets are torch.float64; it needs integer class numbers",
    ),
    "empty data": (
        lambda: softmax().objective(data=(softmax().x[:0], softmax().y[:0])),
        "data: it is empty",
    ),
    "everything frozen": (frozen_model, r"parameters: none of the model's 2 parameters is selected \(p = 0\)"),
    "pattern that matches nothing": (
        with_(parameters=["head.*"]),
        r"parameters: 'head.\*' matches no parameter; the model has \['weight', 'bias'\]",
    ),
    "loss already reduced": (with_(loss=reduced), r"loss: returned shape \(\) .*already reduced; use reduction='none'"),
    "loss of all pairs": (with_(loss=of_pairs), r"loss: returned shape \(2, 2\) for 2 examples, and \(1, 1\) for one"),
    "loss that is no tensor": (with_(loss=lambda model, batch: 1.0), "loss: must return a tensor .*; got float"),
    "loss class": (
        with_(loss=uw.losses.CrossEntropy),
        r"loss: CrossEntropy is a class; give an instance, CrossEntropy\(\)",
    ),
    "loss module": (
        with_(loss=nn.L1Loss()),
        "loss: L1Loss .*has already reduced them.*Give one of upweight",
    ),
    "iterable dataset": (with_(data=Stream()), "data: Stream is iterable without length .*map-style"),
    "DataLoader of batches": (
        lambda: softmax().objective(data=DataLoader(Examples(softmax().x, softmax().y), batch_size=None)),
        "data: the DataLoader has batch_size=None, so its dataset yields whole batches",
    ),
    "DataLoader of a stream": (with_(data=DataLoader(Stream())), "data: the DataLoader's Stream is iterable without"),
    "arrays of different length": (
        lambda: softmax().objective(data=(softmax().x, softmax().y[:-1])),
        r"data: .*same number of examples.*\(24, 3\), \(23,\)",
    ),
    "duplicate ids": (with_(ids=["a"] * 2 + list(range(22))), "ids: must be unique; .*'a'.* stands 2 times"),
    "too few ids": (with_(ids=range(23)), r"ids: need 24, one per training example; got shape \(23,\)"),
    "negative l2": (with_(l2=-0.1), "l2: give a finite number ≥ 0; got -0.1"),
    "NaN l2": (with_(l2=math.nan), "l2: give a finite number ≥ 0; got nan"),
    "l2 for nothing": (with_(l2={"head": 0.1}), "l2: 'head' matches none of the parameters"),
    "negative weights": (with_(weights=[-1.0] * 24), "weights: need 24 finite numbers ≥ 0"),
    "too few weights": (with_(weights=[1.0] * 23), r"weights: need 24 .*got shape \(23,\)"),
    "no model": (
        lambda: uw.Objective(lambda x: x, CE, (softmax().x, softmax().y)),
        "model: got function; give a torch",
    ),
    "inference mode": (in_inference_mode, r"model: nothing can be differentiated under torch.inference_mode\(\)"),
    "no batches": (with_(batch_size=0), "batch_size: give a whole number of at least 1; got 0"),
}


@pytest.mark.parametrize("mistake", REFUSED)
def test_an_objective_refuses(mistake):
    make, message = REFUSED[mistake]
    with pytest.raises(InputError, match=message):
        make()
