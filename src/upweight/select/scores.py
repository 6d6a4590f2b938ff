"""What units are ranked by: means over examples and positions of their outputs, of the gradients there, of θ's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from upweight import scalars
from upweight.gradients.substituted import substituted
from upweight.select.trained import Trained
from upweight.select.units import Layer


def outputs_and_gradients(
    what: Literal["output", "gradient"], absolute: bool, objective: Trained, layers: list[Layer], examples: Any
) -> list[Float[Tensor, " _"]]:
    """The mean of each unit's output, or of the gradient of the examples' losses there; one pass."""
    totals = [torch.zeros(layer.count, dtype=torch.float64) for layer in layers]
    counts = [0] * len(layers)
    loss = substituted(objective.model, objective.loss)
    named = objective.layout.unflatten(objective.params)
    for index, batch in objective.batches(examples):
        with torch.set_grad_enabled(what == "gradient"), recorded(objective, layers) as seen:
            leaves = {name: value.detach().requires_grad_(what == "gradient") for name, value in named.items()}
            total = (objective.weights[index] * loss(leaves, batch)).sum()
        places = [(number, value) for number, uses in enumerate(seen) for value in uses]
        if what == "gradient":
            found = torch.autograd.grad(total, [value for _, value in places], materialize_grads=True)
            places = [(number, slope) for (number, _), slope in zip(places, found, strict=True)]
        for number, value in places:
            by_unit = value.detach().movedim(layers[number].channels, -1).reshape(-1, layers[number].count)
            totals[number] += (by_unit.abs() if absolute else by_unit).double().sum(0).cpu()
            counts[number] += len(by_unit)
    return [total / max(count, 1) for total, count in zip(totals, counts, strict=True)]


@contextmanager
def recorded(objective: Trained, layers: list[Layer]) -> Iterator[list[list[Tensor]]]:
    """What each layer puts out, call by call, while this lasts; the model is left as it was."""
    modules = dict(objective.model.named_modules())
    seen: list[list[Tensor]] = [[] for _ in layers]
    handles = []
    try:
        for calls, layer in zip(seen, layers, strict=True):
            handles.append(modules[layer.name].register_forward_hook(lambda _, __, out, calls=calls: calls.append(out)))
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def fisher(objective: Trained, layers: list[Layer], examples: Any) -> list[Float[Tensor, " _"]]:
    """The mean squared gradient of each unit's entries of θ, over examples and entries."""
    total = torch.zeros_like(objective.params, dtype=torch.float64)
    for _, gradients in objective.example_gradients(examples):
        total += (gradients.double() ** 2).sum(0)
    values = objective.layout.unflatten(total.cpu())
    found = []
    for layer in layers:
        parts = [values[name].movedim(dim, 0).reshape(layer.count, -1) for name, dim in layer.parameters]
        found.append(torch.cat(parts, dim=1).mean(1))
    return found


def noise(seed: int, objective: Trained, layers: list[Layer], examples: Any) -> list[Float[Tensor, " _"]]:
    """Random numbers, a stream for each seed."""
    generator = scalars.generator(seed)
    return [torch.rand(layer.count, generator=generator) for layer in layers]
