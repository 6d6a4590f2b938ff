"""Who scores shards: what an executor sends to each of its processes."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from upweight.engine.exhausted import within_memory
from upweight.engine.stationarity import Moments
from upweight.gradients.denormals import flushed
from upweight.jobs import parts
from upweight.jobs.parts import Part
from upweight.jobs.shards import Shard
from upweight.kept import random_states_kept
from upweight.linalg.extremes import extremes
from upweight.precision import Precision, products
from upweight.quantities.scoring import Scoring
from upweight.store.array import ScoreArray
from upweight.store.backend import Backend
from upweight.store.blocks import Blocks
from upweight.stored.names import SCORES


def same(worker: Worker) -> Worker:
    """What an executor calls in each of its processes: the worker as it was sent there."""
    return worker


@dataclass(eq=False)
class Worker:
    """Scores shards, and commits them.

    Attributes
    ----------
    positions
        Training examples of the job, None: all.
    passes
        Bytes that passes hold.
    gathers
        Whether sums of the training gradients are taken on the way.
    bounded
        Whether the lowest score of each query is wanted.
    """

    scoring: Scoring
    positions: Tensor | None
    place: Backend
    array: ScoreArray
    top_k: int | None
    precision: Precision | None
    passes: int
    gathers: bool
    bounded: bool

    def __call__(self, shard: Shard) -> dict[str, Any]:
        """Do a shard; what is to be logged of it."""
        started = time.perf_counter()
        engine = self.scoring.objective.engine
        engine.hold(self.passes)
        scores, moments = within_memory(engine, lambda: self._scored(shard))
        self.passes = engine.memory
        scores = scores.cpu()
        if self.top_k is None:
            content = self.array.encoded(scores.numpy())
            Blocks(self.place).commit(f"{SCORES}-{shard.name}", content, key=self.array.key(shard.number))
        parts.commit(Blocks(self.place), shard.number, self._part(shard, scores, moments))
        return {"seconds": round(time.perf_counter() - started, 3), "process": os.getpid()}

    def _scored(self, shard: Shard) -> tuple[Tensor, Moments | None]:
        objective = self.scoring.objective
        chosen = torch.arange(shard.start, shard.stop)
        chosen = chosen if self.positions is None else self.positions[chosen]
        moments = Moments(objective.params, objective.layout) if self.gathers else None
        with random_states_kept(), products(self.precision), flushed():
            return self.scoring(chosen, moments), moments

    def _part(self, shard: Shard, scores: Tensor, moments: Moments | None) -> Part:
        tensors: dict[str, Tensor] = {}
        if moments is not None:
            tensors |= {"total": moments.total, "squares": moments.each}
        if self.bounded:
            tensors["lowest"], at = scores.min(1)
            tensors["lowest_at"] = at + shard.start
        if self.top_k is not None:
            rows = torch.atleast_2d(scores)
            for name, descending in parts.EXTREMES.items():
                found = extremes(rows, shard.start, self.top_k, descending=descending)
                tensors |= {name: found.values, f"{name}_at": found.places}
        return Part(tensors, (self.scoring.report.to_dict(),))
