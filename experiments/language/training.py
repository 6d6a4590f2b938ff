"""A GPT of a million parameters: trained on the other plays, then on some of the passages."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field

import torch
from jaxtyping import Int
from platformdirs import user_cache_path
from torch import Tensor

import upweight as uw
from experiments import states
from experiments.facts.model import Transformer
from experiments.language.passages import EVERY, LEARNT, LENGTH, PASSAGES, QUICK, Passages

SHAPE = {"length": LENGTH, "width": 32 if QUICK else 128, "heads": 4, "layers": 2 if QUICK else 5}
LOSS = uw.losses.CausalLM()
BEGINNING = {"steps": 20 if QUICK else 1200, "batch": 32, "rate": 2e-3, "seed": 0}
RECIPE = {"epochs": 2 if QUICK else 3, "batch": 8, "rate": 1e-3}
SETTINGS = {"passages": PASSAGES, "every": EVERY, "shape": SHAPE, "beginning": BEGINNING, "recipe": RECIPE}

State = dict[str, Tensor]


@dataclass
class Trained:
    """The model, its state at the end of each epoch, the mean learning rates then, and Adam at the end."""

    model: Transformer
    optimizer: torch.optim.Optimizer
    checkpoints: list[State] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)


def beginning(given: Passages) -> State:
    """The model of the other plays, which every training begins from; trained once and kept."""
    settings = json.dumps([SHAPE, BEGINNING, LEARNT, given.characters])
    name = hashlib.sha256(settings.encode()).hexdigest()[:12]
    path = user_cache_path("upweight") / "experiments" / f"language-beginning-{name}.pt"
    if not path.exists():
        states.write(path, _beginning(given))
    return torch.load(path, weights_only=True)


def _beginning(given: Passages) -> State:
    torch.manual_seed(BEGINNING["seed"])
    model = Transformer(len(given.characters), **SHAPE)
    descent = _Descent(model, BEGINNING["rate"], BEGINNING["steps"])
    for step in range(BEGINNING["steps"]):
        starts = torch.randint(len(given.corpus) - LENGTH, (BEGINNING["batch"], 1))
        loss = descent.step(given.corpus[starts + torch.arange(LENGTH)])
        if step % 50 == 0:
            print(f"  step {step}: {loss / (LENGTH - 1):.3f} nats a character", flush=True)
    return model.state_dict()


def train(start: State, passages: Int[Tensor, "train length"], indices: Int[Tensor, " size"], seed: int) -> Trained:
    """Adam from ``start`` on the passages at ``indices``; the seed decides their order, whoever is left out."""
    model = Transformer(len(start["words.weight"]), **SHAPE)
    model.load_state_dict(start)
    generator, learnt = torch.Generator().manual_seed(seed), torch.zeros(len(passages), dtype=torch.bool)
    learnt[indices] = True
    batches = -(-len(indices) // RECIPE["batch"])
    descent = _Descent(model, RECIPE["rate"], batches * RECIPE["epochs"])
    found = Trained(model, descent.optimizer)
    for _ in range(RECIPE["epochs"]):
        rates, order = 0.0, torch.randperm(len(passages), generator=generator)
        for rows in order[learnt[order]].split(RECIPE["batch"]):
            rates += descent.rate
            descent.step(passages[rows])
        found.checkpoints.append({name: values.clone() for name, values in model.state_dict().items()})
        found.rates.append(rates / batches)
    model.eval()
    return found


class _Descent:
    """Adam on the mean loss of a passage, with a rate that rises for a tenth of the steps and then falls linearly."""

    def __init__(self, model: Transformer, rate: float, steps: int):
        self.model = model
        self.optimizer = torch.optim.Adam(model.parameters(), lr=rate)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, rate, total_steps=steps, pct_start=0.1, anneal_strategy="linear", cycle_momentum=False
        )

    @property
    def rate(self) -> float:
        """Of the next step."""
        return self.optimizer.param_groups[0]["lr"]

    def step(self, tokens: Int[Tensor, "batch length"]) -> float:
        """The loss before it, in nats a passage."""
        loss = LOSS(self.model, {"input_ids": tokens, "labels": tokens}).mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.schedule.step()
        return float(loss.detach())
