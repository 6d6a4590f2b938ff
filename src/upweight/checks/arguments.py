"""What an objective's arguments must be: each is refused before work starts, or read into its final form."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from upweight.arrays import as_tensor
from upweight.checks.forms import first_pass
from upweight.checks.per_example import refuse_shape
from upweight.data import Batch, batch_length
from upweight.errors import InputError
from upweight.forward import HALVES, Forward
from upweight.losses import AnyLoss
from upweight.names import distinct, repeated
from upweight.parameters import Layout
from upweight.scalars import shown

COPIED_NUMBERS = 2**28
"""Parameters of a model up to which all are copied for its first pass (1 GiB in float32)."""


def refuse_meta(model: nn.Module) -> None:
    """Parameters on the meta device have shapes and no numbers, those of lazy modules not even shapes."""
    for name, value in (*model.named_parameters(), *model.named_buffers()):
        if is_lazy(value):
            raise InputError(
                f"model: {name!r} is of a lazy module that has met no data; call the model on a batch, and train it"
            )
        if value.is_meta:
            raise InputError(
                f"model: {name!r} is on the meta device, which holds no numbers; load the trained weights first, e.g. "
                "model.to_empty(device='cpu') and load_state_dict"
            )


def refuse_training_mode(model: nn.Module) -> None:
    """In training mode dropout makes the loss random and batch-norm makes examples depend on each other."""
    for name, module in model.named_modules():
        if not module.training:
            continue
        if isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0:
            raise InputError(
                f"model: dropout {name!r} (p={module.p}) is in training mode, so the loss is random; "
                "call model.eval() first"
            )
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            raise InputError(
                f"model: batch-norm {name!r} is in training mode, so examples depend on their batch; "
                "call model.eval() first"
            )
        if isinstance(module, nn.RNNBase | nn.MultiheadAttention) and module.dropout > 0:
            raise InputError(f"model: {name!r} has dropout {module.dropout} in training mode; call model.eval() first")


def refuse_precision(model: nn.Module, layout: Layout, forward: Forward = "float32") -> None:
    """θ has one precision, in which curvature can be inverted: float32 where a model runs in 16 bits of its own."""
    named = dict(model.named_parameters())
    if forward == "own" and {named[name].dtype for name in layout.names} <= {torch.float32, *HALVES}:
        return
    for name in layout.names:
        if not named[name].dtype.is_floating_point:
            raise InputError(_quantised(name, named[name].dtype))
    found = sorted({str(named[name].dtype) for name in layout.names})
    if len(found) > 1:
        raise InputError(
            f"model: parameters are of {' and '.join(found)}; θ has one precision: give "
            "copy.deepcopy(model).float(), or hold some fixed by parameters=…"
        )
    dtype = named[layout.names[0]].dtype
    if dtype not in (torch.float32, torch.float64):
        raise InputError(f"model: parameters are {dtype}; give torch.float32, torch.float64 or 16 bits of either kind")


def _quantised(name: str, dtype: torch.dtype) -> str:
    return (
        f"model: parameter {name!r} is {dtype}: whole numbers, as a quantised layer's, have no derivative, and "
        "influence needs floating point. Attribute what is trained beside them (parameters='adapters', or by name), or "
        "give the model in floating point (model.dequantize(), or the weights before they were quantised)"
    )


def refuse_bad_loss(loss: AnyLoss, model: nn.Module, pair: Batch) -> None:
    """A loss gives one value per example, twice the same."""
    count = batch_length(pair)
    copies = _copies(model)
    values = first_pass(loss, model, pair, copies)
    _refuse_moved(model, copies)
    again = first_pass(loss, model, pair)
    refuse_shape("loss", values, count)
    if not torch.allclose(values, again, rtol=1e-3, atol=1e-5, equal_nan=True):
        raise InputError(
            f"loss: it is random, {float(values[0]):.4g} and then {float(again[0]):.4g} for the same example; "
            "call model.eval() first, or take out what draws random numbers"
        )


def _copies(model: nn.Module) -> dict[str, Tensor]:
    """Copies of all parameters, for a pass that may write into them; none of a model too large for that."""
    named = dict(model.named_parameters())
    if sum(value.numel() for value in named.values()) > COPIED_NUMBERS:
        return {}
    return {name: value.detach().clone() for name, value in named.items()}


def _refuse_moved(model: nn.Module, copies: dict[str, Tensor]) -> None:
    """Refuse a model that writes into its own parameters in a forward pass; its copies were written into."""
    own = dict(model.named_parameters())
    for name, value in copies.items():
        if not torch.equal(value, own[name]) and not ((value == own[name]) | value.isnan() & own[name].isnan()).all():
            raise InputError(
                f"model: a forward pass writes into its parameter {name!r} (it moves by up to "
                f"{float((value - own[name]).abs().max()):.2g}), so that θ isn't what the loss is computed from; make "
                "it a function of the parameter (self.weight * self.mask in place of self.weight.data.mul_(…); "
                "nn.Embedding(max_norm=…) is understood), or apply it to the model once before"
            )


def example_weights(weights: Any, n: int, params: Tensor) -> Float[Tensor, " train"]:
    """The weights given, or ones."""
    if weights is None:
        return params.new_ones(n)
    try:
        given = as_tensor(weights, "weights")
    except InputError as error:
        raise InputError(f"weights: give {n} numbers, one per example; {str(error).partition(': ')[2]}") from error
    if given.shape != (n,) or given.is_complex():
        kind = f"{given.dtype} of " if given.is_complex() else ""
        raise InputError(f"weights: need {n} finite numbers ≥ 0, one per example; got {kind}shape {tuple(given.shape)}")
    values = given.to(dtype=params.dtype, device=params.device)
    wrong = torch.nonzero(~(torch.isfinite(values) & (values >= 0))).flatten()
    if len(wrong):
        first = int(wrong[0])
        raise InputError(
            f"weights: need {n} finite numbers ≥ 0, one per example; got {float(values[first]):.4g} at position {first}"
            + (f", the first of {len(wrong)} such" if len(wrong) > 1 else "")
        )
    if not values.any():
        raise InputError(f"weights: all {n} are 0, so nothing was learnt from; leave weights out, or give some > 0")
    return values


def class_names(names: Any) -> tuple[str, ...] | None:
    """Names of classes 0, 1, …, or None."""
    if names is None:
        return None
    if isinstance(names, str | Mapping | Set) or not isinstance(names, Iterable) or getattr(names, "ndim", 1) == 0:
        raise InputError(f"class_names: give a list, one name per class in order of their numbers; got {names!r}")
    found = tuple(map(str, names))
    twice = repeated(np.asarray(found, dtype=object)) if found else None
    if not found or twice is not None:
        raise InputError(f"class_names: give a different name for each class; {twice or 'got none'}")
    return found


def shown_columns(columns: Any, n: int) -> dict[str, Any]:
    """What is shown of training examples, by name, as it was given: one value for each.

    Of a data frame or a Hugging Face dataset its columns.
    """
    if columns is None:
        return {}
    named = getattr(columns, "column_names", None) or getattr(columns, "columns", None)
    if not isinstance(columns, Mapping) and named is not None and hasattr(columns, "__getitem__"):
        columns = {name: _values(columns[name]) for name in named}
    if not isinstance(columns, Mapping) or not all(isinstance(name, str) for name in columns):
        raise InputError(f"columns: give values by name, {{'text': […]}}; got {shown(columns)}")
    for name, values in columns.items():
        if isinstance(values, str) or not hasattr(values, "__len__") or not hasattr(values, "__getitem__"):
            raise InputError(f"columns: {name!r} needs a list of values, one for each example; got {shown(values)}")
        if getattr(values, "ndim", 1) == 0 or len(values) != n:
            count = len(values) if getattr(values, "ndim", 1) else 1
            raise InputError(f"columns: {name!r} needs one value for each of {n} training examples; got {count}")
    return dict(columns)


def _values(column: Any) -> Any:
    return column.to_numpy() if hasattr(column, "to_numpy") else column


def example_ids(ids: Sequence[Any] | np.ndarray | None, n: int) -> np.ndarray:
    """The ids given, or positions."""
    return np.arange(n) if ids is None else distinct("ids", ids, n, "training example")
