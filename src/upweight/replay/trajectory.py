"""A training's states, kept now and then: in memory, or in a store, where a killed run goes on from the last one."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch

from upweight.errors import InputError
from upweight.progress import track
from upweight.replay.optimizers import State
from upweight.replay.run import Run
from upweight.store.blocks import Blocks
from upweight.store.tensors import pack, unpack

APART = {torch.float32: 1e-3, torch.float64: 1e-9}
"""Share of θ by which a step that is taken again may differ: on a GPU sums are added in another order."""


@runtime_checkable
class Kept(Protocol):
    """States by the number of steps that had been taken."""

    def keep(self, steps: int, state: State) -> None:
        """Keep a state."""
        ...

    def read(self, steps: int) -> State | None:
        """The state kept after so many steps, None where there is none."""
        ...

    def latest(self) -> int | None:
        """The largest number of steps of which a state is kept."""
        ...


@dataclass
class InMemory:
    """States of this process."""

    states: dict[int, State] = field(default_factory=dict)

    def keep(self, steps: int, state: State) -> None:
        """See `Kept`."""
        self.states[steps] = state

    def read(self, steps: int) -> State | None:
        """See `Kept`."""
        return self.states.get(steps)

    def latest(self) -> int | None:
        """See `Kept`."""
        return max(self.states, default=None)


@dataclass(frozen=True)
class InStore:
    """States as blocks of a store.

    Attributes
    ----------
    blocks
        Where.
    run
        What tells this training from others there: its seed and weights.
    like
        A state of the training, whose device states are brought to.
    """

    blocks: Blocks
    run: str
    like: State

    def keep(self, steps: int, state: State) -> None:
        """See `Kept`."""
        self.blocks.commit(self._name(steps), packed(state), facts={"steps": steps})

    def read(self, steps: int) -> State | None:
        """See `Kept`."""
        name = self._name(steps)
        if self.blocks.mark(name) is None:
            return None
        return unpacked(self.blocks.content(name), str(self.blocks.backend), self.like)

    def latest(self) -> int | None:
        """See `Kept`."""
        marks = self.blocks.whole(f"state-{self.run}-")  # a damaged one is named, and its steps are taken again
        return max((int(mark.facts["steps"]) for mark in marks.values()), default=None)

    def _name(self, steps: int) -> str:
        return f"state-{self.run}-{steps:09d}"


def packed(state: State) -> bytes:
    """A state, or cotangents of one, as bytes."""
    return pack({str(number): part for number, part in enumerate(state)})


def unpacked(content: bytes, name: str, like: State) -> State:
    """What was packed, where ``like`` is."""
    tensors, _ = unpack(content, name)
    return tuple(tensors[str(number)].to(part.device) for number, part in enumerate(like))


def spacing(steps: int, state_bytes: int, memory: int) -> int:
    """Steps between states that are kept: 1 where all fit so many bytes, else √T.

    With a state every √T steps, and the √T states of one stretch at a time taken again, 2√T states are held in place of
    T, for one more training (Griewank & Walther 2000, in two levels).
    """
    return 1 if (steps + 1) * state_bytes <= memory else max(math.isqrt(steps - 1) + 1, 1)


def train(run: Run, kept: Kept, every: int) -> State:
    """The last state of a training, with a state kept every so many steps; goes on after the last that there is.

    Raises
    ------
    InputError
        If θ becomes NaN or infinite: there is no derivative of that.
    """
    begun = kept.latest()
    state = None if begun is None else kept.read(begun)
    start = 0 if begun is None or state is None else begun
    state = run.begin() if state is None else state
    if start == 0:
        kept.keep(0, state)
    for number in track(range(start, len(run)), "training"):
        state = run.step(state, number)
        if (number + 1) % every == 0 or number + 1 == len(run):
            _refuse_infinite(state, number)
            kept.keep(number + 1, state)
    return state


def stretch(run: Run, kept: Kept, first: int, last: int) -> list[State]:
    """The states after ``first``, …, ``last`` − 1 steps, taken again from the one kept at ``first``.

    Raises
    ------
    InputError
        If the steps lead to another state than the one kept at ``last``: the training isn't the same twice.
    """
    state = kept.read(first)
    assert state is not None, first
    states = [state]
    if last - first == 1:  # every state is kept, so none is taken again
        return states
    for number in range(first, last):
        states.append(run.step(states[-1], number))
    _refuse_another(states.pop(), kept.read(last), first, last)
    return states


def _refuse_infinite(state: State, number: int) -> None:
    if not bool(torch.isfinite(state[0]).all()):
        raise InputError(
            f"lr: by step {number + 1} the training has θ with NaN or infinite values, of which there is no "
            "derivative; give a smaller learning rate, or clip="
        )


def _refuse_another(again: State, before: State | None, first: int, last: int) -> None:
    assert before is not None, last
    apart = max(float((one - other).abs().max()) for one, other in zip(again, before, strict=True))
    size = max(float(part.abs().max()) for part in before)
    if apart > APART.get(again[0].dtype, 1e-3) * size:
        raise InputError(
            f"model: its training isn't the same twice with one seed: steps {first + 1} to {last}, taken again, end "
            f"{apart:.2g} from where they ended (numbers up to {size:.2g}). Draw random numbers from torch alone, "
            "which is seeded at every step, and read each example the same each time"
        )
