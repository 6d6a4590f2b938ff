"""What is attacked: a linear top trained on the features that a frozen network gives of stored images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from upweight.checks.arguments import refuse_training_mode
from upweight.data import Batch, Data
from upweight.errors import InputError
from upweight.influence import Influence
from upweight.inverse import Solver
from upweight.objective import Objective
from upweight.predictions import predictions
from upweight.quantities.perturbation import input_gradients, input_key, with_input
from upweight.tasks.attacks.box import stored_images
from upweight.tasks.attacks.together import inverted

Network = Callable[[Tensor], Tensor]
"""Stored images as float levels 0 … 255 ``[b, …]`` -> features ``[b, …]``; an ``nn.Module`` or a function."""

AGREEMENT = 1e-2
"""Relative distance up to which the network's features count as those that the top was trained on."""


@dataclass(frozen=True, eq=False)
class Subject:
    """A trained top, its training images, and the frozen network between them.

    Attributes
    ----------
    influence
        Of the top: the factor of its curvature preconditions every retraining and solve.
    network
        From levels to features. Its weights, mode and ``.grad`` are left alone.
    images
        The stored training images, ``[train, …]``.
    key
        Where the features stand in a batch of the objective.
    dtype, device
        Of the network.
    """

    influence: Influence
    network: Network
    images: UInt8[Tensor, "train ..."]
    key: Any
    dtype: torch.dtype
    device: torch.device

    @classmethod
    def of(cls, subject: Objective | Influence, network: Network, images: Any) -> Subject:
        """Check that the three belong together.

        Raises
        ------
        InputError
            If the top isn't linear or no classifier with probabilities, its labels are of one class, the images aren't
            stored images of whole levels in 0 … 255, or the network's features aren't those of the training data.
        """
        influence = subject if isinstance(subject, Influence) else Influence(subject)
        objective = influence.objective
        if not objective.is_linear:
            raise InputError(
                f"objective: the attack retrains a linear last layer on frozen features, and {objective!r} is none; "
                "give Objective(nn.Linear(…), loss, (features, labels)) and the network that makes the features"
            )
        said = predictions(objective)
        if said.probabilities is None:
            raise InputError(
                f"loss: {type(objective.loss).__name__} gives no probabilities; train the top with CrossEntropy or "
                "BinaryLogistic"
            )
        if len(said.given.unique()) < 2:
            raise InputError(f"labels: all {objective.n} training examples are of class {int(said.given[0])}; give two")
        stored = stored_images(images, objective.n)
        if isinstance(network, nn.Module):
            refuse_training_mode(network)
        elif not callable(network):
            raise InputError(f"network: got {type(network).__name__}; give an nn.Module or a function of images")
        weight = next(iter(network.parameters()), None) if isinstance(network, nn.Module) else None
        dtype, device = (torch.float32, objective.device) if weight is None else (weight.dtype, weight.device)
        found = cls(influence, network, stored, input_key(objective.data.take([0]), None), dtype, device)
        found._refuse_other_features()
        return found

    @cached_property
    def preconditioner(self) -> Solver:
        """(H+δI)⁻¹ of the trained top, for the tops retrained from it."""
        return inverted(self.influence.solver)

    @property
    def objective(self) -> Objective:
        """The top with its training data."""
        return self.influence.objective

    def levels(self, positions: Int[Tensor, " b"]) -> Float[Tensor, "b ..."]:
        """Stored training images as the network takes them."""
        return self.images[positions].to(self.device, self.dtype)

    def features(self, levels: Float[Tensor, "b ..."]) -> Float[Tensor, "b ..."]:
        """The network's features; differentiable in the levels."""
        return self.network(levels)

    def examples(self, positions: Int[Tensor, " b"], features: Float[Tensor, "b ..."]) -> Batch:
        """Training examples with these features in place of their own."""
        batch = self.objective.data.take(positions)
        return with_input(batch, self.key, features.detach().to(self.objective.device, self.objective.dtype))

    def perturbation(
        self, params: Float[Tensor, " p"], direction: Float[Tensor, " p"], positions: Int[Tensor, " b"], batch: Batch
    ) -> Float[Tensor, "b ..."]:
        """I_pert,loss(z, q)ᵀ with respect to the features of each example of a batch, for s_q = ``direction``."""
        weights = self.objective.weights[positions]
        return input_gradients(self.objective, params, direction, batch, weights, self.key)

    def through(
        self,
        levels: Float[Tensor, "b ..."],
        features: Float[Tensor, "b ..."],
        slopes: Float[Tensor, "b ..."],
    ) -> Float[Tensor, "b ..."]:
        """Gradients with respect to features, carried back to the levels; no weight gradient is computed."""
        seeds = slopes.to(features.device, features.dtype)
        return torch.autograd.grad(features, levels, seeds)[0]

    def _refuse_other_features(self) -> None:
        some = torch.tensor(sorted({0, self.objective.n // 2, self.objective.n - 1}))
        known = self.objective.data.take(some)[self.key]
        with torch.no_grad():
            found = self.features(self.levels(some))
        if not isinstance(found, Tensor) or found.shape != known.shape:
            shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise InputError(
                f"network: gives {shape} for {len(some)} images, where the top was trained on {tuple(known.shape)}"
            )
        distance = (found.to(known.device, known.dtype) - known).flatten(1).norm(dim=1)
        relative = float((distance / known.flatten(1).norm(dim=1).clamp_min(1e-30)).max())
        if not relative <= AGREEMENT:
            raise InputError(
                f"network: its features of the stored images differ from those that the top was trained on by "
                f"{relative:.1%}; compute the training features with this network from these very images, as levels "
                "0 … 255 in the order of the training data"
            )


def chosen_targets(objective: Objective, queries: Data, targets: Any) -> tuple[Int[Tensor, " m"], int]:
    """Queries to attack, and how many are wrong already: those asked for, else all that are predicted rightly.

    Raises
    ------
    InputError
        If one asked for is out of range, named twice, or wrong already, or none is right.
    """
    wrong = predictions(objective, queries).wrong.cpu()
    if targets is None:
        right = (~wrong).nonzero().flatten()
        if not len(right):
            raise InputError(f"queries: all {len(wrong)} are predicted wrongly already, so none can be made to err")
        return right, int(wrong.sum())
    chosen = torch.as_tensor(targets).reshape(-1)
    if chosen.is_floating_point() or chosen.dtype == torch.bool or not chosen.numel():
        raise InputError(f"targets: give at least one position among the {len(wrong)} queries; got {targets!r}")
    if int(chosen.min()) < 0 or int(chosen.max()) >= len(wrong):
        raise InputError(f"targets: positions must be in 0 … {len(wrong) - 1}; got {chosen.tolist()}")
    if len(chosen.unique()) < len(chosen):
        raise InputError(f"targets: a query is named twice in {chosen.tolist()}")
    if wrong[chosen].any():
        raise InputError(
            f"targets: {chosen[wrong[chosen]].tolist()} are predicted wrongly already; leave them out, or give "
            "targets=None to attack all that are right"
        )
    return chosen.long(), 0
