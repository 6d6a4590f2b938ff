"""The reverse pass: from the derivative by the trained θ back through every step, for a block of queries at a time."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from upweight.progress import track
from upweight.replay.optimizers import State
from upweight.replay.run import Run
from upweight.replay.trajectory import Kept, packed, stretch, unpacked
from upweight.store.blocks import Blocks

SCORES = "scores"


@dataclass(frozen=True)
class Progress:
    """Where a reverse pass is kept, so that a killed one goes on.

    Attributes
    ----------
    blocks
        The store's.
    name
        Of this pass: its training, queries and measurement.
    """

    blocks: Blocks
    name: str

    def keep(self, steps: int, cotangents: State, scores: Tensor) -> None:
        """What there is before step ``steps``; the block before this one goes once this one is committed."""
        before = self.blocks.mark(self.name)
        parts = (scores,) if steps == 0 else (scores, *cotangents)
        key = f"blocks/{self.name}-{steps:09d}"
        self.blocks.commit(self.name, packed(parts), key=key, facts={"steps": steps})
        if before is not None and before.key != key:
            self.blocks.backend.delete(before.key)

    def read(self, slots: int, device: torch.device) -> tuple[int, State, Tensor] | None:
        """The steps that are still to come, with cotangents and scores; None where nothing whole is kept."""
        mark = self.blocks.mark(self.name)
        if mark is None or self.blocks.fault(self.name) is not None:
            return None
        like = (torch.empty(0, device=device),) * (1 if mark.facts["steps"] == 0 else 1 + slots)
        scores, *cotangents = unpacked(self.blocks.content(self.name), str(self.blocks.backend), like)
        return int(mark.facts["steps"]), tuple(cotangents), scores


def weight_derivatives(
    run: Run,
    kept: Kept,
    every: int,
    gradients: Float[Tensor, "queries p"],
    chunk: int,
    progress: Progress | None = None,
) -> Float[Tensor, "queries train"]:
    """Derivatives of measurements of the trained θ by the weights of all training examples.

    Parameters
    ----------
    kept, every
        States of the training, one every so many steps; those between are taken again, a stretch at a time.
    gradients
        Of the measurements in the trained θ; written over.
    chunk
        Queries that are differentiated together.

    Notes
    -----
    With s_{t+1} = u(s_t, g_t(θ_t, w)) the cotangents obey λ_t = (∂s_{t+1}/∂s_t)ᵀλ_{t+1}, and dm/dw_i is the sum over
    the steps with i of (∂s_{t+1}/∂w_i)ᵀλ_{t+1} (Engstrom et al. 2025, REPLAY, arXiv:2503.13751, section 2).
    """
    slots = len(run.begin())
    blocks = [(part, *(torch.zeros_like(part) for _ in range(slots - 1))) for part in gradients.split(chunk)]
    scores = gradients.new_zeros(len(gradients), len(run.weights))
    left, done = len(run), None if progress is None else progress.read(slots, gradients.device)
    if done is not None:
        left, whole, scores = done
        blocks = list(zip(*(part.split(chunk) for part in whole), strict=True))
    starts = [first for first in range(0, len(run), every) if first < left]
    for first in track(list(reversed(starts)), "replaying"):
        last = min(first + every, len(run))
        states = stretch(run, kept, first, last)
        for number in reversed(range(first, last)):
            by_weight = run.pull_(states.pop(), number, blocks)
            scores.index_add_(1, run.batches[number].to(scores.device), by_weight)
        if progress is not None:
            progress.keep(first, tuple(torch.cat(parts) for parts in zip(*blocks, strict=True)), scores)
    return scores
