"""Scores for a task that is held against retraining: a variant fits once, and scores at one damping or at a grid."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from benchmarks.fidelity.measure import Growth, limited
from benchmarks.fidelity.peers.problem import Arrays, Measured, Problem, Refused


@dataclass(frozen=True)
class Fitted:
    """What a variant prepared: scores for a damping (None: the peer's default), the grid worth trying, settings."""

    score: Callable[[float | None], Tensor]
    grid: tuple[float, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)


Variant = Callable[[Problem, Path], Fitted]
"""From the problem and a folder for the peer's files, removed at the end."""


def measure(variant: Variant, problem: Problem, options: argparse.Namespace) -> tuple[Arrays, Measured]:
    """``scores``; and stages (seconds of fit, score and total), memory and settings."""
    with tempfile.TemporaryDirectory() as folder, Growth() as growth:
        scores, measured = _measure(partial(variant, problem, Path(folder)), problem, options)
    return {"scores": scores}, {**measured, "memory": growth.mib}


def _measure(fit: Callable[[], Fitted], problem: Problem, options: argparse.Namespace) -> tuple[np.ndarray, Measured]:
    """Fit once; score at the damping asked for, or at each of the grid, of which the best is kept."""
    start = time.perf_counter()
    with limited(options.limit):
        fitted = fit()
    fitting = time.perf_counter() - start
    settings, tried, best = dict(fitted.settings), {}, None
    for damping in _dampings(options.damping, fitted.grid):
        start = time.perf_counter()
        with limited(options.limit):
            scores = fitted.score(damping).detach().float().numpy()
        scoring = time.perf_counter() - start
        reached = lds(scores, problem) if np.isfinite(scores).all() else None
        tried["default" if damping is None else f"{damping:.3g}"] = reached
        if reached is not None and (best is None or reached > best[0]):
            best = reached, scores, scoring
            settings["damping"] = "default" if damping is None else damping
    if best is None:
        raise Refused("its scores are not finite")
    if len(tried) > 1:
        settings["grid"] = tried
    return best[1], {"stages": {"fit": fitting, "score": best[2], "total": fitting + best[2]}, "settings": settings}


def _dampings(asked: str, grid: tuple[float, ...]) -> tuple[float | None, ...]:
    if asked == "best":
        if not grid:
            raise Refused("it has no damping to choose")
        return grid
    return (None if asked == "default" else float(asked),)


def lds(scores: np.ndarray, problem: Problem) -> float:
    """Mean over queries of Spearman's ρ between −Σ_{i∈S} scores and the losses of retraining on S."""
    predicted = -np.stack([scores[:, subset].sum(1) for subset in problem.subsets])
    ranks = [np.argsort(np.argsort(values, axis=0), axis=0) for values in (predicted, problem.losses)]
    a, b = ((rank - rank.mean(0)) / rank.std(0) for rank in ranks)
    return float((a * b).mean())
