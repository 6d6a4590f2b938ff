"""What the callbacks of all frameworks tell a `Recorder`: steps of an optimiser with the examples of their batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.distributed as dist

from upweight.frameworks.order import Order
from upweight.recorder import Recorder
from upweight.recorder.begun import cut
from upweight.store.backend import Place, backend
from upweight.store.blocks import Blocks


class Recorded:
    """One training, recorded by the first of its processes.

    Batches are counted as they go in, and make a step together where gradients are accumulated. With several processes
    a step's examples are those of all: they are gathered where something is written, which every process has to reach.

    Parameters
    ----------
    store, every, settings
        Of the `Recorder`.

    Attributes
    ----------
    steps
        Of the optimiser, taken so far.
    begun
        Whether the training has begun, and not ended.
    """

    def __init__(self, store: Place, every: int, **settings: Any):
        self.store, self.every, self.settings = store, every, settings
        self.order = Order()
        self.recorder: Recorder | None = None
        self.steps = 0
        self._batch: list[int] | None = []
        self._steps: list[tuple[list[float], list[int] | None]] = []
        self.begun = False

    def begin(self, model: Any, optimizer: Any, steps: int) -> None:
        """The training begins, after so many steps of an earlier part.

        Raises
        ------
        InputError
            As `Recorder`.
        """
        if self.begun and _is_first():  # begun anew by the framework itself, as after running out of memory
            cut(Blocks(backend(self.store)), steps)
        self._batch, self._steps = [], []
        self.steps, self.begun = steps, True
        if _is_first():
            self.recorder = Recorder(self.store, model, optimizer, every=self.every, start=steps, **self.settings)

    def batch(self) -> None:
        """A batch went forward and backward."""
        chosen = self.order.take()
        self._batch = None if self._batch is None or chosen is None else self._batch + chosen

    def step(self, rates: Sequence[float]) -> None:
        """The optimiser took a step on the batches since the last."""
        self._steps.append((list(rates), self._batch))
        self._batch = []
        self.steps += 1
        if self.steps % self.every == 0:
            self._tell()

    def _tell(self) -> None:
        """Tell the recorder of the steps since the last time, of all processes."""
        each = gathered([chosen for _, chosen in self._steps])
        if self.recorder is not None:
            self.recorder.unordered = self.order.why
            for (rates, _), chosen in zip(self._steps, each, strict=True):
                self.recorder.step(chosen or None, rate=rates)
        self._steps = []

    def flush(self) -> None:
        """The framework keeps a checkpoint of its own, which the training may go on from."""
        self._tell()
        if self.recorder is not None:
            self.recorder.flush()

    def keep(self) -> None:
        """Keep θ as it is now, if there was a step since the last time."""
        self._tell()
        if self.recorder is not None:
            self.recorder.close()

    def end(self) -> None:
        """The training has ended."""
        self.keep()
        self.leave()
        self.begun, self.recorder = False, None

    def leave(self) -> None:
        """Leave the loader as it was."""
        self.order.leave()


def gathered(steps: list[list[int] | None]) -> list[list[int] | None]:
    """The examples of each step on all processes together; None where one doesn't know its own."""
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return steps
    every: list[list[list[int] | None]] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(every, steps)
    found: list[list[int] | None] = []
    for parts in zip(*every, strict=True):
        known = [part for part in parts if part is not None]
        found.append([position for part in known for position in part] if len(known) == len(parts) else None)
    return found


def _is_first() -> bool:
    return not (dist.is_available() and dist.is_initialized()) or dist.get_rank() == 0
