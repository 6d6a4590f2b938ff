"""`Recorder`: θ now and then, rates, examples and the metric of steps, written while a training runs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from upweight import scalars
from upweight.arrays import as_tensor
from upweight.errors import InputError
from upweight.optimizers import refuse_unknown, step_metric
from upweight.recorder.begun import marked, refuse_another, taken_up
from upweight.recorder.log import Group, Log
from upweight.recorder.once import Once, same_tensors
from upweight.store.backend import Backend, backend
from upweight.store.blocks import Blocks
from upweight.store.tensors import pack, unpack
from upweight.wrappers import unwrapped, unwrapped_optimizer

Moments = Literal["bfloat16", "float32"]
STATE, METRIC = "state.", "metric."
DTYPES: dict[Moments, torch.dtype] = {"bfloat16": torch.bfloat16, "float32": torch.float32}
KEPT, NONE, LEFT_OUT = "kept", "none", "left out"
"""What a checkpoint says of the metric of its steps."""


class Recorder:
    """Keeps, every so many steps, what `Recording` gives back: a block on disk each time, whole or not at all.

    Parameters
    ----------
    store
        A folder, a URL that fsspec knows, or one of `upweight.store`. A recording that is there is gone on with.
    model, optimizer
        What is trained. Parameters that aren't, and buffers that don't change, are kept once, tied parameters as one.
    every
        Steps between checkpoints.
    moments
        How √v̂ + ε is kept: in ``"bfloat16"`` it takes half of θ's bytes and is right to .4 %; ``None``: not at all (for
        SGD there is none).
    frozen
        Whether parameters that aren't trained are kept: without them, of adapters on a large base say, checkpoints are
        of use beside a model that has them.
    start
        Steps that were taken before, as the checkpoint says that the training goes on from (default: those of the last
        checkpoint here). What was recorded of later ones is removed: they are taken again.

    Attributes
    ----------
    steps
        Taken so far.
    unordered
        Why no examples are given, which is said to whoever asks for them.

    Raises
    ------
    InputError
        If an argument is impossible, the store holds something else, or steps before ``start`` are missing in it; if
        the optimiser is of a kind whose steps have no metric (then give ``moments=None``).
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
        frozen: bool = True,
        start: int | None = None,
    ):
        if not isinstance(model, nn.Module):
            raise InputError(f"model: give the torch.nn.Module that is trained; got {type(model).__name__}")
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise InputError(
                f"optimizer: give the torch.optim.Optimizer that trains it; got {scalars.shown(optimizer)}"
            )
        if moments is not None:
            scalars.one_of("moments", moments, get_args(Moments))
        self.model, self.optimizer, self.moments = unwrapped(model), unwrapped_optimizer(optimizer), moments
        self.every, self.frozen = scalars.whole("every", every), scalars.flag("frozen", frozen)
        self.unordered = ""
        if start is not None:
            scalars.whole("start", start, least=0)
        self._refuse_model()
        self._blocks = Blocks(backend(store))
        refuse_another(self._blocks)
        self.steps = self._kept = taken_up(self._blocks, start)
        self._once, self._has_metric = self._known(), moments is None
        self._log = Log(self.steps, self._groups())

    def _refuse_model(self) -> None:
        if not any(group.names for group in self._groups()):
            raise InputError(
                "optimizer: none of its parameters belongs to the model; give the model it trains, not a copy of it"
            )
        if any(hasattr(value, "device_mesh") for value in self.model.parameters()):
            raise InputError(
                "model: its parameters are sharded over processes, of which each holds a part; record whole ones "
                "(DistributedDataParallel)"
            )
        if self.moments is not None:
            for group in self.optimizer.param_groups:
                refuse_unknown(group)

    def _known(self) -> Once:
        names = self._blocks.names("step-")
        if not names:
            return Once()
        _, facts = unpack(self._blocks.content(names[-1]), str(self._blocks.backend))
        return Once({name: (block, digest) for name, (block, digest) in facts["once"].items()})

    def _groups(self) -> tuple[Group, ...]:
        names = {id(value): name for name, value in self.model.named_parameters()}
        return tuple(Group.of(group, names) for group in self.optimizer.param_groups)

    def step(
        self,
        examples: Sequence[int] | np.ndarray | Tensor | None = None,
        *,
        rate: float | Sequence[float] | None = None,
    ) -> None:
        """A step of the optimiser has been taken.

        Parameters
        ----------
        examples
            Positions of the training examples in it, if the order is to be kept.
        rate
            The learning rate it had, or that of each group (default: the optimiser's, as they are now; give them where
            a scheduler has changed them since). One for several groups is the largest's, and all are scaled to it.
        """
        rates, chosen = self._rates(rate), None if examples is None else _positions(examples)
        if not self._has_metric:
            step_metric(self.optimizer, self.model)  # refused now, not after a hundred steps
            self._has_metric = True
        if self._log.rates and len(rates) != len(self._log.groups):
            self.flush()
        if not self._log.rates:
            self._log = Log(self.steps, self._groups(), unordered=self.unordered)
        self._log.rates.append(rates)
        self._log.examples.append(chosen)
        self.steps += 1
        if self.steps % self.every == 0:
            self.keep()

    def _rates(self, given: float | Sequence[float] | None) -> list[float]:
        own = [float(group["lr"]) for group in self.optimizer.param_groups]
        if given is None:
            found = own
        elif isinstance(given, Sequence) and not isinstance(given, str):
            if len(given) != len(own):
                raise InputError(f"rate: one for each of the optimiser's {len(own)} groups; got {len(given)}")
            found = list(given)
        else:
            largest = max(own)
            found = [scalars.number("rate", given, least=0) * (lr / largest if largest else 1.0) for lr in own]
        return [scalars.number("rate", each, least=0) for each in found]

    def flush(self) -> None:
        """Bring to disk what was said of steps, without θ: before the training's own checkpoint, to go on from it."""
        if self._log.rates:
            log = replace(self._log, unordered=self.unordered)
            self._blocks.commit(log.name, log.packed(), facts=marked(log))
            self._log = Log(self.steps, self._groups())

    def keep(self) -> None:
        """Keep θ as it is now, whatever ``every`` says.

        Raises
        ------
        InputError
            If no step was taken yet.
        upweight.files.NotWrittenError
            If it can't be written.
        """
        if not self.steps:
            raise InputError("recorder: no step was taken yet; call keep() after step()")
        self.flush()
        tensors = {name: value for name, value in self.model.state_dict().items() if isinstance(value, Tensor)}
        same = same_tensors(tensors)
        trained = {id(value) for group in self.optimizer.param_groups for value in group["params"]}
        parameters = dict(self.model.named_parameters(remove_duplicate=False))
        own = {name for name, value in parameters.items() if value.requires_grad and id(value) in trained}
        still = {name: value for name, value in tensors.items() if name not in own and name not in same}
        still = {name: parameters.get(name, value) for name, value in still.items()}
        if not self.frozen:
            still = {name: value for name, value in still.items() if name not in parameters}
        self._keep_once(still)
        moving = {STATE + name: tensors[name] for name in tensors if name in own and name not in same}
        metric, said = self._metric()
        facts = {
            "steps": self.steps,
            "metric": said,
            "same": {name: first for name, first in same.items() if first in own or first in still},
            "once": {name: self._once.kept[name] for name in still},
        }
        content = pack(moving | {METRIC + name: value for name, value in metric.items()}, facts)
        self._blocks.commit(f"step-{self.steps:010d}", content, facts={"steps": self.steps})
        self._kept = self.steps

    def _keep_once(self, still: dict[str, Tensor]) -> None:
        block = f"once-{self.steps:010d}"
        new = self._once.new(still, block)
        if new:
            content = pack({STATE + name: value for name, value in new.items()})
            self._blocks.commit(block, content, facts={"steps": self.steps})

    def _metric(self) -> tuple[dict[str, Tensor], str]:
        if not any("eps" in group or "betas" in group for group in self.optimizer.param_groups):
            return {}, NONE
        if self.moments is None:
            return {}, LEFT_OUT
        found = step_metric(self.optimizer, self.model)
        return {name: value.to(DTYPES[self.moments]) for name, value in found.items()}, KEPT

    def close(self) -> None:
        """Keep what came after the last checkpoint."""
        if self.steps > self._kept:
            self.keep()

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _positions(examples: Sequence[int] | np.ndarray | Tensor) -> list[int]:
    found = as_tensor(examples, "examples").reshape(-1)
    is_whole = not (found.is_floating_point() or found.is_complex() or found.dtype == torch.bool)
    if not (is_whole and found.numel() and int(found.min()) >= 0):
        raise InputError(
            "examples: give positions of the step's training examples, whole numbers ≥ 0; got "
            f"{scalars.shown(examples)}"
        )
    return found.tolist()
