"""Chosen entries of θ, and a model of which only those are parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from upweight import kinds
from upweight.errors import InputError
from upweight.kept import copied, fresh_buffers
from upweight.parameters import Layout
from upweight.penalty import penalties


@dataclass(frozen=True, eq=False)
class Subset:
    """Entries of θ.

    Attributes
    ----------
    layout
        The θ that they are entries of.
    mask
        True where an entry is chosen, ``[p]``.
    words
        How they were chosen.

    Raises
    ------
    InputError
        If the mask has another length, or nothing is chosen.
    """

    layout: Layout
    mask: Bool[Tensor, " p"]
    words: str = "given entries"

    def __post_init__(self) -> None:
        kinds.check_fields(self)
        if self.mask.dtype != torch.bool or self.mask.shape != (self.layout.p,):
            raise InputError(
                f"parameters: a mask is {self.layout.p:,} booleans, one for each entry of θ; "
                f"got {tuple(self.mask.shape)} of {self.mask.dtype}"
            )
        if not self.mask.any():
            raise InputError(f"parameters: {self.words} chooses none of the {self.layout.p:,} entries of θ")

    @cached_property
    def indices(self) -> Int[Tensor, " j"]:
        """Positions of the chosen entries in θ, increasing."""
        return self.mask.nonzero().flatten()

    @property
    def size(self) -> int:
        """How many entries are chosen."""
        return len(self.indices)

    @property
    def share(self) -> float:
        """Of all entries of θ."""
        return self.size / self.layout.p

    def by_parameter(self) -> dict[str, tuple[int, int]]:
        """For each parameter that has any: chosen entries, and all."""
        named = self.layout.unflatten(self.mask)
        return {name: (int(part.sum()), part.numel()) for name, part in named.items() if part.any()}

    def cut(self, vectors: Float[Tensor, "*k p"]) -> Float[Tensor, "*k j"]:
        """The chosen entries of vectors over θ."""
        return vectors[..., self.indices.to(vectors.device)]

    def embed(self, vectors: Float[Tensor, "*k j"]) -> Float[Tensor, "*k p"]:
        """Vectors over θ with these chosen entries, 0 elsewhere."""
        out = vectors.new_zeros(*vectors.shape[:-1], self.layout.p)
        out[..., self.indices.to(vectors.device)] = vectors
        return out

    def restricted(self, model: nn.Module, l2: float | Mapping[str, float]) -> tuple[nn.Module, list[str], Any]:
        """For an objective: the model with the chosen entries as its parameters, their names, and their penalties.

        Raises
        ------
        InputError
            If the model has other parameters than those chosen from.
        """
        named = dict(model.named_parameters())
        for name, shape in zip(self.layout.names, self.layout.shapes, strict=True):
            if name not in named or named[name].shape != shape:
                raise InputError(f"parameters: chosen of a model with {name!r} {tuple(shape)}, which this one hasn't")
        chosen = {name: part for name, part in self.layout.unflatten(self.mask).items() if part.any()}
        inner = Restricted(model, chosen).train(model.training)
        names = [f"chosen.{Restricted.key(name)}" for name in chosen]
        if not isinstance(l2, Mapping):
            return inner, names, l2
        values = self.layout.unflatten(penalties(l2, self.layout, torch.zeros(self.layout.p), model))
        return inner, names, {key: float(values[name].max()) for key, name in zip(names, chosen, strict=True)}

    def __repr__(self) -> str:
        parts = self.by_parameter()
        return (
            f"Subset({self.words}: {self.size:,} of {self.layout.p:,} entries, {self.share:.1%}, in "
            f"{len(parts)} parameter{'s' if len(parts) > 1 else ''})"
        )


class Restricted(nn.Module):
    """A model whose parameters are chosen entries of another's; the others keep their values.

    The other model is used as it is, and never changed but by a move of the whole to another precision or device.
    """

    def __init__(self, model: nn.Module, masks: Mapping[str, Tensor]):
        super().__init__()
        named = dict(model.named_parameters())
        self._inner = (model,)  # not a submodule: its own parameters are no parameters of this
        self._places = {name: mask.flatten().nonzero().flatten() for name, mask in masks.items()}
        self.chosen = nn.ParameterDict()  # filled one by one: of a plain dict it would sort the names
        for name, places in self._places.items():
            values = named[name].detach().reshape(-1)
            self.chosen[self.key(name)] = nn.Parameter(values[places.to(values.device)].clone())

    def whole(self) -> nn.Module:
        """A copy of the other model with the chosen entries in place."""
        model = copied(self._inner[0])
        with torch.no_grad():
            for name, places in self._places.items():
                values = model.get_parameter(name)
                flat = values.reshape(-1).index_put((places.to(values.device),), self.chosen[self.key(name)])
                values.copy_(flat.reshape(values.shape))
        return model

    def _apply(self, fn: Any, recurse: bool = True) -> Restricted:
        """To another precision or device: the other model too, whose entries these stand among."""
        super()._apply(fn, recurse)
        self._inner = (self._inner[0]._apply(fn),)
        return self

    @staticmethod
    def key(name: str) -> str:
        """A parameter's name without dots, which names of parameters may not hold."""
        return name.replace(".", "/")

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """The other model's, with the chosen entries in place."""
        (model,) = self._inner
        values = dict(model.named_parameters())
        assembled = {}
        for name, places in self._places.items():
            whole = values[name].detach()
            flat = whole.reshape(-1).index_put((places.to(whole.device),), self.chosen[self.key(name)])
            assembled[name] = flat.reshape(whole.shape)
        return torch.func.functional_call(model, {**fresh_buffers(model), **assembled}, inputs, named)


def everything(layout: Layout) -> Subset:
    """All entries.

    Parameters
    ----------
    layout
        Which parameters make up θ: ``objective.layout``.
    """
    kinds.check(everything, locals())
    return Subset(layout, torch.ones(layout.p, dtype=torch.bool), "everything")


def masked(layout: Layout, masks: Tensor | Mapping[str, Tensor]) -> Subset:
    """Entries by a mask over θ ``[p]``, or by masks in the shapes of some parameters.

    Parameters
    ----------
    layout
        Which parameters make up θ: ``objective.layout``.
    masks
        Booleans ``[p]``; or booleans by parameter name, each in its parameter's shape: of parameters without one
        nothing is chosen.

    Raises
    ------
    InputError
        If a name is unknown, a mask has another shape or no booleans, or nothing is chosen.
    """
    kinds.check(masked, locals())
    if isinstance(masks, Tensor):
        return Subset(layout, masks.cpu(), "given entries")
    values = {
        name: torch.zeros(shape, dtype=torch.bool) for name, shape in zip(layout.names, layout.shapes, strict=True)
    }
    for name, mask in masks.items():
        if name not in values:
            raise InputError(f"parameters: {name!r} is none of those that training changed, {list(values)}")
        if mask.dtype != torch.bool or mask.shape != values[name].shape:
            raise InputError(
                f"parameters: the mask of {name!r} must be booleans of shape {tuple(values[name].shape)}; "
                f"got {tuple(mask.shape)} of {mask.dtype}"
            )
        values[name] = mask.cpu()
    return Subset(layout, layout.flatten(values), "given entries")
