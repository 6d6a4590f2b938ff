"""`from_lightning`: what Lightning has trained as an `Objective`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

from upweight import scalars
from upweight.data import ArrayData, Batch, Data, MapData, as_data, cast
from upweight.engine import Budget
from upweight.errors import InputError
from upweight.forward import Forward
from upweight.frameworks.collation import TEXT
from upweight.frameworks.decay import learnt
from upweight.frameworks.evaluated import evaluated
from upweight.frameworks.reduced import some
from upweight.frameworks.shown import columns_of
from upweight.frameworks.steps import ByExample, compared_in
from upweight.frameworks.tasks import shifted
from upweight.kept import modules_kept, random_states_kept
from upweight.losses import as_loss
from upweight.objective import Objective
from upweight.wrappers import unwrapped


@random_states_kept()
def from_lightning(
    module: Any,
    data: Any = None,
    *,
    loss: Any = None,
    optimizer: Any = None,
    l2: float | Mapping[str, float] | None = None,
    parameters: Any = None,
    weights: Any = None,
    ids: Sequence[Any] | np.ndarray | None = None,
    class_names: Sequence[str] | None = None,
    columns: Any = None,
    batch_size: int | None = None,
    num_workers: int = 0,
    collate: Callable[[list[Any]], Batch] | None = None,
    forward: Forward = "float32",
    budget: Budget | None = None,
    validate: bool = True,
) -> Objective:
    """The objective that a ``LightningModule`` was trained on.

    The loss is what ``training_step`` returns where that is one comparison of torch's (``F.cross_entropy``,
    ``F.binary_cross_entropy_with_logits``, ``F.mse_loss`` or their modules, with any options): as `upweight.losses`
    has it where the step compares what ``module(inputs)`` gives with a batch's targets, else as the step does it, not
    reduced. R is its mean over all data as one batch.

    Parameters
    ----------
    module
        Trained; it is copied as it is in eval mode, and stays as it is.
    data
        Training examples, or a ``DataLoader`` of them (default: the trainer's, or the module's ``train_dataloader``).
    loss
        Another than the step's.
    optimizer
        That of the training (default: the trainer's; of a module without one what ``configure_optimizers`` gives,
        which has no state), of whose weight decay l2 is made (`upweight.l2_of`).
    l2
        λ by itself.
    parameters
        As for `Objective` (default: ``"adapters"`` where the module has some).
    columns
        What is shown of examples, by name (default: the texts of rows by name).
    weights, ids, class_names, batch_size, num_workers, collate, forward, budget, validate
        As for `Objective`.

    Raises
    ------
    InputError
        If the loss can't be split by example, there are no data, several optimisers and no l2, or a decoupled decay
        without the state of its optimiser.

    Examples
    --------
    ::

        trainer.fit(module, loader)
        objective = uw.from_lightning(module, columns={"text": texts})
        uw.Influence(objective).attribute(queries).top(5).to_pandas(objective.columns)
    """
    module = unwrapped(module)
    if not isinstance(module, nn.Module) or not callable(getattr(module, "training_step", None)):
        raise InputError(f"module: give a LightningModule, with a training_step; got {scalars.shown(module)}")
    scalars.whole("num_workers", num_workers, 0)
    trainer = module.__dict__.get("_trainer")
    data = _data(module, trainer) if data is None else data
    examples = as_data(data, num_workers=num_workers, collate=collate)
    with _alone(module), evaluated(module):
        chosen, said = _loss(module, examples) if loss is None else (shifted(loss, ""), "the loss is the one given")
        used = _optimizer(module, trainer) if optimizer is None and l2 is None else optimizer
        theta = learnt(module, parameters, l2, used)
        return Objective(
            module,
            chosen,
            data,
            l2=theta.l2,
            parameters=theta.parameters,
            weights=weights,
            ids=ids,
            class_names=class_names,
            batch_size=batch_size,
            num_workers=num_workers,
            collate=collate,
            forward=forward,
            columns=_texts(examples) if columns is None else columns,
            notes=(said, *theta.notes),
            budget=budget,
            validate=validate,
        )


def _texts(examples: Data) -> dict[str, Any]:
    """Columns of text that rows by name have: a model takes no text, so they are there to be read."""
    dataset = examples.dataset if isinstance(examples, MapData) else None
    try:
        found = columns_of(dataset, None, None, TEXT) if dataset is not None else {}
        return {name: values for name, values in found.items() if isinstance(values[0], str)}
    except Exception:  # of a dataset's own; the objective's checks say of which example
        return {}


@contextmanager
def _alone(module: nn.Module) -> Iterator[None]:
    """Without its trainer, which is no part of it; and as it was afterwards."""
    with modules_kept(list(module.modules())):
        for part in module.modules():
            if "_trainer" in part.__dict__:
                part.__dict__["_trainer"] = None
        yield


def _data(module: Any, trainer: Any) -> Any:
    """The loader that was trained on."""
    found = getattr(trainer, "train_dataloader", None)
    if found is None and callable(getattr(module, "train_dataloader", None)):
        try:
            found = module.train_dataloader()
        except Exception:  # Lightning's own raises where nobody wrote one
            found = None
    if found is None:
        raise InputError(
            "data: neither a trainer nor the module has a train_dataloader; give the loader or its dataset"
        )
    if not isinstance(found, DataLoader):
        raise InputError(f"data: it was trained on {type(found).__name__}; give one DataLoader or dataset")
    return found


def _optimizer(module: Any, trainer: Any) -> Any:
    """The optimiser that trained it; a fresh one of the module's where there is no trainer."""
    found = list(getattr(trainer, "optimizers", None) or [])
    if not found:
        try:
            found = _listed(module.configure_optimizers())
        except Exception as error:
            raise InputError(
                f"optimizer: configure_optimizers raised {type(error).__name__}: {error}; give optimizer= or l2="
            ) from error
    if len(found) > 1:
        raise InputError(f"optimizer: the module has {len(found)} of them; give l2= by parameter, e.g. l2=0.0")
    return found[0] if found else None


def _listed(configured: Any) -> list[Any]:
    """The optimisers of what ``configure_optimizers`` may return."""
    if configured is None:
        return []
    if isinstance(configured, Mapping):
        return [configured["optimizer"]]
    if isinstance(configured, tuple) and len(configured) == 2 and isinstance(configured[0], list):
        return list(configured[0])
    if isinstance(configured, list | tuple):
        return [one for each in configured for one in _listed(each)]
    return [configured]


def _loss(module: nn.Module, data: Data) -> tuple[Any, str]:
    """The step's loss as one of ours, or by example; and a sentence on it."""
    batch = some(data, module, next(module.parameters()).dtype)
    comparison, number, _ = compared_in(module, batch)
    name = comparison.function.__name__
    step = ByExample(comparison.function, number)
    with torch.no_grad():
        values = step(module, batch)
        for task in ("", "causal-lm"):
            candidate = shifted(comparison.module(), task)
            if _same(candidate, module, batch, values):
                return _counted(candidate, step, module, data), f"the loss is training_step's {name} of the outputs"
    return _counted(step, step, module, data), f"the loss is training_step's {name}, as the step makes its inputs"


def _same(candidate: Any, module: nn.Module, batch: Batch, values: torch.Tensor) -> bool:
    """Whether a loss has the step's values, up to one factor for all."""
    try:
        found = as_loss(candidate, ArrayData(batch))(module, batch)
    except Exception:  # the module isn't called so
        return False
    size = float(found @ found)
    return found.shape == values.shape and size > 0 and torch.allclose(float(found @ values) / size * found, values)


def _counted(loss: Any, step: ByExample, module: nn.Module, data: Data) -> Any:
    """The loss whose mean over examples is the step's of all data as one batch."""
    if not isinstance(loss, ByExample) and not hasattr(loss, "factor"):
        return loss  # of torch: `Objective` counts
    first, total = next(module.parameters()), 0.0
    for _, batch in data.batches(None, None):
        total += step.divisor(module, cast(batch, first.dtype, first.device))
    return replace(loss, factor=len(data) / total) if total else loss
