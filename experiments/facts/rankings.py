"""Rankings of training sentences by what a reference set says of them, and by what needs none."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

import upweight as uw
from experiments.facts.methods import DAMPING, RATE, Tokens, matrix
from experiments.facts.problem import LOSS, Trained
from upweight.evaluation import AUPRC

Scores = dict[str, np.ndarray]
RULES: dict[str, Callable[[np.ndarray], np.ndarray]] = {"mean": lambda s: s.mean(0), "nearest": lambda s: s.max(0)}
"""How one number is made of a sentence's scores for a reference set: their mean, or the largest."""
OURS = "EK-FAC, cosines, 5 checkpoints"


def members(trained: Trained, answers: Tokens) -> Sequence[uw.Influence]:
    """EK-FAC at every checkpoint, of the loss of the answers alone."""
    objective = uw.Objective(trained.model, LOSS, answers)
    return uw.Ensemble(objective, trained.checkpoints, uw.inverse.EKFAC(damping=DAMPING)).influences()


def by_reference(trained: Trained, along: Sequence[uw.Influence], reference: Tokens) -> Scores:
    """``[reference, train]`` by each method, large for sentences that help; gradients are of the answers alone."""
    objective = along[-1].objective
    tracin = uw.TracIn(objective, trained.checkpoints, [max(rate, RATE) for rate in trained.rates])
    plain, cosines = [], []
    for influence in along:
        scores = influence.attribute(reference)
        gradients = influence.query_gradients(reference)
        length = (influence.solve(gradients).x * gradients).sum(1).double().sqrt().numpy()
        plain.append(matrix(scores))
        cosines.append(matrix(scores.relative_to(influence.self_influence())) / length[:, None])
    return {
        "representation cosine": matrix(uw.similarity.representation_cosine(objective, reference)),
        "gradient dot product": matrix(uw.similarity.gradient_dot(objective, reference)),
        "gradient cosine": matrix(uw.similarity.gradient_cosine(objective, reference)),
        "TracIn, 5 checkpoints": matrix(tracin.attribute(reference)),
        "TracIn of cosines, 5 checkpoints": matrix(tracin.attribute(reference, normalize=True)),
        "EK-FAC": plain[-1],
        "EK-FAC, 5 checkpoints": np.mean(plain, axis=0),
        "EK-FAC, cosines": cosines[-1],
        OURS: np.mean(cosines, axis=0),
    }


def by_itself(along: Sequence[uw.Influence], sentences: Tokens, answers: Tokens) -> Scores:
    """``[train]``, large for sentences that the model finds odd: what needs no reference set."""
    losses = [each.objective.losses(answers).double().numpy() for each in along]
    own = [each.self_influence().scores.double().numpy() for each in along]
    return {
        "loss of the sentence": along[-1].objective.losses(sentences).double().numpy(),
        "loss of the answer": losses[-1],
        "loss of the answer, 5 checkpoints": np.mean(losses, axis=0),
        "self-influence by EK-FAC, 5 checkpoints": np.mean(own, axis=0),
    }


def judged(suspicion: Mapping[str, np.ndarray], wanted: np.ndarray) -> dict[str, list[float]]:
    """AUPRC of each ranking with the ends of its interval over sentences."""
    found = {}
    for name, values in suspicion.items():
        metric = AUPRC()
        metric.update(values, wanted)
        result = metric.compute()
        found[name] = [result.value, result.interval.low, result.interval.high]
    return found
