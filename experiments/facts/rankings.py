"""Rankings of training sentences by what a reference set says of them, and by what needs none."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

import upweight as uw
from experiments.facts.methods import DAMPING, RATE, Tokens, matrix
from experiments.facts.problem import LOSS, Trained
from experiments.results import table
from upweight.evaluation import AUPRC

RULES: dict[str, Callable[[np.ndarray], np.ndarray]] = {"mean": lambda s: s.mean(0), "nearest": lambda s: s.max(0)}
"""How one number is made of a sentence's scores for a reference set: their mean, or the largest."""
WORDS = "BM25"
OURS = "EK-FAC, cosines, 5 checkpoints"
LOSS_ALONG = "loss of the answer, 5 checkpoints"

Scores = dict[str, np.ndarray]
Judged = dict[str, list[float]]


@dataclass
class Along:
    """EK-FAC at every checkpoint of a training, of the loss of the answers alone, and each one's self-influence."""

    trained: Trained
    members: Sequence[uw.Influence]
    own: list[uw.Attribution]

    @classmethod
    def of(cls, trained: Trained, answers: Tokens) -> Along:
        """Fit them."""
        objective = uw.Objective(trained.model, LOSS, answers)
        members = uw.Ensemble(objective, trained.checkpoints, uw.inverse.EKFAC(damping=DAMPING)).influences()
        return cls(trained, members, [each.self_influence() for each in members])

    def by_reference(self, reference: Tokens) -> Scores:
        """``[reference, train]`` by each method, large for sentences that help."""
        objective = self.members[-1].objective
        tracin = uw.TracIn(objective, self.trained.checkpoints, [max(rate, RATE) for rate in self.trained.rates])
        plain, cosines = zip(*self._scores(reference), strict=True)
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

    def _scores(self, reference: Tokens) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Of every checkpoint the removal scores, and the cosines in the metric of the inverse curvature."""
        for influence, own in zip(self.members, self.own, strict=True):
            scores, gradients = influence.attribute(reference), influence.query_gradients(reference)
            lengths = (influence.solve(gradients).x * gradients).sum(1).double().sqrt().numpy()
            yield matrix(scores), matrix(scores.relative_to(own)) / lengths[:, None]

    def by_itself(self, answers: Tokens) -> Scores:
        """``[train]``, large for sentences that the model finds odd: what needs no reference set."""
        losses = [each.objective.losses(answers).double().numpy() for each in self.members]
        return {
            "loss of the answer": losses[-1],
            LOSS_ALONG: np.mean(losses, axis=0),
            "self-influence by EK-FAC": self.own[-1].scores.double().numpy(),
            "self-influence by EK-FAC, 5 checkpoints": np.mean([each.scores.double().numpy() for each in self.own], 0),
        }


def judged(suspicion: Mapping[str, np.ndarray], wanted: np.ndarray) -> Judged:
    """AUPRC of each ranking with the ends of its interval over sentences."""
    found = {}
    for name, values in suspicion.items():
        metric = AUPRC()
        metric.update(values, wanted)
        result = metric.compute()
        found[name] = [result.value, result.interval.low, result.interval.high]
    return found


def by_rules(scores: Scores, wanted: np.ndarray, sign: int) -> dict[str, Judged]:
    """AUPRC under each rule; ``sign`` −1 where what is wanted is unlike the reference set."""
    return {
        rule: judged({name: sign * made(each) for name, each in scores.items()}, wanted) for rule, made in RULES.items()
    }


def said(runs: Sequence[list[float]]) -> str:
    """Means over seeds of the figure and of the ends of its interval."""
    mean, low, high = np.mean(runs, axis=0)
    return f"{mean:.3f} [{low:.3f}, {high:.3f}]"


def tabled(columns: Mapping[str, Sequence[Judged]]) -> str:
    """A row for each method, the best of the first column first; a column for each of the settings."""
    first = next(iter(columns.values()))
    names = sorted(first[0], key=lambda name: -float(np.mean([run[name][0] for run in first])))
    rows = [
        [name, *(said([run[name] for run in runs]) if name in runs[0] else "" for runs in columns.values())]
        for name in names
    ]
    return table(["AUPRC", *columns], rows)
