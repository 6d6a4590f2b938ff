"""Per-example losses ℓ, with the split into model outputs and loss of outputs that the GGN needs.

A loss maps ``(model, batch)`` to one value per example. The losses here also say what the outputs are
(``outputs``) and what the loss of given outputs is (``of_outputs``), as may a user's own object; a user's own function
says only the whole, which is enough for everything but the GGN.

Conventions: sequences sum over positions; positions that the loss ignores contribute nothing. Batches are
``(inputs, targets)``, ``(input_1, …, input_k, targets)``, or a dict whose targets are under ``labels``,
``label``, ``targets``, ``target`` or ``y`` and whose other entries are the model's keyword arguments. Whole numbers of
any kind (int8 … uint8, bool) are targets.

The outputs are the model's tensor. Of a model that returns anything else they are its ``logits`` (an attribute or a
key), else the first tensor with a dimension in its tuple, dict or dataclass, depth first.

torch's own ``nn.CrossEntropyLoss``, ``nn.BCEWithLogitsLoss`` and ``nn.MSELoss`` are taken with all their options
(`upweight.losses.torch_losses`).
"""

from __future__ import annotations

from upweight.losses.base import AnyLoss, Function, Loss, Split, all_ignored, checked_temperature, one_hot
from upweight.losses.batches import TARGET_KEYS, split_batch, with_targets
from upweight.losses.causal_lm import CausalLM
from upweight.losses.cross_entropy import CrossEntropy
from upweight.losses.margins import BinaryLogistic, Hinge, OneAgainstRest, SmoothHinge, SquaredHinge, margins, signs
from upweight.losses.of_parts import OfParts
from upweight.losses.outputs import call
from upweight.losses.read import as_loss, as_split
from upweight.losses.squared_error import SquaredError

__all__ = [
    "TARGET_KEYS",
    "AnyLoss",
    "BinaryLogistic",
    "CausalLM",
    "CrossEntropy",
    "Function",
    "Hinge",
    "Loss",
    "OfParts",
    "OneAgainstRest",
    "SmoothHinge",
    "Split",
    "SquaredError",
    "SquaredHinge",
    "all_ignored",
    "as_loss",
    "as_split",
    "call",
    "checked_temperature",
    "margins",
    "one_hot",
    "signs",
    "split_batch",
    "with_targets",
]
