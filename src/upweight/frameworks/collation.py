"""Examples of text made batches: tokenised, padded, and without what the model doesn't take."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from upweight.errors import InputError
from upweight.frameworks.tasks import BY_TOKEN, base_model

LABELS = ("labels", "label", "label_ids")
"""What labels are called in datasets; in batches they are ``labels``."""
IGNORED = -100
TEXT = "text"
"""The column of texts, where none is named."""
BY_PLACE = ("input_ids", "attention_mask", "token_type_ids", "special_tokens_mask", "position_ids", "labels")
"""What has a value for each token, and is padded."""


def taken(model: nn.Module) -> tuple[str, ...]:
    """The names that a model's forward takes, with labels under any of theirs, as ``Trainer`` reads them."""
    return (*inspect.signature(base_model(model).forward).parameters, *LABELS)


@dataclass(frozen=True)
class Collation:
    """A batch of examples as dataset rows, texts or pairs come.

    Attributes
    ----------
    task
        The model's.
    columns
        What of a row the model takes; the rest is left out. None: everything.
    tokenizer, text, max_length
        What makes tokens of the column of texts, where rows have no ``input_ids``.
    collator
        What makes a batch of rows, in place of padding here.
    pad
        What ``input_ids`` are padded with; None where nothing is known.
    kind
        What labels of sequences are.
    lengths
        Places that batches are padded to, by name, at least: an example's outputs then have one shape in all batches.
    start
        The token that a decoder's inputs begin with, of models that are given labels shifted by one.
    """

    task: str
    columns: tuple[str, ...] | None
    tokenizer: Any = None
    text: str = TEXT
    max_length: int | None = None
    collator: Callable[[list[Any]], Any] | None = None
    pad: int | None = None
    kind: str = "single_label_classification"
    start: int | None = None
    lengths: Mapping[str, int] = field(default_factory=dict)

    def __call__(self, examples: list[Any]) -> Any:
        """The batch, a dict of tensors with ``labels``."""
        rows = [self.row(example) for example in examples]
        if self.collator is None and not all(isinstance(row, Mapping) for row in rows):
            raise InputError(
                f"data: an example is a {type(rows[0]).__name__}; give rows with the model's arguments by name "
                "({'input_ids': …}), texts with a tokenizer, or collate="
            )
        batch = self.padded(rows) if self.collator is None else self.collator(rows)
        return self.lengthened(self.labelled(dict(batch))) if isinstance(batch, Mapping) else batch

    def lengthened(self, batch: dict[str, Any]) -> dict[str, Any]:
        """The batch with as many places as the training data have at most."""
        ids = batch.get("input_ids")
        if self.lengths and isinstance(ids, Tensor) and ids.dim() == 2 and "attention_mask" not in batch:
            batch["attention_mask"] = torch.ones_like(ids)
        for key, length in self.lengths.items():
            value = batch.get(key)
            if isinstance(value, Tensor) and value.dim() == 2 and value.shape[1] < length:
                more = value.new_full((len(value), length - value.shape[1]), self.filler(key))
                batch[key] = torch.cat([more, value] if self.is_left(key) else [value, more], 1)
        return batch

    def filler(self, key: str) -> int:
        """What fills up places."""
        tokens = {"input_ids": self.pad or 0, "decoder_input_ids": self.pad or 0}
        return {**tokens, "labels": IGNORED, "special_tokens_mask": 1}.get(key, 0)

    def is_left(self, key: str) -> bool:
        """Whether places are filled up at the left, as a tokenizer does for generation."""
        aligned = self.task in ("causal-lm", "masked-lm", "token-classification") or not key.startswith(("lab", "dec"))
        return aligned and getattr(self.tokenizer, "padding_side", "right") == "left"

    def row(self, example: Any) -> Any:
        """An example as the model's arguments by name, not padded."""
        if isinstance(example, str):
            example = {self.text: example}
        if not isinstance(example, Mapping):
            return example
        found = dict(example)
        if self.tokenizer is not None and "input_ids" not in found and self.text in found:
            text = found.pop(self.text)
            cut = {"truncation": True, "max_length": self.max_length} if self.max_length else {}
            found |= dict(self.tokenizer(text, **cut))
        return found if self.columns is None else {key: found[key] for key in found if key in self.columns}

    def labels(self, example: Any) -> Tensor | None:
        """An example's labels, where it has some."""
        row = self.row(example)
        found = next((row[name] for name in LABELS if name in row), None) if isinstance(row, Mapping) else None
        return None if found is None else _tensor(found)

    def padded(self, rows: list[Mapping[str, Any]]) -> dict[str, Any]:
        """Rows padded to the longest, on the tokenizer's side; ``attention_mask`` is made where there is none."""
        rows = [{"labels" if key in LABELS else key: value for key, value in row.items()} for row in rows]
        names = [key for key in rows[0] if all(key in row and row[key] is not None for row in rows)]
        values = {key: [_tensor(row[key]) for row in rows] for key in names}
        if "input_ids" in values and "attention_mask" not in values:
            values["attention_mask"] = [torch.ones_like(ids) for ids in values["input_ids"]]
        return {key: self._stacked(key, parts, values) for key, parts in values.items()}

    def _stacked(self, key: str, parts: list[Tensor], values: Mapping[str, list[Tensor]]) -> Tensor:
        by_place = key in BY_PLACE and parts[0].dim() == 1 and (key != "labels" or self.task in BY_TOKEN)
        lengths = {tuple(part.shape) for part in parts}
        if not by_place:
            if len(lengths) > 1:
                raise InputError(
                    f"data: {key!r} has shapes {sorted(lengths)[:3]} in a batch; give collate=, which pads"
                )
            return torch.stack(parts)
        longest = max(max(len(part) for part in parts), 1)
        if len(lengths) > 1 and key == "input_ids" and self.pad is None:
            raise InputError(
                "data: sequences are of unequal length, and what to pad them with isn't known; give the tokenizer "
                "(with a pad_token), or collate="
            )
        left = self.is_left(key)
        out = torch.full(
            (len(parts), longest), self.filler(key), dtype=parts[0].dtype if parts[0].numel() else torch.long
        )
        for row, part in zip(out, parts, strict=True):
            if len(part):
                row[longest - len(part) if left else 0 :][: len(part)] = part
        return out

    def labelled(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Labels under their one name, in the form of the task; next tokens are their own where there are none."""
        for name in LABELS[1:]:
            if name in batch and "labels" not in batch:
                batch["labels"] = batch.pop(name)
        if self.columns is not None:
            batch = {key: value for key, value in batch.items() if key in self.columns}
        if self.task == "causal-lm" and "labels" not in batch and "input_ids" in batch:
            ids, mask = batch["input_ids"], batch.get("attention_mask")
            batch["labels"] = ids if mask is None else torch.where(mask != 0, ids, IGNORED)
        labels = batch.get("labels")
        if self.task == "seq2seq-lm" and isinstance(labels, Tensor) and "decoder_input_ids" not in batch:
            batch["decoder_input_ids"] = self._decoded(labels)
        if self.task == "sequence-classification" and isinstance(labels, Tensor):
            batch["labels"] = labels.float() if self.kind != "single_label_classification" else labels
        return batch

    def _decoded(self, labels: Tensor) -> Tensor:
        """What a decoder is given to say the labels: these, one place later."""
        if self.start is None:
            return labels
        before = torch.cat([labels.new_full((len(labels), 1), self.start), labels[:, :-1]], 1)
        return before.masked_fill(before == IGNORED, self.pad or 0)


def _tensor(value: Any) -> Tensor:
    if isinstance(value, Tensor):
        return value
    if isinstance(value, Sequence) and not isinstance(value, str) and not len(value):
        return torch.zeros(0, dtype=torch.long)
    return torch.from_numpy(np.asarray(value)) if isinstance(value, np.ndarray) else torch.tensor(value)
