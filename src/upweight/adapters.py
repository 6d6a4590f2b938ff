"""Which parameters of a model are adapters': small ones beside a frozen base (LoRA and others).

PEFT's layers say which of their attributes hold adapters, and which adapters are active; copies that are trained in
place of a frozen module (``modules_to_save``) among them. Nothing of PEFT is imported. Of models without such layers,
parameters are adapters by the names that LoRA is written with.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

from upweight.errors import InputError

ADAPTERS = "adapters"
"""What ``parameters`` says for them."""
NAMED = ("lora_", "adapter_", ".adapters.")
"""What stands in the names of adapters elsewhere."""


def has_adapters(model: nn.Module) -> bool:
    """Whether some of its layers say that they hold adapters."""
    return any(True for _ in _layers(model))


def adapter_names(model: nn.Module) -> list[str]:
    """Names of the active adapters' parameters, in the model's order, whether or not they want a gradient.

    Raises
    ------
    InputError
        If there are none, or they are merged into the weights of the base.
    """
    layers = list(_layers(model))
    for name, layer in layers:
        if getattr(layer, "merged", False):
            raise InputError(
                f"parameters: the adapters of {name!r} are merged into its weights, so that the loss doesn't depend on "
                "them; call model.unmerge_adapter() first"
            )
    if not layers:
        found = [name for name, _ in model.named_parameters() if any(word in f".{name}" for word in NAMED)]
        if not found:
            raise InputError(
                "parameters: 'adapters' were asked for, and the model has none (no layer of PEFT, no name with "
                "lora_). Where they were merged into the weights (merge_and_unload), they aren't apart any more: load "
                "base and adapter unmerged (PeftModel.from_pretrained), or select the weights themselves"
            )
        return found
    held = {id(value) for _, layer in layers for value in _active(layer)}
    held |= {id(value) for value in _prompts(model)}
    found = [name for name, value in model.named_parameters() if id(value) in held]
    if not found:
        raise InputError(
            "parameters: 'adapters' were asked for, and none of the model's is active; call "
            "model.set_adapter(name) with one of them"
        )
    return found


def _layers(model: nn.Module) -> Iterator[tuple[str, Any]]:
    for name, part in model.named_modules():
        own = getattr(type(part), "adapter_layer_names", None)
        if (isinstance(own, tuple) and own) or _is_prompted(part):
            yield name, part


def _active(layer: Any) -> Iterator[nn.Parameter]:
    """Parameters of a layer's active adapters."""
    active = getattr(layer, "active_adapters", [])
    for attribute in getattr(type(layer), "adapter_layer_names", ()):
        held = getattr(layer, attribute, None)
        if not isinstance(held, nn.ModuleDict | nn.ParameterDict):
            continue
        for adapter in active:
            if adapter in held:
                value = held[adapter]
                yield from value.parameters() if isinstance(value, nn.Module) else (value,)


def _is_prompted(part: nn.Module) -> bool:
    return isinstance(part._modules.get("prompt_encoder"), nn.ModuleDict)


def _prompts(model: nn.Module) -> Iterator[nn.Parameter]:
    """Parameters of learnt prompts, which stand beside the base."""
    for part in model.modules():
        prompts = part._modules.get("prompt_encoder")
        if isinstance(prompts, nn.ModuleDict):
            for adapter in getattr(part, "active_adapters", list(prompts)):
                if adapter in prompts:
                    yield from prompts[adapter].parameters()
