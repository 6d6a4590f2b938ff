"""Tokens that a model can't be called on, refused with the example's position before work starts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from upweight.data import Batch, Data
from upweight.errors import InputError
from upweight.frameworks.collation import BY_PLACE
from upweight.frameworks.tasks import base_model
from upweight.losses import AnyLoss, CrossEntropy, all_ignored


def vocabulary(model: nn.Module) -> int | None:
    """Number of tokens that a model's embedding knows; None where it has none."""
    find = getattr(base_model(model), "get_input_embeddings", None)
    if not callable(find):
        return None
    try:
        rows = getattr(find(), "num_embeddings", None)
    except (NotImplementedError, AttributeError):  # of pictures, say
        return None
    return rows if isinstance(rows, int) else None


def refuse_other_tokenizer(model: nn.Module, tokenizer: Any) -> None:
    """Refuse what is no tokenizer, and one with more tokens than the model's embedding."""
    if tokenizer is not None and (isinstance(tokenizer, type) or not callable(tokenizer)):
        raise InputError(f"tokenizer: give the tokenizer itself, AutoTokenizer.from_pretrained(…); got {tokenizer!r}")
    rows = vocabulary(model)
    if tokenizer is None or rows is None or not hasattr(tokenizer, "__len__"):
        return
    if len(tokenizer) > rows:
        raise InputError(
            f"tokenizer: it has {len(tokenizer):,} tokens, and the model's embedding {rows:,}: it is another model's, "
            "or tokens were added that the model was never trained with (model.resize_token_embeddings comes before "
            "training); give the tokenizer that the model was trained with"
        )


@dataclass
class Looked:
    """Batches of the training data, looked at as they go by.

    Attributes
    ----------
    unlabelled
        Positions of examples of which no label counts.
    lengths
        The most places that a batch has, by name.
    """

    data: Data
    rows: int | None
    loss: AnyLoss | None
    unlabelled: list[int] = field(default_factory=list)
    lengths: dict[str, int] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Batch]:
        empty: list[int] = []
        for positions, batch in self.data.batches(None, None):
            if isinstance(batch, Mapping):
                empty += self._without_tokens(positions, batch)
                self._refuse_unknown(positions, batch)
                self._measure(batch)
            if isinstance(self.loss, CrossEntropy) and not empty:
                self.unlabelled += positions[all_ignored(self.loss, batch).cpu()].tolist()
            yield batch
        if empty:
            raise InputError(
                f"data: {len(empty)} of {len(self.data)} texts are empty after tokenisation, the first at positions "
                f"{empty[:5]}; leave them out, e.g. dataset.filter(lambda row: len(row['input_ids']) > 0)"
            )

    def through(self) -> None:
        """Look at all of them."""
        for _ in self:
            pass

    def _measure(self, batch: Mapping[str, Any]) -> None:
        for key in (*BY_PLACE, "decoder_input_ids"):
            value = batch.get(key)
            if isinstance(value, Tensor) and value.dim() == 2:
                self.lengths[key] = max(self.lengths.get(key, 0), value.shape[1])

    def _without_tokens(self, positions: Tensor, batch: Mapping[str, Any]) -> list[int]:
        mask = batch.get("attention_mask")
        if not isinstance(mask, Tensor) or mask.dim() != 2:
            return []
        return positions[(mask.sum(1) == 0).cpu()].tolist()

    def _refuse_unknown(self, positions: Tensor, batch: Mapping[str, Any]) -> None:
        ids = batch.get("input_ids")
        if self.rows is None or not isinstance(ids, Tensor) or not ids.numel() or ids.is_floating_point():
            return
        wrong = ((ids < 0) | (ids >= self.rows)).flatten(1).any(1)
        if bool(wrong.any()):
            first = int(torch.nonzero(wrong)[0, 0])
            raise InputError(
                f"data: example {int(positions[first])} has the token {int(ids[first].max())}, and the model's "
                f"embedding knows 0 … {self.rows - 1}; tokenise with the model's own tokenizer"
            )
