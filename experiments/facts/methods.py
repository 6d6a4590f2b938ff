"""The scores that are compared, each of training sentences for questions or for sentences known to be true."""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterator

import numpy as np
from torch import Tensor

import upweight as uw
from experiments.facts.problem import LOSS, Trained

DAMPING = uw.inverse.MeanEigenvalue(0.01)
RATE = 1e-8
"""In place of the last epoch's, which is 0."""

Tokens = dict[str, Tensor]


def scores(trained: Trained, tokens: Tokens, queries: Tokens, *, cg: bool = False) -> Iterator[tuple[str, np.ndarray]]:
    """``[queries, train]`` by each method, large for helpful sentences."""
    objective = uw.Objective(trained.model, LOSS, tokens)
    similar = uw.similarity
    yield "gradient dot product", matrix(similar.gradient_dot(objective, queries))
    yield "gradient cosine", matrix(similar.gradient_cosine(objective, queries))
    yield "representation cosine", matrix(similar.representation_cosine(objective, queries))
    trak = uw.TRAK(objective, dimension=2048, measurement="loss")
    yield "TRAK", matrix(trak.attribute(queries))
    trak = uw.TRAK(objective, trained.checkpoints, dimension=2048, measurement="loss")
    yield "TRAK, 5 checkpoints", matrix(trak.attribute(queries))
    tracin = uw.TracIn(objective, trained.checkpoints, [max(rate, RATE) for rate in trained.rates])
    yield "TracIn, 5 checkpoints", matrix(tracin.attribute(queries))
    yield "TracIn of cosines, 5 checkpoints", matrix(tracin.attribute(queries, normalize=True))
    inverse = uw.inverse.EKFAC(damping=DAMPING)
    members = uw.Ensemble(objective, trained.checkpoints, inverse).influences()
    found = [(each.attribute(queries), each.self_influence()) for each in members]
    yield "EK-FAC", matrix(found[-1][0])
    yield "EK-FAC, relative", matrix(found[-1][0].relative_to(found[-1][1]))
    yield "EK-FAC, 5 checkpoints", np.mean([matrix(each) for each, _ in found], axis=0)
    total = functools.reduce(operator.add, [own.scores for _, own in found]).double().sqrt()
    yield "EK-FAC, relative, 5 checkpoints", np.sum([matrix(each) for each, _ in found], axis=0) / total.numpy()
    if cg:
        solver = uw.inverse.CG(
            uw.curvature.GGN(), damping=DAMPING, preconditioner=inverse, tolerance=0.1, max_iterations=20
        )
        yield "EK-FAC + CG", matrix(uw.Influence(objective, solver).attribute(queries))


def matrix(attribution: uw.Attribution) -> np.ndarray:
    """Scores in float64 with the sign by which large is helpful."""
    return attribution.quantity.helpful_sign * attribution.scores.double().numpy()
