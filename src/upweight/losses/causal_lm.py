"""The loss of a causal language model: every token by those before it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from upweight.data import Batch
from upweight.errors import InputError
from upweight.losses.batches import TARGET_KEYS, split_batch, widened
from upweight.losses.cross_entropy import CrossEntropy
from upweight.losses.outputs import call

REDUCTIONS = ("sum", "mean")


@dataclass(frozen=True)
class CausalLM(CrossEntropy):
    """−log p of each token given those before it: logits at place t are compared with the token at t + 1.

    Labels are as Hugging Face's causal language models take them: the tokens themselves, not shifted, −100 where a
    token isn't to be learnt (prompts, padding). They may be left out: then they are ``input_ids``, and where there is
    an ``attention_mask``, its zeros are ignored. Batches are mappings (``input_ids``, ``attention_mask``, …,
    ``labels``), pairs (tokens, labels), or the tokens alone, ``[batch, time]``; the model gives logits
    ``[batch, time, vocabulary]``.

    Parameters
    ----------
    ignore_index, temperature, weight, label_smoothing, factor
        As in `CrossEntropy`.
    reduction
        "sum" (default) over an example's tokens, or "mean" over those of them that count (0 where none does).
    class_axis
        −1: a language model's logits have the vocabulary last.

    Raises
    ------
    InputError
        If ``reduction`` is another word, ``class_axis`` another axis, or a number is out of its range.

    Notes
    -----
    A trainer's token mean over the training data is Σ_tokens ℓ/N of all N tokens that count, so with n examples
    ``CausalLM(factor=n / N)`` has it as R. It is not the mean of the examples' means (``reduction="mean"``), in which
    a token of a short example counts more.
    """

    class_axis: int | None = -1
    reduction: str = "sum"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.reduction not in REDUCTIONS:
            raise InputError(f"reduction: give one of {REDUCTIONS}; got {self.reduction!r}")
        if self.class_axis != -1:
            raise InputError("class_axis: a language model's logits have the vocabulary last; leave class_axis out")

    @property
    def unit(self) -> str:  # type: ignore[override]
        """Nats, for a mean by token."""
        return "nats" if self.reduction == "sum" else "nats per token"

    @property
    def is_plain(self) -> bool:
        """As of `CrossEntropy`, of the sum."""
        return super().is_plain and self.reduction == "sum"

    def outputs(self, model: nn.Module, batch: Batch) -> Tensor:
        """Logits over the temperature at all places but the last, ``[batch, time − 1, vocabulary]``.

        Raises
        ------
        InputError
            If the model gives no logits ``[batch, time, vocabulary]``.
        """
        logits = call(model, self.inputs(batch))
        if logits.dim() != 3:
            raise InputError(
                f"CausalLM: the model gives {tuple(logits.shape)}; it needs logits [batch, time, vocabulary]"
            )
        logits = logits[:, :-1]
        return logits if self.temperature == 1 else logits / self.temperature

    def inputs(self, batch: Batch) -> Any:
        """Tokens, mask and what else there is but labels."""
        return tokens_and_labels(batch, self.ignore_index)[0]

    def targets(self, batch: Batch) -> Tensor:
        """The labels at all places but the first, ``[batch, time − 1]``."""
        return tokens_and_labels(batch, self.ignore_index)[1][:, 1:]

    def compare(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy by token."""
        return super().compare(outputs, targets) / self._divisor(targets)

    def mass(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """How much every token counts."""
        return super().mass(outputs, targets) / self._divisor(targets)

    def _divisor(self, targets: Tensor) -> Tensor | int:
        """For a mean the number of an example's tokens that count."""
        if self.reduction == "sum":
            return 1
        return (targets != self.ignore_index).sum(-1, keepdim=True).clamp_min(1)

    def check(self, outputs: Tensor, batch: Batch) -> None:
        """Labels must be token numbers, as many as logits, and at least two of them.

        Raises
        ------
        InputError
            If labels aren't ``[batch, time]`` with a time of 2 or more, aren't whole numbers below the vocabulary's
            size, or have another time than the logits.
        """
        labels = tokens_and_labels(batch, self.ignore_index)[1]
        if labels.dim() != 2 or labels.shape[1] < 2:
            raise InputError(
                f"CausalLM: labels are {tuple(labels.shape)}; it needs [batch, time] with two tokens or more, since "
                "the first is given"
            )
        if labels.is_floating_point():
            raise InputError(f"CausalLM: labels are {labels.dtype}; it needs token numbers, labels.long()")
        if labels.shape[1] - 1 != outputs.shape[1]:
            raise InputError(
                f"CausalLM: labels {tuple(labels.shape)} against logits of {outputs.shape[1] + 1} places; give the "
                "labels as the tokens are, not shifted, -100 where there are more places than tokens"
            )
        super().check(outputs, batch)


def tokens_and_labels(batch: Batch, ignored: int) -> tuple[Any, Tensor]:
    """What the model is called on, and labels of its shape; tokens are their own labels where none are given."""
    if isinstance(batch, Tensor):
        return batch, widened(batch)
    if not isinstance(batch, Mapping) or any(key in batch for key in TARGET_KEYS):
        return split_batch(batch)
    if "input_ids" not in batch:
        raise InputError(
            f"data: a dict batch needs 'input_ids', or labels under one of {TARGET_KEYS}; it has {list(batch)}"
        )
    labels, mask = widened(batch["input_ids"]), batch.get("attention_mask")
    return batch, labels if mask is None else torch.where(mask != 0, labels, ignored)
