"""Changes of the training data, and what they do to the risk: its gradient and its curvature.

R′ is the risk after the change. Where weights stay 1/n, R′ = R − (1/n) Σ_U (ℓ(old) − ℓ(new)), nothing being new in a
removal; in the other convention a removal takes the mean over the n − u examples left (spec: oracles 1 and 15).
Near an optimum of R, θ̂′ − θ̂ ≈ (H′)⁻¹g with g = −∇R′ there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from upweight import kinds, scalars
from upweight.checks.values import refuse_bad_targets
from upweight.curvature import GGN, Hessian, ObjectiveCurvature
from upweight.curvature.operators import OfObjective
from upweight.data import Data
from upweight.errors import InputError
from upweight.losses import with_targets
from upweight.objective import Objective


@dataclass(frozen=True)
class Removal:
    """These training examples are left out.

    Attributes
    ----------
    indices
        Positions, a mask or ids, as `Objective.positions` takes them.
    """

    indices: Any

    def examples(self, objective: Objective) -> None:
        """Nothing comes in their place."""


@dataclass(frozen=True)
class Relabelling:
    """These training examples get other targets, one each.

    Attributes
    ----------
    indices
        Positions, a mask or ids, as `Objective.positions` takes them.
    targets
        Finite numbers, one for each index, in the form of the training data's targets.
    """

    indices: Any
    targets: Any

    def examples(self, objective: Objective) -> Data:
        """The examples with their new targets.

        Raises
        ------
        InputError
            If there isn't one target for each index, or a target isn't a finite number.
        """
        positions = objective.positions(self.indices)
        given = torch.atleast_1d(kinds.numbers("targets", self.targets)).to(objective.device)
        if len(given) != len(positions):
            raise InputError(f"targets: need one for each of the {len(positions)} indices; got {len(given)}")
        return objective.queries(with_targets(objective.data.take(positions), given))


@dataclass(frozen=True)
class Substitution:
    """Other examples, one each, take the place of these.

    Attributes
    ----------
    indices
        Positions, a mask or ids, as `Objective.positions` takes them.
    substitutes
        Examples in the form of the training data, one for each index and in that order.
    """

    indices: Any
    substitutes: Any

    def examples(self, objective: Objective) -> Data:
        """The other examples.

        Raises
        ------
        InputError
            If there isn't one for each index, or they have another form than the training data.
        """
        found, count = objective.queries(self.substitutes), len(objective.positions(self.indices))
        if len(found) != count:
            raise InputError(f"substitutes: need one for each of the {count} indices; got {len(found)}")
        return found


@dataclass(frozen=True, eq=False)
class ChangedRisk:
    """An objective with a change of its data; made without a pass over the model.

    Attributes
    ----------
    positions
        The examples that go, ``[u]``.
    added
        What comes in their place.
    renormalize
        Whether the mean is taken over the n − u examples left.
    further
        What g has more, ``[p]``.
    """

    objective: Objective
    positions: Int[Tensor, " u"]
    added: Data | None
    renormalize: bool = False
    further: Float[Tensor, " p"] | None = None

    @cached_property
    def kept(self) -> Int[Tensor, " kept"]:
        """The examples that stay."""
        stays = torch.ones(self.objective.n, dtype=torch.bool)
        stays[self.positions] = False
        return stays.nonzero().flatten()

    @property
    def count(self) -> int:
        """How many examples there are after the change."""
        return len(self.kept) + (0 if self.added is None else len(self.added))

    @property
    def scale(self) -> float:
        """What one example's loss counts after the change: 1/n or 1/(n−u)."""
        return 1 / (self.count if self.renormalize else self.objective.n)

    @cached_property
    def gradient(self) -> Float[Tensor, " p"]:
        """g = −∇R′(θ) as it would be if θ were the optimum of R, and ``further``; a pass over the examples that change.

        Raises
        ------
        InputError
            If targets are out of range.
        """
        objective = self.objective
        total = torch.zeros_like(objective.params)
        for index, batch in objective.data.batches(self.positions, objective.engine.rows):
            total += objective.engine.function.gradient(objective.params, batch, objective.weights[index])[1]
        if self.renormalize:
            total += len(self.positions) * objective.l2 * objective.params
        if self.added is not None:
            weights = objective.weights[self.positions]
            for index, batch in self.added.batches(None, objective.engine.rows):
                refuse_bad_targets(objective.problem, batch)
                total -= objective.engine.function.gradient(objective.params, batch, weights[index])[1]
        g = total / (self.count if self.renormalize else objective.n)
        return g if self.further is None else g + self.further


def changed(
    objective: Objective, change: Any, *, renormalize: bool = False, further: Float[Tensor, " p"] | None = None
) -> ChangedRisk:
    """Pose a change.

    Raises
    ------
    InputError
        If it touches nothing, or removes all; if targets or substitutes aren't one each; if ``renormalize`` is asked of
        a change that keeps the number of examples; if ``further`` is of another θ.
    """
    if not isinstance(change, Removal | Relabelling | Substitution):
        raise InputError(f"change: give Removal, Relabelling or Substitution; got {type(change).__name__}")
    positions = objective.positions(change.indices)
    n, u = objective.n, len(positions)
    added = change.examples(objective)
    if added is None and u == n:
        raise InputError(f"indices: they are all {n} training examples; nothing would be left to train on")
    if renormalize and added is not None:
        raise InputError("renormalize: belongs to a removal; relabelled and substituted examples keep their weight")
    if further is not None and len(further) != objective.p:
        raise InputError(f"further: give {objective.p:,} numbers, one for each entry of θ; got {len(further):,}")
    return ChangedRisk(objective, positions, added, renormalize, further)


@dataclass(frozen=True, eq=False)
class ChangedCurvature(OfObjective):
    """H′ + δI, the curvature of the risk after a change, as an operator; counts its products.

    Attributes
    ----------
    name
        ``Hessian`` or ``GGN``.
    stays, comes
        Which of the examples that stay, by position, and of those that come in place of others stand for all.
    goes
        Which of the examples that go, by position, stand for all of these before the change.
    """

    objective: Objective
    change: ChangedRisk
    name: str
    damping: float
    stays: Int[Tensor, " stays"]
    comes: Int[Tensor, " comes"]
    goes: Int[Tensor, " goes"]
    products: list[int] = field(default_factory=lambda: [0])

    def apply(self, vectors: Float[Tensor, "k p"]) -> Float[Tensor, "k p"]:
        """Product with k vectors, given as rows; one pass over the examples."""
        self.products[0] += len(vectors)
        objective, change = self.objective, self.change
        scale = change.scale * change.count / (len(self.stays) + len(self.comes))
        total = ObjectiveCurvature(objective, self.name, self.stays, scale, penalized=True).apply(vectors)
        if change.added is not None:
            product = self._product()
            weights = objective.weights[change.positions]
            for where, batch in change.added.batches(self.comes, objective.engine.rows):
                total = total + scale * product(objective.params, batch, weights[where], vectors)
        return total + self.damping * vectors

    def before(self, vectors: Float[Tensor, "k p"]) -> Float[Tensor, "k p"]:
        """Product with H + δI as it was before the change; the examples that stay are the same ones."""
        self.products[0] += len(vectors)
        objective, change = self.objective, self.change
        staying = change.count / (len(self.stays) + len(self.comes)) / objective.n
        going = staying if change.added is not None else len(change.positions) / len(self.goes) / objective.n
        total = ObjectiveCurvature(objective, self.name, self.stays, staying, penalized=True).apply(vectors)
        total = total + ObjectiveCurvature(objective, self.name, self.goes, going, penalized=False).apply(vectors)
        return total + self.damping * vectors

    def _product(self) -> Callable[..., Tensor]:
        function = self.objective.engine.function
        return function.hessian_product if self.name == Hessian.name else function.ggn_product

    def dense(self) -> Float[Tensor, "p p"]:
        """The matrix itself; for small p."""
        matrix = self.apply(torch.eye(self.size, dtype=self.dtype, device=self.device))
        return (matrix + matrix.T) / 2


def curvature_after(
    change: ChangedRisk, curvature: Hessian | GGN, damping: float, examples: int | None, seed: int
) -> ChangedCurvature:
    """H′ + δI, from all examples after the change or from a random choice of so many of them."""
    kept, chosen = change.kept, torch.arange(change.count)
    generator = scalars.generator(seed)
    if examples is not None:
        order = torch.randperm(change.count, generator=generator)
        chosen = order[:examples].sort().values
    stays, comes = kept[chosen[chosen < len(kept)]], chosen[chosen >= len(kept)] - len(kept)
    goes = change.positions if change.added is None else change.positions[comes]
    if change.added is None and examples is not None:
        goes = goes[torch.randperm(len(goes), generator=generator)[:examples]]
    return ChangedCurvature(change.objective, change, curvature.name, float(damping), stays, comes, goes)
