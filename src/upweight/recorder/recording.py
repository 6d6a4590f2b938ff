"""`Recording`: what a `Recorder` kept, read back."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from upweight import scalars
from upweight.errors import InputError
from upweight.recorder.log import Log
from upweight.recorder.recorder import KEPT, LEFT_OUT, METRIC, STATE
from upweight.store.backend import Backend, backend
from upweight.store.blocks import Blocks
from upweight.store.tensors import unpack

FROZEN = torch.finfo(torch.bfloat16).max / 2
"""The metric of a parameter that wasn't moved: what is divided by it vanishes."""


@dataclass(frozen=True, eq=False)
class Recording:
    """What a `Recorder` kept; a checkpoint is read when it is asked for.

    Attributes
    ----------
    blocks
        The committed blocks.
    names
        One for each checkpoint, in order.
    """

    blocks: Blocks
    names: tuple[str, ...]

    @classmethod
    def open(cls, store: str | os.PathLike[str] | Backend) -> Recording:
        """Open a recording; no code is run.

        Raises
        ------
        InputError
            If there is none.
        """
        blocks = Blocks(backend(store))
        names = tuple(blocks.marks("step-"))
        if not names:
            raise InputError(
                f"store: {blocks.backend} holds no recording with a checkpoint; give the place that a uw.Recorder was "
                "told, after as many steps as its every= or its close()"
            )
        return cls(blocks, names)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def steps(self) -> list[int]:
        """Steps that had been taken at each checkpoint."""
        return [int(mark.facts["steps"]) for mark in self.blocks.marks("step-").values()]

    @property
    def checkpoints(self) -> list[dict[str, Tensor]]:
        """State dicts of the model, in order; what doesn't change is one tensor in all of them."""
        held: dict[str, dict[str, Tensor]] = {}
        found = []
        for tensors, facts in map(self._read, self.names):
            state = _named(tensors, STATE)
            for name, (block, _) in facts["once"].items():
                if block not in held:
                    held[block] = _named(self._read(block)[0], STATE)
                state[name] = held[block][name]
            found.append(state | {name: state[first] for name, first in facts["same"].items()})
        return found

    @property
    def metrics(self) -> list[dict[str, Tensor]] | None:
        """What a gradient is divided by in the steps of each checkpoint, by parameter name; None if by nothing.

        √v̂ + ε, and where groups of parameters had different rates times the largest over the parameter's own, so that
        the rate of `learning_rates` over it is the parameter's.

        Raises
        ------
        InputError
            If the optimiser divides, and what it divides by wasn't kept.
        """
        found: list[dict[str, Tensor]] = []
        for number, (tensors, facts) in enumerate(map(self._read, self.names)):
            if facts["metric"] == LEFT_OUT:
                raise InputError(
                    f"metrics: the recording in {self.blocks.backend} has no state of its optimiser (moments=None), by "
                    "which the optimiser divided; record with moments='bfloat16', or leave the metric aside: "
                    "uw.TracIn(objective, run.checkpoints, run.learning_rates(objective.n))"
                )
            shares = self._shares(number)
            if facts["metric"] != KEPT and all(share == 1 for share in shares.values()):
                found.append({})
                continue
            state = _named(tensors, METRIC)
            if facts["metric"] != KEPT:
                state = {name: torch.ones_like(tensors[STATE + name]) for name in shares if STATE + name in tensors}
            found.append({name: _over(value, shares.get(name, 1.0)) for name, value in state.items()})
        return found if all(found) else None

    def _shares(self, number: int) -> dict[str, float]:
        """By parameter, its rate over the largest group's, in the steps of a checkpoint."""
        largest, own = 0.0, dict[str, float]()
        for log, rates in self._of(number):
            largest += float(rates.max(1).sum())
            for group, total in zip(log.groups, rates.sum(0), strict=True):
                own.update({name: own.get(name, 0.0) + float(total) for name in group.names})
        return {name: total / largest if largest else 1.0 for name, total in own.items()}

    @property
    def rates(self) -> Float[np.ndarray, " steps"]:
        """The learning rate of each step, of several groups the largest."""
        return np.concatenate([np.array(log.rates).max(1) for log in self._logs])

    @property
    def order(self) -> list[np.ndarray]:
        """Positions of the training examples, step by step.

        Raises
        ------
        InputError
            If they weren't recorded for every step; the message says why, where that is known.
        """
        return [np.array(chosen, dtype=np.int64) for chosen in self._ordered()]

    def _ordered(self) -> Iterator[list[int]]:
        for log in self._logs:
            for step, chosen in enumerate(log.examples, start=log.first + 1):
                if chosen is None:
                    why = f" ({log.unordered})" if log.unordered else ""
                    raise InputError(
                        f"order: the examples of step {step:,} weren't recorded{why}; the order of a shuffled loader "
                        "can't be told afterwards. Record with recorder.step(positions), or take scores that don't "
                        "need it: run.learning_rates(n) counts every example alike"
                    )
                yield chosen

    def learning_rates(self, examples: int) -> list[float]:
        """η of each checkpoint, as `TracIn` takes them: Σ of the rates of the steps since the last, over n examples.

        A step on the mean of B examples multiplies a gradient by η/B, and an example is in B/n of the steps. Momentum μ
        steps along it 1/(1−μ) times in all. Of several groups the largest rate (see `metrics`).
        """
        scalars.whole("examples", examples)
        return [
            sum(float(rates.max(1).sum()) for _, rates in self._of(number)) / examples for number in range(len(self))
        ]

    def example_rates(self, examples: int) -> Float[Tensor, "checkpoints n"]:
        """η of each checkpoint for each example: Σ of η/B over the steps that it was in.

        For examples that weren't met equally often: a last epoch that was not finished, batches by length, a
        curriculum, weights of a sampler.

        Raises
        ------
        InputError
            If the order wasn't recorded, or is of more than ``examples`` examples.
        """
        scalars.whole("examples", examples)
        order = list(self._ordered())
        largest = max((max(chosen, default=0) for chosen in order), default=0)
        if largest >= examples:
            raise InputError(
                f"examples: the recording has met the example at {largest:,}, and {examples:,} were given; give as "
                "many as the training data that it was recorded on"
            )
        found, begun = torch.zeros(len(self), examples, dtype=torch.float64), self._logs[0].first
        for number in range(len(self)):
            steps = np.concatenate([rates.max(1) for _, rates in self._of(number)])
            first = ([begun, *self.steps][number]) - begun
            for rate, chosen in zip(steps, order[first : first + len(steps)], strict=True):
                met = torch.tensor(chosen, dtype=torch.int64)
                found[number].index_add_(0, met, torch.full((len(met),), rate / max(len(met), 1), dtype=torch.float64))
        return found

    @cached_property
    def _logs(self) -> tuple[Log, ...]:
        """Up to the last checkpoint."""
        logs = [Log.of(self.blocks.content(name), name) for name in self.blocks.names("log-")]
        last = self.steps[-1]
        kept = tuple(log.until(last) for log in logs if log.first < last)
        ends = [log.last for log in kept]
        if not kept or ends[-1] != last or any(log.first != end for end, log in zip(ends[:-1], kept[1:], strict=True)):
            raise InputError(f"store: the rates of some steps are missing in {self.blocks.backend}; bring back a copy")
        return kept

    def _of(self, number: int) -> Iterator[tuple[Log, np.ndarray]]:
        """The logs of a checkpoint's steps, with what a gradient was multiplied by in them, ``[steps, groups]``."""
        first, last = list(pairwise([self._logs[0].first, *self.steps]))[number]
        for log in self._logs:
            low, high = max(first, log.first) - log.first, min(last, log.last) - log.first
            if low < high:
                yield log, log.effective()[low:high]

    def _read(self, name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
        return unpack(self.blocks.content(name), str(self.blocks.backend))

    def __repr__(self) -> str:
        return f"Recording({len(self)} checkpoints, {self.steps[-1]:,} steps, in {self.blocks.backend})"


def _named(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _over(metric: Tensor, share: float) -> Tensor:
    """A metric over a rate's share of the largest."""
    if share == 1:
        return metric
    return torch.full_like(metric, FROZEN) if share == 0 else (metric.float() / share).clamp_max(FROZEN)
