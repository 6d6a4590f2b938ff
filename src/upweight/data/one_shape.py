"""Sequences of unequal length: batches padded to the longest in them, made of one shape whatever is in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils.data import default_collate

from upweight.data.batch import Batch, plain, tensors
from upweight.data.interface import Data
from upweight.data.map_style import MapData
from upweight.errors import InputError

LOOKED_AT = 16
"""Examples, spread over the data, that tell whether lengths differ; where they do, all are looked at."""

Shapes = list[tuple[int, ...]]


@dataclass(frozen=True, eq=False)
class Beside:
    """A collate function that is always given the longest examples too, whose places are then left out.

    So a batch is padded to their length, by whatever pads.
    """

    collate: Callable[[list[Any]], Batch]
    longest: tuple[Any, ...]

    def __call__(self, examples: list[Any]) -> Batch:
        """The batch of these examples."""
        batch = plain(self.collate([*examples, *self.longest]))
        return pytree.tree_map(lambda leaf: leaf[: len(examples)] if isinstance(leaf, Tensor) else leaf, batch)


def of_one_shape(data: Data) -> Data:
    """The same examples; if a user's function collates them to different shapes, padded to the longest of all.

    An example's outputs then have the same shape in all batches, which what is kept of them counts on.
    """
    if not isinstance(data, MapData) or data.collate is default_collate or isinstance(data.collate, Beside):
        return data
    # Not the first ones: data may be sorted by length.
    some = sorted({number * (len(data) - 1) // (LOOKED_AT - 1) for number in range(LOOKED_AT)})
    try:
        places = _longest(data, range(len(data))) if _longest(data, some) else []
        if not places:
            return data
        made = replace(data, collate=Beside(data.collate, tuple(data.dataset[place] for place in places)))
        whole = [_shapes(made, [place]) for place in some]
    except InputError:  # what can't be read or collated is refused where the objective is checked
        return data
    return made if all(shapes == whole[0] for shapes in whole) else data


def _shapes(data: MapData, places: list[int]) -> Shapes | None:
    """Of each tensor of a batch, without its first dimension; None where that isn't the examples."""
    found = [tuple(leaf.shape) for leaf in tensors(data.take(places))]
    if not found or any(shape[:1] != (len(places),) for shape in found):
        return None
    return [shape[1:] for shape in found]


def _longest(data: MapData, looked_at: Sequence[int]) -> list[int]:
    """Some of these examples that are, of each tensor and in each dimension, the longest; none if all are alike."""
    every = [_shapes(data, [place]) for place in looked_at]
    known = [shapes for shapes in every if shapes is not None]
    ranks = {tuple(len(shape) for shape in shapes) for shapes in known}
    if len(known) < len(every) or len(ranks) > 1 or all(shapes == known[0] for shapes in known):
        return []
    found: dict[int, None] = {}  # in order
    for leaf, shape in enumerate(known[0]):
        for side in range(len(shape)):
            sizes = [shapes[leaf][side] for shapes in known]
            if not any(sizes[place] == max(sizes) for place in found):
                found[sizes.index(max(sizes))] = None
    return [looked_at[number] for number in found]
