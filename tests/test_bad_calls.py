"""Bad calls across the public face: each is refused with the argument's name, the value and what to give instead.

One table: an argument, the kind of value it takes, and a call of it. Each is tried with every value that is none of
that kind, so none goes through in silence and none ends deep inside torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import Dataset

import upweight as uw
from problems import DOUBLE, Problem, convex, mlp
from upweight.errors import InputError, UpweightWarning
from upweight.inverse import CG, EKFAC, KFAC, LSMR, Arnoldi, DataInf, Dense, Diagonal, Dual, LiSSA, Neumann, Nystrom

pytestmark = pytest.mark.usefixtures("unchecked")

KINDS: dict[str, tuple[Any, ...]] = {
    "whole": (2.5, "two", True, math.nan, -3),
    "number": ("big", math.nan, math.inf, True, -1.0),
    "any number": ("big", math.nan, math.inf, True),
    "any whole": (2.5, "two", True),
    "flag": ("yes", 2),
    "choice": ("nope", 3),
    "seed": (1.7, "a", True, -1),
    "positions": (3, 2.5, "first", [[1, 2], [3, 4]], [0.5], [-1], [10_000], [1, 1], []),
}


@cache
def softmax() -> Problem:
    return convex("softmax")


@cache
def objective() -> uw.Objective:
    return softmax().objective()


@cache
def influence() -> uw.Influence:
    return uw.Influence(objective())


@cache
def attribution() -> uw.Attribution:
    return influence().attribute(queries())


@cache
def network() -> uw.Objective:
    return mlp().objective()


def queries() -> Any:
    return softmax().x[:3], softmax().y[:3]


def made(**options: Any) -> uw.Objective:
    return softmax().objective(**options)


def solved(inverse: Any) -> Any:
    return uw.Influence(objective(), inverse).attribute(queries())


def halves() -> Any:
    return uw.retraining.random_halves(objective().n, 4, 0)


def train(indices: Any, seed: int) -> Any:
    return objective().params


DAMPED = {
    "CG": CG,
    "Dense": Dense,
    "LSMR": LSMR,
    "LiSSA": LiSSA,
    "Dual": Dual,
    "KFAC": KFAC,
    "EKFAC": EKFAC,
    "Diagonal": Diagonal,
    "DataInf": DataInf,
    "Nystrom": lambda **options: Nystrom(3, **options),
    "Arnoldi": lambda **options: Arnoldi(3, **options),
}

TABLE: list[tuple[str, str, str, Callable[[Any], Any]]] = [
    ("Objective", "l2", "number", lambda v: made(l2=v)),
    ("Objective, by name", "l2", "number", lambda v: made(l2={"weight": v})),
    ("Objective", "batch_size", "whole", lambda v: made(batch_size=v)),
    ("Objective", "num_workers", "whole", lambda v: made(num_workers=v)),
    ("Objective", "validate", "flag", lambda v: made(validate=v)),
    ("Influence", "memory", "whole", lambda v: uw.Influence(objective(), memory=v)),
    ("plan", "queries", "whole", lambda v: influence().plan(v)),
    ("attribute", "renormalize", "flag", lambda v: influence().attribute(queries(), renormalize=v)),
    ("attribute", "leverage_corrected", "flag", lambda v: influence().attribute(queries(), leverage_corrected=v)),
    (
        "attribute",
        "newton_steps",
        "whole",
        lambda v: influence().attribute(queries(), leverage_corrected=True, newton_steps=v),
    ),
    ("attribute", "quantity", "choice", lambda v: influence().attribute(queries(), quantity=v)),
    ("attribute", "train", "positions", lambda v: influence().attribute(queries(), train=v)),
    ("self_influence", "renormalize", "flag", lambda v: influence().self_influence(renormalize=v)),
    ("self_influence", "leverage_corrected", "flag", lambda v: influence().self_influence(leverage_corrected=v)),
    ("self_influence", "train", "positions", lambda v: influence().self_influence(train=v)),
    ("parameters", "indices", "positions", lambda v: influence().parameters(v)),
    ("group", "renormalize", "flag", lambda v: influence().group([1, 2], queries(), renormalize=v)),
    ("group", "order", "choice", lambda v: influence().group([1, 2], queries(), order=v)),
    ("perturbation", "index", "whole", lambda v: influence().perturbation(v, queries())),
    ("verify", "k", "whole", lambda v: influence().verify(queries(), v)),
    ("verify", "select", "choice", lambda v: influence().verify(queries(), 3, select=v)),
    ("verify", "seed", "seed", lambda v: influence().verify(queries(), 3, select="random", seed=v)),
    ("verify", "tolerance", "number", lambda v: influence().verify(queries(), 3, tolerance=v)),
    ("verify", "renormalize", "flag", lambda v: influence().verify(queries(), 3, renormalize=v)),
    ("verify", "leverage_corrected", "flag", lambda v: influence().verify(queries(), 3, leverage_corrected=v)),
    (
        "verify",
        "newton_steps",
        "whole",
        lambda v: influence().verify(queries(), 3, leverage_corrected=True, newton_steps=v),
    ),
    ("top", "k", "whole", lambda v: attribution().top(v)),
    ("bottom", "k", "whole", lambda v: attribution().bottom(v)),
    ("CG", "tolerance", "number", lambda v: solved(CG(tolerance=v))),
    ("CG", "max_iterations", "whole", lambda v: solved(CG(max_iterations=v))),
    ("LSMR", "tolerance", "number", lambda v: solved(LSMR(tolerance=v))),
    ("LSMR", "max_iterations", "whole", lambda v: solved(LSMR(max_iterations=v))),
    ("LiSSA", "scale", "number", lambda v: solved(LiSSA(scale=v))),
    ("LiSSA", "depth", "whole", lambda v: solved(LiSSA(depth=v))),
    ("LiSSA", "batch_size", "whole", lambda v: solved(LiSSA(batch_size=v))),
    ("LiSSA", "repeats", "whole", lambda v: solved(LiSSA(repeats=v))),
    ("LiSSA", "bias", "number", lambda v: solved(LiSSA(bias=v))),
    ("LiSSA", "seed", "seed", lambda v: solved(LiSSA(seed=v))),
    ("Dense", "method", "choice", lambda v: solved(Dense(method=v))),
    ("Dense", "indefinite", "flag", lambda v: solved(Dense(method="eigen", indefinite=v))),
    ("Dual", "rows", "whole", lambda v: solved(Dual(rows=v))),
    ("Dual", "memory", "whole", lambda v: solved(Dual(memory=v))),
    ("Nystrom", "rank", "whole", lambda v: solved(Nystrom(v))),
    ("Nystrom", "seed", "seed", lambda v: solved(Nystrom(3, seed=v))),
    ("Nystrom", "complement", "choice", lambda v: solved(Nystrom(3, complement=v))),
    ("Nystrom", "residuals", "flag", lambda v: solved(Nystrom(3, residuals=v))),
    ("Arnoldi", "rank", "whole", lambda v: solved(Arnoldi(v))),
    ("Arnoldi", "iterations", "whole", lambda v: solved(Arnoldi(3, iterations=v))),
    ("Arnoldi", "seed", "seed", lambda v: solved(Arnoldi(3, seed=v))),
    ("KFAC", "approximation", "choice", lambda v: solved(KFAC(approximation=v))),
    ("KFAC", "damping_rule", "choice", lambda v: solved(KFAC(damping_rule=v))),
    ("EKFAC", "penalized", "flag", lambda v: solved(EKFAC(penalized=v))),
    ("Neumann", "nu", "number", lambda v: Neumann(nu=v)),
    ("Neumann", "max_doublings", "whole", lambda v: Neumann(max_doublings=v)),
    ("MeanEigenvalue", "multiple", "number", lambda v: solved(CG(damping=uw.inverse.MeanEigenvalue(v)))),
    ("MeanEigenvalue", "seed", "seed", lambda v: solved(CG(damping=uw.inverse.MeanEigenvalue(0.1, seed=v)))),
    ("MeanLeverage", "share", "number", lambda v: solved(CG(damping=uw.inverse.MeanLeverage(v)))),
    ("MeanLeverage", "seed", "seed", lambda v: solved(CG(damping=uw.inverse.MeanLeverage(0.1, seed=v)))),
    ("Fisher", "samples", "whole", lambda v: solved(Dual(uw.curvature.Fisher(v), damping=0.1))),
    ("Fisher", "seed", "seed", lambda v: solved(Dual(uw.curvature.Fisher(1, seed=v), damping=0.1))),
    *(
        (name, "damping", "number", lambda v, kind=kind: solved(kind(damping=v)))  # type: ignore[misc]
        for name, kind in DAMPED.items()
    ),
    ("fit", "tolerance", "number", lambda v: uw.retraining.fit(objective(), tolerance=v)),
    ("fit", "max_iterations", "whole", lambda v: uw.retraining.fit(objective(), max_iterations=v)),
    ("leave_out", "tolerance", "number", lambda v: uw.retraining.leave_out(objective(), [[0]], tolerance=v)),
    ("leave_out", "max_iterations", "whole", lambda v: uw.retraining.leave_out(objective(), [[0]], max_iterations=v)),
    ("leave_out", "renormalize", "flag", lambda v: uw.retraining.leave_out(objective(), [[0]], renormalize=v)),
    ("pbrf", "epsilon", "any number", lambda v: uw.retraining.pbrf(objective(), [0], damping=0.1, epsilon=v)),
    ("pbrf", "tolerance", "number", lambda v: uw.retraining.pbrf(objective(), [0], damping=0.1, tolerance=v)),
    ("pbrf", "damping", "number", lambda v: uw.retraining.pbrf(objective(), [0], damping=v)),
    ("random_halves", "n", "whole", lambda v: uw.retraining.random_halves(v, 2, 0)),
    ("random_halves", "count", "whole", lambda v: uw.retraining.random_halves(10, v, 0)),
    ("random_halves", "seed", "seed", lambda v: uw.retraining.random_halves(10, 2, v)),
    ("random_halves", "fraction", "number", lambda v: uw.retraining.random_halves(10, 2, 0, fraction=v)),
    ("trust_region", "tolerance", "number", lambda v: uw.retraining.trust_region(network(), tolerance=v)),
    ("trust_region", "radius", "number", lambda v: uw.retraining.trust_region(network(), radius=v)),
    ("trust_region", "max_iterations", "whole", lambda v: uw.retraining.trust_region(network(), max_iterations=v)),
    ("lowest_curvature", "seed", "seed", lambda v: uw.retraining.lowest_curvature(network(), seed=v)),
    (
        "lowest_curvature",
        "max_iterations",
        "whole",
        lambda v: uw.retraining.lowest_curvature(network(), max_iterations=v),
    ),
    ("Recipe", "epochs", "whole", lambda v: uw.retraining.Recipe(v, 2, 0.1)),
    ("Recipe", "batch_size", "whole", lambda v: uw.retraining.Recipe(1, v, 0.1)),
    ("Recipe", "lr", "number", lambda v: uw.retraining.Recipe(1, 2, v)),
    ("Recipe", "momentum", "number", lambda v: uw.retraining.Recipe(1, 2, 0.1, momentum=v)),
    ("Recipe", "optimizer", "choice", lambda v: uw.retraining.Recipe(1, 2, 0.1, optimizer=v)),
    ("Recipe", "cycle_momentum", "flag", lambda v: uw.retraining.Recipe(1, 2, 0.1, cycle_momentum=v)),
    (
        "train_many",
        "workers",
        "whole",
        lambda v: uw.retraining.train_many(train, [([0], 0)], model=nn.Linear(3, 3), workers=v),
    ),
    (
        "train_many",
        "jobs",
        "seed",
        lambda v: uw.retraining.train_many(train, [([0], v)], model=nn.Linear(3, 3)),
    ),
    (
        "train_together",
        "seeds",
        "seed",
        lambda v: uw.retraining.train_together(
            lambda: nn.Linear(3, 3), uw.losses.CrossEntropy(), queries(), [[0]], [v], uw.retraining.Recipe(1, 1, 0.1)
        ),
    ),
    ("LDS", "resamples", "whole", lambda v: uw.evaluation.LDS(halves(), resamples=v)),
    ("LDS", "level", "number", lambda v: uw.evaluation.LDS(halves(), level=v)),
    ("LDS", "seed", "seed", lambda v: uw.evaluation.LDS(halves(), seed=v)),
    ("LDS", "higher_is_better", "flag", lambda v: uw.evaluation.LDS(halves(), higher_is_better=v)),
    ("LeaveOneOut", "top", "whole", lambda v: uw.evaluation.LeaveOneOut(top=v)),
    ("LeaveOneOut", "seed", "seed", lambda v: uw.evaluation.LeaveOneOut(seed=v)),
    ("MislabelDetection", "level", "number", lambda v: uw.evaluation.MislabelDetection(level=v)),
    ("brittleness", "k", "whole", lambda v: uw.evaluation.brittleness(influence(), queries(), v, train)),
    ("brittleness", "seed", "seed", lambda v: uw.evaluation.brittleness(influence(), queries(), 2, train, seed=v)),
    (
        "brittleness",
        "controls",
        "whole",
        lambda v: uw.evaluation.brittleness(influence(), queries(), 2, train, controls=v),
    ),
    ("calibrate", "subsets", "whole", lambda v: influence().calibrate(queries(), train, subsets=v)),
    ("calibrate", "fraction", "number", lambda v: influence().calibrate(queries(), train, fraction=v)),
    ("calibrate", "seed", "seed", lambda v: influence().calibrate(queries(), train, seed=v)),
    ("calibrate", "seeds", "whole", lambda v: influence().calibrate(queries(), train, seeds=v)),
    ("explain", "k", "whole", lambda v: uw.tasks.explain(objective(), queries(), v)),
    ("explain", "leverage_corrected", "flag", lambda v: uw.tasks.explain(objective(), queries(), leverage_corrected=v)),
    (
        "explain",
        "newton_steps",
        "whole",
        lambda v: uw.tasks.explain(objective(), queries(), leverage_corrected=True, newton_steps=v),
    ),
    ("label_errors", "method", "choice", lambda v: uw.tasks.label_errors(objective(), method=v)),
    ("label errors' top", "k", "whole", lambda v: uw.tasks.label_errors(objective()).top(v)),
    ("unlearning's rounds", "steps", "whole", lambda v: uw.tasks.Rounds(steps=v)),
    ("unlearning's rounds", "holdout", "number", lambda v: uw.tasks.Rounds(search=True, holdout=v)),
    ("unlearning's rounds", "search", "flag", lambda v: uw.tasks.Rounds(search=v)),
    ("unlearning's rounds", "sample", "whole", lambda v: uw.tasks.Rounds(sample=v)),
    (
        "unlearn",
        "seed",
        "seed",
        lambda v: uw.tasks.unlearn(objective(), classes=[0], rounds=uw.tasks.Rounds(sample=3), seed=v),
    ),
    ("unlearn", "method", "choice", lambda v: uw.tasks.unlearn(objective(), classes=[0], method=v)),
    ("statistics", "information", "choice", lambda v: uw.statistics(convex("ridge").objective(), information=v)),
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
    ("TRAK", "dimension", "whole", lambda v: uw.TRAK(objective(), dimension=v).attribute(queries())),
    ("TRAK", "seed", "seed", lambda v: uw.TRAK(objective(), seed=v).attribute(queries())),
    ("TRAK", "projection", "choice", lambda v: uw.TRAK(objective(), projection=v).attribute(queries())),
    ("TRAK", "keep", "whole", lambda v: uw.TRAK(objective(), dimension=8).attribute(queries(), keep=v)),
    ("TracIn", "learning_rates", "number", lambda v: uw.TracIn(objective(), [objective().model], v)),
    (
        "TracIn",
        "normalize",
        "flag",
        lambda v: uw.TracIn(objective(), [objective().model], 0.1).attribute(queries(), normalize=v),
    ),
    ("generalized", "max_iterations", "whole", lambda v: influence().generalized(uw.Removal([0]), max_iterations=v)),
    ("generalized", "damping", "number", lambda v: influence().generalized(uw.Removal([0]), damping=v)),
    ("generalized", "tolerance", "number", lambda v: influence().generalized(uw.Removal([0]), tolerance=v)),
    ("generalized", "method", "choice", lambda v: influence().generalized(uw.Removal([0]), method=v)),
    ("mean_eigenvalue", "samples", "whole", lambda v: uw.curvature.mean_eigenvalue(matrix(), samples=v)),
    ("mean_eigenvalue", "seed", "seed", lambda v: uw.curvature.mean_eigenvalue(matrix(), seed=v)),
]


def matrix() -> Any:
    return uw.curvature.Matrix(torch.eye(3, dtype=DOUBLE))


ROWS = [(call, name, argument, value) for name, argument, kind, call in TABLE for value in KINDS[kind]]


@pytest.mark.parametrize(
    ("call", "argument", "value"),
    [(call, *rest) for call, _, *rest in ROWS],
    ids=[f"{n}({a}={v!r})" for _, n, a, v in ROWS],
)
def test_a_value_of_another_kind_is_refused_by_name(call: Callable[[Any], Any], argument: str, value: Any) -> None:
    with pytest.raises(InputError) as raised:
        call(value)
    words = str(raised.value)
    assert argument in words.split(":")[0], words
    assert any(
        shown in words for shown in (repr(value), str(value), f"{value:g}" if isinstance(value, float) else "…")
    ), words


def test_there_are_enough() -> None:
    assert len(ROWS) > 400


@pytest.mark.parametrize(
    "call",
    [
        lambda: made(l2=np.float32(0.01)),
        lambda: made(l2=torch.tensor(0.01)),
        lambda: made(batch_size=np.int64(4)),
        lambda: influence().plan(np.int32(3)),
        lambda: attribution().top(np.int64(2)),
        lambda: influence().attribute(queries(), renormalize=np.bool_(True)),
        lambda: influence().attribute(queries(), train=np.array([True] * 3 + [False] * (objective().n - 3))),
        lambda: solved(CG(damping=np.float32(0.1), tolerance=np.float64(1e-6))),
        lambda: solved(LiSSA(seed=np.int64(3), depth=np.int64(2000), damping=0.1)),
    ],
)
def test_numbers_of_numpy_and_torch_are_numbers(call: Callable[[], Any]) -> None:
    call()


class Broken(Dataset):
    """Its eighth example can't be read."""

    def __len__(self) -> int:
        return 24

    def __getitem__(self, i: int) -> Any:
        if i == 7:
            raise KeyError("picture 7.png")
        return softmax().x[i], softmax().y[i]


class Ragged(Broken):
    """Its examples are of two lengths."""

    def __getitem__(self, i: int) -> Any:
        return torch.ones(3 + (i == 1)), softmax().y[i]


def linear(*data: Any, loss: Any = None, model: nn.Module | None = None, **options: Any) -> uw.Objective:
    loss = uw.losses.CrossEntropy() if loss is None else loss
    return uw.Objective(nn.Linear(3, 3).double() if model is None else model, loss, data, **options)


def x() -> Any:
    return softmax().x


def ignored(count: int) -> Any:
    return torch.full((count,), -100)


def lists() -> Any:
    values = np.empty(24, dtype=object)
    values[:] = [[1]] * 24
    return values


def y() -> Any:
    return softmax().y


def meta_model() -> nn.Module:
    return nn.Linear(3, 3, device="meta")


def regression(*data: Any) -> uw.Objective:
    return linear(*data, loss=uw.losses.SquaredError(), model=nn.Linear(3, 1).double())


def convolutional(*data: Any) -> uw.Objective:
    return linear(*data, model=nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.LazyLinear(3)))


def tokens(*data: Any) -> uw.Objective:
    return linear(*data, model=nn.Sequential(nn.Embedding(5, 4), nn.Flatten(), nn.Linear(8, 3)))


def alone() -> uw.Influence:
    return uw.Influence(linear(x()[:1], y()[:1], l2=0.1))


FORMS: dict[str, tuple[Callable[[], Any], str]] = {
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
    "one example, renormalised": (lambda: alone().attribute(queries(), renormalize=True), r"renormalize: .*\(n=1\)"),
    "one example's own, renormalised": (lambda: alone().self_influence(renormalize=True), r"renormalize: .*\(n=1\)"),
    "one example, verified": (lambda: alone().verify(queries()), "data: n=1; leaving examples out takes two"),
    "one example's label": (lambda: uw.tasks.label_errors(linear(x()[:1], y()[:1])), "data: all 1 labels are of class"),
    "weights all zero": (lambda: made(weights=np.zeros(24)), "weights: all 24 are 0"),
    "weights of text": (lambda: made(weights=["a"] * 24), "weights: give 24 numbers, .*got list"),
    "weights of text in an array": (
        lambda: made(weights=np.array(["a"] * 24)),
        "weights: give 24 numbers, .*got ndarray",
    ),
    "two class names for three": (lambda: uw.tasks.label_errors(made(class_names=["a", "b"])), "class_names: 2 names"),
    "damping whose square is infinite": (
        lambda: uw.Influence(objective().to(torch.float32), LSMR(damping=1e30)).attribute(queries()),
        r"damping: give a finite number ≤ 1.84467e\+19; got 1e\+30",
    ),
    "queries of another width": (
        lambda: influence().attribute((x()[:3, :2], y()[:3])),
        r"queries: array 0 has examples of torch.float64 \[1, 2\], where .* torch.float64 \[1, 3\]",
    ),
    "queries swapped": (
        lambda: influence().attribute((y()[:3], x()[:3])),
        r"queries: array 0 has examples of torch.int64",
    ),
    "whole queries": (
        lambda: influence().attribute((x()[:3].long(), y()[:3])),
        r"queries: array 0 .*torch.int64 \[1, 3\]",
    ),
    "complex queries": (lambda: influence().attribute((x()[:3] + 0j, y()[:3])), r"queries: array 0 .*torch.complex128"),
    "queries of one dimension": (
        lambda: influence().attribute((x()[:3, 0], y()[:3])),
        r"queries: array 0 .*\[1\], where",
    ),
    "sparse queries": (lambda: influence().attribute((x()[:3].to_sparse(), y()[:3])), "queries: a tensor .*to_dense"),
    "queries without targets": (
        lambda: influence().attribute(x()[:3]),
        "queries: an example is Tensor, where one of the",
    ),
    "queries in a dict": (
        lambda: influence().attribute({"x": x()[:3], "y": y()[:3]}),
        "queries: an example is a dict of 'x'",
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
    "class names by number": (lambda: made(class_names=3), "class_names: give a list, one name per class.*got 3"),
    "class names in one word": (lambda: made(class_names="abc"), "class_names: give a list.*got 'abc'"),
    "class names twice": (lambda: made(class_names=["a", "b", "a"]), "class_names: .*'a' stands 2 times"),
    "no class names": (lambda: made(class_names=[]), "class_names: give a different name for each class; got none"),
    "collate by name": (lambda: made(collate="x"), "collate: give a function from a list .*got 'x'"),
    "no ids": (lambda: made(ids=[None] * 24), "ids: must be unique; None stands 24 times"),
    "ids that are lists": (lambda: made(ids=lists()), r"ids: must be unique; \[1\] is a list, which can't be a name"),
    "query ids twice": (
        lambda: influence().attribute(queries(), query_ids=[1, 1, 1]),
        "query_ids: must be unique; 1 stands 3 times",
    ),
    "a group of all": (lambda: influence().group(range(24), queries()), "indices: the group is all 24 .*nothing"),
    "a group of all, by a step": (
        lambda: influence().group([[1], range(24)], queries(), order="newton"),
        "indices: the group is all 24",
    ),
    "values of all queries at once": (
        lambda: influence().measure(queries(), lambda model, batch: model(batch[0]).sum()),
        "measurement: returned shape .* for 3 queries",
    ),
    "a θ of another length": (
        lambda: objective().at(torch.zeros(5)),
        r"params: give a tensor of p=12 numbers; got \(5,\)",
    ),
    "vectors of another length": (
        lambda: objective().inner(torch.zeros(2, 5, dtype=DOUBLE)),
        r"vectors: give rows \[k, 12\]; got \(2, 5\)",
    ),
    "queries that are all ignored": (
        lambda: influence().attribute((x()[:3], ignored(3))),
        "queries: 3 of 3 .* have no target but -100, which the loss ignores",
    ),
    "ignored queries under a class": (
        lambda: influence().attribute((x()[:3], ignored(3)), measurement=uw.measurements.LogProbability(1)),
        "queries: 3 of 3 .* have no target",
    ),
    "training data that is all ignored": (
        lambda: linear(x(), ignored(24)),
        "data: every target is -100, which the loss ignores, so nothing was learnt",
    ),
    "targets of text": (
        lambda: influence().generalized(uw.Relabelling([0], ["a"])),
        r"targets: give numbers; got \['a'\]",
    ),
    "targets that are no classes": (
        lambda: uw.retraining.relabel(objective(), [1], [7]),
        "CrossEntropy: targets range from 7 to 7",
    ),
    "classes of text": (lambda: uw.tasks.unlearn(objective(), classes="0"), "classes: give numbers; got '0'"),
    "a class for an inverse": (lambda: uw.Influence(objective(), CG), "inverse: the class CG, which is not yet"),
    "a class for a curvature": (lambda: CG(uw.curvature.GGN), "curvature: .*the class GGN"),
    "a damping for a curvature": (lambda: CG(0.1), "curvature: .*a damping goes by name.*got 0.1"),
    "a rule for a curvature": (lambda: EKFAC("auto"), "curvature: .*a damping goes by name.*got 'auto'"),
    "a class for a preconditioner": (lambda: CG(preconditioner=EKFAC), "preconditioner: .*the class EKFAC"),
    "a class for an ensemble's inverse": (
        lambda: uw.Ensemble(objective(), [softmax().model], Dual),
        "inverse: give one of upweight.inverse.*the class Dual",
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
    "no test data": (
        lambda: uw.tasks.fix_and_retrain(objective(), {"a": range(24)}, (y() + 1) % 3, None),
        "test: give examples",
    ),
    "queries that can't be read": (
        lambda: influence().attribute(Broken()),
        "queries: reading example 7 of 24 raised KeyError",
    ),
}


@pytest.mark.parametrize("mistake", FORMS)
def test_examples_that_the_model_does_not_take_are_told_in_words(mistake: str) -> None:
    make, message = FORMS[mistake]
    with pytest.raises(InputError, match=message):
        make()


def test_what_is_unlike_but_works_is_taken() -> None:
    """Log-probabilities under cross-entropy, sequences of another length, one-hot outputs passed on."""
    logs = nn.Sequential(nn.Linear(3, 3), nn.LogSoftmax(-1)).double()
    assert linear(x(), y(), model=logs).n == 24
    model = nn.Sequential(nn.Embedding(5, 4), nn.AdaptiveAvgPool2d((1, 4)), nn.Flatten(), nn.Linear(4, 3))
    sequences = uw.Objective(model, uw.losses.CrossEntropy(), (torch.randint(5, (6, 7)), torch.arange(6) % 3))
    assert sequences.losses((torch.randint(5, (2, 9)), torch.arange(2))).shape == (2,)


def test_other_data_takes_no_weights_and_names_that_nobody_gave() -> None:
    smaller = objective().replace(data=queries())
    assert (smaller.n, smaller.ids.tolist(), smaller.weights.tolist()) == (3, [0, 1, 2], [1.0, 1.0, 1.0])
    named = made(ids=[f"row {k}" for k in range(24)]).replace(data=(x() + 0, y()))
    assert named.ids[0] == "row 0"


def test_a_copy_collates_as_the_objective_does() -> None:
    examples = [{"x": row, "y": label} for row, label in zip(x(), y(), strict=True)]

    def collate(batch: list[Any]) -> Any:
        return torch.stack([each["x"] for each in batch]), torch.stack([each["y"] for each in batch])

    given = uw.Objective(softmax().model, uw.losses.CrossEntropy(), examples, collate=collate)
    assert given.replace(data=examples[:5]).losses().shape == (5,)
    assert given.to(torch.float32).losses().shape == (24,)


def test_some_ignored_queries_are_said_and_scored_as_nothing() -> None:
    some = x()[:3], torch.tensor([0, -100, 1])
    with pytest.warns(UpweightWarning, match=r"queries: 1 of 3 \(first at position 1\) have no target but -100"):
        scores = influence().attribute(some).scores
    assert scores.abs().sum(1).bool().tolist() == [True, False, True]


@pytest.mark.parametrize(
    "flat",
    [
        lambda model, batch: nn.functional.cross_entropy(model(batch[0]), batch[1], reduction="none").round(),
        lambda model, batch: (model(batch[0]) * 0).sum(1) + 1,
    ],
)
def test_a_loss_that_nothing_moves_is_said(flat: Any) -> None:
    with pytest.warns(UpweightWarning, match="the gradients of all 24 training examples are 0 at θ, so every score is"):
        linear(x(), y(), loss=flat).stationarity()


def test_a_measurement_without_a_gradient_can_be_measured() -> None:
    values = influence().measure(queries(), lambda model, batch: model(batch[0]).detach()[:, 0])
    assert values.shape == (3,)
