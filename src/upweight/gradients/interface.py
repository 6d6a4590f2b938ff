"""The one interface of everything that yields per-example gradients."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from upweight.data import Batch
from upweight.gradients.blocks import Cotangents, Gradients
from upweight.gradients.linear import LinearFunction
from upweight.gradients.plan import Plan
from upweight.parameters import Layout


@runtime_checkable
class ExampleFunction(Protocol):
    """A value per example f_i(θ) and its derivatives in θ. ``weights`` are the w_i of sums Σ w_i f_i."""

    layout: Layout
    split: bool
    """Whether f is known as a function of the model's outputs (needed by the GGN)."""
    factored: bool
    """Whether gradients come as factors of a model's operations, as far as these have rules."""
    plan: Plan
    """How gradients are made, and their blocks."""

    @property
    def linear(self) -> LinearFunction | None:
        """Itself, where the outputs are linear in θ."""
        ...

    @property
    def factors(self) -> int:
        """Numbers of an example's factors, as far as batches have shown; of its gradient, where it has none."""
        ...

    def values(self, params: Float[Tensor, " p"], batch: Batch) -> Float[Tensor, " batch"]:
        """f_i(θ)."""
        ...

    def outputs_of(self, params: Float[Tensor, " p"], batch: Batch) -> Tensor:
        """The model's outputs, ``[batch, ...]``."""
        ...

    def gradient(
        self, params: Float[Tensor, " p"], batch: Batch, weights: Float[Tensor, " batch"]
    ) -> tuple[Float[Tensor, ""], Float[Tensor, " p"]]:
        """Σ w_i f_i and its gradient."""
        ...

    def gradients(
        self, params: Float[Tensor, "k p"], batch: Batch, weights: Float[Tensor, " batch"]
    ) -> tuple[Float[Tensor, " k"], Float[Tensor, "k p"]]:
        """The same at k parameter vectors at once."""
        ...

    def each(
        self, params: Float[Tensor, " p"], batch: Batch, cotangents: Cotangents | None = None, *, compacted: bool = True
    ) -> Gradients:
        """The gradient of every example; or, with cotangents u_i of the outputs, J_iᵀu_i.

        ``compacted``: each block in the form that holds fewest numbers; where factors must stay factors (Kronecker
        statistics), say False.
        """
        ...

    def hessian_product(
        self,
        params: Float[Tensor, " p"],
        batch: Batch,
        weights: Float[Tensor, " batch"],
        vectors: Float[Tensor, "k p"],
    ) -> Float[Tensor, "k p"]:
        """(Σ w_i ∇²f_i) v for k vectors."""
        ...

    def ggn_product(
        self,
        params: Float[Tensor, " p"],
        batch: Batch,
        weights: Float[Tensor, " batch"],
        vectors: Float[Tensor, "k p"],
    ) -> Float[Tensor, "k p"]:
        """(Σ w_i J_iᵀ ∇²f_i(outputs) J_i) v for k vectors."""
        ...

    def output_factors(
        self, params: Float[Tensor, " p"], batch: Batch
    ) -> tuple[Float[Tensor, "batch c p"], Float[Tensor, "batch c"], Float[Tensor, "batch c c"]]:
        """Jacobian J_i of the outputs, and gradient and Hessian of f_i with respect to them."""
        ...
