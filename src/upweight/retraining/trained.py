"""Many trained networks of one architecture: their parameters side by side, and what they say about examples."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from upweight import scalars
from upweight.arrays import as_tensor
from upweight.data import as_data
from upweight.errors import InputError, NotConvergedWarning, warn
from upweight.gradients.substituted import substituted
from upweight.kept import copied
from upweight.losses import as_loss
from upweight.parameters import Layout


@dataclass(frozen=True, eq=False)
class Trained:
    """k networks trained on subsets of the data.

    Attributes
    ----------
    params
        θ of each, ``[k, p]``: the parameters with ``requires_grad`` in the order of ``model.named_parameters()``.
    constants
        What training left alone, by name and stacked ``[k, ...]``: frozen parameters and buffers.
    layout
        Names and shapes of the parameters in θ.
    subsets, seeds
        The positions of each one's training examples, ``[size]`` each, and its seed.
    architecture
        The module whose state they are, in eval mode.
    seconds
        Wall time of the training.
    """

    params: Float[Tensor, "k p"]
    constants: Mapping[str, Tensor]
    layout: Layout
    subsets: tuple[Tensor, ...]
    seeds: tuple[int, ...]
    architecture: nn.Module
    seconds: float

    def __len__(self) -> int:
        return len(self.params)

    def __repr__(self) -> str:
        sizes = sorted({len(subset) for subset in self.subsets})
        examples = f"{sizes[0]:,}" if len(sizes) == 1 else f"{sizes[0]:,} to {sizes[-1]:,}"
        return (
            f"Trained({len(self):,} × {type(self.architecture).__name__}, p={self.layout.p:,}, on {examples} examples "
            f"each, {self.seconds:.1f} s)"
        )

    def state(self, number: int) -> dict[str, Tensor]:
        """Parameters and buffers of one network, by name."""
        constants = {name: values[number] for name, values in self.constants.items()}
        return {**self.layout.unflatten(self.params[number]), **constants}

    def model(self, number: int) -> nn.Module:
        """One of the networks as a module of its own, in eval mode."""
        model = copied(self.architecture)
        targets = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        with torch.no_grad():
            for name, value in self.state(number).items():
                targets[name].copy_(value)
        return model

    def losses(self, loss: Any, queries: Any, *, batch_size: int | None = None) -> Float[Tensor, "k queries"]:
        """The loss of every query under every network.

        Parameters
        ----------
        loss
            One of `upweight.losses`, or any function ``(model, batch) -> [batch]``.
        queries
            Examples in the form of the training data.
        """
        data = as_data(queries, name="queries").to(self.params.dtype, self.params.device)
        function = as_loss(loss, data)
        evaluate = substituted(self.architecture, function)
        columns = []
        with torch.no_grad():
            for _, batch in data.batches(None, batch_size):
                columns.append(torch.stack([evaluate(self.state(j), batch) for j in range(len(self))]))
        return torch.cat(columns, dim=1)


def pairs_of(jobs: Iterable[Any]) -> tuple[list[Any], list[Any]]:
    """The subsets and the seeds of jobs, each a pair of them.

    Raises
    ------
    InputError
        If something else was given.
    """
    wanted = "give pairs of positions and seed, such as [([0, 1, 2], 0), ([1, 2, 3], 1)]"
    if isinstance(jobs, str | Mapping) or not isinstance(jobs, Iterable) or getattr(jobs, "ndim", 1) == 0:
        raise InputError(f"jobs: {wanted}; got {reprlib.repr(jobs)}")
    found = list(jobs)
    for number, job in enumerate(found):
        if not isinstance(job, tuple | list) or len(job) != 2:
            raise InputError(f"jobs: {wanted}; number {number} is {reprlib.repr(job)}")
    return [subset for subset, _ in found], [seed for _, seed in found]


def checked_jobs(
    subsets: Sequence[Any], seeds: Sequence[Any], n: int | None = None, name: str | None = None
) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
    """Subsets as index tensors ``[size]`` and seeds as whole numbers, one of each per model.

    ``name``: of the argument that both came in, if it was one.

    Raises
    ------
    InputError
        If their numbers differ, a subset is empty or out of range (of n examples, if n is known), or a seed is none.
    """
    own = name or "subsets"
    for argument, given in ((own, subsets), (name or "seeds", seeds)):
        if isinstance(given, str | Mapping) or not hasattr(given, "__len__"):
            raise InputError(f"{argument}: give a list, one for each model; got {reprlib.repr(given)}")
    if not len(subsets) or len(subsets) != len(seeds):
        raise InputError(f"{own}: give one or more, and a seed for each; got {len(subsets)} and {len(seeds)} seeds")
    members = [_members(f"{own}, number {number}", subset, n) for number, subset in enumerate(subsets)]
    numbered = [scalars.seed(f"{name or 'seeds'}, number {number}", seed) for number, seed in enumerate(seeds)]
    return tuple(members), tuple(numbered)


def _members(name: str, subset: Any, n: int | None) -> Int[Tensor, " size"]:
    try:
        index = as_tensor(subset, name)
    except InputError as error:
        if error.__cause__ is None:  # an array, but without all of its numbers
            raise
        index = torch.empty(0)
    whole = not (index.is_floating_point() or index.is_complex() or index.dtype == torch.bool)
    if index.dim() != 1 or not len(index) or not whole:
        raise InputError(f"{name}: give a list of one or more positions, such as [3, 5]; got {reprlib.repr(subset)}")
    index = index.long().cpu()
    if int(index.min()) < 0 or (n is not None and int(index.max()) >= n):
        wanted = "are 0 or more" if n is None else f"are in 0 … {n - 1}"
        raise InputError(f"{name}: positions {wanted}; got {int(index.min())} … {int(index.max())}")
    return index


def constants_of(model: nn.Module, layout: Layout) -> dict[str, Tensor]:
    """Everything of a model's state that is not in θ: frozen parameters and buffers."""
    state = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {name: value.detach() for name, value in state.items() if name not in layout.names}


def warn_if_diverged(params: Float[Tensor, "k p"], seeds: Sequence[int]) -> None:
    """Say which models ended at NaN or infinite parameters; the others stand."""
    diverged = (~torch.isfinite(params).all(dim=1)).nonzero().flatten().tolist()
    if diverged:
        warn(
            f"training: {len(diverged)} of {len(params)} models diverged (NaN or infinite parameters), first number "
            f"{diverged[0]} with seed {seeds[diverged[0]]}; use a smaller lr",
            NotConvergedWarning,
        )
