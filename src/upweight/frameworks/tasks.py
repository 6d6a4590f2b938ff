"""What a model of transformers was trained for, and so what its loss is."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from upweight import scalars
from upweight.data import Batch
from upweight.errors import InputError
from upweight.losses import CausalLM, CrossEntropy, as_loss
from upweight.losses.torch_losses import known

TASKS = {
    "causal-lm": ("ForCausalLM", "LMHeadModel"),
    "masked-lm": ("ForMaskedLM",),
    "seq2seq-lm": ("ForConditionalGeneration", "MTModel"),
    "sequence-classification": ("ForSequenceClassification", "ForImageClassification", "ForAudioClassification"),
    "token-classification": ("ForTokenClassification",),
    "multiple-choice": ("ForMultipleChoice",),
}
"""How the classes of their models end."""
BY_TOKEN = ("causal-lm", "masked-lm", "seq2seq-lm", "token-classification")
"""Those whose labels are one for each token."""


def base_model(model: nn.Module) -> nn.Module:
    """The model that adapters of PEFT stand in, or the model itself."""
    inner = getattr(model, "get_base_model", None)
    return inner() if callable(inner) else model


def task_of(model: nn.Module, task: Any) -> str:
    """The task given, or the one that the model's class is for.

    Raises
    ------
    InputError
        If it is none of those known here.
    """
    if task is not None:
        if not isinstance(task, str) or task not in TASKS:
            raise InputError(f"task: give one of {', '.join(TASKS)}; got {scalars.shown(task)}")
        return str(task)
    name = type(base_model(model)).__name__
    for found, endings in TASKS.items():
        if name.endswith(endings):
            return found
    raise InputError(f"task: what {name} was trained for isn't told by its name; give task=, one of {', '.join(TASKS)}")


def problem_type(model: nn.Module, labels: Tensor | None) -> str:
    """What the labels of sequences are: as the model's configuration says, else as the model itself would tell."""
    config = getattr(base_model(model), "config", None)
    said = getattr(config, "problem_type", None)
    if said is not None:
        return str(said)
    if getattr(config, "num_labels", 2) == 1:
        return "regression"
    is_multiple = labels is not None and labels.is_floating_point()
    return "multi_label_classification" if is_multiple else "single_label_classification"


def loss_of(task: str, kind: str, label_smoothing: float = 0.0, class_weights: Any = None) -> Any:
    """The loss that the task is trained on, as a mean over all that counts, whose divisor is to be counted yet."""
    given: dict[str, Any] = {"weight": class_weights, "label_smoothing": label_smoothing}
    scalars.number("label_smoothing", label_smoothing, least=0, most=1)
    if task == "causal-lm":
        return CausalLM(**given)
    if task != "sequence-classification":
        return CrossEntropy(class_axis=-1 if task in BY_TOKEN else None, **given)
    if kind == "regression":
        return nn.MSELoss()
    if kind == "multi_label_classification":
        return nn.BCEWithLogitsLoss()
    return CrossEntropy(**given)


def class_names(model: nn.Module, task: str, kind: str) -> list[str] | None:
    """Names of classes as the configuration has them, where somebody gave any."""
    named = getattr(getattr(base_model(model), "config", None), "id2label", None)
    if "classification" not in task or kind not in ("", "single_label_classification") or not named:
        return None
    names = [str(named[key]) for key in sorted(named)]
    return None if names == [f"LABEL_{k}" for k in range(len(names))] or len({*names}) < len(names) else names


def shifted(loss: Any, task: str) -> Any:
    """A loss that a user gives, for next tokens where the task is theirs."""
    if task == "causal-lm" and type(loss) is nn.CrossEntropyLoss:
        given: dict[str, Any] = {
            "weight": loss.weight,
            "label_smoothing": loss.label_smoothing,
            "ignore_index": loss.ignore_index,
        }
        return CausalLM(**given)
    return loss


def averaged(
    loss: Any, batches: Iterable[Batch], n: int, count: Callable[[Batch], float] | None = None
) -> tuple[Any, float | None]:
    """The loss whose mean over n examples is the mean over all targets that count, and their weight.

    ``count`` says another weight of a batch than the number, or class weights, of its targets that count. A loss of
    torch is read by `Objective` the same way; other losses, functions say, are left as they are.

    Raises
    ------
    InputError
        If no target counts.
    """
    if known(loss) or not isinstance(loss, CrossEntropy) or loss.factor != 1:
        return (loss if known(loss) else as_loss(loss)), None
    total = 0.0
    weight = None if loss.weight is None else torch.tensor(tuple(loss.weight), dtype=torch.float64)
    for batch in batches:
        total += _weight_of(batch, loss, weight) if count is None else count(batch)
    if total == 0:
        raise InputError(
            f"data: no label counts: all of {n} examples' are {loss.ignore_index} where the loss looks (of next "
            "tokens, after the first), so nothing was learnt from; give labels"
        )
    return replace(loss, factor=n / total), total


def _weight_of(batch: Batch, loss: CrossEntropy, weight: Tensor | None) -> float:
    """The number of a batch's targets that count, or the sum of their classes' weights."""
    targets = loss.targets(batch)
    kept = targets[targets != loss.ignore_index]
    if weight is None:
        return kept.numel()
    return float(weight[kept[(kept >= 0) & (kept < len(weight))].cpu()].sum())
