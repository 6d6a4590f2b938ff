"""How far two systems' scores of the same examples agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


def agreement(scores: Tensor, others: Tensor) -> dict[str, float]:
    """Correlations of all scores, the mean over queries of those of their ranks, and ‖s − o‖ / ‖o‖."""
    scores, others = scores.double(), others.double()
    ranked = [correlation(ranks(one), ranks(other)) for one, other in zip(scores, others, strict=True)]
    return {
        "pearson": correlation(scores.flatten(), others.flatten()),
        "spearman": sum(ranked) / len(ranked),
        "distance": float((scores - others).norm() / others.norm()),
    }


def between(scores: Mapping[tuple[str, str], Tensor], precision: str, systems: Sequence[str]) -> dict[str, Any]:
    """Of scores by precision and system: ``agreement`` of two systems, and of each with its float32's."""
    there = [scores[precision, system] for system in systems if (precision, system) in scores]
    found: dict[str, Any] = {"agreement": agreement(*there)} if len(there) == 2 else {}
    beside = {
        system: agreement(scores[precision, system], scores["float32", system])
        for system in systems
        if precision != "float32" and (precision, system) in scores and ("float32", system) in scores
    }
    return found | ({"beside_float32": beside} if beside else {})


def ranks(values: Tensor) -> Tensor:
    """Places in ascending order, of equal values in the order in which they stand."""
    return values.argsort(stable=True).argsort().double()


def correlation(one: Tensor, other: Tensor) -> float:
    """Pearson's."""
    return float(torch.corrcoef(torch.stack((one, other)))[0, 1])
