"""A model called with other parameters than its own, and left as it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from upweight.data import Batch
from upweight.forward import called_in, half_of, widest
from upweight.gradients.rewritten import rewritten
from upweight.kept import fresh_buffers, modules_kept, parts


class _Call(nn.Module):
    """A function of (model, batch) as a module, so that functional_call can substitute the model's parameters."""

    def __init__(self, model: nn.Module, function: Callable[[nn.Module, Batch], Tensor]):
        super().__init__()
        self.model = model
        self.function = function

    def forward(self, batch: Batch) -> Tensor:
        return self.function(self.model, batch)


def substituted(
    model: nn.Module, function: Callable[[nn.Module, Batch], Tensor], *, twice: bool = True
) -> Callable[[dict[str, Tensor], Batch], Tensor]:
    """``function(model, batch)`` as a function of named parameters (and buffers); the model itself is never changed.

    Buffers that aren't named are given as copies, so that what the pass writes into them (a power iteration, a moving
    average, a counter) is gone with it, and every pass starts from the model's own.

    ``twice``: it can be differentiated twice, for which the fused attention kernels, which can't, are left out.

    A model of 16 bits is called in them (`upweight.forward`): what is named may be wider, and values are float32.
    """
    module = _Call(model, function)
    places, modules = slots(model), parts(model)
    mode = rewritten(model, twice=twice)
    recurrent = any(isinstance(part, nn.RNNBase) for part in modules)
    half = half_of(model)
    own = {} if half is None else {name: value.dtype for name, value in model.named_parameters()}

    def evaluate(named: dict[str, Tensor], batch: Batch) -> Tensor:
        given = {name: value.to(own[name]) if name in own else value for name, value in named.items()}
        values = {f"model.{slot}": given[name] for slot, name in places.items() if name in given}
        fresh = {f"model.{name}": value for name, value in fresh_buffers(model).items()}
        attention = sdpa_kernel(SDPBackend.MATH) if twice else nullcontext()
        # cuDNN differentiates recurrent layers in training mode only, and once.
        cells = torch.backends.cudnn.flags(enabled=False) if recurrent and torch.is_grad_enabled() else nullcontext()
        precision = nullcontext() if half is None else called_in(model, half)
        with modules_kept(modules), _one_path(), attention, cells, mode(), precision:
            # Tied parameters have all their places named, so torch needn't look for them: where a module stands under
            # two names it would put back the wrong tensors.
            return widest(functional_call(module, {**fresh, **values}, (batch,), tie_weights=False))

    return evaluate


@contextmanager
def _one_path() -> Iterator[None]:
    """Without torch's fused path of transformers, taken where no gradient is asked for: it puts 0 at padded places.

    Losses and outputs would belong to one function, gradients and curvature to another.
    """
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def called(
    model: nn.Module,
    function: Callable[[nn.Module, Batch], Any],
    batch: Batch,
    named: dict[str, Tensor] | None = None,
) -> Any:
    """``function(model, batch)`` without gradients, with the model's own values where others aren't ``named``."""
    with torch.no_grad():
        return substituted(model, function, twice=False)(named or {}, batch)


def slots(model: nn.Module) -> dict[str, str]:
    """Every place that holds a parameter or buffer, once for each module, with its name in `named_parameters`."""
    named = [*model.named_parameters(), *model.named_buffers()]
    canonical = {id(value): name for name, value in named}
    places = {}
    for prefix, part in model.named_modules():  # a module that stands under several names comes once
        for own, value in (*part._parameters.items(), *part._buffers.items()):
            if value is not None:
                places[f"{prefix}.{own}" if prefix else own] = canonical[id(value)]
    return places
