"""What a rule needs to know of the model whose units it chooses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from upweight.data import Batch
from upweight.losses import AnyLoss
from upweight.parameters import Layout


@runtime_checkable
class Trained(Protocol):
    """A trained model with its examples, as `upweight.Objective` has them."""

    @property
    def model(self) -> nn.Module:
        """The model."""
        ...

    @property
    def layout(self) -> Layout:
        """Which parameters make up θ."""
        ...

    @property
    def params(self) -> Tensor:
        """The trained θ ``[p]``."""
        ...

    @property
    def loss(self) -> AnyLoss:
        """The per-example loss."""
        ...

    @property
    def weights(self) -> Tensor:
        """w_i ``[train]``."""
        ...

    @property
    def p(self) -> int:
        """Number of parameters in θ."""
        ...

    def batches(self, indices: Any = None) -> Iterator[tuple[Tensor, Batch]]:
        """Pairs of positions and batch."""
        ...

    def example_gradients(self, indices: Any = None) -> Iterator[tuple[Tensor, Tensor]]:
        """Pairs of positions and gradients w_i ∇ℓ_i."""
        ...
