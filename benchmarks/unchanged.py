"""Do scores stay what they were? ``python -m benchmarks.unchanged save before.npz``, change the code, then
``python -m benchmarks.unchanged compare before.npz``.

Thirty configurations (inverse × model × quantity) on small random data, each in float64 and float32. A redesign agrees
to 1e-12 of the largest score in float64 and to 1e-6 in float32, on the same machine.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import upweight as uw

ALLOWED = {torch.float64: 1e-12, torch.float32: 1e-6}
N, QUERIES = 60, 5

Scores = Callable[[uw.Objective, Any], Tensor]


class Recurrent(nn.Module):
    """A GRU whose last state is classified."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRU(3, 4, batch_first=True)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Classes of sequences."""
        return self.head(self.cell(x)[0][:, -1])


def linear(outputs: int) -> nn.Module:
    return nn.Linear(4, outputs)


def perceptron() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))


def convolutional() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(3 * 16, 3))


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], Any]] = {
    "ridge": (lambda: linear(1), (4,), uw.losses.SquaredError()),
    "logistic": (lambda: linear(1), (4,), uw.losses.BinaryLogistic()),
    "softmax": (lambda: linear(3), (4,), uw.losses.CrossEntropy()),
    "perceptron": (perceptron, (4,), uw.losses.CrossEntropy()),
    "convolutional": (convolutional, (1, 6, 6), uw.losses.CrossEntropy()),
    "recurrent": (Recurrent, (5, 3), uw.losses.CrossEntropy()),
}


def problem(name: str, dtype: torch.dtype) -> tuple[uw.Objective, Any]:
    torch.manual_seed(1)
    make, shape, loss = MODELS[name]
    model, x = make().to(dtype).eval(), torch.randn(N + QUERIES, *shape).to(dtype)
    classes = {"ridge": None, "logistic": 2}.get(name, 3)
    y = x.flatten(1)[:, 0] + torch.randn(N + QUERIES).to(dtype) if classes is None else torch.arange(len(x)) % classes
    objective = uw.Objective(model, loss, (x[:N], y[:N]), l2=0.05, weights=torch.linspace(0.5, 1.5, N))
    return objective, (x[N:], y[N:])


def attributed(inverse: Callable[[], Any], **options: Any) -> Scores:
    return lambda objective, queries: uw.Influence(objective, inverse()).attribute(queries, **options).scores


def itself(inverse: Callable[[], Any], **options: Any) -> Scores:
    return lambda objective, _: uw.Influence(objective, inverse()).self_influence(**options).scores


def grouped(inverse: Callable[[], Any], order: Any) -> Scores:
    groups = [[0, 3, 5], [7, 8]]
    return lambda objective, queries: uw.Influence(objective, inverse()).group(groups, queries, order=order).scores


def relabelled(objective: uw.Objective, queries: Any) -> Tensor:
    labels = objective.data.take([1, 5])[1].roll(1)
    return uw.Influence(objective).relabel([1, 5], labels, queries).scores


def generalised(objective: uw.Objective, queries: Any) -> Tensor:
    response = uw.Influence(objective).generalized(uw.Removal([0, 1, 2]), ["2.*"], method="GIF")
    return response.step


GGN, FISHER, HESSIAN = uw.curvature.GGN, uw.curvature.EmpiricalFisher, uw.curvature.Hessian
INVERSES: dict[str, Callable[[], Any]] = {
    "default": lambda: None,
    "dense": lambda: uw.inverse.Dense(GGN(), damping=0.01),
    "dual": lambda: uw.inverse.Dual(damping=0.01),
    "dual of the empirical Fisher": lambda: uw.inverse.Dual(FISHER(), damping=0.01),
    "cg": lambda: uw.inverse.CG(GGN(), damping=0.01, tolerance=1e-12),
    "kfac": lambda: uw.inverse.KFAC(damping=0.01),
    "ekfac": lambda: uw.inverse.EKFAC(damping=0.01),
    "ekfac, damping by itself": lambda: uw.inverse.EKFAC(),
    "nystrom": lambda: uw.inverse.Nystrom(10, GGN(), damping=0.01),
    "arnoldi": lambda: uw.inverse.Arnoldi(10, GGN(), damping=0.01),
    "lissa": lambda: uw.inverse.LiSSA(GGN(), damping=0.1),
    "diagonal": lambda: uw.inverse.Diagonal(damping=0.01),
    "datainf": lambda: uw.inverse.DataInf(damping=0.01),
    "identity": lambda: uw.inverse.Identity(),
}
CONFIGURATIONS: dict[str, tuple[str, Scores]] = {
    **{f"{model}, default": (model, attributed(INVERSES["default"])) for model in MODELS},
    **{f"perceptron, {name}": ("perceptron", attributed(made)) for name, made in INVERSES.items() if name != "default"},
    "ridge, exact Hessian": ("ridge", attributed(lambda: uw.inverse.Dense(HESSIAN()))),
    "softmax, leverage": ("softmax", attributed(INVERSES["dense"], leverage_corrected=True)),
    "logistic, renormalized": ("logistic", attributed(INVERSES["default"], renormalize=True)),
    "convolutional, ekfac, upweight": ("convolutional", attributed(INVERSES["ekfac"], quantity="upweight")),
    "recurrent, kfac, margins": ("recurrent", attributed(INVERSES["kfac"], measurement="margin")),
    "convolutional, itself": ("convolutional", itself(INVERSES["ekfac"])),
    "softmax, itself": ("softmax", itself(INVERSES["dense"], leverage_corrected=True)),
    "perceptron, groups": ("perceptron", grouped(INVERSES["dual"], "second")),
    "ridge, groups by Newton": ("ridge", grouped(INVERSES["default"], "newton")),
    "perceptron, relabelled": ("perceptron", relabelled),
    "perceptron, generalised": ("perceptron", generalised),
}


def found() -> Iterator[tuple[str, torch.dtype, Tensor]]:
    for name, (model, scores) in CONFIGURATIONS.items():
        for dtype in ALLOWED:
            objective, queries = problem(model, dtype)
            torch.manual_seed(2)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield f"{name}, {str(dtype).removeprefix('torch.')}", dtype, scores(objective, queries)


def save(path: Path) -> None:
    np.savez(path, **{name: scores.numpy() for name, _, scores in found()})


def compare(path: Path) -> int:
    """The number of configurations that moved."""
    moved = 0
    with np.load(path) as before:
        for name, dtype, scores in found():
            then = torch.from_numpy(before[name])
            gap = float((scores - then).abs().max() / then.abs().max())
            moved += not gap <= ALLOWED[dtype]
            print(f"{gap:8.1e}  {'' if gap <= ALLOWED[dtype] else 'MOVED  '}{name}")
    print(f"{moved} moved")
    return moved


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("save", "compare"))
    parser.add_argument("path", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.what == "save":
        save(given.path)
    else:
        sys.exit(bool(compare(given.path)))


if __name__ == "__main__":
    main()
