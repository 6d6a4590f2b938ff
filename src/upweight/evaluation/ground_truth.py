"""Models retrained on random subsets: what scores are held against, made by the user's own training."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from upweight import kinds, scalars
from upweight.errors import InputError
from upweight.evaluation.lds import LDS, LDSResult
from upweight.evaluation.protocol import Protocol, ProtocolName
from upweight.evaluation.subsets import FEWEST
from upweight.evaluation.training import Training, as_training
from upweight.kept import random_states_kept
from upweight.measurements import as_measurement
from upweight.objective import Objective
from upweight.quantities.measured import measured
from upweight.quantities.queries import check_query_targets
from upweight.retraining import random_halves
from upweight.retraining.by_weights import AtWeight, taking_weights
from upweight.retraining.workers import Train

SAME = 1e-3
"""‖Δθ‖/‖θ‖ up to which a run on all examples is that of the model explained: rounding of another machine."""


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """Outcomes of retraining.

    Attributes
    ----------
    subsets
        Positions of each subset's training examples, ``[subsets, size]``.
    outcomes
        The measurement of each query under each model, ``[subsets, seeds, queries]``.
    protocol
        What they are a truth of.
    higher_is_better
        Whether outcomes are such that a larger one is better.
    seconds
        Wall time of the retraining.
    """

    subsets: Int[Tensor, "subsets size"]
    outcomes: Float[Tensor, "subsets seeds queries"]
    protocol: Protocol
    higher_is_better: bool
    seconds: float

    def metric(self, **options: Any) -> LDS:
        """An empty `LDS` of these subsets in this protocol; options are of its bootstrap."""
        return LDS(self.subsets, higher_is_better=self.higher_is_better, protocol=self.protocol.name, **options)

    def lds(self, scores: Any) -> LDSResult:
        """The linear datamodelling score of some scores, ``[queries, train]``."""
        metric = self.metric()
        metric.update(scores, self.outcomes)
        return metric.compute()

    def __repr__(self) -> str:
        count, seeds, queries = self.outcomes.shape
        return (
            f"GroundTruth({count} subsets × {seeds} seeds × {queries} queries; {self.protocol}; {self.seconds:.1f} s)"
        )


@random_states_kept()
def ground_truth(
    objective: Objective,
    train: Train | Training,
    queries: Any,
    *,
    protocol: ProtocolName = "averaged seeds",
    kept: float = 0.5,
    subsets: int = 50,
    measurement: Any = None,
    seed: int = 0,
) -> GroundTruth:
    """Train models on random subsets of the training data, and measure the queries under each.

    Parameters
    ----------
    train
        *averaged seeds*: ``train(indices, seed)`` (or a `Training` with seeds, workers, folder), on subsets ``[size]``.
        *same run*: ``train(weights, seed)`` with the one seed of the model explained; each example's loss is times its
        weight, 1 or 0, ``[train]`` floats, and batches are what they were.
    protocol
        ``averaged seeds`` or ``same run``; see `Protocol`.
    kept
        Share of the training examples in a subset.
    subsets
        How many are drawn, by ``seed``.
    measurement
        What is measured of a query; default the loss.

    Raises
    ------
    InputError
        If an argument is impossible; in *same run*, if there are several seeds, ``train`` can't take weights, or with
        all weights 1 it doesn't give the model of the objective (with the difference).
    """
    kinds.check(ground_truth, locals())
    scalars.one_of("protocol", protocol, get_args(ProtocolName))
    scalars.whole("subsets", subsets, FEWEST)
    scalars.number("kept", kept, above=0, most=1)
    training, same = as_training(train), protocol == "same run"
    if same and len(training.seeds) > 1:
        raise InputError(
            f"train: protocol='same run' has one seed, that of the model explained; got {len(training.seeds)}"
        )
    kind = as_measurement(measurement)
    data = objective.queries(queries)
    check_query_targets(objective, data, kind)
    drawn = random_halves(objective.n, subsets, seed, kept)
    started = time.perf_counter()

    def outcomes(wanted: list[Tensor], used: Training, checked: Callable[[Objective], None]) -> list[Tensor]:
        found = []
        for number, model in enumerate(used.models(objective, wanted)):
            if not number:
                checked(model)
            found.append(measured(model, data, kind))
        return found

    if same:
        by_weights = replace(training, train=AtWeight(training.train, objective.n))
        everything = torch.arange(objective.n)
        with taking_weights():
            found = outcomes([everything, *drawn], by_weights, lambda model: refuse_another_run(objective, model))[1:]
    else:
        found = outcomes(list(drawn), training, lambda model: None)
    by_seed = torch.stack(found).reshape(len(training.seeds), subsets, -1).transpose(0, 1)
    share = drawn.shape[1] / objective.n
    return GroundTruth(
        drawn,
        by_seed,
        Protocol(protocol, share, len(training.seeds)),
        kind.helpful_sign > 0,
        time.perf_counter() - started,
    )


def refuse_another_run(objective: Objective, again: Objective) -> None:
    """Refuse a training that on all examples doesn't give the model explained.

    Raises
    ------
    InputError
        With the difference.
    """
    apart = float((again.params - objective.params).norm() / objective.params.norm())
    if not apart <= SAME:
        raise InputError(
            f"train: with every weight 1 it gives another model than the objective's, ‖Δθ‖ = {apart:.2g} ‖θ‖, so this "
            "isn't the run that is explained. Give the seed that it had, Training(train, seeds=(seed,)), let the seed "
            "decide all that is random, or explain the model that train gives"
        )
