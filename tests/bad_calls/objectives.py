"""Objectives, and what they are made of: data, losses, weights, names, penalties, parts of θ."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

import upweight as uw
from bad_calls.case import Broken, Form, Row, ignored, linear, made, network, objective, queries, softmax, x, y
from problems import DOUBLE


class Ragged(Broken):
    """Its examples are of two lengths."""

    def __getitem__(self, i: int) -> Any:
        return torch.ones(3 + (i == 1)), softmax().y[i]


class Odd(Broken):
    """A data set with another length, or examples of another kind."""

    def __init__(self, length: int = 24, device: str = "cpu"):
        self.length, self.device = length, device

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, i: int) -> Any:
        return softmax().x[i].to(self.device), softmax().y[i]


def masked(values: Any) -> Any:
    """Without a value in its third place."""
    return np.ma.masked_array(values, mask=np.arange(values.size).reshape(values.shape) == 2)


def spoilt_below() -> nn.Module:
    """Its first layer holds NaN."""
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)).double()
    nn.init.constant_(model[0].weight, float("nan"))
    return model


def lists() -> Any:
    values = np.empty(24, dtype=object)
    values[:] = [[1]] * 24
    return values


def meta_model() -> nn.Module:
    return nn.Linear(3, 3, device="meta")


def regression(*data: Any) -> uw.Objective:
    return linear(*data, loss=uw.losses.SquaredError(), model=nn.Linear(3, 1).double())


def tokens(*data: Any) -> uw.Objective:
    return linear(*data, model=nn.Sequential(nn.Embedding(5, 4), nn.Flatten(), nn.Linear(8, 3)))


TABLE: list[Row] = [
    ("Objective", "l2", "number", lambda v: made(l2=v)),
    ("Objective, by name", "l2", "number", lambda v: made(l2={"weight": v})),
    ("Objective", "batch_size", "whole", lambda v: made(batch_size=v)),
    ("Objective", "forward", "choice", lambda v: made(forward=v)),
    ("Objective", "num_workers", "whole", lambda v: made(num_workers=v)),
    ("Objective", "validate", "flag", lambda v: made(validate=v)),
    ("select.random", "ratio", "number", lambda v: uw.select.random(v).of(network())),
    ("select.random", "seed", "seed", lambda v: uw.select.random(0.5, seed=v).of(network())),
    ("select.random", "per", "choice", lambda v: uw.select.random(0.5, per=v).of(network())),
    ("select.highest_output", "ratio", "number", lambda v: uw.select.highest_output(v).of(network())),
    ("select.highest_output", "absolute", "flag", lambda v: uw.select.highest_output(0.5, absolute=v).of(network())),
    ("CrossEntropy", "temperature", "number", lambda v: uw.losses.CrossEntropy(temperature=v)),
    ("CrossEntropy", "ignore_index", "any whole", lambda v: uw.losses.CrossEntropy(ignore_index=v)),
    ("SmoothHinge", "t", "number", lambda v: uw.losses.SmoothHinge(v)),
    ("SquaredError", "factor", "number", lambda v: uw.losses.SquaredError(v)),
    ("LogProbability", "target", "whole", lambda v: uw.measurements.LogProbability(v)),
]

FORMS: dict[str, Form] = {
    "whole inputs": (
        lambda: linear(x().long(), y()),
        r"data: inputs are torch.int64, .*Linear, takes torch.float64; give X",
    ),
    "bool inputs": (lambda: linear(x() > 0, y()), r"data: inputs are torch.bool, .*give X.float\(\)"),
    "complex inputs": (lambda: linear(x() + 0j, y()), r"data: inputs are torch.complex128, .*view_as_real"),
    "another width": (lambda: linear(x()[:, :2], y()), r"data: inputs have 2 features, shape \[2, 2\]; Linear takes 3"),
    "swapped": (
        lambda: regression(y(), x()),
        r"data: inputs are torch.int64 \[2\] .*looks like \(y, X\); give \(X, y\)",
    ),
    "one dimension": (lambda: linear(x()[:, 0], y()), r"data: inputs have one number an example, .*X\[:, None\]"),
    "sparse": (
        lambda: linear(x().to_sparse(), y()),
        r"data: a tensor \[24, 3\] has layout torch.sparse_coo; .*to_dense",
    ),
    "meta data": (lambda: linear(x().to("meta"), y()), r"data: a tensor \[24, 3\] is on the meta device"),
    "meta model": (lambda: linear(x(), y(), model=meta_model()), r"model: 'weight' is on the meta device.*load"),
    "nested": (
        lambda: linear(torch.nested.nested_tensor([torch.ones(3), torch.ones(3)]), y()[:2]),
        r"data: a nested tensor has no shape; .*X\.to_padded_tensor",
    ),
    "quantized": (
        lambda: linear(torch.quantize_per_tensor(x().float(), 0.1, 0, torch.qint8), y()),
        r"data: a tensor \[24, 3\] is quantized, torch\.qint8; give X\.dequantize\(\)",
    ),
    "eight bits": (
        lambda: linear(x().to(torch.float8_e4m3fn), y()),
        r"data: a tensor \[24, 3\] is torch\.float8_e4m3fn, .*give X\.float\(\)",
    ),
    "masked": (
        lambda: linear(masked(x().numpy()), y()),
        r"data: a masked array \[24, 3\] has no value in 1 places, first at \[0, 2\]; fill them, e\.g\. X\.filled",
    ),
    "objects": (lambda: linear(x().numpy().astype(object), y()), r"data: ndarray can't .*e\.g\. X\.astype\(float\)"),
    "text for labels": (
        lambda: linear(x(), y().numpy().astype(str)),
        r"data: ndarray can't become .*np\.unique\(y, return_inverse=True\)\[1\]",
    ),
    "meta examples": (
        lambda: uw.Objective(nn.Linear(3, 3), uw.losses.CrossEntropy(), Odd(device="meta")),
        r"data: a tensor \[3, 3\] is on the meta device",
    ),
    "a negative length": (
        lambda: uw.Objective(nn.Linear(3, 3), uw.losses.CrossEntropy(), Odd(length=-1)),
        r"data: Odd has positions but no length \(__len__\(\) should return >= 0\); give it a __len__",
    ),
    "a lazy model": (
        lambda: linear(x(), y(), model=nn.LazyLinear(3)),
        r"model: 'weight' is of a lazy module that has met no data; call the model on a batch",
    ),
    "text": (lambda: linear(np.array([["a"] * 3] * 24), y()), r"data: ndarray can't become a tensor"),
    "a list of numbers": (lambda: uw.Objective(nn.Linear(3, 3), uw.losses.CrossEntropy(), [1, 2]), r"data: .*batches"),
    "None": (lambda: uw.Objective(nn.Linear(3, 3), uw.losses.CrossEntropy(), None), r"data: NoneType can't be indexed"),
    "a name": (lambda: uw.Objective(nn.Linear(3, 3), uw.losses.CrossEntropy(), "train.csv"), r"data: "),
    "no targets": (
        lambda: uw.Objective(nn.Linear(3, 3), uw.losses.CrossEntropy(), x()),
        r"data: this loss needs batches",
    ),
    "float tokens": (
        lambda: tokens(torch.rand(6, 2), torch.arange(6) % 3),
        r"data: inputs are torch.float32, .*X.long",
    ),
    "tokens out of range": (
        lambda: tokens(torch.full((6, 2), 9), torch.arange(6) % 3),
        r"data: inputs go from 9 to 9, and Embedding '0' knows 0 … 4",
    ),
    "reading fails": (
        lambda: uw.Objective(nn.Linear(3, 3), uw.losses.CrossEntropy(), Broken()),
        "data: reading example 7 of",
    ),
    "reading fails in a process": (
        lambda: uw.Objective(nn.Linear(3, 3), uw.losses.CrossEntropy(), Broken(), num_workers=1),
        "data: reading example 7 of 24 raised KeyError",
    ),
    "examples of two lengths": (
        lambda: uw.Objective(nn.Linear(3, 3), uw.losses.CrossEntropy(), Ragged()),
        r"data: 2 examples can't be made a batch: shapes \[\[3\], \[\]\] and \[\[4\], \[\]\].*collate",
    ),
    "a softmax at the end": (
        lambda: linear(x(), y(), model=nn.Sequential(nn.Linear(3, 3), nn.Softmax(-1)).double()),
        "loss: CrossEntropy takes logits, and the model gives probabilities",
    ),
    "a sigmoid at the end": (
        lambda: linear(
            x(), y() % 2, loss=uw.losses.BinaryLogistic(), model=nn.Sequential(nn.Linear(3, 1), nn.Sigmoid()).double()
        ),
        "loss: BinaryLogistic takes outputs before the sigmoid",
    ),
    "a loss that raises": (
        lambda: linear(x(), y(), loss=lambda model, batch: batch["labels"]),
        "loss: on the first 2 training examples it raised TypeError",
    ),
    "a model that raises": (
        lambda: linear(x(), y(), model=nn.Sequential(nn.Linear(3, 4), nn.Linear(3, 3)).double()),
        "data: the model fails on its first 2 examples with RuntimeError",
    ),
    "weights all zero": (lambda: made(weights=np.zeros(24)), "weights: all 24 are 0"),
    "weights of text": (lambda: made(weights=["a"] * 24), "weights: give 24 numbers, .*list can't become"),
    "weights of text in an array": (
        lambda: made(weights=np.array(["a"] * 24)),
        "weights: give 24 numbers, .*ndarray can't become",
    ),
    "a weight below 0": (
        lambda: made(weights=np.where(np.arange(24) == 5, -1.5, 1)),
        "weights: need 24 finite numbers ≥ 0, one per example; got -1.5 at position 5$",
    ),
    "weights that are NaN": (
        lambda: made(weights=np.where(np.arange(24) > 2, np.nan, 1)),
        "weights: need 24 .*; got nan at position 3, the first of 21 such",
    ),
    "complex weights": (lambda: made(weights=torch.ones(24) + 0j), "weights: need 24 .*got torch.complex64 of shape"),
    "sparse weights": (lambda: made(weights=torch.ones(24).to_sparse()), r"weights: give 24 numbers.*to_dense\(\)"),
    "meta weights": (lambda: made(weights=torch.ones(24, device="meta")), "weights: give 24 numbers, .*meta device"),
    "masked weights": (
        lambda: made(weights=masked(np.ones(24))),
        r"weights: give 24 .*no value in 1 places, first at \[2",
    ),
    "a penalty of the meta device": (
        lambda: made(l2=torch.tensor(0.1, device="meta")),
        "l2: give a finite number ≥ 0; got tensor.*meta",
    ),
    "a penalty longer than Python writes": (
        lambda: made(l2=10**5000),
        "l2: give a finite number ≥ 0; got a whole number of more than 60 digits",
    ),
    "losses of another width": (lambda: objective().losses((x()[:3, :2], y()[:3])), "queries: array 0 has examples of"),
    "outputs of another width": (
        lambda: objective().outputs((x()[:3, :2], y()[:3])),
        "queries: array 0 has examples of",
    ),
    "a penalty by number": (lambda: made(l2={0: 0.1}), r"l2: names and patterns .* are text, .*got 0"),
    "parameters by number": (lambda: made(parameters=3), "parameters: give names or patterns, .*got 3"),
    "parameters by numbers": (
        lambda: made(parameters=[3]),
        r"parameters: 3 is no name, parameter or module; give those",
    ),
    "a mask for parameters": (
        lambda: made(parameters=torch.ones(5).bool()),
        r"select\.masked\(objective\.layout, mask",
    ),
    "parameters by a function that raises": (
        lambda: made(parameters=lambda name, value: value.missing),
        r"parameters: the function \(name, parameter\) -> bool raised AttributeError: .*; mend it, or give names",
    ),
    "class names without order": (lambda: made(class_names={"a", "b", "c"}), "class_names: give a list, one name per"),
    "NaN in a parameter held fixed": (
        lambda: linear(x(), y(), model=spoilt_below(), parameters=["1.*"]),
        "loss: NaN or infinite for 24 training examples",
    ),
    "class names by number": (lambda: made(class_names=3), "class_names: give a list, one name per class.*got 3"),
    "class names in one word": (lambda: made(class_names="abc"), "class_names: give a list.*got 'abc'"),
    "class names twice": (lambda: made(class_names=["a", "b", "a"]), "class_names: .*'a' stands 2 times"),
    "no class names": (lambda: made(class_names=[]), "class_names: give a different name for each class; got none"),
    "collate by name": (lambda: made(collate="x"), "collate: give a function from a list .*got 'x'"),
    "no ids": (lambda: made(ids=[None] * 24), "ids: must be unique; None stands 24 times"),
    "ids that are lists": (lambda: made(ids=lists()), r"ids: must be unique; \[1\] is a list, which can't be a name"),
    "a θ of another length": (
        lambda: objective().at(torch.zeros(5)),
        r"params: give a tensor of p=12 numbers; got \(5,\)",
    ),
    "a complex θ": (lambda: objective().at(torch.zeros(12) + 0j), r"params: give real numbers; got torch\.complex64"),
    "a θ of the meta device": (
        lambda: objective().losses(queries(), params=torch.zeros(12, device="meta")),
        r"params: a tensor \[12\] is on the meta device",
    ),
    "a sparse θ": (lambda: objective().at(torch.zeros(12).to_sparse()), r"params: .*torch\.sparse_coo; give a dense"),
    "vectors of the meta device, in an inner product": (
        lambda: objective().inner(torch.ones(1, 12, device="meta")),
        r"vectors: a tensor \[1, 12\] is on the meta device, which holds no numbers",
    ),
    "a complex loss": (
        lambda: linear(x(), y(), loss=lambda model, batch: model(batch[0])[:, 0] + 0j),
        r"loss: returned torch\.complex128; give real numbers",
    ),
    "masks of the meta device": (
        lambda: uw.select.masked(objective().layout, torch.ones(12, dtype=torch.bool, device="meta")),
        r"masks: a tensor \[12\] is on the meta device",
    ),
    "vectors of another length": (
        lambda: objective().inner(torch.zeros(2, 5, dtype=DOUBLE)),
        r"vectors: give rows \[k, 12\]; got \(2, 5\)",
    ),
    "training data that is all ignored": (
        lambda: linear(x(), ignored(24)),
        "data: every target is -100, which the loss ignores, so nothing was learnt",
    ),
    "another precision": (lambda: objective().to("nope"), "dtype: give torch.float64 or torch.float32; got 'nope'"),
    "other data for these weights": (
        lambda: made(weights=np.ones(24)).replace(data=queries()),
        "data: 3 examples, and the weights of this objective are of 24; give weights= too",
    ),
    "other data for these ids": (
        lambda: made(ids=range(24)).replace(data=queries()),
        "data: 3 examples, and the ids of this objective are of 24; give ids= too",
    ),
}
