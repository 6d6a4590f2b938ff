"""Sentences about synthetic people, and a transformer of two layers that learns them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

import upweight as uw
from experiments.facts.model import HEADS, WIDTH, Transformer
from upweight.datasets.people import Vocabulary

QUICK = bool(os.environ.get("QUICK"))
PEOPLE = 16 if QUICK else 60
QUESTIONS = 20 if QUICK else 100
EPOCHS = 20 if QUICK else 40
BATCH, RATE, DECAY = 32, 5e-3, 0.3
CHECKPOINTS = 5
IGNORED = -100
LOSS = uw.losses.CausalLM()
SETTINGS = {
    "people": PEOPLE,
    "epochs": EPOCHS,
    "batch": BATCH,
    "rate": RATE,
    "decay": DECAY,
    "width": WIDTH,
    "heads": HEADS,
    "checkpoints": CHECKPOINTS,
}


@dataclass
class Trained:
    """The model with the state of some epochs, the last one's among them, and the learning rates then."""

    model: Transformer
    checkpoints: list[dict[str, Tensor]]
    rates: list[float]


class Worded(Protocol):
    """Texts of known words and length."""

    @property
    def vocabulary(self) -> Vocabulary:
        """All words."""

    @property
    def length(self) -> int:
        """Words of the longest text."""


def train(people: Worded, tokens: dict[str, Tensor], seed: int, *, epochs: int = EPOCHS) -> Trained:
    """AdamW with a learning rate that rises and falls linearly, on the mean loss by word."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    model = Transformer(len(people.vocabulary), people.length)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=DECAY)
    n = len(tokens["input_ids"])
    steps = epochs * -(-n // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, RATE, total_steps=steps, pct_start=0.1, anneal_strategy="linear"
    )
    kept = {round(epochs * (number + 1) / CHECKPOINTS) for number in range(CHECKPOINTS)}
    found = Trained(model, [], [])
    for epoch in range(1, epochs + 1):
        for rows in torch.randperm(n, generator=generator).split(BATCH):
            batch = {name: values[rows] for name, values in tokens.items()}
            words = (batch["labels"][:, 1:] != -100).sum()
            loss = LOSS(model, batch).sum() / words
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            rate = optimizer.param_groups[0]["lr"]
            schedule.step()
        if epoch in kept:
            found.checkpoints.append({name: values.clone() for name, values in model.state_dict().items()})
            found.rates.append(rate)
    model.eval()
    return found


def answered(model: nn.Module, asked: dict[str, Any]) -> float:
    """Share of the questions whose answer is the likeliest next word."""
    with torch.no_grad():
        logits = model(asked["input_ids"])[:, :-1]
    labels = asked["labels"][:, 1:]
    counts = labels != -100
    return float((logits.argmax(-1) == labels)[counts].double().mean())
