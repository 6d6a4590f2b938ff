"""Inverses of every kind, and a small matrix to invert."""

import torch

from problems import DOUBLE
from upweight.inverse import CG, LSMR, Dense, LiSSA


def spd(p=12, smallest=0.1):
    q, _ = torch.linalg.qr(torch.randn(p, p, dtype=DOUBLE))
    return q @ torch.diag(torch.linspace(smallest, 2.0, p, dtype=DOUBLE)) @ q.T


def exact(matrix, vectors, damping=0.0):
    return torch.linalg.solve(matrix + damping * torch.eye(len(matrix), dtype=DOUBLE), vectors.T).T


NEUMANN = LiSSA(batch_size=None, repeats=1, depth=500)
SOLVERS = {
    "cholesky": Dense(),
    "eigen": Dense(method="eigen"),
    "indefinite": Dense(indefinite=True),
    "CG": CG(),
    "CG by dense": CG(preconditioner=Dense()),
    "CG by CG": CG(preconditioner=CG(tolerance=1e-12)),
    "CG by LSMR": CG(preconditioner=LSMR(tolerance=1e-12)),
    "CG by LiSSA": CG(preconditioner=LiSSA(batch_size=None, repeats=1, depth=20)),
    "LSMR": LSMR(tolerance=1e-13),
    "LiSSA": NEUMANN,
}


def damped(inverse, damping, kind=None):
    changes = {"damping": damping} | ({} if kind is None else {"curvature": kind})
    return type(inverse)(**{**{name: getattr(inverse, name) for name in inverse.__dataclass_fields__}, **changes})
