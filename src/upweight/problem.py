"""What was minimised, as facts: R(θ) = (1/n) Σ w_i ℓ_i(θ) + ½ Σ_k λ_k θ_k². No pass over the data is made here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from upweight import positions, scalars
from upweight.arrays import dense
from upweight.data import Batch, Data, sent
from upweight.errors import InputError
from upweight.forward import Forward, half_of
from upweight.losses import AnyLoss
from upweight.parameters import Layout


@dataclass(frozen=True)
class Given:
    """What of a problem somebody gave, which other data or another precision need again."""

    l2: float | Mapping[str, float] = 0.0
    weights: bool = False
    ids: bool = False


@dataclass(frozen=True, eq=False)
class Problem:
    """A trained model with what it was trained to minimise.

    Attributes
    ----------
    model
        A copy that is the problem's own: nobody else trains it on, and no pass leaves anything in it.
    layout, params
        Which parameters make up θ, and θ itself ``[p]``.
    loss, data
        Per-example loss and training examples.
    l2
        λ of each entry of θ ``[p]``.
    weights
        w_i ``[train]``.
    ids, class_names
        Names of training examples and classes.
    batch_size, num_workers, collate
        How examples are read.
    forward
        Whether the model runs in float32, or in its own precision.
    columns
        What is shown of training examples, by name.
    notes
        What is to be said of how the training was read.
    """

    model: nn.Module
    layout: Layout
    params: Float[Tensor, " p"]
    loss: AnyLoss
    data: Data
    l2: Float[Tensor, " p"]
    weights: Float[Tensor, " train"]
    ids: np.ndarray
    class_names: tuple[str, ...] | None = None
    batch_size: int | None = None
    num_workers: int = 0
    collate: Callable[[list[Any]], Batch] | None = None
    given: Given = Given()
    forward: Forward = "float32"
    columns: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def n(self) -> int:
        """Number of training examples."""
        return len(self.data)

    @property
    def p(self) -> int:
        """Number of parameters in θ."""
        return self.layout.p

    @property
    def dtype(self) -> torch.dtype:
        """Precision of θ, and so of every result."""
        return self.params.dtype

    @property
    def device(self) -> torch.device:
        """Where θ lives and the work is done."""
        return self.params.device

    @property
    def named(self) -> dict[str, Tensor]:
        """θ as named tensors."""
        return self.layout.unflatten(self.params)

    @cached_property
    def half(self) -> torch.dtype | None:
        """The precision of the model's forward pass, where that has 16 bits."""
        return half_of(self.model)

    @property
    def called_with(self) -> dict[str, Tensor]:
        """θ as named tensors without a graph, each in the precision in which the model is called with it."""
        own = dict(self.model.named_parameters())
        return {name: value.detach().to(own[name].dtype) for name, value in self.named.items()}

    def probe(self) -> Batch:
        """A few examples, spread over the data, on which derivatives are checked; a single one twice."""
        return self.data.take([0, 0] if self.n == 1 else sorted({0, self.n // 2, self.n - 1}))

    def positions(self, indices: Any, argument: str = "indices") -> Int[Tensor, " k"]:
        """Positions of training examples, checked (`upweight.positions`)."""
        return positions.read(indices, self.ids, argument)

    def weights_at(self, positions: Int[Tensor, " k"]) -> Float[Tensor, " k"]:
        """w_i of some training examples, for whose positions the device isn't waited for."""
        return self.weights[sent(positions, self.weights.device)]

    def theta(self, params: Any = None) -> Float[Tensor, " p"]:
        """The trained θ, or other parameters, checked, in its precision and place."""
        if params is None:
            return self.params
        if not isinstance(params, Tensor) or params.shape != (self.p,):
            got = tuple(params.shape) if isinstance(params, Tensor) else scalars.shown(params)
            raise InputError(f"params: give a tensor of p={self.p:,} numbers; got {got}")
        if params.is_complex():
            raise InputError(f"params: give real numbers; got {params.dtype}")
        return dense(params, "params").to(self.params)

    def penalty(self, params: Float[Tensor, "*k p"]) -> Float[Tensor, "*k"]:
        """½ Σ λ_k θ_k²."""
        return 0.5 * (self.l2 * params**2).sum(-1)

    def with_loss(self, loss: AnyLoss) -> Problem:
        """The same with a loss that has the same values."""
        return replace(self, loss=loss)
