"""What scores through a training need of it, written while it runs: θ now and then, rates, the metric of its steps.

recorder = uw.Recorder("run", model, optimizer, every=100)
for batch in loader:
    …
    optimizer.step()
    recorder.step()
recorder.close()

run = uw.Recording.open("run")
uw.TracIn(objective, run.checkpoints, run.learning_rates(objective.n), metrics=run.metrics)
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from upweight import scalars
from upweight.errors import InputError
from upweight.optimizers import step_metric
from upweight.store.backend import Backend, backend
from upweight.store.blocks import Blocks
from upweight.store.tensors import pack, unpack

Moments = Literal["bfloat16", "float32"]
STATE, METRIC, ORDER = "state.", "metric.", "order"
DTYPES: dict[Moments, torch.dtype] = {"bfloat16": torch.bfloat16, "float32": torch.float32}


class Recorder:
    """Keeps, every so many steps, what `Recording` gives back: a block on disk each time, whole or not at all.

    Parameters
    ----------
    store
        A folder, a URL that fsspec knows, or one of `upweight.store`. A recording that is there is gone on with.
    model, optimizer
        What is trained. Parameters that aren't, and buffers that don't change, are kept once.
    every
        Steps between checkpoints.
    moments
        How √v̂ + ε is kept: in ``"bfloat16"`` it takes half of θ's bytes and is right to .4 %; ``None``: not at all (for
        SGD there is none).

    Raises
    ------
    InputError
        If an argument is impossible, or the store holds something else.
    upweight.files.NotWrittenError
        If it can't be written to.
    """

    def __init__(
        self,
        store: str | os.PathLike[str] | Backend,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        every: int = 100,
        moments: Moments | None = "bfloat16",
    ):
        if not isinstance(model, nn.Module):
            raise InputError(f"model: give the torch.nn.Module that is trained; got {type(model).__name__}")
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise InputError(
                f"optimizer: give the torch.optim.Optimizer that trains it; got {scalars.shown(optimizer)}"
            )
        if moments is not None:
            scalars.one_of("moments", moments, get_args(Moments))
        self.model, self.optimizer, self.moments = model, optimizer, moments
        self.every = scalars.whole("every", every)
        self._blocks = Blocks(backend(store))
        known = list(self._blocks.marks("step-"))
        if not known and self._blocks.backend.keys(""):
            raise InputError(f"store: {self._blocks.backend} holds something else; give a place of its own")
        last = self._blocks.mark(known[-1]) if known else None
        self.steps = 0 if last is None else int(last.facts["steps"])
        self._begin()

    def _begin(self) -> None:
        self._rates: list[float] = []
        self._order: list[int] = []
        self._sizes: list[int] = []

    def step(self, examples: Sequence[int] | Tensor | None = None, *, rate: float | None = None) -> None:
        """A step of the optimiser has been taken.

        Parameters
        ----------
        examples
            Positions of the training examples in it, if the order is to be kept.
        rate
            The learning rate it had (default: the optimiser's; of several groups the largest).
        """
        given = max(float(group["lr"]) for group in self.optimizer.param_groups) if rate is None else rate
        self._rates.append(scalars.number("rate", given, least=0))
        if examples is not None:
            chosen = torch.as_tensor(examples).reshape(-1).tolist()
            self._order += chosen
            self._sizes.append(len(chosen))
        self.steps += 1
        if self.steps % self.every == 0:
            self._keep()

    def close(self) -> None:
        """Keep what came after the last checkpoint."""
        if self._rates:
            self._keep()

    def _keep(self) -> None:
        tensors = {STATE + name: value for name, value in self.model.state_dict().items() if isinstance(value, Tensor)}
        if self.moments is not None and any("eps" in group for group in self.optimizer.param_groups):
            dtype = DTYPES[self.moments]
            metric = step_metric(self.optimizer, self.model)
            tensors |= {METRIC + name: value.to(dtype) for name, value in metric.items()}
        if self._sizes:
            tensors[ORDER] = torch.tensor(self._order, dtype=torch.int64)
        facts = {"steps": self.steps, "rates": self._rates, "sizes": self._sizes}
        # Tied parameters are one tensor under two names, which safetensors wants apart.
        content = pack({name: value.detach().clone() for name, value in tensors.items()}, facts)
        self._blocks.commit(f"step-{self.steps:010d}", content, facts={"steps": self.steps})
        self._begin()

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


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
            raise InputError(f"store: {blocks.backend} holds no recording; give the place that a uw.Recorder was told")
        return cls(blocks, names)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def steps(self) -> list[int]:
        """Steps that had been taken at each checkpoint."""
        return [int(mark.facts["steps"]) for mark in self.blocks.marks("step-").values()]

    @property
    def checkpoints(self) -> list[dict[str, Tensor]]:
        """State dicts of the model, in order."""
        return [self._named(name, STATE) for name in self.names]

    @property
    def metrics(self) -> list[dict[str, Tensor]] | None:
        """√v̂ + ε of each checkpoint by parameter name; None where none was kept."""
        found = [self._named(name, METRIC) for name in self.names]
        return found if all(found) else None

    @property
    def order(self) -> list[np.ndarray]:
        """Positions of the training examples, step by step, as far as they were said."""
        steps = []
        for name in self.names:
            tensors, facts = self._read(name)
            if ORDER in tensors:
                steps += np.split(tensors[ORDER].numpy(), np.cumsum(facts["sizes"])[:-1])
        return steps

    @property
    def rates(self) -> list[float]:
        """The learning rate of each step."""
        return [rate for name in self.names for rate in self._read(name)[1]["rates"]]

    def learning_rates(self, examples: int) -> list[float]:
        """η of each checkpoint, as `TracIn` takes them: Σ of the rates of the steps since the last, over n examples.

        A step on the mean of B examples multiplies a gradient by η/B, and an example is in B/n of the steps.
        """
        scalars.whole("examples", examples)
        return [sum(self._read(name)[1]["rates"]) / examples for name in self.names]

    def _named(self, name: str, prefix: str) -> dict[str, Tensor]:
        tensors, _ = self._read(name)
        return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}

    def _read(self, name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
        return unpack(self.blocks.content(name), str(self.blocks.backend))

    def __repr__(self) -> str:
        return f"Recording({len(self)} checkpoints, {self.steps[-1]:,} steps, in {self.blocks.backend})"
