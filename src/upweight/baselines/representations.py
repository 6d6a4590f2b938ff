"""What a layer sees of each example: its input, averaged over positions where the layer is linear."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from upweight.data import Batch, Data, batch_length
from upweight.errors import InputError
from upweight.losses import Split
from upweight.objective import Objective


def named_layer(model: nn.Module, layer: str | None) -> str:
    """The name of the layer, by default that of the last ``nn.Linear`` in the order of ``named_modules()``.

    Raises
    ------
    InputError
        If there is no such module, or no linear one to choose.
    """
    modules = dict(model.named_modules())
    if layer is None:
        linear = [name for name, module in modules.items() if isinstance(module, nn.Linear)]
        if linear:
            return linear[-1]
        raise InputError(f"layer: the model has no nn.Linear to take the input of; name one of {list(modules)[1:]}")
    if layer not in modules:
        raise InputError(f"layer: {layer!r} is no module of the model; it has {list(modules)[1:]}")
    return layer


def representations(objective: Objective, layer: str | None, *sources: Data) -> list[Float[Tensor, "examples d"]]:
    """Input of a layer on every example of each source, in the model at θ.

    Of an ``nn.Linear`` the last dimension counts and positions before it (all, padding too) are averaged; the input
    of any other layer is flattened.

    Raises
    ------
    InputError
        If there is no such layer, or it isn't called once a pass with one tensor that leads with the examples.
    """
    name = named_layer(objective.model, layer)
    model = objective.at(objective.params).model  # a copy, so that the user's model never has a hook
    return [torch.cat(list(_inputs(objective, model, name, source))) for source in sources]


def _inputs(objective: Objective, model: nn.Module, name: str, data: Data) -> Iterator[Tensor]:
    module, loss = model.get_submodule(name), objective.loss
    run: Any = loss.outputs if isinstance(loss, Split) else loss
    seen: list[Any] = []
    handle = module.register_forward_pre_hook(lambda _, args: seen.append(args[0] if args else None))
    try:
        for _, batch in data.batches(None, objective.engine.rows):
            seen.clear()
            with torch.no_grad():
                run(model, batch)
            yield _flat(module, _only(seen, name, batch))
    finally:
        handle.remove()


def _only(seen: list[Any], name: str, batch: Batch) -> Tensor:
    count = batch_length(batch)
    if len(seen) != 1:
        raise InputError(f"layer: {name!r} is called {len(seen)} times a pass; name a layer that is called once")
    if not isinstance(seen[0], Tensor) or seen[0].dim() == 0 or len(seen[0]) != count:
        raise InputError(f"layer: the input of {name!r} is not one tensor with the {count} examples of a batch first")
    return seen[0]


def _flat(module: nn.Module, inputs: Tensor) -> Float[Tensor, "batch d"]:
    if isinstance(module, nn.Linear):
        return inputs.reshape(len(inputs), -1, inputs.shape[-1]).mean(1)
    return inputs.flatten(1)
