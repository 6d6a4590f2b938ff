"""Inverses, their curvatures, and their damping."""

from __future__ import annotations

from typing import Any

import torch

import upweight as uw
from bad_calls.case import Form, Row, objective, queries, softmax, solved
from problems import DOUBLE
from upweight.inverse import CG, EKFAC, KFAC, LSMR, Arnoldi, DataInf, Dense, Diagonal, Dual, LiSSA, Neumann, Nystrom

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


def matrix() -> Any:
    return uw.curvature.Matrix(torch.eye(3, dtype=DOUBLE))


TABLE: list[Row] = [
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
    ("TrainingLength", "rate", "number", lambda v: solved(CG(damping=uw.inverse.TrainingLength(v, 10)))),
    ("TrainingLength", "steps", "whole", lambda v: solved(CG(damping=uw.inverse.TrainingLength(0.1, v)))),
    ("MeanLeverage", "seed", "seed", lambda v: solved(CG(damping=uw.inverse.MeanLeverage(0.1, seed=v)))),
    ("Fisher", "samples", "whole", lambda v: solved(Dual(uw.curvature.Fisher(v), damping=0.1))),
    ("Fisher", "seed", "seed", lambda v: solved(Dual(uw.curvature.Fisher(1, seed=v), damping=0.1))),
    *(
        (name, "damping", "number", lambda v, kind=kind: solved(kind(damping=v)))  # type: ignore[misc]
        for name, kind in DAMPED.items()
    ),
    ("mean_eigenvalue", "samples", "whole", lambda v: uw.curvature.mean_eigenvalue(matrix(), samples=v)),
    ("mean_eigenvalue", "seed", "seed", lambda v: uw.curvature.mean_eigenvalue(matrix(), seed=v)),
]

FORMS: dict[str, Form] = {
    "damping whose square is infinite": (
        lambda: uw.Influence(objective().to(torch.float32), LSMR(damping=1e30)).attribute(queries()),
        r"damping: give a finite number ≤ 1.84467e\+19; got 1e\+30",
    ),
    "a class for a curvature": (lambda: CG(uw.curvature.GGN), "curvature: .*the class GGN"),
    "a damping for a curvature": (lambda: CG(0.1), "curvature: .*a damping goes by name.*got 0.1"),
    "a rule for a curvature": (lambda: EKFAC("auto"), "curvature: .*a damping goes by name.*got 'auto'"),
    "a class for a preconditioner": (lambda: CG(preconditioner=EKFAC), "preconditioner: .*the class EKFAC"),
    "a class for an ensemble's inverse": (
        lambda: uw.Ensemble(objective(), [softmax().model], Dual),
        "inverse: give one of upweight.inverse.*the class Dual",
    ),
}
