"""Tiny transformers of the usual families, and the same sequences in any padding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import upweight as uw
from zoo.case import CLASSES, WORDS
from zoo.hugging_face import EXPERTS, GPT2, GROUPED, T5, built

LENGTHS = (5, 3, 4, 2, 5, 2)
Data = dict[str, Tensor]


def drawn(seed: int, lengths: tuple[int, ...]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(3, WORDS, (length,), generator=generator) for length in lengths]


def placed(rows: list[Tensor], side: str, more: int, fill: int) -> Tensor:
    """Rows as long as the longest and ``more``, filled up on one side."""
    time = max(map(len, rows)) + more
    out = torch.full((len(rows), time), fill)
    for place, row in zip(out, rows, strict=True):
        first = 0 if side == "right" else time - len(row)
        place[first : first + len(row)] = row
    return out


def sentences(side: str, more: int) -> tuple[list[Tensor], Data]:
    """Tokens with their mask and their places among themselves."""
    rows = drawn(1, LENGTHS)
    mask = placed([torch.ones_like(row) for row in rows], side, more, 0)
    return rows, {
        "input_ids": placed(rows, side, more, 0),
        "attention_mask": mask,
        "position_ids": (mask.cumsum(1) - 1).clamp_min(0),
    }


def continued(side: str, more: int) -> Data:
    """Each token by those before it; the first is never predicted, whatever stands before it."""
    rows, data = sentences(side, more)
    labels = [torch.cat([torch.tensor([-100]), row[1:]]) for row in rows]
    return {**data, "labels": placed(labels, side, more, -100)}


def tagged(side: str, more: int) -> Data:
    rows, data = sentences(side, more)
    return {**data, "labels": placed([row % CLASSES for row in rows], side, more, -100)}


def translated(side: str, more: int) -> Data:
    """What is read is padded on either side, what is written behind."""
    _, data = sentences(side, more)
    del data["position_ids"]
    given, wanted = (
        placed(drawn(seed, (3,) * len(LENGTHS)), "right", more, fill) for seed, fill in ((2, 0), (3, -100))
    )
    return {**data, "decoder_input_ids": given, "labels": wanted}


@dataclass(frozen=True)
class Family:
    """Architecture and configuration of the library's, and what it is trained on."""

    architecture: str
    configuration: str
    changes: dict[str, Any]
    loss: Callable[[], Any]
    data: Callable[[str, int], Data]

    def objective(
        self, dtype: torch.dtype, data: Data, batch_size: int | None = None, *, validate: bool = True, **changes: Any
    ) -> uw.Objective:
        """The same random weights whatever else."""
        torch.manual_seed(0)
        model = built(self.architecture, self.configuration, **{**self.changes, **changes})
        return uw.Objective(model.to(dtype).eval(), self.loss(), data, batch_size=batch_size, validate=validate)


def language(prefix: str, suffix: str = "ForCausalLM", **changes: Any) -> Family:
    return Family(prefix + suffix, f"{prefix}Config", changes, uw.losses.CausalLM, continued)


FAMILIES = {
    "GPT-2": language("GPT2", "LMHeadModel", **GPT2),
    "Llama": language("Llama", **GROUPED),
    "Qwen": language("Qwen3", **GROUPED),
    "Gemma": language("Gemma", **GROUPED),
    "Mistral": language("Mistral", sliding_window=3, **GROUPED),
    "Mixtral": language("Mixtral", **EXPERTS),
    "BERT": Family("BertForTokenClassification", "BertConfig", {}, uw.losses.CrossEntropy, tagged),
    "T5": Family(
        "T5ForConditionalGeneration",
        "T5Config",
        {"feed_forward_proj": "gated-gelu", "decoder_start_token_id": 0, **T5},
        uw.losses.CrossEntropy,
        translated,
    ),
}
