"""The form of examples: whether a model takes them, said in words where torch would fail deep inside."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from upweight.checks.embeddings import outside
from upweight.data import Batch, Data, batch_length, tensors
from upweight.errors import InputError
from upweight.gradients.substituted import called
from upweight.losses import AnyLoss, BinaryLogistic, CrossEntropy, Function, Loss, OfParts

PROBABILITY = 1e-4
"""How far sums of a softmax may be from 1, in float32 and with many classes."""
SHOWN = 300


def first_pass(loss: AnyLoss, model: nn.Module, batch: Batch, named: dict[str, Tensor] | None = None) -> Any:
    """The loss of a model's first examples, with its own parameters where others aren't ``named``.

    Raises
    ------
    InputError
        If it fails; says what of the examples doesn't fit the model, where that can be told.
    """
    try:
        return checked(loss, model, batch, named)
    except InputError:
        raise
    except Exception as error:
        said = f"{type(error).__name__}: {str(error)[:SHOWN]}"
        if isinstance(loss, Function | OfParts):
            raise InputError(
                f"loss: on the first {batch_length(batch)} training examples it raised {said}; call it yourself on the "
                "model and such a batch"
            ) from error
        found = misfit(loss, model, batch)
        if found:
            raise InputError(f"data: {found} ({said})") from error
        raise InputError(
            f"data: the model fails on its first {batch_length(batch)} examples with {said}; call it yourself on the "
            "inputs of such a batch"
        ) from error


def checked(loss: AnyLoss, model: nn.Module, batch: Batch, named: dict[str, Tensor] | None = None) -> Any:
    """The loss of a batch, its targets checked before they are compared with the outputs."""
    if isinstance(loss, Function):
        return called(model, loss, batch, named)
    with torch.no_grad():
        outputs = called(model, loss.outputs, batch, named)
        loss.check(outputs, batch)
        return loss.of_outputs(outputs, batch)


def misfit(loss: Loss, model: nn.Module, batch: Batch) -> str:
    """What of a batch the model's first layer doesn't take, with the mend; "" where that can't be told."""
    inputs, targets = loss.inputs(batch), loss.targets(batch)
    leaves = tensors(inputs)
    named = ((name, part) for name, part in model.named_modules() if any(True for _ in part.parameters(recurse=False)))
    name, layer = next(named, ("", None))
    if not leaves or layer is None:
        return ""
    x, called = leaves[0], f"{type(layer).__name__} {name!r}" if name else type(layer).__name__
    dtype = next(layer.parameters(recurse=False)).dtype
    if isinstance(layer, nn.Embedding | nn.EmbeddingBag):
        if x.is_floating_point() or x.is_complex():
            return f"inputs are {x.dtype}, and the model's first layer, {called}, takes whole numbers; give X.long()"
        return outside(layer, called, [x])
    if not x.is_floating_point() and isinstance(targets, Tensor) and targets.is_floating_point() and targets.dim() > 1:
        return (
            f"inputs are {x.dtype} {_shape(x)} and targets {targets.dtype} {_shape(targets)}, which looks like (y, X); "
            "give (X, y)"
        )
    if not x.is_floating_point():
        mend = "give real numbers, e.g. torch.view_as_real(X).flatten(1)" if x.is_complex() else "give X.float()"
        return f"inputs are {x.dtype}, and the model's first layer, {called}, takes {dtype}; {mend}"
    if isinstance(layer, nn.Linear) and x.shape[-1:] != (layer.in_features,):
        if x.dim() == 1:
            return (
                f"inputs have one number an example, shape {_shape(x)}; give them a dimension of features, X[:, None]"
            )
        if x.flatten(1).shape[1] != layer.in_features:
            return f"inputs have {x.shape[-1]} features, shape {_shape(x)}; {called} takes {layer.in_features}"
    convolutions = nn.Conv1d | nn.Conv2d | nn.Conv3d
    if isinstance(layer, convolutions) and (x.dim() != len(layer.kernel_size) + 2 or x.shape[1] != layer.in_channels):
        places = "".join(", size" for _ in layer.kernel_size)
        return f"inputs have shape {_shape(x)}; {called} takes [examples, {layer.in_channels} channels{places}]"
    return ""


def refuse_other_form(loss: AnyLoss, model: nn.Module, own: Data, given: Data, name: str) -> None:
    """Refuse queries unlike the training data that the model fails on.

    Nothing is run where they are alike, and what is unlike but works (sequences of another length) is taken.
    """
    trained, single = own.take([0]), given.take([0])
    unlike = next(differences(trained, single), "")
    if not unlike:
        return
    nested_alike = pytree.tree_structure(trained) == pytree.tree_structure(single)
    try:
        checked(loss, model, single)
    except Exception as error:
        if isinstance(error, InputError) and nested_alike:
            raise  # the loss says more of its targets
        raise InputError(
            f"{name}: {unlike}; give them in the form of the training data ({type(error).__name__}: "
            f"{str(error)[:SHOWN]})"
        ) from error


def differences(own: Batch, given: Batch) -> Iterator[str]:
    """In what two batches of one example are unlike: nesting, kinds of numbers, shapes."""
    if pytree.tree_structure(own) != pytree.tree_structure(given):
        yield f"an example is {_words(given)}, where one of the training data is {_words(own)}"
        return
    for number, (mine, theirs) in enumerate(zip(tensors(own), tensors(given), strict=True)):
        if _kind(mine) != _kind(theirs) or mine.shape != theirs.shape:
            yield (
                f"array {number} has examples of {theirs.dtype} {_shape(theirs[:1])}, where the training data's are "
                f"{mine.dtype} {_shape(mine[:1])}"
            )


def refuse_squeezed(loss: AnyLoss, model: nn.Module, pair: Batch) -> None:
    """A model must give one example's outputs with the examples as a dimension, as it does those of two.

    Raises
    ------
    InputError
        If it squeezes that dimension away.
    """
    if isinstance(loss, Function) or batch_length(pair) < 2:
        return
    one = pytree.tree_map(lambda leaf: leaf[:1] if isinstance(leaf, Tensor) else leaf, pair)
    both = called(model, loss.outputs, pair)
    try:
        alone = called(model, loss.outputs, one)
    except Exception:  # what can't be run alone is refused elsewhere, or never is run so
        return
    if alone.dim() < both.dim():
        raise InputError(
            f"model: of two examples its outputs are {_shape(both)}, and of one alone {_shape(alone)}, without a "
            "dimension of examples: squeeze() takes every dimension of length 1; write squeeze(-1)"
        )


def refuse_all_pairs(loss: AnyLoss, model: nn.Module, pair: Batch) -> None:
    """A function's values by example and place have as many places whatever examples stand beside.

    Raises
    ------
    InputError
        If there are as many as examples: every output was compared with every target.
    """
    if not isinstance(loss, Function) or batch_length(pair) < 2:
        return
    one = pytree.tree_map(lambda leaf: leaf[:1] if isinstance(leaf, Tensor) else leaf, pair)
    both = called(model, loss.function, pair)
    if not isinstance(both, Tensor) or both.dim() < 2:
        return
    try:
        alone = called(model, loss.function, one)
    except Exception:  # as above
        return
    if isinstance(alone, Tensor) and alone.shape[1:] != both.shape[1:]:
        raise InputError(
            f"loss: returned shape {tuple(both.shape)} for 2 examples, and {tuple(alone.shape)} for one alone: outputs "
            "of all examples seem to be compared with targets of all ([batch, 1] against [batch]?); give one value per "
            "example, or one for each of its places"
        )


def refuse_probabilities(loss: AnyLoss, model: nn.Module, batch: Batch) -> None:
    """A loss of logits takes no probabilities: a softmax of a softmax is another model than the one that was trained.

    Raises
    ------
    InputError
        If outputs under `CrossEntropy` sum to 1, or a model under `BinaryLogistic` ends in a sigmoid.
    """
    last = _last(model)
    if isinstance(loss, BinaryLogistic) and isinstance(last, nn.Sigmoid):
        raise InputError(
            "loss: BinaryLogistic takes outputs before the sigmoid, and the model ends in nn.Sigmoid; give the model "
            "without its last layer, model[:-1]"
        )
    if not isinstance(loss, CrossEntropy):
        return
    outputs = called(model, loss.outputs, batch) * loss.temperature
    if isinstance(last, nn.Softmax) or _are_probabilities(outputs):
        raise InputError(
            "loss: CrossEntropy takes logits, and the model gives probabilities (outputs ≥ 0 that sum to 1: a softmax "
            "at its end?); give the model before its softmax, or with torch.log after it. If it was trained with a "
            "second softmax on top, give the loss as a function of your own"
        )


def _are_probabilities(outputs: Tensor) -> bool:
    if outputs.dim() < 2 or outputs.shape[-1] < 2 or not outputs.numel():
        return False
    if bool(((outputs == 0) | (outputs == 1)).all()):  # inputs passed on, one-hot ones say
        return False
    return bool((outputs >= 0).all()) and bool(((outputs.sum(-1) - 1).abs() < PROBABILITY).all())


def _last(model: nn.Module) -> nn.Module:
    return _last(model[-1]) if isinstance(model, nn.Sequential) and len(model) else model


def _kind(leaf: Tensor) -> str:
    return "real" if leaf.is_floating_point() else "complex" if leaf.is_complex() else "whole"


def _shape(leaf: Tensor) -> str:
    return str(list(leaf.shape))


def _words(batch: Batch) -> str:
    if isinstance(batch, dict):
        return f"a dict of {', '.join(map(repr, batch))}"
    if isinstance(batch, tuple | list):
        return f"a {type(batch).__name__} of {len(batch)}"
    return type(batch).__name__
